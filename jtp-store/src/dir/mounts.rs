//! The sub-folders on which another file system is mounted. If one is unmounted, an empty folder is in its place: that does
//! not say that its files are gone. // W9

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use cap_std::fs::Dir;

use super::record::Name;
use super::scope::{Folders, Scope};
use crate::below;
use crate::name::is_hidden;

/// The mount points that the last scan found, also those whose file system has been unmounted since.
#[derive(Debug, Default)]
pub(super) struct SharedMounts(RwLock<HashSet<Name>>);

impl SharedMounts {
    /// Whether a folder is or was a mount point.
    pub(super) fn contains(&self, path: &OsStr) -> bool {
        let mounts = self.0.read().unwrap_or_else(PoisonError::into_inner);
        mounts.contains(path)
    }

    /// Takes the mount points that a complete scan found. Others are known no more, unless they are in a folder that could
    /// not be read.
    pub(super) fn set(&self, scope: &Scope, found: Vec<Name>, unreadable: &Folders) {
        let mut mounts = self.0.write().unwrap_or_else(PoisonError::into_inner);
        mounts.retain(|path| !scope.has_folder(path) || unreadable.contain(path));
        mounts.extend(found);
    }

    /// Whether a file that was not found is below a mount point whose file system is not mounted now.
    pub(super) fn hides(&self, root: &Dir, file: &OsStr) -> bool {
        let mounts = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if mounts.is_empty() {
            return false;
        }
        let above = Path::new(file).ancestors().skip(1);
        let mount = above.map(Path::as_os_str).find_map(|path| mounts.get(path));
        let mount = mount.cloned();
        drop(mounts);
        mount.is_some_and(|mount| is_unmounted(root, &mount))
    }
}

/// Whether there is only an empty folder where a file system was mounted, or one that cannot be read.
fn is_unmounted(root: &Dir, path: &OsStr) -> bool {
    let look = || {
        let folder = below::folder(root, path)?;
        if is_mount_point(&folder, root) {
            return Ok(false);
        }
        for entry in folder.entries()? {
            if !is_hidden(&entry?.file_name()) {
                return Ok(false);
            }
        }
        io::Result::Ok(true)
    };
    look().unwrap_or_else(|error| crate::hash::is_inconclusive(&error))
}

/// The error of a file below a mount point whose file system is not mounted.
pub(super) fn not_mounted() -> io::Error {
    io::Error::other("a file system that was mounted here is not mounted now")
}

/// Whether an open sub-folder is the root of a mounted file system.
#[cfg(unix)]
pub(super) fn is_mount_point(folder: &Dir, root: &Dir) -> bool {
    use rustix::fs::fstat;
    match is_mount_root(folder) {
        Some(is_root) => is_root,
        None => {
            let devices = fstat(folder).and_then(|own| Ok((own.st_dev, fstat(root)?.st_dev)));
            devices.is_ok_and(|(own, root)| own != root)
        }
    }
}

#[cfg(not(unix))]
pub(super) fn is_mount_point(_: &Dir, _: &Dir) -> bool {
    false
}

/// Whether the folder is the root of a mounted file system. `None` if the system does not say.
#[cfg(target_os = "linux")]
pub(super) fn is_mount_root(folder: &impl std::os::fd::AsFd) -> Option<bool> {
    use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, statx};
    let root = StatxAttributes::MOUNT_ROOT;
    let found = statx(folder, "", AtFlags::EMPTY_PATH, StatxFlags::empty()).ok()?;
    let is_known = found.stx_attributes_mask.contains(root);
    is_known.then(|| found.stx_attributes.contains(root))
}

#[cfg(all(unix, not(target_os = "linux")))]
fn is_mount_root(_: &impl std::os::fd::AsFd) -> Option<bool> {
    None
}
