//! An mtime that no later change of a file leaves as it is.
//!
//! The kernel's times are those of its last tick, 1 to 10 ms ago: a file that is changed twice within a tick has the same
//! mtime after both. Git therefore reads a file again whose mtime is not older than its index. Here the file gets an mtime
//! between two ticks instead: a later change sets another one, even in the same tick.

use std::fs::File;
use std::time::{Duration, SystemTime};

use crate::fingerprint::{Stat, nanoseconds};
use crate::known::Contents;

/// The unit of the mtime. NTFS and SMB round to it.
const UNIT: u32 = 100;

/// A file system that keeps an mtime that is no multiple of this keeps any.
const COARSE: u32 = 1_000_000;

/// A complete file whose contents are known as long as it has its size and its mtime.
pub(super) struct Seal {
    pub(super) contents: Contents,
    length: u64,
    /// In nanoseconds since 1970.
    modified: i64,
    /// What the system said of the file when it was closed.
    pub(super) closed: Option<Stat>,
}

impl Seal {
    /// Sets the mtime of a file to now. `None` if that is refused.
    pub(super) fn new(file: &File, contents: Contents, length: u64) -> Option<Seal> {
        let (seconds, nanos) = precise(SystemTime::now())?;
        let since = Duration::new(seconds, nanos);
        let time = SystemTime::UNIX_EPOCH.checked_add(since)?;
        file.set_modified(time).ok()?;
        Some(Seal {
            contents,
            length,
            modified: nanoseconds(i64::try_from(seconds).ok()?, nanos.into()),
            closed: None,
        })
    }

    /// Whether the file has not changed: it is as long as it was, and has the mtime, which the file system did not round.
    pub(super) fn is_intact(&self, stat: &Stat) -> bool {
        (stat.size, stat.modified) == (self.length, self.modified)
    }
}

/// Seconds and nanoseconds, in whole units, but not in whole milliseconds. `None` before 1970.
fn precise(now: SystemTime) -> Option<(u64, u32)> {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let rounded = since.subsec_nanos() / UNIT * UNIT;
    let nanos = match rounded % COARSE {
        0 => rounded + UNIT,
        _ => rounded,
    };
    Some((since.as_secs(), nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mtime_is_in_whole_units_and_never_in_whole_milliseconds() {
        let at = |nanos| precise(SystemTime::UNIX_EPOCH + Duration::new(7, nanos));
        assert_eq!(at(123_456_789), Some((7, 123_456_700)));
        assert_eq!(at(0), Some((7, 100)));
        assert_eq!(at(999_000_099), Some((7, 999_000_100)));
        assert_eq!(at(999_999_999), Some((7, 999_999_900)));
    }

    #[test]
    fn a_file_that_is_written_again_is_not_intact() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let contents = Contents {
            id: jtp_core::ImageId::of(b"old"),
            sniffed: None,
            incompressible_at: 0,
        };
        for attempt in 0..100 {
            std::fs::write(&path, b"old").unwrap();
            let file = File::options().write(true).open(&path).unwrap();
            let seal = Seal::new(&file, contents, 3).unwrap();
            assert!(seal.is_intact(&Stat::of_file(&file).unwrap()));
            // In the same tick of the kernel's clock, nearly always.
            std::fs::write(&path, b"new").unwrap();
            assert!(!seal.is_intact(&Stat::of_file(&file).unwrap()), "{attempt}");
        }
    }
}
