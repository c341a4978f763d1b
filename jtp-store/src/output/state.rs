//! What a name in the folder stands for at one moment.

use std::io;
use std::time::{Duration, SystemTime};

use cap_std::fs::{Dir, Metadata};

use crate::fingerprint::{Fingerprint, SETTLE};

/// The same as [`SETTLE`] for times in whole seconds: FAT rounds to 2 s.
const SETTLE_SECONDS: Duration = Duration::from_millis(2050);

const SECOND: i64 = 1_000_000_000;

/// What a name in the folder stands for at one moment: nothing, a regular file, or something else (a folder, a link, a
/// device). From [`OutputFolder::look`](super::OutputFolder::look).
///
/// Two states are equal if nothing has changed: for a regular file its device, inode, size, mtime and ctime. Moving a
/// file or adding a hard link sets its ctime on most file systems, so a state is no longer valid after a successful
/// [`rename`](super::OutputFolder::rename). A change that keeps the size, within 10 ms of the previous one (2 s on FAT,
/// and where times are whole seconds), may leave the state equal. // R8
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileState(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nothing,
    File(Fingerprint),
    /// A folder's times change with its entries, so they are not compared.
    Other,
}

impl FileState {
    /// The state of a name that stands for nothing.
    pub const NOTHING: FileState = FileState(Kind::Nothing);

    /// The state of an existing name, as the file system itself says. Does not follow links.
    ///
    /// FUSE and NFS remember the metadata of a file for seconds, also after another program has changed the file under
    /// another spelling of its name, or on another machine.
    #[cfg(target_os = "linux")]
    pub(super) fn read(dir: &Dir, name: &str) -> io::Result<FileState> {
        use rustix::fs::{AtFlags, StatxFlags, statx};
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_FORCE_SYNC;
        match statx(dir, name, flags, StatxFlags::BASIC_STATS) {
            Ok(found) => Ok(FileState::of_statx(&found)),
            // A kernel before 4.11, or a sandbox.
            Err(rustix::io::Errno::NOSYS) => Ok(FileState::of(&dir.symlink_metadata(name)?)),
            Err(e) => Err(e.into()),
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn read(dir: &Dir, name: &str) -> io::Result<FileState> {
        Ok(FileState::of(&dir.symlink_metadata(name)?))
    }

    #[cfg(target_os = "linux")]
    fn of_statx(found: &rustix::fs::Statx) -> FileState {
        use crate::fingerprint::nanoseconds;
        let nanos =
            |time: &rustix::fs::StatxTimestamp| nanoseconds(time.tv_sec, time.tv_nsec.into());
        let file_type = rustix::fs::FileType::from_raw_mode(found.stx_mode.into());
        if !file_type.is_file() {
            return FileState(Kind::Other);
        }
        FileState(Kind::File(Fingerprint {
            device: rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor),
            inode: found.stx_ino,
            size: found.stx_size,
            modified: nanos(&found.stx_mtime),
            changed: nanos(&found.stx_ctime),
        }))
    }

    fn of(metadata: &Metadata) -> FileState {
        FileState(if metadata.is_file() {
            Kind::File(Fingerprint::of_cap(metadata))
        } else {
            Kind::Other
        })
    }

    /// The state of an open regular file.
    pub(super) fn of_open(metadata: &std::fs::Metadata) -> FileState {
        FileState(if metadata.is_file() {
            Kind::File(Fingerprint::of(metadata))
        } else {
            Kind::Other
        })
    }

    fn fingerprint(&self) -> Option<&Fingerprint> {
        match &self.0 {
            Kind::File(print) => Some(print),
            Kind::Nothing | Kind::Other => None,
        }
    }

    /// Whether there is nothing with the name.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.0 == Kind::Nothing
    }

    /// Whether it is a regular file: not a folder, link or device.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.fingerprint().is_some()
    }

    /// The length of the regular file in bytes; 0 for anything else.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.fingerprint().map_or(0, |print| print.size)
    }

    /// Whether it is a regular file whose mtime and ctime are both earlier than `time` by more than their granularity:
    /// 50 ms, or 2.05 s for times in whole seconds. If the file system's times are those of this machine, the file has
    /// then not changed since `time`; see [`ScanSummary::settled_before`](super::ScanSummary::settled_before).
    #[must_use]
    pub fn is_older(&self, time: SystemTime) -> bool {
        self.fingerprint().is_some_and(|print| {
            let is_older = |nanos: i64| {
                let granularity = match nanos % SECOND {
                    0 => SETTLE_SECONDS,
                    _ => SETTLE,
                };
                // Times before 1970 count as 1970.
                let since = Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
                SystemTime::UNIX_EPOCH
                    .checked_add(since + granularity)
                    .is_some_and(|settled| settled < time)
            };
            is_older(print.modified) && is_older(print.changed)
        })
    }

    /// Whether both are regular files and one file by their inodes: hard links, or one name in two spellings on a file
    /// system that ignores case. On some systems the spellings have different inodes (FUSE) or none (Windows), and
    /// this is `false`; [`OutputFolder::rename`](super::OutputFolder::rename) takes care of that.
    #[must_use]
    pub fn is_same_file(&self, other: &FileState) -> bool {
        match (self.fingerprint(), other.fingerprint()) {
            (Some(one), Some(two)) => one.is_same_file(two),
            _ => false,
        }
    }

    /// Whether both are regular files that differ in nothing but their inodes.
    pub(super) fn is_equal_but_for_inode(&self, other: &FileState) -> bool {
        match (self.fingerprint(), other.fingerprint()) {
            (Some(one), Some(two)) => {
                let inode = one.inode;
                *one == Fingerprint { inode, ..*two }
            }
            _ => false,
        }
    }
}

/// Whether each change of a file in the folder sets its ctime, by the clock of this machine, and inodes identify files.
#[cfg(target_os = "linux")]
pub(super) fn has_reliable_metadata(dir: &Dir) -> bool {
    // From linux/magic.h: ext2 to ext4, btrfs, bcachefs, XFS, F2FS, ZFS, tmpfs.
    const RELIABLE: [i64; 7] = [
        0xef53,
        0x9123_683e,
        0xca45_1a4e,
        0x5846_5342,
        0xf2f5_2010,
        0x2fc1_2fc1,
        0x0102_1994,
    ];
    // The type is signed, unsigned, or 32 bits wide, by architecture.
    #[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions)]
    rustix::fs::fstatfs(dir)
        .ok()
        .and_then(|stat| i64::try_from(stat.f_type).ok())
        .is_some_and(|magic| RELIABLE.contains(&(magic & 0xffff_ffff)))
}

#[cfg(target_vendor = "apple")]
pub(super) fn has_reliable_metadata(dir: &Dir) -> bool {
    rustix::fs::fstatfs(dir).is_ok_and(|stat| {
        let name = stat.f_fstypename.iter().take_while(|byte| **byte != 0);
        let name: Vec<u8> = name.map(|byte| byte.to_ne_bytes()[0]).collect();
        matches!(name.as_slice(), b"apfs" | b"hfs")
    })
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
pub(super) fn has_reliable_metadata(_: &Dir) -> bool {
    false
}
