//! An image that is being written.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use cap_std::fs::OpenOptions;
use jtp_core::ImageId;

use super::{Inner, OutputError};
use crate::FileName;

/// An image up to this length is kept in memory until it is verified; a longer one is written in pieces of
/// this length.
const BUFFER_LEN: usize = 256 * 1024;

/// An image on its way into an [`OutputFolder`](super::OutputFolder): visible once it is committed, and
/// gone when it is dropped before that.
///
/// It blocks when it writes, which it does for each 256 KiB; [`PendingFile::would_block`] tells beforehand.
/// Not more than that is held in memory, and no more than came (R3).
pub struct PendingFile {
    folder: Arc<Inner>,
    id: ImageId,
    buffer: Vec<u8>,
    temporary: Option<Temporary>,
}

/// A file that is removed when it is dropped.
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

    /// Whether writing so many bytes now would touch the disk. Small images need it only at
    /// [`PendingFile::commit`], so an async client can keep them where they are until then.
    #[must_use]
    pub fn would_block(&self, len: usize) -> bool {
        self.buffer.len().saturating_add(len) > BUFFER_LEN
    }

    /// Takes the next bytes; like [`Write::write_all`], but the error knows what it is about. After an error
    /// there is nothing to do but to drop the file.
    ///
    /// # Errors
    ///
    /// What the disk said.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        self.write_all(bytes)
            .map_err(|e| OutputError::new(&self.folder.path, e))
    }

    /// Makes the image visible under `name`, in place of whatever file or link has that name, in one step.
    /// Blocking.
    ///
    /// `verified` is the ID of the bytes that were written, from whoever hashed them. If a folder stands in
    /// the way, or the file system takes no such long name, the name is another one with the ID in it; the
    /// name that was used is returned. // R2 R5
    ///
    /// # Errors
    ///
    /// [`OutputError::NotVerified`] if the bytes are not the image's; else what the disk said. Nothing
    /// stays behind.
    pub fn commit(mut self, name: &FileName, verified: ImageId) -> Result<FileName, OutputError> {
        if verified != self.id {
            return Err(OutputError::NotVerified {
                expected: self.id,
                found: verified,
            });
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
            .is_ok_and(|there| there.is_dir())
    }

    /// Writes what is in the buffer, to a file that is made now if there was none.
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

/// The kind `InvalidFilename` is not known to all compilers that this crate supports.
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

    /// Does nothing: only [`PendingFile::commit`] makes anything visible.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Temporary {
    pub(super) fn create(folder: &Arc<Inner>) -> io::Result<Temporary> {
        folder.clean_up_unscanned();
        let name = folder.temporary_name();
        let mut options = OpenOptions::new();
        // A new file: a link of that name is an error and not followed.
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
            // Best effort: what stays is removed at the next start.
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
