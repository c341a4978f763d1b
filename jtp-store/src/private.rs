//! Folders that only one user can access, and the files in them.
//!
//! Such a folder is opened once, and its files are opened below that handle. If another user could write to it
//! nevertheless, links and pipes there could make this program cut files elsewhere, or wait for ever. So the folder is
//! refused then, and whatever it contains: no link is followed, nothing but a regular file is opened, and a file with
//! several names is never written.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::io;
use std::path::Path;

use cap_std::fs::{Dir, OpenOptions};

/// How often a file is opened again that another program replaced meanwhile.
const ATTEMPTS: usize = 8;

/// Creates a folder and its missing parents, accessible to this user alone (mode 0700 on Unix). The mode of an existing
/// folder is not changed.
///
/// # Errors
///
/// The folder or a parent cannot be created. On Unix also `PermissionDenied`, with a message that says what to do: the
/// folder belongs to another user (root aside), others can write to it, or a symbolic link of another user leads to
/// it.
pub fn create_private_folder(folder: &Path) -> io::Result<()> {
    create_and_open(folder).map(drop)
}

/// [`create_private_folder`], and a handle of the folder.
pub(crate) fn create_and_open(folder: &Path) -> io::Result<Dir> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)?;
    open_folder(folder)
}

/// Opens an existing folder. The same errors as [`create_private_folder`].
#[cfg(unix)]
pub(crate) fn open_folder(folder: &Path) -> io::Result<Dir> {
    use rustix::fs::Mode;

    use crate::walk::{Trusted, WRITE_BY_ALL, mode, walk};

    let opened = walk(&rustix::fs::CWD, folder, Trusted::OWN)?.folder;
    let stat = rustix::fs::fstat(&opened)?;
    let refused = if !Trusted::OWN.includes(stat.st_uid) {
        format!(
            "the folder belongs to another user (uid {}); use one of your own",
            stat.st_uid
        )
    } else if mode(&stat).intersects(Mode::WGRP | WRITE_BY_ALL) {
        format!(
            "other users can write to the folder (mode {:04o}); run \"chmod go-w\" on it, or use another one",
            mode(&stat).as_raw_mode()
        )
    } else {
        return Ok(Dir::from_std_file(opened));
    };
    Err(io::Error::new(io::ErrorKind::PermissionDenied, refused))
}

#[cfg(not(unix))]
pub(crate) fn open_folder(folder: &Path) -> io::Result<Dir> {
    Dir::open_ambient_dir(folder, cap_std::ambient_authority())
}

/// Opens a regular file of a private folder, with mode 0600 if it is created. A link is not followed, and nothing is
/// waited for.
///
/// # Errors
///
/// The system's error. `InvalidInput` if it is something else than a regular file, a file with several names, or another
/// user's.
pub(crate) fn open_file(dir: &Dir, name: &OsStr, options: &mut OpenOptions) -> io::Result<File> {
    #[cfg(unix)]
    {
        use cap_std::fs::OpenOptionsExt;
        use rustix::fs::OFlags;
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
        // The kernel's flags are a C int.
        options.custom_flags(i32::try_from(flags.bits()).unwrap_or(0));
        options.mode(0o600);
    }
    #[cfg(not(unix))]
    if dir
        .symlink_metadata(name)
        .is_ok_and(|found| found.is_symlink())
    {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let file = dir.open_with(Path::new(name), options)?.into_std();
    let metadata = file.metadata()?;
    #[cfg(unix)]
    let is_own = {
        use std::os::unix::fs::MetadataExt;
        is_own(metadata.nlink(), metadata.uid())
    };
    #[cfg(not(unix))]
    let is_own = true;
    match metadata.is_file() && is_own {
        true => Ok(file),
        false => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Whether a file has one name at most (none once another program has removed it) and no other user's owner.
#[cfg(unix)]
fn is_own(names: u64, owner: u32) -> bool {
    names <= 1 && crate::walk::Trusted::OWN.includes(owner)
}

/// Opens a file of a private folder for reading and writing. If it is missing, or its name is that of anything that
/// [`open_file`] refuses, a new file is made; a link, pipe or file that had the name loses it.
///
/// # Errors
///
/// The system's error; a folder of that name stays.
pub(crate) fn open_or_replace(dir: &Dir, name: &OsStr) -> io::Result<File> {
    open_or_replace_with(dir, name, |_| {})
}

/// The same with other options.
///
/// # Errors
///
/// Those of [`open_or_replace`].
pub(crate) fn open_or_replace_with(
    dir: &Dir,
    name: &OsStr,
    set: impl Fn(&mut OpenOptions),
) -> io::Result<File> {
    let mut result = Err(io::ErrorKind::NotFound.into());
    for _ in 0..ATTEMPTS {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        set(&mut options);
        result = open_file(dir, name, &mut options);
        let Err(_) = &result else {
            break;
        };
        match dir.symlink_metadata(name) {
            Ok(found) if is_unfit(&found) => dir.remove_file(name)?,
            Ok(_) => break,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(_) => break,
        }
    }
    result
}

fn is_unfit(found: &cap_std::fs::Metadata) -> bool {
    #[cfg(unix)]
    let is_own = {
        use cap_std::fs::MetadataExt;
        is_own(found.nlink(), found.uid())
    };
    #[cfg(not(unix))]
    let is_own = true;
    !(found.is_dir() || (found.is_file() && is_own))
}
