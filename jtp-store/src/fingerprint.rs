//! Detects whether a file changed since it was read.

use std::io;
use std::time::{Duration, SystemTime};

/// A fingerprint identifies the contents only if the ctime was older than this when the file was read: two changes
/// within one tick of the kernel's clock (1 to 10 ms) have the same ctime.
pub(crate) const SETTLE: Duration = Duration::from_millis(50);

/// Metadata of a file that changes whenever its contents do. // S13
///
/// On Unix: device, inode, size, mtime and ctime. The kernel sets the ctime before it changes a byte, and no user
/// can set it back, so equal fingerprints mean equal contents once the ctime is older than a tick of the clock
/// ([`Fingerprint::age`]). A write through a memory map is an exception: only the first one after a sync sets
/// the times. On other systems: size, mtime and the time of creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fingerprint {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) size: u64,
    /// Nanoseconds since 1970, saturated to the range of an i64 (up to the year 2262). Only an mtime can be out
    /// of range, since users can set it.
    pub(crate) modified: i64,
    pub(crate) changed: i64,
}

pub(crate) fn nanoseconds(seconds: i64, nanos: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

#[cfg(unix)]
impl Fingerprint {
    pub(crate) fn of(metadata: &std::fs::Metadata) -> Fingerprint {
        use std::os::unix::fs::MetadataExt;
        Fingerprint {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    pub(crate) fn of_cap(metadata: &cap_std::fs::Metadata) -> Fingerprint {
        use cap_std::fs::MetadataExt;
        Fingerprint {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

#[cfg(not(unix))]
impl Fingerprint {
    pub(crate) fn of(metadata: &std::fs::Metadata) -> Fingerprint {
        let times = (metadata.modified().ok(), metadata.created().ok());
        Self::portable(metadata.len(), times)
    }

    pub(crate) fn of_cap(metadata: &cap_std::fs::Metadata) -> Fingerprint {
        let std = |time: io::Result<cap_std::time::SystemTime>| time.ok().map(|t| t.into_std());
        let times = (std(metadata.modified()), std(metadata.created()));
        Self::portable(metadata.len(), times)
    }

    fn portable(size: u64, times: (Option<SystemTime>, Option<SystemTime>)) -> Fingerprint {
        let since_1970 = |time: Option<SystemTime>| {
            let since = time?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
            let seconds = i64::try_from(since.as_secs()).ok()?;
            Some(nanoseconds(seconds, i64::from(since.subsec_nanos())))
        };
        let modified = since_1970(times.0).unwrap_or_default();
        let created = since_1970(times.1).unwrap_or_default();
        Fingerprint {
            device: 0,
            inode: 0,
            size,
            modified,
            changed: modified.max(created),
        }
    }
}

/// The length of an encoded fingerprint.
pub(crate) const ENCODED_LEN: usize = 5 * 8;

impl Fingerprint {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for number in [self.device, self.inode, self.size] {
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
            device: u64::from_be_bytes(next()),
            inode: u64::from_be_bytes(next()),
            size: u64::from_be_bytes(next()),
            modified: i64::from_be_bytes(next()),
            changed: i64::from_be_bytes(next()),
        }
    }

    pub(crate) fn of_file(file: &std::fs::File) -> io::Result<Fingerprint> {
        Ok(Fingerprint::of(&file.metadata()?))
    }

    /// The time since the last change; `None` if that is in the future (a clock was set back, or the file
    /// system is another machine's).
    pub(crate) fn age(&self, now: SystemTime) -> Option<Duration> {
        // Times before 1970 count as 1970.
        let since = Duration::from_nanos(u64::try_from(self.changed).unwrap_or(0));
        let changed = SystemTime::UNIX_EPOCH.checked_add(since)?;
        now.duration_since(changed).ok()
    }

    /// Whether both are fingerprints of one inode, whatever else changed.
    pub(crate) fn is_same_file(&self, other: &Fingerprint) -> bool {
        (self.device, self.inode) == (other.device, other.inode) && self.inode != 0
    }
}
