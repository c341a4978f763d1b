//! An image that is read from its file.

use std::fs::File;
use std::io;
use std::sync::Arc;

use jtp_core::{ImageHasher, ImageId};

use super::Shared;
use super::index::Name;
use super::keeper::Message;
use crate::fingerprint::Fingerprint;
use crate::store::window;
use crate::{ImageBody, ReadError, hash};

/// An open file, proved to be the indexed one. // S13
pub(super) struct FileBody {
    pub(super) id: ImageId,
    pub(super) file: File,
    pub(super) fingerprint: Fingerprint,
    pub(super) name: Name,
    pub(super) shared: Arc<Shared>,
}

impl FileBody {
    fn changed(&self) -> ReadError {
        self.shared.suspect(&self.name);
        ReadError::Changed(self.id)
    }

    fn failed(&self, source: io::Error) -> ReadError {
        self.shared.suspect(&self.name);
        ReadError::Io {
            id: self.id,
            source,
        }
    }
}

impl ImageBody for FileBody {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let (buf, _) = window(self.id, self.fingerprint.size, offset, buf)?;
        if buf.is_empty() {
            return Ok(0);
        }
        let n = hash::read_at(&self.file, offset, buf).map_err(|e| self.failed(e))?;
        if n == 0 {
            return Err(self.changed()); // It was cut short.
        }
        let end = u64::try_from(n).map_or(u64::MAX, |n| offset.saturating_add(n));
        if end >= self.fingerprint.size {
            // The second look: after the bytes were read, before anyone gets the last one.
            let now = Fingerprint::of_file(&self.file).map_err(|e| self.failed(e))?;
            if now != self.fingerprint {
                return Err(self.changed());
            }
        }
        Ok(n)
    }
}

/// A compressed form that is read from the cache. It is hashed while it is read, and its last byte is only given
/// if the whole is what was checked when it was made or found. // S13
#[cfg_attr(not(feature = "zstd"), allow(dead_code))]
pub(super) struct FormBody {
    pub(super) id: ImageId,
    pub(super) file: File,
    pub(super) length: u32,
    pub(super) checksum: u64,
    /// What was hashed so far, and how much that is.
    pub(super) hasher: ImageHasher,
    pub(super) hashed: u64,
    pub(super) shared: Arc<Shared>,
}

impl FormBody {
    fn damaged(&self) -> ReadError {
        self.shared.tell(Message::DamagedForm(self.id));
        ReadError::Changed(self.id)
    }

    /// Hashes what a reader that does not go in order left out.
    fn catch_up(&mut self, to: u64) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        while self.hashed < to {
            let left = usize::try_from(to - self.hashed).unwrap_or(usize::MAX);
            let part = left.min(buffer.len());
            let part = buffer.get_mut(..part).unwrap_or_default();
            match hash::read_at(&self.file, self.hashed, part)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.hash(part.get(..n).unwrap_or_default()),
            }
        }
        Ok(())
    }

    fn hash(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.hashed += u64::try_from(bytes.len()).unwrap_or(0);
    }
}

impl ImageBody for FormBody {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let length = u64::from(self.length);
        let (buf, _) = window(self.id, length, offset, buf)?;
        if buf.is_empty() {
            return Ok(0);
        }
        let id = self.id;
        let failed = |source| ReadError::Io { id, source };
        let n = hash::read_at(&self.file, offset, buf).map_err(failed)?;
        if n == 0 {
            return Err(self.damaged());
        }
        let end = u64::try_from(n).map_or(u64::MAX, |n| offset.saturating_add(n));
        if offset == self.hashed {
            self.hash(buf.get(..n).unwrap_or_default());
        }
        if end >= length {
            self.catch_up(length).map_err(failed)?;
            if self.hasher.id().0 != self.checksum {
                return Err(self.damaged());
            }
        }
        Ok(n)
    }
}
