//! Opens folders below an open folder without following links, one component at a time: a link that takes the place of a
//! folder between two steps leads nowhere. // W9

use std::ffi::OsStr;
use std::io;
use std::ops::Deref;
use std::path::Path;

use cap_std::fs::Dir;

/// The folder that contains a file.
pub(crate) enum Parent<'a> {
    /// The open folder itself.
    Root(&'a Dir),
    Below(Dir),
}

impl Deref for Parent<'_> {
    type Target = Dir;

    fn deref(&self) -> &Dir {
        match self {
            Parent::Root(dir) => dir,
            Parent::Below(dir) => dir,
        }
    }
}

/// Opens the folder that contains the file at a relative path, and returns the file's name in it. No system call if the
/// path has one component.
///
/// # Errors
///
/// `NotFound` also if a link or a file is in place of a folder.
pub(crate) fn parent<'a>(dir: &'a Dir, path: &'a OsStr) -> io::Result<(Parent<'a>, &'a OsStr)> {
    let path = Path::new(path);
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    match folder.as_os_str().is_empty() {
        true => Ok((Parent::Root(dir), name)),
        false => open(dir, folder, Access::Names).map(|folder| (Parent::Below(folder), name)),
    }
}

/// Opens the folder at a relative path to read its entries.
///
/// # Errors
///
/// `NotFound` also if a link or a file is in place of a folder.
pub(crate) fn folder(dir: &Dir, path: &OsStr) -> io::Result<Dir> {
    open(dir, Path::new(path), Access::Entries)
}

/// What a folder is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Opening the files in it by name.
    Names,
    /// Reading its entries.
    Entries,
}

#[cfg(unix)]
fn open(dir: &Dir, path: &Path, access: Access) -> io::Result<Dir> {
    use rustix::fs::{Mode, OFlags, openat};
    use rustix::io::Errno;
    use std::fs::File;
    use std::path::Component;

    let entries = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let names = entries | OFlags::PATH;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let names = entries;
    let last = match access {
        Access::Names => names,
        Access::Entries => entries,
    };
    let missing = |errno: Errno| match errno {
        Errno::LOOP | Errno::NOTDIR => io::Error::from(io::ErrorKind::NotFound),
        other => other.into(),
    };
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{ResolveFlags, openat2};
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match openat2(dir, path, last, Mode::empty(), beneath) {
            Ok(folder) => return Ok(Dir::from_std_file(File::from(folder))),
            // An old kernel, a filter of system calls, or a longer path than the system takes at once.
            Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN | Errno::NAMETOOLONG) => {}
            Err(errno) => return Err(missing(errno)),
        }
    }
    let mut parts = path.components().peekable();
    let mut folder = None;
    while let Some(part) = parts.next() {
        let Component::Normal(part) = part else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let flags = if parts.peek().is_some() { names } else { last };
        let next = match &folder {
            None => openat(dir, part, flags, Mode::empty()),
            Some(folder) => openat(folder, part, flags, Mode::empty()),
        };
        folder = Some(next.map_err(missing)?);
    }
    match folder {
        Some(folder) => Ok(Dir::from_std_file(File::from(folder))),
        None => Err(io::ErrorKind::NotFound.into()),
    }
}

#[cfg(not(unix))]
fn open(dir: &Dir, path: &Path, _: Access) -> io::Result<Dir> {
    let mut folder: Option<Dir> = None;
    for part in path.components() {
        let part = Path::new(part.as_os_str());
        let parent = folder.as_ref().unwrap_or(dir);
        if parent.symlink_metadata(part)?.is_symlink() {
            return Err(io::ErrorKind::NotFound.into());
        }
        folder = Some(parent.open_dir(part)?);
    }
    folder.ok_or_else(|| io::ErrorKind::NotFound.into())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use cap_std::ambient_authority;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn kind(result: io::Result<Dir>) -> Option<io::ErrorKind> {
        result.err().map(|error| error.kind())
    }

    #[test]
    fn w9_no_component_of_a_path_is_followed_if_it_is_a_link() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("images");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir_all(place.path().join("outside/b")).unwrap();
        fs::write(root.join("a/b/x.png"), "x").unwrap();
        fs::write(root.join("file"), "x").unwrap();
        symlink("a", root.join("inside")).unwrap();
        symlink("../outside", root.join("out")).unwrap();
        symlink("b", root.join("a/link")).unwrap();
        let dir = Dir::open_ambient_dir(&root, ambient_authority()).unwrap();
        let (folder, name) = parent(&dir, OsStr::new("a/b/x.png")).unwrap();
        assert!(folder.symlink_metadata(name).unwrap().is_file());
        assert_eq!(kind(super::folder(&dir, OsStr::new("a/b"))), None);
        let missing = Some(io::ErrorKind::NotFound);
        for path in [
            "inside", "inside/b", "out", "out/b", "a/link", "file", "file/b", "none",
        ] {
            let found = kind(super::folder(&dir, OsStr::new(path)));
            assert_eq!(found, missing, "{path}");
        }
        assert!(super::folder(&dir, OsStr::new("..")).is_err());
        assert!(parent(&dir, OsStr::new("inside/b/x.png")).is_err());
    }

    #[test]
    fn w9_a_path_longer_than_the_system_takes_at_once_is_opened() {
        let place = tempfile::tempdir().unwrap();
        let mut dir = Dir::open_ambient_dir(place.path(), ambient_authority()).unwrap();
        let root = dir.try_clone().unwrap();
        let part = "d".repeat(200);
        for _ in 0..31 {
            dir.create_dir(&part).unwrap();
            dir = dir.open_dir(&part).unwrap();
        }
        let path = vec![part; 31].join("/");
        assert_eq!(kind(super::folder(&root, OsStr::new(&path))), None);
    }
}
