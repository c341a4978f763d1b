//! An encoded variant that is read from the cache.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use jtp_core::{ImageHasher, ImageId};
use jtp_driver::store::{BlockingBody, StoreError};

use super::{BodyContext, window};
use crate::dir::failure::Failure;
use crate::dir::message::Message;
use crate::dir::record::Name;
use crate::dir::small::SmallImages;
use crate::fingerprint::Fingerprint;
use crate::hash;
use crate::ready::Ready;
use crate::variants::VariantDigest;

/// An open variant. It is hashed while it is read. Its last byte is released only if the checksum is that of the
/// verified variant. // S13
pub(in crate::dir) struct VariantBody {
    id: ImageId,
    file: File,
    digest: VariantDigest,
    /// The image's own file.
    name: Name,
    source: Fingerprint,
    hashed: Mutex<Hashed>,
    context: Arc<BodyContext>,
    ready: Ready,
}

/// The hash of the first bytes.
struct Hashed {
    hasher: ImageHasher,
    /// The number of bytes hashed.
    length: u64,
}

impl VariantBody {
    pub(in crate::dir) fn new(
        id: ImageId,
        file: File,
        digest: VariantDigest,
        (name, source): (Name, Fingerprint),
        context: Arc<BodyContext>,
    ) -> VariantBody {
        VariantBody {
            id,
            file,
            digest,
            name,
            source,
            hashed: Mutex::new(Hashed {
                hasher: ImageHasher::new(),
                length: 0,
            }),
            context,
            ready: Ready::default(),
        }
    }

    fn length(&self) -> u64 {
        u64::from(self.digest.length)
    }

    /// Reads bytes from `offset` on; at least one unless `buf` is empty. May block.
    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<usize, Failure> {
        let buf = window(self.length(), offset, buf)?;
        if buf.is_empty() {
            return Ok(0);
        }
        let n = hash::read_at(&self.file, offset, buf)?;
        let mut hashed = self.lock();
        self.release(&mut hashed, offset, buf.get(..n).unwrap_or_default())
    }

    /// The same for bytes in memory; `None` if there are none.
    fn try_read(&self, offset: u64, buf: &mut [u8]) -> Result<Option<usize>, Failure> {
        let buf = window(self.length(), offset, buf)?;
        if buf.is_empty() {
            return Ok(Some(0));
        }
        let mut hashed = self.lock();
        if offset != hashed.length {
            return Ok(None); // The bytes skipped may have to be read from disk.
        }
        let Some(n) = self.ready.read_at(&self.file, offset, buf)? else {
            return Ok(None);
        };
        let released = self.release(&mut hashed, offset, buf.get(..n).unwrap_or_default());
        released.map(Some)
    }

    /// Hashes the bytes read at `offset` and releases them. With the last byte the checksum has to be right.
    fn release(&self, hashed: &mut Hashed, offset: u64, read: &[u8]) -> Result<usize, Failure> {
        if read.is_empty() {
            return Err(Failure::Changed);
        }
        let length = self.length();
        let end = u64::try_from(read.len()).map_or(u64::MAX, |n| offset.saturating_add(n));
        if offset == hashed.length {
            hashed.update(read);
        }
        if end >= length {
            self.hash_up_to(hashed, length)?;
            if hashed.hasher.id().0 != self.digest.checksum {
                return Err(Failure::Changed);
            }
            if offset == 0 && read.len() <= SmallImages::MAX_LENGTH {
                let bytes = Bytes::copy_from_slice(read);
                self.context.keep_small(self.id, true, &self.source, &bytes);
            }
        }
        Ok(read.len())
    }

    /// Hashes the bytes that a reader has skipped.
    fn hash_up_to(&self, hashed: &mut Hashed, end: u64) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        while hashed.length < end {
            let left = usize::try_from(end - hashed.length).unwrap_or(usize::MAX);
            let part = left.min(buffer.len());
            let part = buffer.get_mut(..part).unwrap_or_default();
            match hash::read_at(&self.file, hashed.length, part)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => hashed.update(part.get(..n).unwrap_or_default()),
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Hashed> {
        self.hashed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, failure: Failure) -> StoreError {
        if failure.contradicts_catalog() {
            self.context.notify(Message::VariantDamaged(self.id));
        }
        failure.into_store_error(self.id, &self.name)
    }
}

impl Hashed {
    fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.length += u64::try_from(bytes.len()).unwrap_or(0);
    }
}

impl BlockingBody for VariantBody {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, StoreError> {
        self.read(offset, buf).map_err(|e| self.error(e))
    }

    fn try_read_at(&self, offset: u64, buf: &mut [u8]) -> Result<Option<usize>, StoreError> {
        self.try_read(offset, buf).map_err(|e| self.error(e))
    }
}
