//! An image that is in memory as a whole.

use std::ffi::OsStr;
use std::fs::File;

use bytes::Bytes;
use jtp_core::ImageId;
use jtp_driver::store::{BlockingBody, StoreError};

use crate::dir::failure::Failure;
use crate::dir::record::FileRecord;
use crate::dir::small::SmallImages;
use crate::hash;

/// Whether the file of an image is read when it is opened. Nothing would be read of an empty one.
pub(in crate::dir) fn is_read_at_once(record: &FileRecord) -> bool {
    let length = usize::try_from(record.fingerprint.size);
    length.is_ok_and(|length| (1..=SmallImages::MAX_LENGTH).contains(&length))
}

/// Reads the file of a small image. Its bytes are verified by its metadata after they were read, and by their hash, since
/// they may be kept and sent without another look at the file. // S13
pub(in crate::dir) fn read_at_once(
    file: &File,
    record: &FileRecord,
    name: &OsStr,
) -> Result<Bytes, Failure> {
    let length = usize::try_from(record.fingerprint.size).unwrap_or(usize::MAX);
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let at = u64::try_from(filled).unwrap_or(u64::MAX);
        match hash::read_at(file, at, rest) {
            Ok(0) => return Err(Failure::Changed), // The file was truncated.
            Ok(n) => filled += n,
            // A folder or a pipe may be in place of the file.
            Err(e) => {
                return Err(match record.fingerprint.is_of(file, name)? {
                    true => e.into(),
                    false => Failure::Changed,
                });
            }
        }
    }
    if !record.fingerprint.is_of(file, name)? || ImageId::of(&bytes) != record.id {
        return Err(Failure::Changed);
    }
    Ok(bytes.into())
}

/// An image in memory. Its bytes were verified when they were read, whatever happened to the file since.
pub(in crate::dir) struct MemoryBody {
    id: ImageId,
    bytes: Bytes,
}

impl MemoryBody {
    pub(in crate::dir) fn new(id: ImageId, bytes: Bytes) -> MemoryBody {
        MemoryBody { id, bytes }
    }
}

impl BlockingBody for MemoryBody {
    fn in_memory(&self) -> Option<Bytes> {
        Some(self.bytes.clone())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, StoreError> {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|at| self.bytes.get(at..))
            .unwrap_or_default();
        if rest.is_empty() && !buf.is_empty() {
            return Err(StoreError::OutOfRange {
                id: self.id,
                offset,
                length: u64::try_from(self.bytes.len()).unwrap_or(u64::MAX),
            });
        }
        let count = rest.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }

    fn try_read_at(&self, offset: u64, buf: &mut [u8]) -> Result<Option<usize>, StoreError> {
        self.read_at(offset, buf).map(Some)
    }
}
