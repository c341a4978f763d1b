//! Points in time, passed in by the caller.

#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

use core::ops::Add;
use core::time::Duration;

/// A point in time: the duration since an epoch of the caller's choice.
///
/// The core never reads a clock. All times passed to one connection must have the same epoch and must not decrease.
/// A time that is earlier than the one before is treated as equal to it.
///
/// ```
/// use std::time::{Duration, Instant};
/// use jtp_core::Time;
///
/// # #[allow(clippy::disallowed_methods, clippy::disallowed_types)] {
/// let epoch = Instant::now();
/// let now = Time::since_epoch(epoch.elapsed());
/// assert!(now + Duration::from_secs(1) > now);
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(Duration);

impl Time {
    /// The epoch itself.
    pub const ZERO: Time = Time(Duration::ZERO);

    /// The point in time that is `elapsed` after the epoch.
    #[must_use]
    pub const fn since_epoch(elapsed: Duration) -> Time {
        Time(elapsed)
    }

    /// The duration since the epoch.
    #[must_use]
    pub const fn elapsed(self) -> Duration {
        self.0
    }

    /// The duration since `earlier`; zero if `earlier` is later.
    #[must_use]
    pub const fn saturating_since(self, earlier: Time) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    /// Saturates, so that an unlimited duration gives a deadline that is never reached.
    fn add(self, by: Duration) -> Time {
        Time(self.0.saturating_add(by))
    }
}
