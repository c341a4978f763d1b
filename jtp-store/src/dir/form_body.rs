//! A compressed form that is read from the cache.

use std::fs::File;
use std::io;
use std::sync::Arc;

use jtp_core::{ImageHasher, ImageId};

use super::keeper::Message;
use super::shared::Shared;
use crate::fingerprint::Fingerprint;
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
            if offset == 0 {
                let whole = buf.get(..n).unwrap_or_default();
                self.shared.small.put(self.id, true, &self.source, whole);
            }
        }
        Ok(n)
    }
}
