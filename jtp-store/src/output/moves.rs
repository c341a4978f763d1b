//! Gives files their names: in one atomic step, and only over what the caller has looked at. // R5 R8

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Component, Path};
use std::sync::atomic::Ordering;

use cap_std::fs::Dir;
use jtp_core::ImageId;

use super::{FileState, Inner, OutputError};
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

impl Inner {
    /// What has this name now. Does not follow links.
    pub(super) fn look(&self, name: &str) -> io::Result<FileState> {
        check_component(name)?;
        match FileState::read(&self.dir, self.file_system, name) {
            Ok(state) => Ok(state),
            Err(e) if e.kind() == io::ErrorKind::NotFound || is_too_long(&e) => {
                Ok(FileState::NOTHING)
            }
            Err(e) => Err(e),
        }
    }

    /// Moves `from` to `to`, if `over` is still what has that name: nothing, or a regular file, which is replaced.
    pub(super) fn move_file(
        &self,
        from: &str,
        source: Source,
        to: &FileName,
        over: &FileState,
    ) -> Result<(), MoveError> {
        let failed = |e| self.move_error(source, to, e);
        let to_name = to.as_str();
        if over.is_nothing() {
            return self.rename_to_free(from, to_name).map_err(failed);
        }
        let refused = if !over.is_file() {
            Some(io::Error::new(
                io::ErrorKind::IsADirectory,
                "a folder, a link or a device has this name",
            ))
        } else if self.is_short_alias(to).map_err(failed)? {
            Some(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "this is the short name of a file that is not an image",
            ))
        } else {
            None
        };
        // Directly before the rename, so that little time is left in which the file may change. // R8
        if self.look(to_name).map_err(failed)? != *over {
            return Err(MoveError::Changed);
        }
        match refused {
            Some(refused) => Err(failed(refused)),
            None => self.rename_over(from, to_name).map_err(failed),
        }
    }

    /// Renames a visible file.
    pub(super) fn rename(
        &self,
        from: &str,
        from_state: &FileState,
        to: &FileName,
        over: &FileState,
    ) -> Result<(), MoveError> {
        let failed = |e| self.move_error(Source::Visible, to, e);
        if !from_state.is_file() || self.look(from).map_err(failed)? != *from_state {
            return Err(MoveError::Changed);
        }
        if !self.is_one_file((from, from_state), (to.as_str(), over)) {
            return self.move_file(from, Source::Visible, to, over);
        }
        if self.look(to.as_str()).map_err(failed)? != *over {
            return Err(MoveError::Changed);
        }
        if from == to.as_str() {
            return Ok(());
        }
        self.rename_onto_itself(from, to, over).map_err(failed)
    }

    /// Whether two names may stand for one file.
    fn is_one_file(&self, one: (&str, &FileState), two: (&str, &FileState)) -> bool {
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
    fn rename_onto_itself(&self, from: &str, to: &FileName, over: &FileState) -> io::Result<()> {
        let unique = RandomState::new().hash_one(self.counter.fetch_add(1, Ordering::Relaxed));
        let aside = to.with_id(ImageId(unique));
        let (aside, to) = (aside.as_str(), to.as_str());
        self.rename_to_free(from, aside)?;
        let moved = (|| {
            let (moved, found) = (self.look(aside)?, self.look(to)?);
            if found.is_nothing() {
                self.rename_to_free(aside, to)
            } else if found.is_identical(&moved) {
                self.dir.remove_file(aside)
            } else if found == *over {
                self.rename_over(aside, to)
            } else {
                Err(io::ErrorKind::AlreadyExists.into())
            }
        })();
        moved.inspect_err(|_| {
            let _ = self.rename_to_free(aside, from);
        })
    }

    /// Renames a file to a name that nothing has. [`AlreadyExists`](io::ErrorKind::AlreadyExists) if something has it.
    pub(super) fn rename_to_free(&self, from: &str, to: &str) -> io::Result<()> {
        if !self.lacks_noreplace.load(Ordering::Relaxed) {
            if let Some(done) = rename_without_replacing(&self.dir, from, to) {
                return done;
            }
            self.lacks_noreplace.store(true, Ordering::Relaxed);
        }
        match self.dir.hard_link(from, &self.dir, to) {
            Ok(()) => self.remove_linked(from, to),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(e),
            // Not every file system has hard links, and not every file may get one.
            Err(_) if !self.look(to)?.is_nothing() => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => self.rename_over(from, to),
        }
    }

    /// Removes the old name of a file that has got a hard link, or the new one if that is not allowed.
    fn remove_linked(&self, from: &str, to: &str) -> io::Result<()> {
        let (old, new) = (self.look(from)?, self.look(to)?);
        // Another program has removed or replaced the file with the old name. That is not ours to remove.
        if !old.is_equal_but_for_inode(&new) {
            return Ok(());
        }
        match self.dir.remove_file(from) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => {
                let _ = self.dir.remove_file(to);
                Err(e)
            }
            Ok(()) => Ok(()),
        }
    }

    /// Renames a file and replaces any file or link of the new name.
    pub(super) fn rename_over(&self, from: &str, to: &str) -> io::Result<()> {
        #[cfg(unix)]
        return Ok(rustix::fs::renameat(&self.dir, from, &self.dir, to)?);
        #[cfg(not(unix))]
        self.dir.rename(from, &self.dir, to)
    }

    /// Whether the name is the short form (8.3) that FAT and NTFS give to a file without an image extension: the short
    /// form of `notes.pngx` is `NOTES~1.PNG`. // R5
    pub(super) fn is_short_alias(&self, name: &FileName) -> io::Result<bool> {
        let name = name.as_str();
        if !has_short_form(name) {
            return Ok(false);
        }
        // Only file systems that ignore case have such names.
        let state = self.look(name)?;
        let is_found = |name: String| {
            self.look(&name)
                .is_ok_and(|found| found.is_equal_but_for_inode(&state))
        };
        if !flip_case(name).is_some_and(is_found) {
            return Ok(false);
        }
        for found in self.names()? {
            if found?
                .to_str()
                .is_some_and(|found| is_image_spelled(found, name))
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn move_error(&self, source: Source, to: &FileName, e: io::Error) -> MoveError {
        use io::ErrorKind as Kind;
        let error = |e| OutputError::new(&self.path.join(to.as_str()), e);
        match e.kind() {
            Kind::StorageFull
            | Kind::QuotaExceeded
            | Kind::ReadOnlyFilesystem
            | Kind::StaleNetworkFileHandle => MoveError::Folder(error(e)),
            _ if is_disconnected(&e) => MoveError::Folder(error(e)),
            Kind::NotFound if self.is_removed() => MoveError::Folder(error(e)),
            Kind::NotFound if source == Source::Visible => MoveError::Changed,
            Kind::AlreadyExists | Kind::DirectoryNotEmpty => MoveError::Changed,
            _ => MoveError::Name(error(e)),
        }
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

/// Renames a file to a name that nothing has. `None` if the system or the file system cannot do this in one step.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn rename_without_replacing(dir: &Dir, from: &str, to: &str) -> Option<io::Result<()>> {
    use rustix::fs::{RenameFlags, renameat_with};
    use rustix::io::Errno;
    const LACKING: [Errno; 4] = [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::NOTSUP];
    match renameat_with(dir, from, dir, to, RenameFlags::NOREPLACE) {
        Err(e) if LACKING.contains(&e) => None,
        done => Some(done.map_err(Into::into)),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn rename_without_replacing(_: &Dir, _: &str, _: &str) -> Option<io::Result<()>> {
    None
}

/// Fails unless the name is a single component. // R5
pub(super) fn check_component(name: &str) -> io::Result<()> {
    let mut components = Path::new(name).components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(only)), None) if only == name && !name.contains('\0') => Ok(()),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
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

/// Compares the code, since `ErrorKind::InvalidFilename` is newer than the oldest supported compiler.
pub(super) fn is_too_long(e: &io::Error) -> bool {
    #[cfg(unix)]
    let too_long = Some(rustix::io::Errno::NAMETOOLONG.raw_os_error());
    #[cfg(not(unix))]
    let too_long = Some(206); // ERROR_FILENAME_EXCED_RANGE
    e.raw_os_error() == too_long
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
