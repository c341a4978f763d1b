//! Hidden files in which images are complete before they get a name.

use std::fs::{File, FileTimes};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cap_std::fs::{Dir, OpenOptions};

use super::moves::{Source, Unmoved, rename_over};
use super::seal::Seal;
use super::tree::{Folder, Located, is_cross_device};
use super::{FileState, Inner, MoveError};
use crate::FileName;
use crate::fingerprint::Stat;
use crate::hash::{self, Links};
use crate::known::Contents;

/// A temporary file. It is removed when it is dropped, unless it was renamed.
pub(super) struct Temporary {
    folder: Arc<Inner>,
    /// The folder that it is in; `None` for the root.
    below: Option<Arc<Dir>>,
    name: String,
    /// `None` once it is closed.
    file: Option<File>,
    renamed: bool,
    /// Set if the file is to be entered in the index once it has its name.
    seal: Option<Seal>,
}

impl Temporary {
    /// A temporary file in the root.
    pub(super) fn create(folder: &Arc<Inner>) -> io::Result<Temporary> {
        folder.check_writable()?;
        folder.clean_up_unscanned();
        Temporary::create_below(folder, None)
    }

    /// A temporary file in the folder of `at`.
    pub(super) fn create_in(folder: &Arc<Inner>, at: &Located<'_>) -> io::Result<Temporary> {
        let below = match &at.folder {
            Folder::Root(_) => None,
            Folder::Below(dir) => Some(Arc::clone(dir)),
        };
        folder.check_writable()?;
        folder.clean_up_unscanned();
        Temporary::create_below(folder, below)
    }

    fn create_below(folder: &Arc<Inner>, below: Option<Arc<Dir>>) -> io::Result<Temporary> {
        let name = folder.temporary_name();
        let mut options = OpenOptions::new();
        // With create_new a link of that name is an error and is not followed.
        options.write(true).create_new(true);
        let dir = below.as_deref().unwrap_or(&folder.dir);
        let file = dir.open_with(&name, &options)?.into_std();
        Ok(Temporary {
            folder: Arc::clone(folder),
            below,
            name,
            file: Some(file),
            renamed: false,
            seal: None,
        })
    }

    fn at(&self) -> Located<'_> {
        let folder = match &self.below {
            None => Folder::Root(&self.folder.dir),
            Some(dir) => Folder::Below(Arc::clone(dir)),
        };
        let name = &self.name;
        Located { folder, name }
    }

    /// Writes the file to the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), File::sync_all)
    }

    /// Ends writing: the file contains an image of this length.
    pub(super) fn complete(&mut self, contents: Contents, length: u64) {
        if self.folder.indexes_stored.load(Ordering::Relaxed) {
            let file = self.file.as_ref();
            self.seal = file.and_then(|file| Seal::new(file, contents, length));
        }
    }

    /// Closes the file, which stays.
    pub(super) fn close(&mut self) {
        let file = self.file.take();
        if let Some(seal) = &mut self.seal {
            seal.closed = file.and_then(|file| Stat::of_file(&file).ok());
        }
    }

    /// Prepares for a new name: the file is open then if it is to be entered in the index, and closed if not.
    fn prepare(&mut self) {
        // Not every system renames an open file.
        let seal = self.seal.as_ref().filter(|_| cfg!(any(unix, windows)));
        let Some(seal) = seal else {
            self.file = None;
            return;
        };
        if self.file.is_none() {
            let at = self.at();
            let file = hash::open(&at.folder, at.name.as_ref(), Links::Refuse).ok();
            // Another program may have put another file in its place.
            let is_own = |file: &File| Stat::of_file(file).ok() == seal.closed;
            self.file = file.filter(is_own);
        }
    }

    /// Enters the file in the index, under the path that it has now.
    pub(super) fn enter(&mut self, path: &str) {
        let (Some(seal), Some(file)) = (self.seal.take(), self.file.take()) else {
            return;
        };
        if let Some(stat) = Stat::of_file(&file)
            .ok()
            .filter(|stat| seal.is_intact(stat))
        {
            let print = self.folder.file_system.fingerprint(&stat, path.as_ref());
            self.folder.add_to_index((print, seal.contents));
        }
    }

    /// Renames the file to `to`, and replaces any file or link of that name.
    pub(super) fn rename(&mut self, to: &Located<'_>) -> io::Result<()> {
        self.prepare();
        self.keep_mode(to);
        match rename_over(&self.at(), to) {
            Err(e) if is_cross_device(&e) => {
                // The copy is read again.
                self.seal = None;
                self.copy_to(to)?.rename(to)
            }
            Err(e) => Err(e),
            Ok(()) => {
                self.renamed = true;
                Ok(())
            }
        }
    }

    /// Renames the file to `to`, if `over` is still what has that name.
    pub(super) fn place(&mut self, to: &FileName, over: &FileState) -> Result<(), MoveError> {
        let folder = Arc::clone(&self.folder);
        let at = folder.locate_or_create(to.as_str()).map_err(Unmoved::Io);
        at.and_then(|at| self.place_at(&at, over))
            .map_err(|unmoved| folder.unmoved(Source::Temporary, to, unmoved))?;
        self.enter(to.as_str());
        Ok(())
    }

    /// The same in a folder that is open.
    pub(super) fn place_at(&mut self, to: &Located<'_>, over: &FileState) -> Result<(), Unmoved> {
        self.prepare();
        if over.is_file() {
            self.keep_mode(to);
        }
        match self.folder.move_file(&self.at(), to, over) {
            // A temporary file in the root, and a folder where another file system is mounted.
            Err(Unmoved::Io(e)) if is_cross_device(&e) => {
                // The copy is read again.
                self.seal = None;
                self.copy_to(to)?.place_at(to, over)
            }
            Err(e) => Err(e),
            Ok(()) => {
                self.renamed = true;
                Ok(())
            }
        }
    }

    /// A copy of the file in the folder of `to`.
    fn copy_to(&self, to: &Located<'_>) -> io::Result<Temporary> {
        // In the folder itself, nothing can be another file system.
        if self.below.is_some() {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        let mut own = hash::open(&self.folder.dir, self.name.as_ref(), Links::Refuse)?;
        let mut copy = Temporary::create_in(&self.folder, to)?;
        io::copy(&mut own, &mut copy)?;
        copy.close();
        Ok(copy)
    }

    /// Sets the times to those of the file that this one is a copy of. A failure is ignored: not every file system has all
    /// times.
    pub(super) fn keep_times(&self, original: &File) {
        let (Some(file), Ok(original)) = (&self.file, original.metadata()) else {
            return;
        };
        let mut times = FileTimes::new();
        if let Ok(modified) = original.modified() {
            times = times.set_modified(modified);
        }
        if let Ok(accessed) = original.accessed() {
            times = times.set_accessed(accessed);
        }
        let _ = file.set_times(times);
    }

    /// Sets the mode to that of the file that is replaced, without the permissions to execute it: a picture that only its
    /// owner could read stays so. A failure is ignored: not every file system has modes.
    #[cfg(unix)]
    pub(super) fn keep_mode(&self, replaced: &Located<'_>) {
        use std::os::unix::fs::PermissionsExt;
        let Ok(replaced) = replaced.folder.symlink_metadata(replaced.name) else {
            return;
        };
        // By a handle: in a shared folder, another user may have put a link in place of this file.
        let at = self.at();
        let own = hash::open(&at.folder, at.name.as_ref(), Links::Refuse);
        if let (true, Ok(own)) = (replaced.is_file(), own) {
            let mode = cap_std::fs::PermissionsExt::mode(&replaced.permissions()) & 0o666;
            let _ = own.set_permissions(std::fs::Permissions::from_mode(mode));
        }
    }

    #[cfg(not(unix))]
    #[allow(clippy::unused_self)]
    pub(super) fn keep_mode(&self, _: &Located<'_>) {}
}

impl Write for Temporary {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.file {
            Some(file) => file.write(bytes),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // Not every system removes an open file.
            self.close();
            // If this fails, the next client removes the file.
            let at = self.at();
            let _ = at.folder.remove_file(at.name);
        }
    }
}
