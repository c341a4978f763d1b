//! One form: its file, and how it comes about.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use jtp_core::{ImageHasher, ImageId};

use super::{FormCache, SUFFIX};
use crate::fingerprint::{ENCODED_LEN, Fingerprint};
use crate::hash::{BUFFER_LEN, read_at};

/// The last byte is the format's version.
const MAGIC: &[u8; 8] = b"JTPform\x01";
pub(super) const TRAILER_LEN: usize = 6 * 8 + ENCODED_LEN;

/// Where in the trailer the source stands.
const SOURCE_AT: usize = 5 * 8;

/// Which form: of which image, at which level.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FormKey {
    pub(crate) id: ImageId,
    pub(crate) level: i32,
    /// The length of the image itself.
    pub(crate) raw: u32,
    /// The file that it is made from.
    pub(crate) source: Fingerprint,
}

impl FormKey {
    pub(super) fn name(self) -> String {
        format!("{}-{}{SUFFIX}", self.id, self.level)
    }
}

/// A form that was read and found whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Whole {
    pub(crate) length: u32,
    pub(crate) checksum: u64,
}

/// Reads a whole form, and says whether it was made from this very file. `None` if `stop` was set meanwhile; an
/// error if it is not as it was made.
pub(super) fn check(
    file: &mut File,
    key: FormKey,
    stop: &AtomicBool,
) -> io::Result<Option<(Whole, bool)>> {
    let damaged = || io::Error::from(io::ErrorKind::InvalidData);
    let trailer_len = u64::try_from(TRAILER_LEN).unwrap_or(0);
    let length = file.metadata()?.len().checked_sub(trailer_len);
    let length = length.ok_or_else(damaged)?;
    let mut trailer = [0; TRAILER_LEN];
    file.seek(SeekFrom::Start(length))?;
    file.read_exact(&mut trailer)?;
    let mut hasher = ImageHasher::new();
    let mut buffer = vec![0; BUFFER_LEN];
    let mut at = 0;
    while at < length {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let wanted = usize::try_from(length - at).map_or(BUFFER_LEN, |left| left.min(BUFFER_LEN));
        let n = read_at(file, at, buffer.get_mut(..wanted).unwrap_or_default())?;
        if n == 0 {
            return Err(damaged());
        }
        hasher.update(buffer.get(..n).unwrap_or_default());
        at += u64::try_from(n).unwrap_or(0);
    }
    let whole = Whole {
        length: u32::try_from(length).map_err(|_| damaged())?,
        checksum: hasher.id().0,
    };
    let source = trailer
        .get(SOURCE_AT..)
        .and_then(|rest| rest.first_chunk())
        .map(Fingerprint::decode)
        .ok_or_else(damaged)?;
    if trailer != encode_trailer(FormKey { source, ..key }, whole) {
        return Err(damaged());
    }
    Ok(Some((whole, source == key.source)))
}

fn encode_trailer(key: FormKey, whole: Whole) -> [u8; TRAILER_LEN] {
    let mut trailer = Vec::with_capacity(TRAILER_LEN);
    trailer.extend_from_slice(MAGIC);
    for number in [
        u64::from(whole.length),
        u64::from(key.raw),
        key.id.0,
        whole.checksum,
    ] {
        trailer.extend_from_slice(&number.to_be_bytes());
    }
    key.source.encode(&mut trailer);
    trailer.extend_from_slice(&ImageId::of(&trailer).to_be_bytes());
    trailer.try_into().unwrap_or([0; TRAILER_LEN])
}

/// A form that is being made; removed when it is dropped before it is kept.
pub(crate) struct NewForm {
    cache: FormCache,
    path: PathBuf,
    file: File,
    /// The room that it has.
    taken: u64,
    hasher: ImageHasher,
    done: bool,
}

impl NewForm {
    pub(super) fn create(cache: &FormCache, path: PathBuf) -> io::Result<NewForm> {
        // What a crashed program of the same number left.
        let _ = fs::remove_file(&path);
        let mut options = File::options();
        options.read(true).write(true).create_new(true);
        Ok(NewForm {
            file: options.open(&path)?,
            cache: cache.clone(),
            path,
            taken: 0,
            hasher: ImageHasher::new(),
            done: false,
        })
    }

    /// Adds bytes; `false` if there is no room.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<bool> {
        if !self.take(bytes.len())? {
            return Ok(false);
        }
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        Ok(true)
    }

    fn take(&mut self, bytes: usize) -> io::Result<bool> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let taken = self.cache.reserve(bytes)?;
        self.taken += if taken { bytes } else { 0 };
        Ok(taken)
    }

    /// What was added, to be read from its beginning.
    pub(crate) fn read_back(&mut self) -> io::Result<&File> {
        self.file.seek(SeekFrom::Start(0))?;
        Ok(&self.file)
    }

    /// Makes it the form of an image, which it was found to be. `None` if there is no room.
    pub(crate) fn keep(mut self, key: FormKey) -> io::Result<Option<Whole>> {
        let too_long = |_| io::Error::from(io::ErrorKind::InvalidData);
        let whole = Whole {
            length: u32::try_from(self.taken).map_err(too_long)?,
            checksum: self.hasher.id().0,
        };
        if !self.take(TRAILER_LEN)? {
            return Ok(None);
        }
        self.file.seek(SeekFrom::End(0))?;
        self.file.write_all(&encode_trailer(key, whole))?;
        let there = self.cache.folder().join(key.name());
        // One that another program made meanwhile is replaced, and its room is free again.
        let old = fs::metadata(&there).map_or(0, |old| old.len());
        fs::rename(&self.path, &there)?;
        self.taken = old;
        self.done = true;
        Ok(Some(whole))
    }
}

impl Drop for NewForm {
    fn drop(&mut self) {
        if !self.done {
            let _ = fs::remove_file(&self.path);
        }
        if self.taken > 0 {
            let taken = self.taken;
            let _ = self.cache.with_used(|used| {
                *used = used.map(|used| used.saturating_sub(taken));
                Ok(())
            });
        }
    }
}
