//! An encoded variant that is read from the cache.

use std::fs::File;
use std::io;
use std::sync::Arc;

use jtp_core::{ImageHasher, ImageId};

use super::BodyContext;
use crate::dir::message::Message;
use crate::fingerprint::Fingerprint;
use crate::ready::Ready;
use crate::store::window;
use crate::variants::VariantDigest;
use crate::{ImageBody, ReadError, hash};

/// An open variant. It is hashed while it is read. Its last byte is released only if the checksum is that of the
/// verified variant. // S13
pub(in crate::dir) struct VariantBody {
    id: ImageId,
    file: File,
    digest: VariantDigest,
    /// The fingerprint of the image's own file.
    source: Fingerprint,
    hasher: ImageHasher,
    /// The number of bytes hashed.
    hashed: u64,
    context: Arc<BodyContext>,
    ready: Ready,
}

impl VariantBody {
    pub(in crate::dir) fn new(
        id: ImageId,
        file: File,
        digest: VariantDigest,
        source: Fingerprint,
        context: Arc<BodyContext>,
    ) -> VariantBody {
        VariantBody {
            id,
            file,
            digest,
            source,
            hasher: ImageHasher::new(),
            hashed: 0,
            context,
            ready: Ready::default(),
        }
    }

    fn length(&self) -> u64 {
        u64::from(self.digest.length)
    }

    fn damaged(&self) -> ReadError {
        self.context.notify(Message::VariantDamaged(self.id));
        ReadError::Changed(self.id)
    }

    fn failed(&self, source: io::Error) -> ReadError {
        ReadError::Io {
            id: self.id,
            source,
        }
    }

    /// Hashes the bytes read at `offset` and releases them. With the last byte the checksum has to be right.
    fn release(&mut self, offset: u64, read: &[u8]) -> Result<usize, ReadError> {
        if read.is_empty() {
            return Err(self.damaged());
        }
        let length = self.length();
        let end = u64::try_from(read.len()).map_or(u64::MAX, |n| offset.saturating_add(n));
        if offset == self.hashed {
            self.hash(read);
        }
        if end >= length {
            self.hash_up_to(length).map_err(|e| self.failed(e))?;
            if self.hasher.id().0 != self.digest.checksum {
                return Err(self.damaged());
            }
            if offset == 0 {
                self.context.keep_small(self.id, true, &self.source, read);
            }
        }
        Ok(read.len())
    }

    /// Hashes the bytes that a reader has skipped.
    fn hash_up_to(&mut self, end: u64) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        while self.hashed < end {
            let left = usize::try_from(end - self.hashed).unwrap_or(usize::MAX);
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

impl ImageBody for VariantBody {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let (buf, _) = window(self.id, self.length(), offset, buf)?;
        if buf.is_empty() {
            return Ok(0);
        }
        let n = hash::read_at(&self.file, offset, buf).map_err(|e| self.failed(e))?;
        self.release(offset, buf.get(..n).unwrap_or_default())
    }

    fn try_read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<Option<usize>, ReadError> {
        let (buf, _) = window(self.id, self.length(), offset, buf)?;
        if buf.is_empty() {
            return Ok(Some(0));
        }
        if offset != self.hashed {
            return Ok(None); // The bytes skipped may have to be read from disk.
        }
        let read = self.ready.read_at(&self.file, offset, buf);
        match read.map_err(|e| self.failed(e))? {
            Some(n) => self
                .release(offset, buf.get(..n).unwrap_or_default())
                .map(Some),
            None => Ok(None),
        }
    }
}
