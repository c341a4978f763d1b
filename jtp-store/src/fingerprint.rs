//! Detects whether a file changed since it was read.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::time::{Duration, SystemTime};

use crate::file_system::name_hash;

/// A fingerprint identifies the contents only if the ctime was older than this when the file was read: two changes
/// within one tick of the kernel's clock (1 to 10 ms) have the same ctime.
pub(crate) const SETTLE: Duration = Duration::from_millis(50);

/// The same where times are whole seconds: ext3, ext4 with small inodes, HFS+.
const SETTLE_SECONDS: Duration = Duration::from_millis(1050);

/// The same where times may be rounded to 2 s: FAT, and what is like it.
const SETTLE_UNTRUSTED: Duration = Duration::from_millis(2050);

/// How much the clock of another machine, whose file system it is, may be behind this one's.
const MAX_SKEW: Duration = Duration::from_secs(60);

/// [`Fingerprint::file_system`] of a file that is identified by its name.
pub(crate) const BY_NAME: u64 = u64::MAX;

/// What the system says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) size: u64,
    /// Nanoseconds since 1970, saturated to the range of an i64 (up to the year 2262). Only an mtime can be out
    /// of range, since users can set it.
    pub(crate) modified: i64,
    /// The ctime; on other systems than Unix the later one of the mtime and the time of creation.
    pub(crate) changed: i64,
}

/// Metadata of a file that changes whenever its contents do. // S13
///
/// On a file system with lasting inodes: the ID of the file system, inode, size, mtime and ctime. The kernel sets the
/// ctime before it changes a byte, and no user can set it back, so equal fingerprints mean equal contents once the
/// ctime is older than a tick of the clock ([`Fingerprint::unsettled`]). A write through a memory map is an exception:
/// only the first one after a sync sets the times.
///
/// Else: name, size and mtime. A change that keeps the size and restores the mtime is not noticed.
/// [`FileSystem`](crate::file_system::FileSystem) decides which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Fingerprint {
    /// The ID of the file system, 0 if it has none, or [`BY_NAME`].
    pub(crate) file_system: u64,
    /// The inode, or the hash of the name.
    pub(crate) file: u64,
    pub(crate) size: u64,
    /// Nanoseconds since 1970, see [`Stat`].
    pub(crate) modified: i64,
    /// The same as `modified` if the file is identified by its name.
    pub(crate) changed: i64,
}

pub(crate) fn nanoseconds(seconds: i64, nanos: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

#[cfg(unix)]
impl Stat {
    pub(crate) fn of(metadata: &std::fs::Metadata) -> Stat {
        use std::os::unix::fs::MetadataExt;
        Stat {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// The types of the fields differ between architectures.
    #[cfg(target_os = "linux")]
    #[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions)]
    pub(crate) fn of_raw(found: &rustix::fs::Stat) -> Stat {
        let nanos = |nanos| i64::try_from(nanos).unwrap_or(0);
        Stat {
            device: found.st_dev.into(),
            inode: found.st_ino.into(),
            size: u64::try_from(found.st_size).unwrap_or(0),
            modified: nanoseconds(found.st_mtime.into(), nanos(found.st_mtime_nsec)),
            changed: nanoseconds(found.st_ctime.into(), nanos(found.st_ctime_nsec)),
        }
    }

    pub(crate) fn of_cap(metadata: &cap_std::fs::Metadata) -> Stat {
        use cap_std::fs::MetadataExt;
        Stat {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

#[cfg(not(unix))]
impl Stat {
    pub(crate) fn of(metadata: &std::fs::Metadata) -> Stat {
        let times = (metadata.modified().ok(), metadata.created().ok());
        Self::portable(metadata.len(), times)
    }

    pub(crate) fn of_cap(metadata: &cap_std::fs::Metadata) -> Stat {
        let std = |time: io::Result<cap_std::time::SystemTime>| time.ok().map(|t| t.into_std());
        let times = (std(metadata.modified()), std(metadata.created()));
        Self::portable(metadata.len(), times)
    }

    fn portable(size: u64, times: (Option<SystemTime>, Option<SystemTime>)) -> Stat {
        let since_1970 = |time: Option<SystemTime>| {
            let since = time?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
            let seconds = i64::try_from(since.as_secs()).ok()?;
            Some(nanoseconds(seconds, i64::from(since.subsec_nanos())))
        };
        let modified = since_1970(times.0).unwrap_or_default();
        let created = since_1970(times.1).unwrap_or_default();
        Stat {
            device: 0,
            inode: 0,
            size,
            modified,
            changed: modified.max(created),
        }
    }
}

impl Stat {
    pub(crate) fn of_file(file: &File) -> io::Result<Stat> {
        Ok(Stat::of(&file.metadata()?))
    }

    /// Whether both are of one file that exists, whatever changed.
    pub(crate) fn is_same_file(&self, other: &Stat) -> bool {
        (self.device, self.inode) == (other.device, other.inode) && self.inode != 0
    }

    /// The time since the last change; `None` if that is in the future.
    pub(crate) fn age(&self, now: SystemTime) -> Option<Duration> {
        age(self.changed, now)
    }

    /// The fingerprint on a file system with lasting inodes.
    pub(crate) fn by_inode(&self, file_system: u64) -> Fingerprint {
        Fingerprint {
            file_system,
            file: self.inode,
            size: self.size,
            modified: self.modified,
            changed: self.changed,
        }
    }

    /// The fingerprint on any other file system.
    pub(crate) fn by_name(&self, name: &OsStr) -> Fingerprint {
        Fingerprint {
            file_system: BY_NAME,
            file: name_hash(name),
            size: self.size,
            modified: self.modified,
            changed: self.modified,
        }
    }
}

/// The time since a change; `None` if that is in the future (a clock was set back, or the file system is another
/// machine's).
fn age(changed: i64, now: SystemTime) -> Option<Duration> {
    // Times before 1970 count as 1970.
    let since = Duration::from_nanos(u64::try_from(changed).unwrap_or(0));
    let changed = SystemTime::UNIX_EPOCH.checked_add(since)?;
    now.duration_since(changed).ok()
}

/// The length of an encoded fingerprint.
pub(crate) const ENCODED_LEN: usize = 5 * 8;

impl Fingerprint {
    /// That of a file with this inode.
    #[cfg(test)]
    pub(crate) fn sample(file: u64) -> Fingerprint {
        Fingerprint {
            file_system: 1,
            file,
            size: 5,
            modified: -5,
            changed: i64::MAX,
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for number in [self.file_system, self.file, self.size] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        for number in [self.modified, self.changed] {
            out.extend_from_slice(&number.to_be_bytes());
        }
    }

    pub(crate) fn decode(bytes: &[u8; ENCODED_LEN]) -> Fingerprint {
        let mut numbers = bytes
            .chunks_exact(8)
            .map(|chunk| <[u8; 8]>::try_from(chunk).unwrap_or_default());
        let mut next = || numbers.next().unwrap_or_default();
        Fingerprint {
            file_system: u64::from_be_bytes(next()),
            file: u64::from_be_bytes(next()),
            size: u64::from_be_bytes(next()),
            modified: i64::from_be_bytes(next()),
            changed: i64::from_be_bytes(next()),
        }
    }

    pub(crate) fn is_by_name(&self) -> bool {
        self.file_system == BY_NAME
    }

    /// Whether this is the fingerprint of the open file, which was found under that name. // S13
    pub(crate) fn is_of(&self, file: &File, name: &OsStr) -> io::Result<bool> {
        let found = Stat::of_file(file)?;
        Ok(*self
            == if self.is_by_name() {
                found.by_name(name)
            } else {
                found.by_inode(self.file_system)
            })
    }

    /// Whether this may be the same file with the same bytes, of which only the mode, owner or number of links changed.
    pub(crate) fn has_same_contents(&self, other: &Fingerprint) -> bool {
        Fingerprint {
            changed: other.changed,
            ..*self
        } == *other
    }

    /// See [`Stat::age`].
    pub(crate) fn age(&self, now: SystemTime) -> Option<Duration> {
        age(self.changed, now)
    }

    /// The time until the file cannot change any more without a change of its times: until then, what was read at
    /// `read_at` may have been replaced by other bytes with the same fingerprint. `None` if it has passed already.
    ///
    /// It has also passed if an earlier look, at least [`Fingerprint::settle_time`] ago, found the same fingerprint and
    /// that is not in the future.
    pub(crate) fn unsettled(&self, read_at: SystemTime) -> Option<Duration> {
        let settle = self.settle_time();
        let age = self.age(read_at).unwrap_or_default();
        if self.is_by_name() {
            // Without the clock of the file system, only a second look after this time is certain to be late enough.
            return (age < settle + MAX_SKEW).then_some(settle);
        }
        settle.checked_sub(age).filter(|wait| !wait.is_zero())
    }

    pub(crate) fn is_settled(&self, read_at: SystemTime) -> bool {
        self.unsettled(read_at).is_none()
    }

    /// The granularity of the times, plus a tick of the clock.
    pub(crate) fn settle_time(&self) -> Duration {
        if self.is_by_name() {
            SETTLE_UNTRUSTED
        } else if self.changed % 1_000_000_000 == 0 {
            SETTLE_SECONDS
        } else {
            SETTLE
        }
    }

    /// Whether both are fingerprints of one inode, whatever else changed. Without lasting inodes nothing shows that.
    pub(crate) fn is_same_file(&self, other: &Fingerprint) -> bool {
        (self.file_system, self.file) == (other.file_system, other.file)
            && self.file != 0
            && !self.is_by_name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(changed: i64) -> Stat {
        Stat {
            device: 1,
            inode: 2,
            size: 3,
            modified: changed,
            changed,
        }
    }

    #[test]
    fn a_fingerprint_is_settled_once_its_times_are_older_than_their_granularity() {
        const SECOND: i64 = 1_000_000_000;
        let after = |nanos: i64| {
            SystemTime::UNIX_EPOCH
                + Duration::from_nanos(u64::try_from(100 * SECOND + nanos).unwrap())
        };
        let fine = at(100 * SECOND + 1).by_inode(0);
        let whole = at(100 * SECOND).by_inode(0);
        let named = at(100 * SECOND + 1).by_name("a.png".as_ref());
        for (print, settled_after) in [(fine, 51), (whole, 1050), (named, 62_051)] {
            let moment = |ms: i64| after(ms * 1_000_000);
            assert!(!print.is_settled(moment(settled_after - 5)), "{print:?}");
            assert!(print.is_settled(moment(settled_after)), "{print:?}");
            assert_eq!(
                print.unsettled(moment(-1)),
                Some(print.settle_time()),
                "in the future"
            );
        }
    }

    #[test]
    fn a_fingerprint_is_the_same_after_it_was_encoded_and_decoded() {
        for print in [at(-5).by_inode(7), at(5).by_name("a.png".as_ref())] {
            let mut bytes = Vec::new();
            print.encode(&mut bytes);
            let bytes: [u8; ENCODED_LEN] = bytes.try_into().unwrap();
            assert_eq!(Fingerprint::decode(&bytes), print);
        }
    }
}
