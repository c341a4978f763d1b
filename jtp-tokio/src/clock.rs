//! The clock that the core is told the time from.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use jtp_core::Time;
use tokio::time::{Instant, Sleep, sleep_until};

/// Tells the time since it was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock(Instant::now())
    }

    pub(crate) fn now(&self) -> Time {
        Time::since_epoch(self.0.elapsed())
    }

    fn instant(&self, time: Time) -> Instant {
        // A deadline beyond what the clock can tell is never reached; a day is as good.
        let day = std::time::Duration::from_secs(86_400);
        self.0
            .checked_add(time.elapsed())
            .unwrap_or_else(|| Instant::now() + day)
    }
}

/// Wakes its task at a deadline that moves with every byte.
///
/// A deadline that moves on is the usual case, and does not touch the timer: it rings at the old time, finds
/// that nothing is due, and is set anew.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready once the deadline has passed.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        clock: &Clock,
        deadline: Option<Time>,
    ) -> Poll<()> {
        let Some(deadline) = deadline else {
            return Poll::Pending;
        };
        let at = clock.instant(deadline);
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if at < sleep.deadline() {
            sleep.as_mut().reset(at);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if at <= Instant::now() {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(at);
        }
        Poll::Pending
    }
}
