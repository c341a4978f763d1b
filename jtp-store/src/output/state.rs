//! What a name in the folder stands for at one moment.

use std::io;
use std::time::{Duration, SystemTime};

use cap_std::fs::{Dir, Metadata};

use crate::file_system::FileSystem;
use crate::fingerprint::{SETTLE, Stat};

/// The same as [`SETTLE`] for times in whole seconds: FAT rounds to 2 s.
const SETTLE_SECONDS: Duration = Duration::from_millis(2050);

const SECOND: i64 = 1_000_000_000;

/// What a name in the folder stands for at one moment: nothing, a regular file, or something else (a folder, a link, a
/// device). From [`OutputFolder::look`](super::OutputFolder::look).
///
/// Two states are equal if nothing has changed: for a regular file its device, inode, size, mtime and ctime. What is not
/// a regular file is equal to anything else that is not. Moving a
/// file or adding a hard link sets its ctime on most file systems, so a state is no longer valid after a successful
/// [`rename`](super::OutputFolder::rename). A change that keeps the size, within 10 ms of the previous one (2 s on FAT,
/// and where times are whole seconds), may leave the state equal. // R8
///
/// On a file system whose inodes and ctimes prove nothing (see [`OutputFolder::scan`](super::OutputFolder::scan)), only
/// size and mtime are compared: the inode of a file that nobody has changed may differ at each look. There a change that
/// keeps both, also another file with both, leaves the state equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileState(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nothing,
    File(RegularFile),
    Other(NotAFile),
}

/// A folder's times change with its entries, so they are not compared.
#[derive(Debug, Clone, Copy, Eq)]
struct NotAFile {
    is_folder: bool,
}

impl PartialEq for NotAFile {
    /// Neither is ever moved or replaced.
    fn eq(&self, _: &NotAFile) -> bool {
        true
    }
}

#[derive(Debug, Clone, Copy, Eq)]
struct RegularFile {
    stat: Stat,
    /// Whether inode and ctime prove something.
    is_trusted: bool,
}

impl PartialEq for RegularFile {
    fn eq(&self, other: &RegularFile) -> bool {
        let compared = |file: &RegularFile| (file.is_trusted, file.stat.size, file.stat.modified);
        compared(self) == compared(other) && (!self.is_trusted || self.stat == other.stat)
    }
}

impl FileState {
    /// The state of a name that stands for nothing.
    pub const NOTHING: FileState = FileState(Kind::Nothing);

    /// The state of an existing name in the folder, as the file system itself says. Does not follow links.
    ///
    /// FUSE and NFS remember the metadata of a file for seconds, also after another program has changed the file under
    /// another spelling of its name, or on another machine.
    #[cfg(target_os = "linux")]
    pub(super) fn read(dir: &Dir, file_system: FileSystem, name: &str) -> io::Result<FileState> {
        use rustix::fs::{AtFlags, StatxFlags, statx};
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_FORCE_SYNC;
        match statx(dir, name, flags, StatxFlags::BASIC_STATS) {
            Ok(found) => Ok(FileState::of_statx(&found, file_system)),
            // A kernel before 4.11, or a sandbox.
            Err(rustix::io::Errno::NOSYS) => {
                Ok(FileState::of(&dir.symlink_metadata(name)?, file_system))
            }
            Err(e) => Err(e.into()),
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn read(dir: &Dir, file_system: FileSystem, name: &str) -> io::Result<FileState> {
        Ok(FileState::of(&dir.symlink_metadata(name)?, file_system))
    }

    #[cfg(target_os = "linux")]
    fn of_statx(found: &rustix::fs::Statx, file_system: FileSystem) -> FileState {
        use crate::fingerprint::nanoseconds;
        let nanos =
            |time: &rustix::fs::StatxTimestamp| nanoseconds(time.tv_sec, time.tv_nsec.into());
        let file_type = rustix::fs::FileType::from_raw_mode(found.stx_mode.into());
        let stat = Stat {
            device: rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor),
            inode: found.stx_ino,
            size: found.stx_size,
            modified: nanos(&found.stx_mtime),
            changed: nanos(&found.stx_ctime),
        };
        let kind = (file_type.is_file(), file_type.is_dir());
        FileState::new(kind, stat, file_system)
    }

    fn of(metadata: &Metadata, file_system: FileSystem) -> FileState {
        let kind = (metadata.is_file(), metadata.is_dir());
        FileState::new(kind, Stat::of_cap(metadata), file_system)
    }

    /// The state of an open regular file of the folder.
    pub(super) fn of_open(metadata: &std::fs::Metadata, file_system: FileSystem) -> FileState {
        let kind = (metadata.is_file(), metadata.is_dir());
        FileState::new(kind, Stat::of(metadata), file_system)
    }

    fn new((is_file, is_folder): (bool, bool), stat: Stat, file_system: FileSystem) -> FileState {
        FileState(if is_file {
            Kind::File(RegularFile {
                stat,
                is_trusted: file_system.trusts(&stat),
            })
        } else {
            Kind::Other(NotAFile { is_folder })
        })
    }

    /// What the system says of a regular file whose inode and ctime prove something.
    pub(super) fn trusted_stat(&self) -> Option<&Stat> {
        let file = self.file().filter(|file| file.is_trusted)?;
        Some(&file.stat)
    }

    fn file(&self) -> Option<&RegularFile> {
        match &self.0 {
            Kind::File(file) => Some(file),
            Kind::Nothing | Kind::Other(_) => None,
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
        self.file().is_some()
    }

    /// Whether it is a folder: not a link to one.
    #[must_use]
    pub fn is_folder(&self) -> bool {
        matches!(self.0, Kind::Other(other) if other.is_folder)
    }

    /// The length of the regular file in bytes; 0 for anything else.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.file().map_or(0, |file| file.stat.size)
    }

    /// Whether it is a regular file whose mtime and ctime are both earlier than `time` by more than their granularity:
    /// 50 ms, or 2.05 s for times in whole seconds. If the file system's times are those of this machine, the file has
    /// then not changed since `time`; see [`ScanSummary::settled_before`](super::ScanSummary::settled_before). `false`
    /// where a ctime proves nothing.
    #[must_use]
    pub fn is_older(&self, time: SystemTime) -> bool {
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
        self.file().is_some_and(|file| {
            file.is_trusted && is_older(file.stat.modified) && is_older(file.stat.changed)
        })
    }

    /// Whether both are regular files and one file by their inodes: hard links, or one name in two spellings on a file
    /// system that ignores case. Where inodes prove nothing (FUSE, Windows), this is `false`;
    /// [`OutputFolder::rename`](super::OutputFolder::rename) takes care of that.
    #[must_use]
    pub fn is_same_file(&self, other: &FileState) -> bool {
        match (self.file(), other.file()) {
            (Some(one), Some(two)) => {
                one.is_trusted && two.is_trusted && one.stat.is_same_file(&two.stat)
            }
            _ => false,
        }
    }

    /// Whether both are regular files with the same metadata and the same inode, whether or not that proves something. A
    /// moment later the inode may be another file's.
    pub(super) fn is_identical(&self, other: &FileState) -> bool {
        match (self.file(), other.file()) {
            (Some(one), Some(two)) => one.stat == two.stat && one.stat.is_same_file(&two.stat),
            _ => false,
        }
    }

    /// Whether a regular file with this state can have become one with the other state only by being renamed, and its
    /// mtime is old enough that a change would have set another one.
    pub(super) fn is_only_renamed(&self, renamed: &FileState, now: SystemTime) -> bool {
        let (Some(one), Some(two)) = (self.file(), renamed.file()) else {
            return false;
        };
        let same_file = match (one.is_trusted, two.is_trusted) {
            (true, true) => one.stat.is_same_file(&two.stat),
            (trusted, other) => trusted == other,
        };
        let same_bytes = (one.stat.size, one.stat.modified) == (two.stat.size, two.stat.modified);
        let name = std::ffi::OsStr::new("");
        let mut old = match one.is_trusted {
            true => one.stat.by_inode(0),
            false => one.stat.by_name(name),
        };
        old.changed = old.modified;
        same_file && same_bytes && old.is_settled(now)
    }

    /// Whether both are regular files that differ in nothing but their inodes.
    pub(super) fn is_equal_but_for_inode(&self, other: &FileState) -> bool {
        match (self.file(), other.file()) {
            (Some(one), Some(two)) => {
                let inode = one.stat.inode;
                one.stat == Stat { inode, ..two.stat }
            }
            _ => false,
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;

    use crate::OutputFolder;

    #[test]
    fn hard_links_are_one_file_only_where_inodes_are_trusted() {
        let temp = tempfile::tempdir().unwrap();
        let path = |name| temp.path().join(name);
        fs::write(path("a.png"), "image").unwrap();
        fs::hard_link(path("a.png"), path("b.png")).unwrap();
        for distrusted in [false, true] {
            let folder = OutputFolder::open_with(temp.path().into(), distrusted, false).unwrap();
            let look = |name| folder.look(name).unwrap();
            let (one, two) = (look("a.png"), look("b.png"));
            assert_eq!(one.is_same_file(&two), !distrusted);
            assert!(one.is_identical(&two) && one.is_file() && !one.is_folder());
            fs::write(path("a.png"), "longer".repeat(1 + usize::from(distrusted))).unwrap();
            assert!(!one.is_identical(&look("a.png")));
        }
    }
}
