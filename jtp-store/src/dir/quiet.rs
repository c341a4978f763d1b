//! How long a file must have been unchanged before it is read.

use std::time::{Duration, Instant, SystemTime};

use crate::fingerprint::{Fingerprint, SETTLE};
use crate::lease::Writers;

/// A file that stays empty for this long after it was closed is an empty image. Until then it may be a placeholder, as
/// programs that download create them.
const EMPTY: Duration = Duration::from_secs(5);

/// How long a file must have been unchanged before it is read.
///
/// What counts is whether a program has the file open for writing: such a file is not read, however long it is
/// unchanged. The times are needed because a complete file may be followed by more (a program that opens and closes it
/// several times), and because the system does not always know the writers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quiet {
    /// If no program has the file open for writing.
    pub(super) without_writers: Duration,
    /// If the system does not say whether a program has.
    unknown_writers: Duration,
}

impl Quiet {
    /// The file was closed after writing, or renamed to its name.
    pub(super) const CLOSED: Quiet = Quiet {
        without_writers: SETTLE,
        unknown_writers: SETTLE,
    };

    /// It was written to, and no event says that it was closed: that event was lost, or will come. If the system does
    /// not say which, the file is complete after a minute.
    pub(super) const OPEN: Quiet = Quiet {
        without_writers: Duration::from_millis(1200),
        unknown_writers: Duration::from_secs(60),
    };

    /// A scan or an event found the name, but no event says that the file is complete. With the second until the next
    /// scan, a complete file is listed within 2 s.
    pub(super) const FOUND: Quiet = Quiet {
        without_writers: Duration::from_millis(400),
        unknown_writers: Duration::from_millis(700),
    };

    /// It was there when the folder was indexed first, or its metadata changed.
    pub(super) const UNCERTAIN: Quiet = Quiet {
        without_writers: SETTLE,
        unknown_writers: Duration::from_millis(1200),
    };

    /// How long the file must be unchanged from now on; `None` if it was unchanged for long enough.
    ///
    /// `seen` is an earlier observation. Without a lease it alone counts: the clock of another machine's file system
    /// may be wrong.
    pub(super) fn remaining(
        self,
        writers: Writers,
        found: &Fingerprint,
        seen: Option<(Fingerprint, Instant)>,
        now: SystemTime,
    ) -> Option<Duration> {
        let (quiet, by_clock) = match writers {
            Writers::None => (self.without_writers, found.age(now)),
            Writers::Some | Writers::Unknown => (self.unknown_writers, None),
        };
        let quiet = match found.size {
            0 => quiet.max(EMPTY),
            _ => quiet,
        };
        let observed = || match seen {
            Some((before, at)) if before == *found => at.elapsed(),
            _ => Duration::ZERO,
        };
        let age = by_clock.unwrap_or_else(observed);
        let wait = quiet.checked_sub(age).filter(|wait| !wait.is_zero())?;
        // The monotonic clock may be slightly ahead of the file system's.
        Some(wait + Duration::from_millis(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000_000_000;

    fn found(size: u64, changed: i64) -> Fingerprint {
        Fingerprint {
            file_system: 1,
            file: 2,
            size,
            modified: changed,
            changed,
        }
    }

    fn remaining(quiet: Quiet, writers: Writers, found: Fingerprint) -> Option<Duration> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_nanos(NOW as u64);
        quiet.remaining(writers, &found, None, now)
    }

    #[test]
    fn with_leases_the_age_of_the_last_change_counts() {
        let old = found(9, NOW - 10_000_000_000);
        let new = found(9, NOW);
        for quiet in [Quiet::CLOSED, Quiet::OPEN, Quiet::FOUND, Quiet::UNCERTAIN] {
            assert_eq!(remaining(quiet, Writers::None, old), None);
            let wait = remaining(quiet, Writers::None, new).unwrap();
            assert_eq!(wait, quiet.without_writers + Duration::from_millis(1));
        }
        assert!(remaining(Quiet::FOUND, Writers::None, found(9, NOW + 1)).is_some());
    }

    #[test]
    fn without_leases_a_wrong_clock_does_not_make_a_file_quiet() {
        for changed in [0, NOW - 3_600_000_000_000, NOW, NOW + 3_600_000_000_000] {
            let found = found(9, changed);
            let wait = remaining(Quiet::FOUND, Writers::Unknown, found).unwrap();
            assert!(wait >= Duration::from_millis(700), "{wait:?}");
            let at = Instant::now()
                .checked_sub(Duration::from_millis(701))
                .unwrap();
            let now = SystemTime::now();
            let wait = |seen| Quiet::FOUND.remaining(Writers::Unknown, &found, Some(seen), now);
            assert_eq!(wait((found, at)), None);
            // It was another file then.
            let other = Fingerprint { file: 3, ..found };
            assert!(wait((other, at)).is_some());
        }
    }

    #[test]
    fn an_empty_file_is_an_image_after_5_seconds() {
        let wait = remaining(Quiet::CLOSED, Writers::None, found(0, NOW - 4_000_000_000));
        assert!(wait.is_some_and(|wait| wait <= Duration::from_millis(1001)));
        let old = found(0, NOW - 5_000_000_000);
        assert_eq!(remaining(Quiet::CLOSED, Writers::None, old), None);
        assert!(remaining(Quiet::CLOSED, Writers::Unknown, old).is_some());
    }
}
