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

/// A timer that fires this much after its deadline says that the process did not run meanwhile.
const LATE: Duration = Duration::from_millis(50);

/// The time in which such a process learns what has arrived.
const GRACE: Duration = Duration::from_millis(100);

/// Wakes its task at a deadline that moves with every byte.
///
/// A later deadline is the usual case and does not touch the timer: it fires at the old deadline, finds nothing due,
/// and is set to the new one.
///
/// After SIGSTOP and SIGCONT a runtime may see that a deadline has passed before it sees what has arrived: on Linux
/// `epoll_wait` fails with EINTR then. So a deadline that passed long ago is put off once, by 100 ms.
pub(crate) struct DeadlineTimer<R: Runtime> {
    /// When the timer fires.
    timer: Option<(Instant, R::Sleep)>,
    /// A deadline that passed long ago, and what stands for it.
    late: Option<(Instant, Instant)>,
}

impl<R: Runtime> Default for DeadlineTimer<R> {
    fn default() -> Self {
        DeadlineTimer {
            timer: None,
            late: None,
        }
    }
}

impl<R: Runtime> fmt::Debug for DeadlineTimer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fires_at = self.timer.as_ref().map(|(at, _)| at);
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
        let deadline = clock.instant(deadline);
        let put_off = self.late.filter(|(passed, _)| *passed == deadline);
        let mut at = put_off.map_or(deadline, |(_, until)| until);
        let (fires_at, sleep) = self
            .timer
            .get_or_insert_with(|| (at, clock.runtime.sleep_until(at)));
        if at < *fires_at {
            *fires_at = at;
            sleep.reset(at);
        }
        while Pin::new(&mut *sleep).poll(cx).is_ready() {
            let now = clock.instant_now();
            if at <= now {
                let is_late = now.saturating_duration_since(deadline) >= LATE;
                if put_off.is_some() || !is_late {
                    self.timer = None;
                    return Poll::Ready(());
                }
                at = now + GRACE;
                self.late = Some((deadline, at));
            }
            *fires_at = at;
            sleep.reset(at);
        }
        Poll::Pending
    }
}
