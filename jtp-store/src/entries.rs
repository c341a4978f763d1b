//! Reads the entries of one folder, many at once.

use std::ffi::OsStr;
use std::io;

use cap_std::fs::Dir;

use crate::fingerprint::Stat;

#[cfg(target_os = "linux")]
pub(crate) use linux::{Entries, Part};
#[cfg(not(target_os = "linux"))]
pub(crate) use portable::{Entries, Part};

/// What an entry of a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    Link,
    /// A device, a pipe, a socket.
    Other,
}

/// The next entries of a folder.
pub(crate) struct Listed {
    pub(crate) part: Part,
    /// Why there are no more of them. `None`: there may be more.
    pub(crate) end: Option<End>,
}

pub(crate) enum End {
    Complete,
    Failed(io::Error),
}

/// One system call returns many entries. Their names are stored one after the other, without an allocation for each.
#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::CStr;
    use std::os::unix::ffi::OsStrExt;

    use rustix::fd::OwnedFd;
    use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, openat, statat};
    use rustix::io::Errno;

    use super::*;

    /// The bytes that one call fills: those of some 800 short names.
    const BUFFER: usize = 32 * 1024;

    pub(crate) struct Entries {
        listed: OwnedFd,
        buffer: Vec<u8>,
    }

    /// Some entries of a folder.
    pub(crate) struct Part {
        /// The names, each with a NUL at its end.
        names: Vec<u8>,
        /// The end of each name in `names`, NUL included.
        entries: Vec<(usize, Kind)>,
    }

    impl Entries {
        pub(crate) fn of(dir: &Dir) -> io::Result<Entries> {
            // A descriptor with a position of its own.
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            Ok(Entries {
                listed: openat(dir, c".", flags, Mode::empty())?,
                buffer: Vec::with_capacity(BUFFER),
            })
        }

        pub(crate) fn next(&mut self) -> Listed {
            let mut part = Part {
                names: Vec::new(),
                entries: Vec::new(),
            };
            let mut listed = RawDir::new(&self.listed, self.buffer.spare_capacity_mut());
            let mut end = None;
            loop {
                match listed.next() {
                    None => end = Some(End::Complete),
                    // The folder was removed.
                    Some(Err(Errno::NOENT)) => end = Some(End::Complete),
                    Some(Err(Errno::INTR)) => continue,
                    Some(Err(error)) => end = Some(End::Failed(error.into())),
                    Some(Ok(entry)) => part.add(&self.listed, entry.file_name(), entry.file_type()),
                }
                if end.is_some() || listed.is_buffer_empty() {
                    return Listed { part, end };
                }
            }
        }
    }

    impl Part {
        fn add(&mut self, dir: &OwnedFd, name: &CStr, kind: FileType) {
            if matches!(name.to_bytes(), b"." | b"..") {
                return;
            }
            let kind = match kind {
                // The file system does not tell.
                FileType::Unknown => statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_or(FileType::Unknown, |found| {
                        FileType::from_raw_mode(found.st_mode)
                    }),
                kind => kind,
            };
            self.names.extend_from_slice(name.to_bytes_with_nul());
            self.entries.push((
                self.names.len(),
                match kind {
                    FileType::RegularFile => Kind::File,
                    FileType::Directory => Kind::Folder,
                    FileType::Symlink => Kind::Link,
                    _ => Kind::Other,
                },
            ));
        }

        pub(crate) fn len(&self) -> usize {
            self.entries.len()
        }

        /// The name with its NUL.
        fn bytes(&self, at: usize) -> &[u8] {
            let start = at.checked_sub(1).map_or(0, |before| self.entries[before].0);
            &self.names[start..self.entries[at].0]
        }

        pub(crate) fn name(&self, at: usize) -> &OsStr {
            let name = self.bytes(at).split_last().map(|(_, name)| name);
            OsStr::from_bytes(name.unwrap_or_default())
        }

        pub(crate) fn kind(&self, at: usize) -> Kind {
            self.entries[at].1
        }

        /// The metadata of the entry itself, if it is a link. `dir`: the folder.
        pub(crate) fn stat(&self, dir: &Dir, at: usize) -> Option<Stat> {
            self.stat_and_links(dir, at).map(|(stat, _)| stat)
        }

        /// Also whether the file has other names (hard links).
        pub(crate) fn stat_and_links(&self, dir: &Dir, at: usize) -> Option<(Stat, bool)> {
            let name = CStr::from_bytes_with_nul(self.bytes(at)).ok()?;
            let found = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            Some((Stat::of_raw(&found), found.st_nlink > 1))
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod portable {
    use std::ffi::OsString;

    use cap_std::fs::{DirEntry, ReadDir};

    use super::*;

    /// The number of entries that are read at once.
    const PART: usize = 64;

    pub(crate) struct Entries(ReadDir);

    /// Some entries of a folder.
    pub(crate) struct Part(Vec<(OsString, Kind, DirEntry)>);

    impl Entries {
        pub(crate) fn of(dir: &Dir) -> io::Result<Entries> {
            dir.entries().map(Entries)
        }

        pub(crate) fn next(&mut self) -> Listed {
            let mut entries = Vec::with_capacity(PART);
            let mut end = None;
            while entries.len() < PART && end.is_none() {
                match self.0.next() {
                    None => end = Some(End::Complete),
                    Some(Err(error)) => end = Some(End::Failed(error)),
                    Some(Ok(entry)) => {
                        let kind = match entry.file_type() {
                            Ok(kind) if kind.is_file() => Kind::File,
                            Ok(kind) if kind.is_dir() => Kind::Folder,
                            Ok(kind) if kind.is_symlink() => Kind::Link,
                            _ => Kind::Other,
                        };
                        entries.push((entry.file_name(), kind, entry));
                    }
                }
            }
            let part = Part(entries);
            Listed { part, end }
        }
    }

    impl Part {
        pub(crate) fn len(&self) -> usize {
            self.0.len()
        }

        pub(crate) fn name(&self, at: usize) -> &OsStr {
            &self.0[at].0
        }

        pub(crate) fn kind(&self, at: usize) -> Kind {
            self.0[at].1
        }

        /// The metadata of the entry itself, if it is a link. Some systems have them from the listing of the folder.
        pub(crate) fn stat(&self, dir: &Dir, at: usize) -> Option<Stat> {
            self.stat_and_links(dir, at).map(|(stat, _)| stat)
        }

        /// Also whether the file has other names (hard links), where the system says so.
        pub(crate) fn stat_and_links(&self, _: &Dir, at: usize) -> Option<(Stat, bool)> {
            let metadata = self.0[at].2.metadata().ok()?;
            #[cfg(unix)]
            let is_linked = cap_std::fs::MetadataExt::nlink(&metadata) > 1;
            #[cfg(not(unix))]
            let is_linked = false;
            Some((Stat::of_cap(&metadata), is_linked))
        }
    }
}
