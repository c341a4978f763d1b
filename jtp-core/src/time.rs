//! Time as the core sees it: a number that the caller passes in.

use core::ops::Add;
use core::time::Duration;

/// A point in time: the duration since an epoch of the caller's choice.
///
/// The core never reads a clock. One connection must always be given times of one epoch, and never an
/// earlier one than before (an earlier one is harmless: it is taken as no time having passed).
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

    /// The time so long after the caller's epoch.
    #[must_use]
    pub const fn since_epoch(elapsed: Duration) -> Time {
        Time(elapsed)
    }

    /// How long after the epoch this is.
    #[must_use]
    pub const fn elapsed(self) -> Duration {
        self.0
    }

    /// How much later this is than `earlier`; zero if it is not later.
    #[must_use]
    pub const fn saturating_since(self, earlier: Time) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    /// Saturates: a far future is never reached, which is what an endless deadline means.
    fn add(self, by: Duration) -> Time {
        Time(self.0.saturating_add(by))
    }
}
