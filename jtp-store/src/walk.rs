//! Opens a folder by its path, one component at a time, and tells who can put another folder in its place.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::path_parts::{MAX_LINKS, reversed};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};

pub(crate) const WRITE_BY_ALL: Mode = Mode::from_bits_retain(0o002);

/// How folders on the way are opened: where the system allows it, without permission to read them.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// The users who may decide where a path leads: root, this process's user, and at most one other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trusted(Option<u32>);

impl Trusted {
    /// Root and this process's user.
    pub(crate) const OWN: Trusted = Trusted(None);

    /// The user with this ID, too.
    pub(crate) const fn and(user: u32) -> Trusted {
        Trusted(Some(user))
    }

    pub(crate) fn includes(self, user: u32) -> bool {
        user == 0 || Some(user) == self.0 || user == rustix::process::geteuid().as_raw()
    }

    /// Whether nobody else can remove or replace an entry of a folder. In a sticky folder, others can add entries.
    fn controls(self, folder: &Stat) -> bool {
        let is_sticky = mode(folder).contains(Mode::SVTX);
        self.includes(folder.st_uid) && (is_sticky || !others_can_write(folder))
    }
}

/// Whether users other than the owner of a folder can write to it. The owner's private group, which by convention has the
/// ID of the user, has no other members.
fn others_can_write(folder: &Stat) -> bool {
    let mode = mode(folder);
    let by_group = mode.contains(Mode::WGRP) && folder.st_gid != folder.st_uid;
    by_group || mode.contains(WRITE_BY_ALL)
}

pub(crate) fn mode(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode)
}

/// A folder that was opened by its path.
pub(crate) struct Walked {
    pub(crate) folder: File,
    /// Whether trusted users alone can have put it there.
    pub(crate) is_controlled: bool,
    /// Whether root and this process's user alone can have put it there, if [`Walked::is_controlled`].
    pub(crate) is_own: bool,
}

/// Opens the folder at `path`; a relative one begins at `start`. Symbolic links are followed if trusted users alone can
/// have put them there.
///
/// # Errors
///
/// The system's error, or `PermissionDenied` for any other link.
pub(crate) fn walk(start: &impl AsFd, path: &Path, trusted: Trusted) -> io::Result<Walked> {
    let root = || openat(CWD, "/", FOLDER, Mode::empty());
    let mut folder = match path.has_root() {
        true => root()?,
        false => openat(start, ".", FOLDER, Mode::empty())?,
    };
    // What is left of the path, in reverse order.
    let mut rest = reversed(path);
    let (mut is_controlled, mut is_own, mut links) = (true, true, 0);
    while let Some(part) = rest.pop() {
        let parent = rustix::fs::fstat(&folder)?;
        let is_safe = trusted.controls(&parent);
        is_own &= Trusted::OWN.includes(parent.st_uid);
        let found = statat(&folder, &part, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(found.st_mode).is_symlink() {
            if !is_safe || !trusted.includes(found.st_uid) {
                return Err(untrusted_link(&part));
            }
            is_own &= Trusted::OWN.includes(found.st_uid);
            links += 1;
            if links > MAX_LINKS {
                return Err(rustix::io::Errno::LOOP.into());
            }
            let target = readlinkat(&folder, &part, Vec::new())?;
            let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
            rest.extend(reversed(&target));
            if target.has_root() {
                folder = root()?;
            }
            continue;
        }
        is_controlled &= is_safe;
        folder = openat(&folder, &part, FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
    }
    Ok(Walked {
        folder: File::from(folder),
        is_controlled,
        is_own,
    })
}

fn untrusted_link(name: &OsStr) -> io::Error {
    let message = format!(
        "the symbolic link {name:?} in its path belongs to another user, or others can replace it"
    );
    io::Error::new(io::ErrorKind::PermissionDenied, message)
}
