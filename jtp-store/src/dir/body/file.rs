//! An image that is read from its file.

use std::fs::File;
use std::sync::Arc;

use jtp_core::ImageId;
use jtp_driver::store::{BlockingBody, StoreError};

use super::{BodyContext, window};
use crate::dir::failure::Failure;
use crate::dir::record::Name;
use crate::fingerprint::Fingerprint;
use crate::hash;
use crate::ready::Ready;

/// An open file that was found to be the indexed one, and is too long to be read when it is opened. // S13
pub(in crate::dir) struct FileBody {
    id: ImageId,
    file: File,
    fingerprint: Fingerprint,
    name: Name,
    context: Arc<BodyContext>,
    ready: Ready,
}

impl FileBody {
    /// `file` has this fingerprint, which is the indexed one.
    pub(in crate::dir) fn new(
        id: ImageId,
        file: File,
        fingerprint: Fingerprint,
        name: Name,
        context: Arc<BodyContext>,
    ) -> FileBody {
        FileBody {
            id,
            file,
            fingerprint,
            name,
            context,
            ready: Ready::default(),
        }
    }

    /// Reads bytes from `offset` on; at least one unless `buf` is empty. May block.
    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<usize, Failure> {
        let buf = window(self.fingerprint.size, offset, buf)?;
        if buf.is_empty() {
            return Ok(0);
        }
        let n = hash::read_at(&self.file, offset, buf)?;
        self.release(offset, buf.get(..n).unwrap_or_default())
    }

    /// The same for bytes in memory; `None` if there are none.
    fn try_read(&self, offset: u64, buf: &mut [u8]) -> Result<Option<usize>, Failure> {
        let buf = window(self.fingerprint.size, offset, buf)?;
        if buf.is_empty() {
            return Ok(Some(0));
        }
        let Some(n) = self.ready.read_at(&self.file, offset, buf)? else {
            return Ok(None);
        };
        let released = self.release(offset, buf.get(..n).unwrap_or_default());
        released.map(Some)
    }

    /// Releases the bytes read at `offset`. With the last byte the file has to be still the indexed one. // S13
    fn release(&self, offset: u64, read: &[u8]) -> Result<usize, Failure> {
        if read.is_empty() {
            return Err(Failure::Changed); // The file was truncated.
        }
        let end = u64::try_from(read.len()).map_or(u64::MAX, |n| offset.saturating_add(n));
        if end >= self.fingerprint.size && !self.fingerprint.is_of(&self.file, &self.name)? {
            return Err(Failure::Changed);
        }
        Ok(read.len())
    }

    fn error(&self, failure: Failure) -> StoreError {
        if failure.contradicts_catalog() {
            self.context.suspect(&self.name);
        }
        failure.into_store_error(self.id, &self.name)
    }
}

impl BlockingBody for FileBody {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, StoreError> {
        self.read(offset, buf).map_err(|e| self.error(e))
    }

    fn try_read_at(&self, offset: u64, buf: &mut [u8]) -> Result<Option<usize>, StoreError> {
        self.try_read(offset, buf).map_err(|e| self.error(e))
    }
}
