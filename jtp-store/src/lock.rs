//! Locks on files of a folder that other programs respect. They are tried and never waited for, and end with the process.

use std::ffi::OsStr;
use std::fs::File;
use std::io;

use cap_std::fs::Dir;

/// Opens and locks a file of the folder; `None` if another process has locked it. Does not follow links.
///
/// # Errors
///
/// The file cannot be opened, or the file system has no locks.
#[cfg(unix)]
pub(crate) fn open_locked(dir: &Dir, name: &OsStr) -> io::Result<Option<File>> {
    use crate::hash::{self, Links};
    use rustix::fs::{FlockOperation, flock};
    use rustix::io::Errno;

    let lock = |file: File| match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(e) => Err(e),
    };
    // Without write access, so that the file system can be made read-only while a client runs.
    match lock(hash::open(dir, name, Links::Refuse)?) {
        // A network file system demands write access.
        Err(Errno::BADF) => Ok(lock(hash::open_to_append(dir, name)?)?),
        locked => Ok(locked?),
    }
}

/// The same on Windows: nobody else can open the file for writing while it is open. It can be read and removed.
#[cfg(windows)]
pub(crate) fn open_locked(dir: &Dir, name: &OsStr) -> io::Result<Option<File>> {
    open_alone(dir, name, cap_std::fs::OpenOptions::new().write(true))
}

/// Opens a file so that nobody else can open it for writing meanwhile; `None` if somebody has. Does not follow links.
#[cfg(windows)]
pub(crate) fn open_alone(
    dir: &Dir,
    name: &OsStr,
    options: &mut cap_std::fs::OpenOptions,
) -> io::Result<Option<File>> {
    use cap_std::fs::OpenOptionsExt;

    const OPEN_REPARSE_POINT: u32 = 0x0020_0000;
    refuse_writers(options).custom_flags(OPEN_REPARSE_POINT);
    match dir.open_with(std::path::Path::new(name), options) {
        Ok(file) => Ok(Some(file.into_std())),
        Err(e) if is_sharing_violation(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Nobody else can open the file for writing while it is opened so; with writers, the file cannot be opened.
#[cfg(windows)]
pub(crate) fn refuse_writers(
    options: &mut cap_std::fs::OpenOptions,
) -> &mut cap_std::fs::OpenOptions {
    use cap_std::fs::OpenOptionsExt;

    const SHARE_READ: u32 = 1;
    const SHARE_DELETE: u32 = 4;
    options.share_mode(SHARE_READ | SHARE_DELETE)
}

/// Whether another program has the file open and does not share it.
pub(crate) fn is_sharing_violation(error: &io::Error) -> bool {
    const SHARING_VIOLATION: i32 = 32;
    cfg!(windows) && error.raw_os_error() == Some(SHARING_VIOLATION)
}

#[cfg(not(any(unix, windows)))]
pub(crate) fn open_locked(_: &Dir, _: &OsStr) -> io::Result<Option<File>> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, any(unix, windows)))]
mod tests {
    use super::*;

    #[test]
    fn a_lock_file_is_locked_until_it_is_closed_and_can_be_removed_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open_ambient_dir(folder.path(), cap_std::ambient_authority()).unwrap();
        dir.write("lock", "").unwrap();
        let name = OsStr::new("lock");
        let lock = open_locked(&dir, name).unwrap();
        assert!(lock.is_some());
        assert!(open_locked(&dir, name).unwrap().is_none());
        assert_eq!(dir.read("lock").unwrap(), b"");
        drop(lock);
        let lock = open_locked(&dir, name).unwrap();
        assert!(lock.is_some());
        dir.remove_file("lock").unwrap();
        drop(lock);
        let error = open_locked(&dir, name).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
