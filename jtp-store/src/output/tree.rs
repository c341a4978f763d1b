//! Opens the folders of the tree without following links. // R5 W9
//!
//! A path is opened again for each step, which takes one system call on Linux: a handle that was kept could belong to a
//! folder that another user has moved out of the tree since.

use std::ffi::OsStr;
use std::io;
use std::ops::Deref;
use std::path::{Component, Path};
use std::sync::Arc;

use cap_std::fs::Dir;

use super::{FileState, Inner};
use crate::file_system::FileSystem;
use crate::hash::is_name_refused;

/// A folder of the tree.
#[derive(Clone)]
pub(super) enum Folder<'a> {
    Root(&'a Dir),
    Below(Arc<Dir>),
}

impl Deref for Folder<'_> {
    type Target = Dir;

    fn deref(&self) -> &Dir {
        match self {
            Folder::Root(dir) => dir,
            Folder::Below(dir) => dir,
        }
    }
}

/// A name in an open folder of the tree.
#[derive(Clone)]
pub(super) struct Located<'a> {
    pub(super) folder: Folder<'a>,
    pub(super) name: &'a str,
}

impl<'a> Located<'a> {
    /// Another name in the same folder.
    pub(super) fn beside<'b>(&self, name: &'b str) -> Located<'b>
    where
        'a: 'b,
    {
        let folder = self.folder.clone();
        Located { folder, name }
    }

    /// What has this name now. Does not follow links.
    pub(super) fn look(&self, file_system: FileSystem) -> io::Result<FileState> {
        match FileState::read(&self.folder, file_system, self.name) {
            Err(e) if is_absent(&e) => Ok(FileState::NOTHING),
            state => state,
        }
    }
}

/// What to do about missing folders.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Fail,
    Create,
}

impl Inner {
    /// Opens the folder of a path, which exists. A name without folders takes no system call.
    pub(super) fn locate<'a>(&'a self, path: &'a str) -> io::Result<Located<'a>> {
        self.locate_with(path, Missing::Fail)
    }

    /// Opens the folder of a path. Creates those that are missing, with the mode that the umask leaves.
    pub(super) fn locate_or_create<'a>(&'a self, path: &'a str) -> io::Result<Located<'a>> {
        self.check_writable()?;
        self.locate_with(path, Missing::Create)
    }

    fn locate_with<'a>(&'a self, path: &'a str, missing: Missing) -> io::Result<Located<'a>> {
        let (folder, name) = match path.rsplit_once('/') {
            None => (None, path),
            Some((folder, name)) => (Some(folder), name),
        };
        check_component(name)?;
        let folder = match folder {
            None => Folder::Root(&self.dir),
            Some(folder) => {
                folder.split('/').try_for_each(check_component)?;
                Folder::Below(Arc::new(self.open(Path::new(folder), missing)?))
            }
        };
        Ok(Located { folder, name })
    }

    /// Opens an existing folder of the tree.
    pub(super) fn open_folder(&self, path: &OsStr) -> io::Result<Dir> {
        self.open(Path::new(path), Missing::Fail)
    }

    #[cfg(unix)]
    fn open(&self, path: &Path, missing: Missing) -> io::Result<Dir> {
        #[cfg(target_os = "linux")]
        match open_at_once(&self.dir, path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && missing == Missing::Create => {}
            Err(e) if !may_walk(&e) => return Err(e),
            Err(_) => {}
            opened => return opened,
        }
        self.walk(path, missing)
    }

    /// Opens one folder after the other.
    #[cfg(unix)]
    fn walk(&self, path: &Path, missing: Missing) -> io::Result<Dir> {
        use crate::walk::FOLDER;
        use rustix::fs::{Mode, OFlags, mkdirat, openat};
        let flags = FOLDER | OFlags::NOFOLLOW;
        let mut folder = None;
        for part in path.components() {
            let Component::Normal(part) = part else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            let parent = folder.as_ref().unwrap_or(&self.dir);
            let opened = match openat(parent, part, flags, Mode::empty()) {
                Err(rustix::io::Errno::NOENT) if missing == Missing::Create => {
                    match mkdirat(parent, part, Mode::from_raw_mode(0o777)) {
                        // Another thread or program was faster.
                        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                        Err(e) => return Err(e.into()),
                    }
                    openat(parent, part, flags, Mode::empty())?
                }
                opened => opened?,
            };
            folder = Some(Dir::from_std_file(opened.into()));
        }
        folder.ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    #[cfg(not(unix))]
    fn open(&self, path: &Path, missing: Missing) -> io::Result<Dir> {
        let mut folder = None;
        for part in path.components() {
            let Component::Normal(part) = part else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            let parent: &Dir = folder.as_ref().unwrap_or(&self.dir);
            match parent.symlink_metadata(part) {
                Ok(found) if found.is_dir() => {}
                Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
                Err(e) if e.kind() == io::ErrorKind::NotFound && missing == Missing::Create => {
                    match parent.create_dir(part) {
                        // Another thread or program was faster.
                        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                        _ => {}
                    }
                }
                Err(e) => return Err(e),
            }
            // It does not leave the tree, even if a link has taken the folder's place.
            folder = Some(parent.open_dir(part)?);
        }
        folder.ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }
}

/// Opens all components by one system call, which refuses links.
#[cfg(target_os = "linux")]
fn open_at_once(root: &Dir, path: &Path) -> io::Result<Dir> {
    use crate::walk::FOLDER;
    use rustix::fs::{Mode, ResolveFlags, openat2};
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let opened = openat2(root, path, FOLDER, Mode::empty(), resolve)?;
    Ok(Dir::from_std_file(opened.into()))
}

/// Whether the call itself is refused: by a kernel before 5.6, by a sandbox, or because the whole path is too long for it.
#[cfg(target_os = "linux")]
fn may_walk(e: &io::Error) -> bool {
    use rustix::io::Errno;
    let refused = [
        Errno::NOSYS,
        Errno::PERM,
        Errno::INVAL,
        Errno::AGAIN,
        Errno::NAMETOOLONG,
    ];
    let is_one = |errno: Errno| e.raw_os_error() == Some(errno.raw_os_error());
    refused.into_iter().any(is_one)
}

/// Whether there is nothing under a name: also if it is too long, or a file or a link is in place of its folder.
pub(super) fn is_absent(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::NotFound || is_name_refused(e) || is_no_folder(e)
}

/// Whether a file, a link or a device is in place of a folder.
pub(super) fn is_no_folder(e: &io::Error) -> bool {
    #[cfg(unix)]
    if e.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        return true;
    }
    e.kind() == io::ErrorKind::NotADirectory
}

/// Whether two folders are on different file systems, so that a file cannot be renamed from one to the other.
pub(super) fn is_cross_device(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::CrossesDevices
}

/// Fails unless the name is a single component. // R5
fn check_component(name: &str) -> io::Result<()> {
    // Most names, by a look at their bytes: no separator, prefix or `.` alone. On Windows too.
    let mut bytes = name.bytes();
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric();
    let may_follow = |byte: u8| is_letter(byte) || matches!(byte, b'.' | b'-' | b'_');
    if bytes.next().is_some_and(is_letter) && bytes.all(may_follow) {
        return Ok(());
    }
    let mut components = Path::new(name).components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(only)), None) if only == name && !name.contains('\0') => Ok(()),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::OutputFolder;

    #[test]
    fn r5_a_name_is_one_component_without_a_nul() {
        for name in [
            "", ".", "..", "/", "/a", "a/", "a/.", "./a", "a/b", "a\0b", "\0",
        ] {
            let refused = check_component(name).map_err(|e| e.kind());
            assert_eq!(refused, Err(io::ErrorKind::InvalidInput), "{name:?}");
        }
        for name in ["a-1_b.png", "-a", ".a", "a b", "é.png", "a\\b"] {
            check_component(name).unwrap();
        }
    }

    /// Where the system cannot open all components at once.
    #[test]
    fn w9_a_walk_creates_folders_and_follows_no_link() {
        let (temp, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folder = OutputFolder::open(temp.path()).unwrap();
        let walk = |path: &str, missing| folder.0.walk(Path::new(path), missing);
        let kind = |path: &str, missing| walk(path, missing).map(|_| ()).map_err(|e| e.kind());
        assert_eq!(kind("a/b", Missing::Fail), Err(io::ErrorKind::NotFound));
        walk("a/b", Missing::Create).unwrap().create("x").unwrap();
        assert!(temp.path().join("a/b/x").is_file());
        kind("a/b", Missing::Fail).unwrap();
        kind("a/b", Missing::Create).unwrap();
        symlink(outside.path(), temp.path().join("link")).unwrap();
        symlink("b", temp.path().join("a/link")).unwrap();
        for path in [
            "link",
            "link/new",
            "a/link",
            "a/link/new",
            "a/b/x",
            "a/b/x/new",
        ] {
            for missing in [Missing::Fail, Missing::Create] {
                let refused = walk(path, missing).map(|_| ()).unwrap_err();
                assert!(is_no_folder(&refused), "{path}: {refused}");
            }
        }
        for path in ["..", "a/../b", "/", ""] {
            let invalid = Err(io::ErrorKind::InvalidInput);
            assert_eq!(kind(path, Missing::Create), invalid, "{path}");
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}
