//! An image that is read from its file.

use std::fs::File;
use std::io;
use std::sync::Arc;

use jtp_core::ImageId;

use super::Shared;
use super::index::Name;
use crate::fingerprint::Fingerprint;
use crate::ready::Ready;
use crate::store::window;
use crate::{ImageBody, ReadError, hash};

/// An open file, proved to be the indexed one. // S13
pub(super) struct FileBody {
    pub(super) id: ImageId,
    pub(super) file: File,
    pub(super) fingerprint: Fingerprint,
    pub(super) name: Name,
    pub(super) shared: Arc<Shared>,
    pub(super) ready: Ready,
}

impl FileBody {
    fn changed(&self) -> ReadError {
        self.shared.suspect(&self.name);
        ReadError::Changed(self.id)
    }

    /// What was read at that place is given only if the file is still the one that was indexed. // S13
    fn look_again(&self, offset: u64, read: &[u8]) -> Result<usize, ReadError> {
        if read.is_empty() {
            return Err(self.changed()); // It was cut short.
        }
        let end = u64::try_from(read.len()).map_or(u64::MAX, |n| offset.saturating_add(n));
        if end >= self.fingerprint.size {
            // The second look: after the bytes were read, before anyone gets the last one.
            let now = Fingerprint::of_file(&self.file).map_err(|e| self.failed(e))?;
            if now != self.fingerprint {
                return Err(self.changed());
            }
            if offset == 0 {
                self.shared
                    .small
                    .put(self.id, false, &self.fingerprint, read);
            }
        }
        Ok(read.len())
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
        self.look_again(offset, buf.get(..n).unwrap_or_default())
    }

    fn try_read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<Option<usize>, ReadError> {
        let (buf, _) = window(self.id, self.fingerprint.size, offset, buf)?;
        if buf.is_empty() {
            return Ok(Some(0));
        }
        let read = self.ready.read_at(&self.file, offset, buf);
        match read.map_err(|e| self.failed(e))? {
            Some(n) => self
                .look_again(offset, buf.get(..n).unwrap_or_default())
                .map(Some),
            None => Ok(None),
        }
    }
}
