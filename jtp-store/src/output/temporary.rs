//! Hidden files in which images are complete before they get a name.

#[cfg(unix)]
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use cap_std::fs::OpenOptions;

use super::moves::Source;
use super::{FileState, Inner, MoveError};
use crate::FileName;
#[cfg(unix)]
use crate::hash::{self, Links};

/// A temporary file. It is removed when it is dropped, unless it was renamed.
pub(super) struct Temporary {
    folder: Arc<Inner>,
    name: String,
    /// `None` once it is closed.
    file: Option<File>,
    renamed: bool,
}

impl Temporary {
    pub(super) fn create(folder: &Arc<Inner>) -> io::Result<Temporary> {
        folder.check_writable()?;
        folder.clean_up_unscanned();
        let name = folder.temporary_name();
        let mut options = OpenOptions::new();
        // With create_new a link of that name is an error and is not followed.
        options.write(true).create_new(true);
        let file = folder.dir.open_with(&name, &options)?.into_std();
        Ok(Temporary {
            folder: Arc::clone(folder),
            name,
            file: Some(file),
            renamed: false,
        })
    }

    /// Ends writing. The file stays.
    pub(super) fn close(&mut self) {
        self.file = None;
    }

    /// Renames the file to `to`, and replaces any file or link of that name.
    pub(super) fn rename(&mut self, to: &str) -> io::Result<()> {
        self.keep_mode(to);
        self.folder.rename_over(&self.name, to)?;
        self.renamed = true;
        Ok(())
    }

    /// Renames the file to `to`, if `over` is still what has that name.
    pub(super) fn place(&mut self, to: &FileName, over: &FileState) -> Result<(), MoveError> {
        if over.is_file() {
            self.keep_mode(to.as_str());
        }
        self.folder
            .move_file(&self.name, Source::Temporary, to, over)?;
        self.renamed = true;
        Ok(())
    }

    /// Sets the mode to that of the file that is replaced, without the permissions to execute it: a picture that only its
    /// owner could read stays so. A failure is ignored: not every file system has modes.
    #[cfg(unix)]
    fn keep_mode(&self, replaced: &str) {
        use std::os::unix::fs::PermissionsExt;
        let Ok(replaced) = self.folder.dir.symlink_metadata(replaced) else {
            return;
        };
        // By a handle: in a shared folder, another user may have put a link in place of this file.
        let own = hash::open(&self.folder.dir, OsStr::new(&self.name), Links::Refuse);
        if let (true, Ok(own)) = (replaced.is_file(), own) {
            let mode = cap_std::fs::PermissionsExt::mode(&replaced.permissions()) & 0o666;
            let _ = own.set_permissions(std::fs::Permissions::from_mode(mode));
        }
    }

    #[cfg(not(unix))]
    #[allow(clippy::unused_self)]
    fn keep_mode(&self, _: &str) {}
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
            let _ = self.folder.dir.remove_file(&self.name);
        }
    }
}
