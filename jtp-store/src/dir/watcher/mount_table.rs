//! Which file systems are mounted below a folder. No event of the folder says that.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use cap_std::fs::Dir;

use crate::dir::record::Name;

/// The mount table of this process. A poll for [`PRI`](rustix::event::PollFlags::PRI) returns after a change.
pub(super) struct MountTable {
    table: File,
    root: Dir,
    /// The mounts below the folder: their IDs, and their paths in it.
    mounts: BTreeSet<(Vec<u8>, Name)>,
}

impl MountTable {
    /// The system may have no such table, or refuse it.
    pub(super) fn open(root: &Dir) -> io::Result<MountTable> {
        let mut table = MountTable {
            table: File::open("/proc/self/mountinfo")?,
            root: root.try_clone()?,
            mounts: BTreeSet::new(),
        };
        table.mounts = table.read()?;
        Ok(table)
    }

    /// The mount points below the folder that have changed since the last call.
    pub(super) fn changes(&mut self) -> Vec<Name> {
        let Ok(mounts) = self.read() else {
            return Vec::new();
        };
        let changed = self.mounts.symmetric_difference(&mounts);
        let paths: BTreeSet<Name> = changed.map(|(_, path)| Name::clone(path)).collect();
        self.mounts = mounts;
        paths.into_iter().collect()
    }

    fn read(&mut self) -> io::Result<BTreeSet<(Vec<u8>, Name)>> {
        let root = format!("/proc/self/fd/{}", self.root.as_fd().as_raw_fd());
        let root = std::fs::read_link(root)?.into_os_string().into_vec();
        let mut lines = Vec::new();
        self.table.rewind()?;
        self.table.read_to_end(&mut lines)?;
        Ok(parse(&lines, &root))
    }
}

impl AsFd for MountTable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.table.as_fd()
    }
}

/// The mounts below a folder that are not in hidden folders.
fn parse(lines: &[u8], root: &[u8]) -> BTreeSet<(Vec<u8>, Name)> {
    let root = root.strip_suffix(b"/").unwrap_or(root);
    let mounts = lines.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let id = fields.next()?.to_vec();
        let path = unescape(fields.nth(3)?);
        let path = path.strip_prefix(root)?.strip_prefix(b"/")?;
        let mut parts = path.split(|byte| *byte == b'/');
        let is_listed = parts.all(|part| !part.is_empty() && part.first() != Some(&b'.'));
        is_listed.then(|| (id, Name::from(OsStr::from_bytes(path))))
    });
    mounts.collect()
}

/// Some bytes are written as a backslash and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| first == b'\\');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w9_mounts_below_the_folder_are_found_by_their_paths() {
        let lines = b"21 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
            30 21 0:5 / /srv/images rw - tmpfs tmpfs rw\n\
            31 30 0:6 / /srv/images/a\\040b/c\\134d rw shared:1 - tmpfs tmpfs rw\n\
            32 30 0:7 / /srv/images/.hidden/x rw - tmpfs tmpfs rw\n\
            33 30 0:8 / /srv/images2/x rw - tmpfs tmpfs rw\n\
            34 30 0:9 / /srv/images/a\\040b rw - tmpfs tmpfs rw\n";
        let found = |root: &[u8]| -> Vec<String> {
            let mounts = parse(lines, root).into_iter();
            mounts
                .map(|(_, path)| path.to_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(found(b"/srv/images"), ["a b/c\\d", "a b"]);
        assert_eq!(found(b"/srv/images/a b"), ["c\\d"]);
        let in_root = found(b"/");
        assert!(in_root.contains(&"srv/images2/x".to_owned()), "{in_root:?}");
    }
}
