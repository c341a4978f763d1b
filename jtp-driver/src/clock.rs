//! The runtime's clock as the core's time, and timers.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use jtp_core::Time;

use crate::runtime::{Runtime, Sleep};

/// Converts the runtime's clock to the time since this clock was made.
#[derive(Debug, Clone)]
pub(crate) struct Clock<R> {
    runtime: R,
    epoch: Instant,
}

impl<R: Runtime> Clock<R> {
    pub(crate) fn new(runtime: R) -> Clock<R> {
        Clock {
            epoch: runtime.now(),
            runtime,
        }
    }

    pub(crate) fn now(&self) -> Time {
        self.time(self.instant_now())
    }

    pub(crate) fn instant_now(&self) -> Instant {
        self.runtime.now()
    }

    pub(crate) fn time(&self, instant: Instant) -> Time {
        Time::since_epoch(instant.saturating_duration_since(self.epoch))
    }

    fn instant(&self, time: Time) -> Instant {
        // A deadline that the clock cannot represent is never reached; a day stands for it.
        let day = Duration::from_secs(86_400);
        self.epoch
            .checked_add(time.elapsed())
            .unwrap_or_else(|| self.instant_now() + day)
    }
}

/// When `limit` from now is over; `None` without a limit, or if the clock cannot represent it.
pub(crate) fn after<R: Runtime>(runtime: &R, limit: Option<Duration>) -> Option<Instant> {
    runtime.now().checked_add(limit?)
}

/// Wakes its task at a deadline that moves with every byte.
///
/// A later deadline is the usual case and does not touch the timer: it fires at the old deadline, finds nothing due,
/// and is set to the new one.
pub(crate) struct DeadlineTimer<R: Runtime>(Option<(Instant, R::Sleep)>);

impl<R: Runtime> Default for DeadlineTimer<R> {
    fn default() -> Self {
        DeadlineTimer(None)
    }
}

impl<R: Runtime> fmt::Debug for DeadlineTimer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fires_at = self.0.as_ref().map(|(at, _)| at);
        f.debug_tuple("DeadlineTimer").field(&fires_at).finish()
    }
}

impl<R: Runtime> DeadlineTimer<R> {
    /// Ready once the deadline has passed.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        clock: &Clock<R>,
        deadline: Option<Time>,
    ) -> Poll<()> {
        let Some(deadline) = deadline else {
            return Poll::Pending;
        };
        let at = clock.instant(deadline);
        let (fires_at, sleep) = self
            .0
            .get_or_insert_with(|| (at, clock.runtime.sleep_until(at)));
        if at < *fires_at {
            *fires_at = at;
            sleep.reset(at);
        }
        while Pin::new(&mut *sleep).poll(cx).is_ready() {
            if at <= clock.instant_now() {
                self.0 = None;
                return Poll::Ready(());
            }
            *fires_at = at;
            sleep.reset(at);
        }
        Poll::Pending
    }
}
