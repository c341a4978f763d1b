//! The clock that the core is told the time from.

use std::time::{Duration, Instant};

use jtp_core::Time;

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

    /// How long it is until a deadline; zero once it has passed.
    pub(crate) fn until(&self, deadline: Time) -> Duration {
        deadline.saturating_since(self.now())
    }
}

/// The end of a time that begins now; none if it is beyond what the clock can tell.
pub(crate) fn after(limit: Option<Duration>) -> Option<Instant> {
    Instant::now().checked_add(limit?)
}

/// How long it is until then; zero once it has passed.
pub(crate) fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

/// The shorter of two waits, each of which may be endless.
pub(crate) fn shorter(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    a.into_iter().chain(b).min()
}
