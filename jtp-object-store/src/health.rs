//! Whether the store answers, so that requests for images fail at once while it does not.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a store that does not answer was not asked for anything when it is asked for an image. Longer than the readers
/// of the log need for an attempt: as long as they find out whether the store answers, no client has to wait for it.
const PROBE_INTERVAL: Duration = Duration::from_secs(15);

/// A circuit breaker. It opens when a request fails without an answer, and none has come for another request since it
/// began; it closes with the next answer. While it is open, requests for the log find out whether the store answers again; if
/// there are none, one request for an image at a time does.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    answered: Option<Instant>,
    down: Option<Down>,
}

#[derive(Debug)]
struct Down {
    since: Instant,
    next_probe: Instant,
    is_probed: bool,
}

/// A request that may be made. It may be dropped at any time.
#[derive(Debug)]
pub(crate) struct Attempt<'a> {
    health: &'a Health,
    is_probe: bool,
}

impl Health {
    /// Begins a request for an image.
    ///
    /// # Errors
    ///
    /// How long the store has not answered.
    pub(crate) fn attempt(&self, now: Instant) -> Result<Attempt<'_>, Duration> {
        let mut state = self.state();
        if let Some(down) = &mut state.down {
            if down.is_probed || now < down.next_probe {
                return Err(now.saturating_duration_since(down.since));
            }
            down.is_probed = true;
        }
        Ok(Attempt {
            health: self,
            is_probe: state.down.is_some(),
        })
    }

    /// The store has answered, whatever it was.
    pub(crate) fn answered(&self, now: Instant) {
        let mut state = self.state();
        state.answered = Some(now);
        if state.down.take().is_some() {
            tracing::info!("images can be read from the object store again");
        }
    }

    /// A request that began at that time failed without an answer.
    pub(crate) fn failed(&self, began: Instant, now: Instant) {
        let mut state = self.state();
        if state.answered.is_some_and(|answered| answered >= began) {
            return;
        }
        let next_probe = now + PROBE_INTERVAL;
        match &mut state.down {
            Some(down) => down.next_probe = next_probe,
            None => {
                tracing::warn!("the object store does not answer: requests for images fail");
                state.down = Some(Down {
                    since: began,
                    next_probe,
                    is_probed: false,
                });
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.is_probe {
            if let Some(down) = &mut self.health.state().down {
                down.is_probed = false;
            }
        }
    }
}
