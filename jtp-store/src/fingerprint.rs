//! Telling whether a file is still the one that was read.

use std::io;
use std::time::{Duration, SystemTime};

/// A file's contents are known for good only if its ctime was older than this when it was hashed: a change
/// within the same tick of the clock would leave no trace. Kernels tick every 1 to 10 ms.
pub(crate) const SETTLE: Duration = Duration::from_millis(50);

/// What the system says of a file; it changes whenever the contents do. // S13
///
/// On Unix: device, inode, size, mtime and ctime. The kernel sets a ctime before it changes a byte and
/// nobody can set it back, so equal fingerprints mean equal contents once the ctime is older than the clock's
/// tick ([`Fingerprint::age`]). Writing through a memory map is the exception: the times move at the first
/// write after a sync, not at each. Elsewhere size, mtime and the time of creation have to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint {
    device: u64,
    inode: u64,
    pub(crate) size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

#[cfg(unix)]
impl Fingerprint {
    pub(crate) fn of(metadata: &std::fs::Metadata) -> Fingerprint {
        use std::os::unix::fs::MetadataExt;
        Fingerprint {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    pub(crate) fn of_cap(metadata: &cap_std::fs::Metadata) -> Fingerprint {
        use cap_std::fs::MetadataExt;
        Fingerprint {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
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
        let split = |time: Option<SystemTime>| {
            let since = time?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
            Some((
                i64::try_from(since.as_secs()).ok()?,
                i64::from(since.subsec_nanos()),
            ))
        };
        let modified = split(times.0).unwrap_or_default();
        let created = split(times.1).unwrap_or_default();
        Fingerprint {
            device: 0,
            inode: 0,
            size,
            modified,
            changed: modified.max(created),
        }
    }
}

/// The bytes of a fingerprint that is kept in a file.
pub(crate) const ENCODED_LEN: usize = 7 * 8;

impl Fingerprint {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for number in [self.device, self.inode, self.size] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        for number in [
            self.modified.0,
            self.modified.1,
            self.changed.0,
            self.changed.1,
        ] {
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
            modified: (i64::from_be_bytes(next()), i64::from_be_bytes(next())),
            changed: (i64::from_be_bytes(next()), i64::from_be_bytes(next())),
        }
    }

    pub(crate) fn of_file(file: &std::fs::File) -> io::Result<Fingerprint> {
        Ok(Fingerprint::of(&file.metadata()?))
    }

    /// How long ago the file changed last; `None` if that lies in the future (a clock was set back, or the
    /// file system's clock is another machine's).
    pub(crate) fn age(&self, now: SystemTime) -> Option<Duration> {
        let (seconds, nanos) = self.changed;
        let nanos = u32::try_from(nanos).ok()?;
        let changed = match u64::try_from(seconds) {
            Ok(seconds) => SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))?,
            Err(_) => SystemTime::UNIX_EPOCH,
        };
        now.duration_since(changed).ok()
    }

    /// Whether both are names of one file, whatever else changed.
    pub(crate) fn is_same_file(&self, other: &Fingerprint) -> bool {
        (self.device, self.inode) == (other.device, other.inode) && self.inode != 0
    }
}
