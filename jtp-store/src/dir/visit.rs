//! The state of a folder when a walk read it.

use std::ffi::OsStr;
use std::io;
use std::time::{Duration, SystemTime};

use cap_std::fs::Dir;

use crate::fingerprint::Stat;

/// A folder that changed this long before it was read may have changed again without another time: FAT has steps of 2 s.
const RECENT: Duration = Duration::from_secs(2);

/// What identifies a folder, and the times of the last change of its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Visit {
    device: u64,
    inode: u64,
    modified: i64,
    changed: i64,
}

impl Visit {
    /// Of an open folder. `None` if the system does not say.
    pub(super) fn of(dir: &Dir) -> Option<Visit> {
        let metadata = dir.dir_metadata().ok()?;
        Some(Visit::new(&Stat::of_cap(&metadata)))
    }

    /// Of the folder that has a path now.
    pub(super) fn at(root: &Dir, path: &OsStr) -> io::Result<Visit> {
        let metadata = match path.is_empty() {
            true => root.dir_metadata()?,
            false => root.symlink_metadata(path)?,
        };
        Ok(Visit::new(&Stat::of_cap(&metadata)))
    }

    fn new(stat: &Stat) -> Visit {
        Visit {
            device: stat.device,
            inode: stat.inode,
            modified: stat.modified,
            changed: stat.changed,
        }
    }

    /// Whether any later change would have set another time.
    pub(super) fn is_settled(&self, now: SystemTime) -> bool {
        let latest = self.modified.max(self.changed);
        let since = Duration::from_nanos(u64::try_from(latest).unwrap_or(0));
        let age = now.duration_since(SystemTime::UNIX_EPOCH + since);
        age.is_ok_and(|age| age >= RECENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_settled_two_seconds_after_the_later_of_its_times() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for (modified, changed) in [(10, 100), (100, 10)] {
            let visit = Visit {
                device: 1,
                inode: 2,
                modified: modified * 1_000_000_000,
                changed: changed * 1_000_000_000,
            };
            let settled = [50, 99, 101, 102, 1000].map(|now| visit.is_settled(at(now)));
            assert_eq!(settled, [false, false, false, true, true]);
        }
    }
}
