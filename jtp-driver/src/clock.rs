//! The clock that the core is told the time from.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use jtp_core::Time;

use crate::runtime::{Runtime, Sleep};

/// Tells the time since it was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock<R>(Instant, PhantomData<R>);

impl<R: Runtime> Clock<R> {
    pub(crate) fn new() -> Clock<R> {
        Clock(R::now(), PhantomData)
    }

    pub(crate) fn now(&self) -> Time {
        self.time(R::now())
    }

    pub(crate) fn time(&self, instant: Instant) -> Time {
        Time::since_epoch(instant.saturating_duration_since(self.0))
    }

    fn instant(&self, time: Time) -> Instant {
        // A deadline beyond what the clock can tell is never reached; a day is as good.
        let day = Duration::from_secs(86_400);
        self.0
            .checked_add(time.elapsed())
            .unwrap_or_else(|| R::now() + day)
    }
}

/// The end of a time that begins now; none if it is beyond what the clock can tell.
pub(crate) fn after<R: Runtime>(limit: Option<Duration>) -> Option<Instant> {
    R::now().checked_add(limit?)
}

/// Wakes its task at a deadline that moves with every byte.
///
/// A deadline that moves on is the usual case, and does not touch the timer: it rings at the old time, finds
/// that nothing is due, and is set anew.
pub(crate) struct Alarm<R: Runtime>(Option<(Instant, R::Sleep)>);

impl<R: Runtime> Default for Alarm<R> {
    fn default() -> Self {
        Alarm(None)
    }
}

impl<R: Runtime> fmt::Debug for Alarm<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rings_at = self.0.as_ref().map(|(at, _)| at);
        f.debug_tuple("Alarm").field(&rings_at).finish()
    }
}

impl<R: Runtime> Alarm<R> {
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
        let (rings_at, sleep) = self.0.get_or_insert_with(|| (at, R::sleep_until(at)));
        if at < *rings_at {
            *rings_at = at;
            sleep.reset(at);
        }
        while Pin::new(&mut *sleep).poll(cx).is_ready() {
            if at <= R::now() {
                self.0 = None;
                return Poll::Ready(());
            }
            *rings_at = at;
            sleep.reset(at);
        }
        Poll::Pending
    }
}
