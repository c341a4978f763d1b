//! An image while it is written.

use std::io::{self, Write};
use std::sync::Arc;

use jtp_core::{FileType, ImageId, Verified};

use super::staged::{Content, StagedFile};
use super::temporary::Temporary;
use super::{Inner, OutputError};
use crate::FileName;
use crate::hash::START_LEN;
use crate::known::Contents;

/// An image up to this length stays in memory until it is committed; short pieces of a longer one are collected up to this
/// length.
const BUFFER_LEN: usize = 256 * 1024;

/// Pieces from this length on are written as they come, once the image is known to be a longer one: to copy them into the
/// buffer costs more than another call. A block of Zstd has up to 128 KiB.
const DIRECT_LEN: usize = 64 * 1024;

/// An image that is being written to an [`OutputFolder`](super::OutputFolder). It is visible once it is committed;
/// dropping it before that removes it.
///
/// It writes to the disk, and blocks, for each 256 KiB, or for each longer piece of an image of more than that;
/// [`PendingFile::would_block`] says when. It holds at most 256 KiB in memory, and never more than was appended (R3).
pub struct PendingFile {
    folder: Arc<Inner>,
    id: ImageId,
    length: u64,
    buffer: Vec<u8>,
    temporary: Option<Temporary>,
    /// The first bytes, which show the type.
    start: [u8; START_LEN],
}

impl PendingFile {
    pub(super) fn new(folder: Arc<Inner>, id: ImageId) -> PendingFile {
        PendingFile {
            folder,
            id,
            length: 0,
            buffer: Vec::new(),
            temporary: None,
            start: [0; START_LEN],
        }
    }

    /// Whether appending `len` bytes now would write to the disk. An image up to 256 KiB is written only by
    /// [`PendingFile::commit`], [`StagedFile::settle`] or [`StagedFile::place`], so an async client needs another
    /// thread only for those.
    #[must_use]
    pub fn would_block(&self, len: usize) -> bool {
        let is_direct = self.temporary.is_some() && len >= DIRECT_LEN;
        is_direct || self.buffer.len().saturating_add(len) > BUFFER_LEN
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

    /// Ends writing: all bytes were appended and verified. The image stays hidden until [`StagedFile::place`]. An image
    /// up to 256 KiB stays in memory, and this does not block; the rest of a longer one is written, and its file is
    /// closed.
    ///
    /// `verified` comes from the receiver of the bytes that were appended. An image that arrives again, after an
    /// interruption, needs a new `PendingFile`. // R2
    ///
    /// # Errors
    ///
    /// [`OutputError::NotVerified`] if the bytes are those of another image, [`OutputError::WrongLength`] if others were
    /// appended. Any other [`OutputError`] is about the folder: the bytes cannot be written. In all cases the temporary file
    /// is removed.
    pub fn finish(self, verified: Verified) -> Result<StagedFile, OutputError> {
        self.check(&verified)?;
        let folder = Arc::clone(&self.folder);
        self.stage().map_err(|e| OutputError::new(&folder.path, e))
    }

    fn stage(mut self) -> io::Result<StagedFile> {
        let length = usize::try_from(self.length).unwrap_or(usize::MAX);
        let start = self.start.get(..length).unwrap_or(&self.start);
        let image = Contents {
            id: self.id,
            sniffed: FileType::sniff(start),
            incompressible_at: 0,
        };
        if let Some(temporary) = &mut self.temporary {
            temporary.write_all(&self.buffer)?;
            temporary.complete(image, self.length);
            temporary.close();
            self.buffer = Vec::new();
        }
        let content = match self.temporary {
            Some(temporary) => Content::Temporary(temporary),
            None => Content::Memory(self.buffer),
        };
        Ok(StagedFile::new(self.folder, image, self.length, content))
    }

    fn check(&self, verified: &Verified) -> Result<(), OutputError> {
        let (expected, found) = (self.id, verified.id());
        if found != expected {
            return Err(OutputError::NotVerified { expected, found });
        }
        if verified.length() != self.length {
            return Err(OutputError::WrongLength {
                id: expected,
                written: self.length,
                verified: verified.length(),
            });
        }
        Ok(())
    }

    /// Makes the image visible under `name`, in one atomic step. Blocking.
    ///
    /// A file or link of that name is replaced, whatever it contains: a program that has to keep images uses
    /// [`PendingFile::finish`] and [`StagedFile::place`]. If a folder has that name, or the name is too long for the
    /// file system, another name with the ID in it is used. Returns the name that was used. // R2 R5
    ///
    /// `verified` comes from the receiver of the bytes that were appended.
    ///
    /// # Errors
    ///
    /// [`OutputError::NotVerified`] if the bytes are those of another image, [`OutputError::WrongLength`] if others were
    /// appended. Any other [`OutputError`] if the file cannot be written. In all cases the temporary file is removed.
    pub fn commit(self, name: &FileName, verified: Verified) -> Result<FileName, OutputError> {
        self.check(&verified)?;
        let path = self.folder.path.join(name.as_str());
        let failed = |e| OutputError::new(&path, e);
        self.stage()
            .and_then(|mut staged| staged.replace_any(name))
            .map_err(failed)
    }

    /// Writes the buffer to the temporary file, which is created if there is none.
    fn write_out(&mut self) -> io::Result<&mut Temporary> {
        let temporary = match &mut self.temporary {
            Some(temporary) => temporary,
            none => none.insert(Temporary::create(&self.folder)?),
        };
        temporary.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(temporary)
    }
}

impl Write for PendingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let direct = if self.would_block(bytes.len()) {
            Some(self.write_out()?).filter(|_| bytes.len() >= DIRECT_LEN)
        } else {
            None
        };
        let written = match direct {
            Some(temporary) => temporary.write(bytes)?,
            None => {
                self.buffer.extend_from_slice(bytes);
                bytes.len()
            }
        };
        let before = usize::try_from(self.length).unwrap_or(usize::MAX);
        let rest = self.start.get_mut(before..).unwrap_or_default();
        for (to, from) in rest.iter_mut().zip(bytes.iter().take(written)) {
            *to = *from;
        }
        self.length += u64::try_from(written).unwrap_or(0);
        Ok(written)
    }

    /// Does nothing: the image becomes visible by [`PendingFile::commit`] or [`StagedFile::place`] alone.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl std::fmt::Debug for PendingFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PendingFile")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
