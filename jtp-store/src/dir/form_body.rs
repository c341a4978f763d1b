//! A compressed form that is read from the cache.

use std::fs::File;
use std::io;
use std::sync::Arc;

use jtp_core::{ImageHasher, ImageId};

use super::keeper::Message;
use super::shared::Shared;
use crate::fingerprint::Fingerprint;
use crate::ready::Ready;
use crate::store::window;
use crate::{ImageBody, ReadError, hash};

/// An open form. It is hashed while it is read, and its last byte is only given
/// if the whole is what was checked when it was made or found. // S13
pub(super) struct FormBody {
    pub(super) id: ImageId,
    pub(super) file: File,
    pub(super) length: u32,
    pub(super) checksum: u64,
    /// The image's own file.
    pub(super) source: Fingerprint,
    /// What was hashed so far, and how much that is.
    pub(super) hasher: ImageHasher,
    pub(super) hashed: u64,
    pub(super) shared: Arc<Shared>,
    pub(super) ready: Ready,
}

impl FormBody {
    fn damaged(&self) -> ReadError {
        self.shared.tell(Message::DamagedForm(self.id));
        ReadError::Changed(self.id)
    }

    fn failed(&self, source: io::Error) -> ReadError {
        ReadError::Io {
            id: self.id,
            source,
        }
    }

    /// Hashes what was read at that place, and with the last byte says whether it is all as it was.
    fn take(&mut self, offset: u64, read: &[u8]) -> Result<usize, ReadError> {
        if read.is_empty() {
            return Err(self.damaged());
        }
        let length = u64::from(self.length);
        let end = u64::try_from(read.len()).map_or(u64::MAX, |n| offset.saturating_add(n));
        if offset == self.hashed {
            self.hash(read);
        }
        if end >= length {
            self.catch_up(length).map_err(|e| self.failed(e))?;
            if self.hasher.id().0 != self.checksum {
                return Err(self.damaged());
            }
            if offset == 0 {
                self.shared.small.put(self.id, true, &self.source, read);
            }
        }
        Ok(read.len())
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
        let (buf, _) = window(self.id, u64::from(self.length), offset, buf)?;
        if buf.is_empty() {
            return Ok(0);
        }
        let n = hash::read_at(&self.file, offset, buf).map_err(|e| self.failed(e))?;
        self.take(offset, buf.get(..n).unwrap_or_default())
    }

    fn try_read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<Option<usize>, ReadError> {
        let (buf, _) = window(self.id, u64::from(self.length), offset, buf)?;
        if buf.is_empty() {
            return Ok(Some(0));
        }
        if offset != self.hashed {
            return Ok(None); // What was left out may have to be read.
        }
        let read = self.ready.read_at(&self.file, offset, buf);
        match read.map_err(|e| self.failed(e))? {
            Some(n) => self
                .take(offset, buf.get(..n).unwrap_or_default())
                .map(Some),
            None => Ok(None),
        }
    }
}
