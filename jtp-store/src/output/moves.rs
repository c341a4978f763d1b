//! Gives files their names: in one atomic step, and only over what the caller has looked at. // R5 R8

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

#[cfg(unix)]
use cap_std::fs::Dir;
use jtp_core::ImageId;

use super::case::names;
use super::temporary::Temporary;
use super::tree::{Located, is_absent, is_cross_device};
use super::{FileState, Inner, OutputError};
use crate::file_system::FileSystem;
use crate::hash::{self, Links};
use crate::name::{FileName, fold_case, has_image_extension};

/// Why a file did not get a name. The folder is as it was before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MoveError {
    /// One of the names stands for something else than the caller looked at. Another look at the folder shows what.
    #[error("the folder was changed by another program at the same time")]
    Changed,
    /// This name cannot be used, or the file with this name cannot be moved or replaced: no permission, a folder that
    /// only lets the owner replace a file, an immutable file, a name that is too long, a folder or a link of that
    /// name. The next image may succeed. // R8
    #[error(transparent)]
    Name(OutputError),
    /// Nothing can be written to the folder: its file system is full or read-only, or the folder was removed.
    #[error(transparent)]
    Folder(OutputError),
}

/// What to move.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A file that another program may move or delete at any time.
    Visible,
    /// A temporary file of this program.
    Temporary,
}

/// Why a file was not moved.
pub(super) enum Unmoved {
    /// The new name stands for something else than the caller looked at.
    Changed,
    Io(io::Error),
}

impl From<io::Error> for Unmoved {
    fn from(e: io::Error) -> Unmoved {
        Unmoved::Io(e)
    }
}

impl Inner {
    /// What has this path now. Does not follow links.
    pub(super) fn look(&self, path: &str) -> io::Result<FileState> {
        match self.locate(path) {
            Ok(at) => at.look(self.file_system),
            Err(e) if is_absent(&e) => Ok(FileState::NOTHING),
            Err(e) => Err(e),
        }
    }

    /// Moves `from` to `to`, if `over` is still what has that name: nothing, or a regular file, which is replaced.
    pub(super) fn move_file(
        &self,
        from: &Located<'_>,
        to: &Located<'_>,
        over: &FileState,
    ) -> Result<(), Unmoved> {
        if over.is_nothing() {
            return Ok(self.rename_to_free(from, to)?);
        }
        let refused = if !over.is_file() {
            Some(io::Error::new(
                io::ErrorKind::IsADirectory,
                "a folder, a link or a device has this name",
            ))
        } else if self.is_short_alias(to)? {
            Some(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "this is the short name of a file that is not an image",
            ))
        } else {
            None
        };
        // Directly before the rename, so that little time is left in which the file may change. // R8
        if to.look(self.file_system)? != *over {
            return Err(Unmoved::Changed);
        }
        match refused {
            Some(refused) => Err(refused.into()),
            None => Ok(rename_over(from, to)?),
        }
    }

    /// Renames a visible file.
    pub(super) fn rename(
        self: &Arc<Inner>,
        from: &str,
        from_state: &FileState,
        to: &FileName,
        over: &FileState,
    ) -> Result<(), MoveError> {
        let unmoved = |unmoved| self.unmoved(Source::Visible, to, unmoved);
        let failed = |e| self.move_error(Source::Visible, to, e);
        if !from_state.is_file() || self.look(from).map_err(failed)? != *from_state {
            return Err(MoveError::Changed);
        }
        let source = self.locate(from).map_err(failed)?;
        let target = self.locate_or_create(to.as_str()).map_err(failed)?;
        if !self.is_one_file((from, from_state), (to.as_str(), over)) {
            return match self.move_file(&source, &target, over) {
                Err(Unmoved::Io(e)) if is_cross_device(&e) => self
                    .move_across((&source, from_state, self.file_system), &target, over)
                    .map_err(unmoved),
                moved => moved.map_err(unmoved),
            };
        }
        if target.look(self.file_system).map_err(failed)? != *over {
            return Err(MoveError::Changed);
        }
        if from == to.as_str() {
            return Ok(());
        }
        self.rename_onto_itself(&source, to, &target, over)
            .map_err(failed)
    }

    /// Moves a visible file to another file system: as a copy with its mode and times, whose original is removed once the
    /// copy is visible. A crash between the two leaves both. // R8
    ///
    /// `from`: the file, its state, and the file system that the state comes from.
    pub(super) fn move_across(
        self: &Arc<Inner>,
        (from, from_state, file_system): (&Located<'_>, &FileState, FileSystem),
        to: &Located<'_>,
        over: &FileState,
    ) -> Result<(), Unmoved> {
        let source = hash::open(&from.folder, from.name.as_ref(), Links::Refuse)?;
        let is_unchanged = || -> io::Result<bool> {
            let now = FileState::of_open(&source.metadata()?, file_system);
            Ok(now == *from_state)
        };
        // Before it is read: reading a device might never end.
        if !is_unchanged()? {
            return Err(Unmoved::Changed);
        }
        let mut copy = Temporary::create_in(self, to)?;
        io::copy(&mut &source, &mut copy)?;
        copy.keep_mode(from);
        copy.keep_times(&source);
        // The original must not be gone before the copy is on the disk.
        copy.sync()?;
        copy.close();
        if !is_unchanged()? {
            return Err(Unmoved::Changed);
        }
        copy.place_at(to, over)?;
        if from.look(file_system)? != *from_state {
            return Ok(());
        }
        match from.folder.remove_file(from.name) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            // The original stays. The caller would treat the copy as another file of that name.
            Err(e) => {
                if over.is_nothing() {
                    let _ = to.folder.remove_file(to.name);
                }
                Err(e.into())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Whether two names may stand for one file.
    pub(super) fn is_one_file(&self, one: (&str, &FileState), two: (&str, &FileState)) -> bool {
        // On FUSE, the spellings of a name may have different inodes. Also there, hard links may have one inode.
        let may_be_one = || {
            let is_variant =
                || one.1.is_equal_but_for_inode(two.1) && fold_case(one.0) == fold_case(two.0);
            !self.file_system.trusts_inodes() && (one.1.is_identical(two.1) || is_variant())
        };
        one.0 == two.0 || one.1.is_same_file(two.1) || may_be_one()
    }

    /// Renames a file to what is another of its names: a hard link, or the same name in another case where that is
    /// ignored. On many systems a rename between the two does nothing, so the file gets a third name first. That one is
    /// visible: after a crash between the steps the next run finds the image. // R8
    ///
    /// If it turns out that `to` is another file, that is replaced if it is in the state `over`.
    fn rename_onto_itself(
        &self,
        from: &Located<'_>,
        name: &FileName,
        to: &Located<'_>,
        over: &FileState,
    ) -> io::Result<()> {
        let unique = RandomState::new().hash_one(self.counter.fetch_add(1, Ordering::Relaxed));
        let aside = name.with_id(ImageId(unique));
        let aside = to.beside(aside.file());
        self.rename_to_free(from, &aside)?;
        let moved = (|| {
            let look = |at: &Located<'_>| at.look(self.file_system);
            let (moved, found) = (look(&aside)?, look(to)?);
            if found.is_nothing() {
                self.rename_to_free(&aside, to)
            } else if found.is_identical(&moved) {
                aside.folder.remove_file(aside.name)
            } else if found == *over {
                rename_over(&aside, to)
            } else {
                Err(io::ErrorKind::AlreadyExists.into())
            }
        })();
        moved.inspect_err(|_| {
            let _ = self.rename_to_free(&aside, from);
        })
    }

    /// Renames a file to a name that nothing has. [`AlreadyExists`](io::ErrorKind::AlreadyExists) if something has it.
    pub(super) fn rename_to_free(&self, from: &Located<'_>, to: &Located<'_>) -> io::Result<()> {
        if !self.lacks_noreplace.load(Ordering::Relaxed) {
            if let Some(done) = rename_without_replacing(from, to) {
                return done;
            }
            self.lacks_noreplace.store(true, Ordering::Relaxed);
        }
        match from.folder.hard_link(from.name, &to.folder, to.name) {
            Ok(()) => self.remove_linked(from, to),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(e),
            // Not every file system has hard links, and not every file may get one.
            Err(_) if !to.look(self.file_system)?.is_nothing() => {
                Err(io::ErrorKind::AlreadyExists.into())
            }
            Err(_) => rename_over(from, to),
        }
    }

    /// Removes the old name of a file that has got a hard link, or the new one if that is not allowed.
    fn remove_linked(&self, from: &Located<'_>, to: &Located<'_>) -> io::Result<()> {
        let (old, new) = (from.look(self.file_system)?, to.look(self.file_system)?);
        // Another program has removed or replaced the file with the old name. That is not ours to remove.
        if !old.is_equal_but_for_inode(&new) {
            return Ok(());
        }
        match from.folder.remove_file(from.name) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => {
                let _ = to.folder.remove_file(to.name);
                Err(e)
            }
            Ok(()) => Ok(()),
        }
    }

    /// Whether the name is the short form (8.3) that FAT and NTFS give to a file without an image extension: the short
    /// form of `notes.pngx` is `NOTES~1.PNG`. // R5
    pub(super) fn is_short_alias(&self, at: &Located<'_>) -> io::Result<bool> {
        if !has_short_form(at.name) {
            return Ok(false);
        }
        // Only file systems that ignore case have such names.
        let state = at.look(self.file_system)?;
        let is_found = |name: String| {
            at.beside(&name)
                .look(self.file_system)
                .is_ok_and(|found| found.is_equal_but_for_inode(&state))
        };
        if !flip_case(at.name).is_some_and(is_found) {
            return Ok(false);
        }
        for found in names(&at.folder)? {
            if found?
                .to_str()
                .is_some_and(|found| is_image_spelled(found, at.name))
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn unmoved(&self, source: Source, to: &FileName, unmoved: Unmoved) -> MoveError {
        match unmoved {
            Unmoved::Changed => MoveError::Changed,
            Unmoved::Io(e) => self.move_error(source, to, e),
        }
    }

    pub(super) fn move_error(&self, source: Source, to: &FileName, e: io::Error) -> MoveError {
        use io::ErrorKind as Kind;
        let error = |e| OutputError::new(&self.path.join(to.as_str()), e);
        match e.kind() {
            Kind::StorageFull
            | Kind::QuotaExceeded
            | Kind::ReadOnlyFilesystem
            | Kind::StaleNetworkFileHandle
                if self.is_mounted_apart(to, e.kind()) =>
            {
                MoveError::Name(error(e))
            }
            Kind::StorageFull
            | Kind::QuotaExceeded
            | Kind::ReadOnlyFilesystem
            | Kind::StaleNetworkFileHandle => MoveError::Folder(error(e)),
            _ if is_disconnected(&e) && self.is_mounted_apart(to, e.kind()) => {
                MoveError::Name(error(e))
            }
            _ if is_disconnected(&e) => MoveError::Folder(error(e)),
            Kind::NotFound if self.is_removed() => MoveError::Folder(error(e)),
            // Another program has removed its folder.
            Kind::NotFound if to.folders().next().is_some() => MoveError::Changed,
            Kind::NotFound if source == Source::Visible => MoveError::Changed,
            Kind::AlreadyExists | Kind::DirectoryNotEmpty => MoveError::Changed,
            _ => MoveError::Name(error(e)),
        }
    }

    /// Whether an error of the system would affect each further file: the disk is full, read-only or unplugged, or the
    /// folder was removed.
    pub(super) fn concerns_folder(&self, e: &io::Error) -> bool {
        use io::ErrorKind as Kind;
        let kinds = [
            Kind::StorageFull,
            Kind::QuotaExceeded,
            Kind::ReadOnlyFilesystem,
            Kind::StaleNetworkFileHandle,
        ];
        kinds.contains(&e.kind())
            || is_disconnected(e)
            || (e.kind() == Kind::NotFound && self.is_removed())
    }

    /// Whether the file's folder is on another file system than the root, or mounted in another way, so that an error there
    /// says nothing about other folders.
    #[cfg(unix)]
    fn is_mounted_apart(&self, name: &FileName, kind: io::ErrorKind) -> bool {
        use rustix::fs::{StatVfsMountFlags, fstat, fstatvfs};
        if name.folders().next().is_none() {
            return false;
        }
        let Ok(at) = self.locate(name.as_str()) else {
            return true;
        };
        let device = |dir: &Dir| fstat(dir).map(|stat| stat.st_dev);
        let is_read_only = || {
            fstatvfs(&self.dir).is_ok_and(|root| root.f_flag.contains(StatVfsMountFlags::RDONLY))
        };
        device(&at.folder) != device(&self.dir)
            || (kind == io::ErrorKind::ReadOnlyFilesystem && !is_read_only())
    }

    #[cfg(not(unix))]
    #[allow(clippy::unused_self)]
    fn is_mounted_apart(&self, _: &FileName, _: io::ErrorKind) -> bool {
        false
    }

    /// Whether the folder was removed while it is open.
    #[cfg(unix)]
    fn is_removed(&self) -> bool {
        rustix::fs::fstat(&self.dir).is_ok_and(|stat| stat.st_nlink == 0)
    }

    #[cfg(not(unix))]
    fn is_removed(&self) -> bool {
        self.dir.dir_metadata().is_err()
    }
}

/// Renames a file and replaces any file or link of the new name.
pub(super) fn rename_over(from: &Located<'_>, to: &Located<'_>) -> io::Result<()> {
    #[cfg(unix)]
    return Ok(rustix::fs::renameat(
        &*from.folder,
        from.name,
        &*to.folder,
        to.name,
    )?);
    #[cfg(not(unix))]
    from.folder.rename(from.name, &to.folder, to.name)
}

/// Renames a file to a name that nothing has. `None` if the system or the file system cannot do this in one step.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn rename_without_replacing(from: &Located<'_>, to: &Located<'_>) -> Option<io::Result<()>> {
    use rustix::fs::{RenameFlags, renameat_with};
    use rustix::io::Errno;
    const LACKING: [Errno; 4] = [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::NOTSUP];
    let (old, new) = (&*from.folder, &*to.folder);
    match renameat_with(old, from.name, new, to.name, RenameFlags::NOREPLACE) {
        Err(e) if LACKING.contains(&e) => None,
        done => Some(done.map_err(Into::into)),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn rename_without_replacing(_: &Located<'_>, _: &Located<'_>) -> Option<io::Result<()>> {
    None
}

/// The name with one ASCII letter in the other case; `None` if it has none.
pub(super) fn flip_case(name: &str) -> Option<String> {
    let at = name.find(|c: char| c.is_ascii_alphabetic())?;
    let flip = |(n, c): (usize, char)| match c {
        c if n != at => c,
        c if c.is_ascii_lowercase() => c.to_ascii_uppercase(),
        c => c.to_ascii_lowercase(),
    };
    Some(name.char_indices().map(flip).collect())
}

/// Whether `found` is the image name `name`, in whatever case.
fn is_image_spelled(found: &str, name: &str) -> bool {
    has_image_extension(found) && fold_case(found) == fold_case(name)
}

/// Whether a name looks like `NAME~1.EXT`.
fn has_short_form(name: &str) -> bool {
    let (stem, extension) = name.split_once('.').unwrap_or((name, ""));
    let is_number = |tail: &str| !tail.is_empty() && tail.bytes().all(|b| b.is_ascii_digit());
    let tail = stem.rsplit_once('~').map(|(_, tail)| tail);
    stem.len() <= 8 && extension.len() <= 3 && tail.is_some_and(is_number)
}

/// Whether the file system is not there any more: a disk was unplugged, or the process behind FUSE has ended.
fn is_disconnected(e: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let is_one = |errno: Errno| e.raw_os_error() == Some(errno.raw_os_error());
        [Errno::NOTCONN, Errno::NODEV, Errno::NXIO]
            .into_iter()
            .any(is_one)
    }
    #[cfg(not(unix))]
    {
        e.kind() == io::ErrorKind::NotConnected
    }
}

#[cfg(test)]
mod tests;
