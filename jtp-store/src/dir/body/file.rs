//! An image that is read from its file.

use std::fs::File;
use std::io;
use std::sync::Arc;

use jtp_core::ImageId;

use super::BodyContext;
use crate::dir::record::Name;
use crate::fingerprint::Fingerprint;
use crate::ready::Ready;
use crate::store::window;
use crate::{ImageBody, ReadError, hash};

/// An open file that was found to be the indexed one. // S13
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

    fn changed(&self) -> ReadError {
        self.context.suspect(&self.name);
        ReadError::Changed(self.id)
    }

    fn failed(&self, source: io::Error) -> ReadError {
        self.context.suspect(&self.name);
        ReadError::Io {
            id: self.id,
            source,
        }
    }

    /// Releases the bytes read at `offset`. With the last byte the file has to be still the indexed one. // S13
    fn release(&self, offset: u64, read: &[u8]) -> Result<usize, ReadError> {
        if read.is_empty() {
            return Err(self.changed()); // The file was truncated.
        }
        let end = u64::try_from(read.len()).map_or(u64::MAX, |n| offset.saturating_add(n));
        if end >= self.fingerprint.size {
            let now = Fingerprint::of_file(&self.file).map_err(|e| self.failed(e))?;
            if now != self.fingerprint {
                return Err(self.changed());
            }
            if offset == 0 {
                self.context
                    .keep_small(self.id, false, &self.fingerprint, read);
            }
        }
        Ok(read.len())
    }
}

impl ImageBody for FileBody {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let (buf, _) = window(self.id, self.fingerprint.size, offset, buf)?;
        if buf.is_empty() {
            return Ok(0);
        }
        let n = hash::read_at(&self.file, offset, buf).map_err(|e| self.failed(e))?;
        self.release(offset, buf.get(..n).unwrap_or_default())
    }

    fn try_read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<Option<usize>, ReadError> {
        let (buf, _) = window(self.id, self.fingerprint.size, offset, buf)?;
        if buf.is_empty() {
            return Ok(Some(0));
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
