//! An image while it is written.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use cap_std::fs::OpenOptions;
use jtp_core::{ImageId, Verified};

use super::{Inner, OutputError};
use crate::FileName;

/// An image up to this length stays in memory until it is committed; a longer one is written in pieces of this
/// length.
const BUFFER_LEN: usize = 256 * 1024;

/// An image that is being written to an [`OutputFolder`](super::OutputFolder). It is visible once it is committed;
/// dropping it before that removes it.
///
/// It writes to the disk, and blocks, for each 256 KiB; [`PendingFile::would_block`] says when. It holds at most
/// 256 KiB in memory, and never more than was appended (R3).
pub struct PendingFile {
    folder: Arc<Inner>,
    id: ImageId,
    buffer: Vec<u8>,
    temporary: Option<Temporary>,
}

/// A temporary file. It is removed when it is dropped, unless it was renamed.
pub(super) struct Temporary {
    folder: Arc<Inner>,
    name: String,
    file: File,
    renamed: bool,
}

impl PendingFile {
    pub(super) fn new(folder: Arc<Inner>, id: ImageId) -> PendingFile {
        PendingFile {
            folder,
            id,
            buffer: Vec::new(),
            temporary: None,
        }
    }

    /// Whether appending `len` bytes now would write to the disk. An image up to 256 KiB is written only by
    /// [`PendingFile::commit`], so an async client needs another thread only for that.
    #[must_use]
    pub fn would_block(&self, len: usize) -> bool {
        self.buffer.len().saturating_add(len) > BUFFER_LEN
    }

    /// Appends the next bytes, like [`Write::write_all`], with an error that names the folder. After an error the
    /// file can only be dropped.
    ///
    /// # Errors
    ///
    /// [`OutputError`]: the bytes cannot be written.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        self.write_all(bytes)
            .map_err(|e| OutputError::new(&self.folder.path, e))
    }

    /// Makes the image visible under `name`, in one atomic step. Blocking.
    ///
    /// A file or link of that name is replaced. If a folder has that name, or the name is too long for the file
    /// system, another name with the ID in it is used. Returns the name that was used. // R2 R5
    ///
    /// `verified` comes from the receiver of the bytes that were appended.
    ///
    /// # Errors
    ///
    /// [`OutputError::NotVerified`] if the bytes are those of another image. Any other [`OutputError`] if the file
    /// cannot be written. In both cases the temporary file is removed.
    pub fn commit(mut self, name: &FileName, verified: Verified) -> Result<FileName, OutputError> {
        let (expected, found) = (self.id, verified.id());
        if found != expected {
            return Err(OutputError::NotVerified { expected, found });
        }
        let path = self.folder.path.join(name.as_str());
        let failed = |e| OutputError::new(&path, e);
        self.write_out().map_err(failed)?;
        let Some(mut temporary) = self.temporary.take() else {
            return Err(failed(io::ErrorKind::NotFound.into()));
        };
        let first = match temporary.rename(name.as_str()) {
            Ok(()) => return Ok(name.clone()),
            Err(e) => e,
        };
        let suffixed = name.with_id(self.id);
        if suffixed != *name
            && self.is_in_the_way(name)
            && temporary.rename(suffixed.as_str()).is_ok()
        {
            return Ok(suffixed);
        }
        let short = name.shortened(self.id);
        if is_too_long(&first) && temporary.rename(short.as_str()).is_ok() {
            return Ok(short);
        }
        Err(failed(first))
    }

    fn is_in_the_way(&self, name: &FileName) -> bool {
        self.folder
            .dir
            .symlink_metadata(name.as_str())
            .is_ok_and(|found| found.is_dir())
    }

    /// Writes the buffer to the temporary file, which is created if there is none.
    fn write_out(&mut self) -> io::Result<()> {
        let temporary = match &mut self.temporary {
            Some(temporary) => temporary,
            none => none.insert(Temporary::create(&self.folder)?),
        };
        temporary.file.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

/// Compares the code, since `ErrorKind::InvalidFilename` is newer than the oldest supported compiler.
fn is_too_long(e: &io::Error) -> bool {
    #[cfg(unix)]
    let too_long = Some(rustix::io::Errno::NAMETOOLONG.raw_os_error());
    #[cfg(not(unix))]
    let too_long = Some(206); // ERROR_FILENAME_EXCED_RANGE
    e.raw_os_error() == too_long
}

impl Write for PendingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.would_block(bytes.len()) {
            self.write_out()?;
            if bytes.len() >= BUFFER_LEN {
                if let Some(temporary) = &mut self.temporary {
                    return temporary.file.write(bytes);
                }
            }
        }
        self.buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    /// Does nothing: the image becomes visible by [`PendingFile::commit`] alone.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Temporary {
    pub(super) fn create(folder: &Arc<Inner>) -> io::Result<Temporary> {
        folder.clean_up_unscanned();
        let name = folder.temporary_name();
        let mut options = OpenOptions::new();
        // With create_new a link of that name is an error and is not followed.
        options.write(true).create_new(true);
        let file = folder.dir.open_with(&name, &options)?.into_std();
        Ok(Temporary {
            folder: Arc::clone(folder),
            name,
            file,
            renamed: false,
        })
    }

    pub(super) fn rename(&mut self, to: &str) -> io::Result<()> {
        let dir = &self.folder.dir;
        dir.rename(Path::new(&self.name), dir, to)?;
        self.renamed = true;
        Ok(())
    }
}

impl Write for Temporary {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // If this fails, the next client removes the file.
            let _ = self.folder.dir.remove_file(&self.name);
        }
    }
}

impl std::fmt::Debug for PendingFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PendingFile")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
