//! The file of one image: its format, how it is read, and how it is written.

use std::fmt;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;
use std::sync::Arc;

use cap_std::fs::Dir;
use jtp_core::{ImageHasher, ImageId};

use super::{ImageCache, name, on_disk, stamp};
use crate::hash::{BUFFER_LEN, read_at};

/// A block, which has a checksum. Servers read ranges that begin and end with one.
const BLOCK: u32 = 32 * 1024;

/// The last byte is the version of the format.
const MAGIC: &[u8; 8] = b"JTPimag\x01";

/// Behind the checksums: [`MAGIC`], the ID, the length, and the checksum of all that and the checksums.
const FOOTER_LEN: usize = 4 * 8;

fn blocks(length: u32) -> u32 {
    length.div_ceil(BLOCK)
}

fn trailer_len(length: u32) -> u64 {
    u64::from(blocks(length)) * 8 + 4 * 8
}

pub(super) fn file_len(length: u32) -> u64 {
    u64::from(length) + trailer_len(length)
}

fn encode_trailer(id: ImageId, length: u32, sums: &[u64]) -> Vec<u8> {
    let mut trailer = Vec::with_capacity(sums.len() * 8 + FOOTER_LEN);
    for sum in sums {
        trailer.extend_from_slice(&sum.to_be_bytes());
    }
    trailer.extend_from_slice(MAGIC);
    trailer.extend_from_slice(&id.to_be_bytes());
    trailer.extend_from_slice(&u64::from(length).to_be_bytes());
    let sum = ImageId::of(&trailer);
    trailer.extend_from_slice(&sum.to_be_bytes());
    trailer
}

fn damaged() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

fn read_exact(file: &File, mut offset: u64, mut buf: &mut [u8]) -> io::Result<()> {
    while !buf.is_empty() {
        let count = read_at(file, offset, buf)?;
        if count == 0 {
            return Err(damaged());
        }
        offset += u64::try_from(count).unwrap_or(0);
        buf = buf.get_mut(count..).unwrap_or_default();
    }
    Ok(())
}

/// An image of the cache.
pub struct CachedImage {
    cache: ImageCache,
    file: File,
    id: ImageId,
    length: u32,
    sums: Box<[u64]>,
}

impl CachedImage {
    pub(super) fn open(
        cache: &ImageCache,
        file: File,
        id: ImageId,
        length: u32,
    ) -> io::Result<CachedImage> {
        let metadata = file.metadata()?;
        if metadata.len() != file_len(length) {
            return Err(damaged());
        }
        let size = usize::try_from(trailer_len(length)).map_err(|_| damaged())?;
        let mut trailer = vec![0; size];
        read_exact(&file, u64::from(length), &mut trailer)?;
        let sums = trailer.get(..size - FOOTER_LEN).unwrap_or_default();
        let sums = sums.chunks_exact(8).filter_map(|sum| sum.try_into().ok());
        let sums: Box<[u64]> = sums.map(u64::from_be_bytes).collect();
        if trailer != encode_trailer(id, length, &sums) {
            return Err(damaged());
        }
        stamp(&file, metadata.modified());
        Ok(CachedImage {
            cache: cache.clone(),
            file,
            id,
            length,
            sums,
        })
    }

    /// Reads exactly `length` bytes from `offset` on. `None` if they are damaged: then the image is removed from the cache.
    /// The range has to be within the image.
    #[must_use]
    pub fn read(&self, offset: u64, length: usize) -> Option<Vec<u8>> {
        match self.try_read(offset, length) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                self.cache.discard(self.id, &error);
                None
            }
        }
    }

    fn try_read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let block = u64::from(BLOCK);
        let end = u64::try_from(length)
            .ok()
            .and_then(|length| offset.checked_add(length));
        let end = end.filter(|end| *end <= u64::from(self.length));
        let end = end.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        // Whole blocks.
        let first = offset / block;
        let begin = first * block;
        let until = end.next_multiple_of(block).min(u64::from(self.length));
        let size = usize::try_from(until - begin).map_err(|_| damaged())?;
        let mut bytes = vec![0; size];
        read_exact(&self.file, begin, &mut bytes)?;
        let first = usize::try_from(first).map_err(|_| damaged())?;
        let sums = self.sums.get(first..).unwrap_or_default();
        let pieces = bytes.chunks(usize::try_from(BLOCK).unwrap_or(1));
        if pieces.len() > sums.len() {
            return Err(damaged());
        }
        for (piece, sum) in pieces.zip(sums) {
            if ImageId::of(piece).0 != *sum {
                return Err(damaged());
            }
        }
        let skip = usize::try_from(offset - begin).map_err(|_| damaged())?;
        bytes.truncate(skip + length);
        // Servers read from the beginning of a block on.
        bytes.drain(..skip);
        Ok(bytes)
    }
}

impl fmt::Debug for CachedImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedImage")
            .field("id", &self.id)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// An image that is being written. It is in the cache once all of its bytes were written, in any order, and have its ID.
/// Dropping it before that removes its file.
pub struct NewCachedImage {
    cache: ImageCache,
    dir: Arc<Dir>,
    /// The name of the temporary file.
    name: String,
    file: File,
    id: ImageId,
    length: u32,
    /// The checksum of each block that was written.
    sums: Box<[Option<u64>]>,
    left: u32,
    state: State,
}

#[derive(PartialEq, Eq)]
enum State {
    Writing,
    Kept,
    GivenUp,
}

impl NewCachedImage {
    pub(super) fn new(
        cache: ImageCache,
        dir: Arc<Dir>,
        name: String,
        file: File,
        id: ImageId,
        length: u32,
    ) -> NewCachedImage {
        let count = blocks(length);
        NewCachedImage {
            cache,
            dir,
            name,
            file,
            id,
            length,
            sums: (0..count).map(|_| None).collect(),
            left: count,
            state: State::Writing,
        }
    }

    /// Whether the image is in the cache.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.state == State::Kept
    }

    /// Writes bytes of the image. They begin and end with a block of 32 KiB, or end with the image; others are ignored.
    /// `false` if the image is given up: it cannot be written, or its bytes do not have its ID.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> bool {
        if self.state == State::Writing {
            match self.try_write(offset, bytes) {
                Ok(State::GivenUp) => self.state = State::GivenUp,
                Ok(state) => self.state = state,
                Err(error) => {
                    self.state = State::GivenUp;
                    self.cache.note_failure(&error);
                }
            }
        }
        self.state != State::GivenUp
    }

    fn try_write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<State> {
        let Some(range) = self.range(offset, bytes.len()) else {
            return Ok(State::Writing);
        };
        self.file.seek(SeekFrom::Start(offset))?;
        self.file.write_all(bytes)?;
        let pieces = bytes.chunks(usize::try_from(BLOCK).unwrap_or(1));
        let slots = self.sums.get_mut(range).unwrap_or_default();
        for (slot, piece) in slots.iter_mut().zip(pieces) {
            if slot.replace(ImageId::of(piece).0).is_none() {
                self.left -= 1;
            }
        }
        if self.left > 0 {
            return Ok(State::Writing);
        }
        // What was written at once has been hashed in memory; the blocks' checksums find what the disk makes of it.
        let id = match bytes.len() == usize::try_from(self.length).unwrap_or(0) {
            true => ImageId::of(bytes),
            false => self.hash()?,
        };
        if id != self.id {
            return Ok(State::GivenUp);
        }
        let sums: Vec<u64> = self.sums.iter().map(|sum| sum.unwrap_or(0)).collect();
        self.file.seek(SeekFrom::Start(u64::from(self.length)))?;
        self.file
            .write_all(&encode_trailer(self.id, self.length, &sums))?;
        self.dir.rename(&self.name, &self.dir, name(self.id))?;
        Ok(State::Kept)
    }

    /// The blocks of a range, if it consists of whole ones.
    fn range(&self, offset: u64, length: usize) -> Option<Range<usize>> {
        let block = u64::from(BLOCK);
        let end = offset.checked_add(u64::try_from(length).ok()?)?;
        let is_whole = end % block == 0 || end == u64::from(self.length);
        let fits = length > 0 && end <= u64::from(self.length);
        if !(offset % block == 0 && is_whole && fits) {
            return None;
        }
        let first = usize::try_from(offset / block).ok()?;
        Some(first..usize::try_from(end.div_ceil(block)).ok()?)
    }

    /// The ID of what the file has.
    fn hash(&self) -> io::Result<ImageId> {
        let mut hasher = ImageHasher::new();
        let mut buffer = vec![0; BUFFER_LEN];
        let (mut at, length) = (0, u64::from(self.length));
        while at < length {
            let wanted =
                usize::try_from(length - at).map_or(BUFFER_LEN, |left| left.min(BUFFER_LEN));
            let piece = buffer.get_mut(..wanted).unwrap_or_default();
            read_exact(&self.file, at, piece)?;
            hasher.update(piece);
            at += u64::try_from(wanted).unwrap_or(0);
        }
        Ok(hasher.id())
    }
}

impl Drop for NewCachedImage {
    fn drop(&mut self) {
        let is_kept = self.is_kept();
        if !is_kept {
            _ = self.dir.remove_file(&self.name);
        }
        let bytes = on_disk(file_len(self.length));
        self.cache.end(self.id, bytes, is_kept);
    }
}

impl fmt::Debug for NewCachedImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewCachedImage")
            .field("id", &self.id)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}
