//! The file of one variant: its format, how it is verified, and how it is made.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use cap_std::fs::OpenOptions;
use jtp_core::{ImageHasher, ImageId};

use super::{SUFFIX, VariantCache};
use crate::fingerprint::{ENCODED_LEN, Fingerprint};
use crate::hash::{BUFFER_LEN, read_at};
use crate::private;

/// The last byte is the version of the format.
const MAGIC: &[u8; 8] = b"JTPform\x01";
pub(super) const TRAILER_LEN: usize = 6 * 8 + ENCODED_LEN;

/// The offset of the source's fingerprint in the trailer.
const SOURCE_AT: usize = 5 * 8;

/// Identifies a variant: the image, the compression level, and the file that it is made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct VariantKey {
    pub(crate) id: ImageId,
    pub(crate) level: i32,
    /// The length of the image before compression.
    pub(crate) raw_length: u32,
    pub(crate) source: Fingerprint,
}

impl VariantKey {
    pub(super) fn name(self) -> String {
        format!("{}-{}{SUFFIX}", self.id, self.level)
    }
}

/// The length and checksum of a variant that was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VariantDigest {
    pub(crate) length: u32,
    pub(crate) checksum: u64,
}

/// Reads a variant and verifies its trailer. Also returns whether it was made from the file of `key.source`. `None`
/// if `stop` was set.
///
/// # Errors
///
/// The file is damaged or cannot be read.
pub(super) fn check(
    file: &mut File,
    key: VariantKey,
    stop: &AtomicBool,
) -> io::Result<Option<(VariantDigest, bool)>> {
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
    let digest = VariantDigest {
        length: u32::try_from(length).map_err(|_| damaged())?,
        checksum: hasher.id().0,
    };
    let source = trailer
        .get(SOURCE_AT..)
        .and_then(|rest| rest.first_chunk())
        .map(Fingerprint::decode)
        .ok_or_else(damaged)?;
    if trailer != encode_trailer(VariantKey { source, ..key }, digest) {
        return Err(damaged());
    }
    Ok(Some((digest, source == key.source)))
}

fn encode_trailer(key: VariantKey, digest: VariantDigest) -> [u8; TRAILER_LEN] {
    let mut trailer = Vec::with_capacity(TRAILER_LEN);
    trailer.extend_from_slice(MAGIC);
    for number in [
        u64::from(digest.length),
        u64::from(key.raw_length),
        key.id.0,
        digest.checksum,
    ] {
        trailer.extend_from_slice(&number.to_be_bytes());
    }
    key.source.encode(&mut trailer);
    trailer.extend_from_slice(&ImageId::of(&trailer).to_be_bytes());
    trailer.try_into().unwrap_or([0; TRAILER_LEN])
}

/// A variant that is being made. Dropping it before [`NewVariant::keep`] removes its file.
pub(crate) struct NewVariant {
    cache: VariantCache,
    /// The name of the temporary file.
    name: String,
    file: File,
    /// The bytes of the cache's size that are reserved for it.
    reserved: u64,
    hasher: ImageHasher,
    done: bool,
}

impl NewVariant {
    pub(super) fn create(cache: &VariantCache, name: String) -> io::Result<NewVariant> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        Ok(NewVariant {
            file: private::open_file(&cache.0.dir, OsStr::new(&name), &mut options)?,
            cache: cache.clone(),
            name,
            reserved: 0,
            hasher: ImageHasher::new(),
            done: false,
        })
    }

    /// Appends bytes; `false` if the cache is full.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<bool> {
        if !self.reserve(bytes.len())? {
            return Ok(false);
        }
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        Ok(true)
    }

    fn reserve(&mut self, bytes: usize) -> io::Result<bool> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let reserved = self.cache.reserve(bytes)?;
        self.reserved += if reserved { bytes } else { 0 };
        Ok(reserved)
    }

    /// The bytes appended so far, to be read from the beginning.
    pub(crate) fn read_back(&mut self) -> io::Result<&File> {
        self.file.seek(SeekFrom::Start(0))?;
        Ok(&self.file)
    }

    /// Makes it the variant of `key`. The caller has verified that it decodes to that image. `None` if the cache
    /// is full.
    pub(crate) fn keep(mut self, key: VariantKey) -> io::Result<Option<VariantDigest>> {
        let too_long = |_| io::Error::from(io::ErrorKind::InvalidData);
        let digest = VariantDigest {
            length: u32::try_from(self.reserved).map_err(too_long)?,
            checksum: self.hasher.id().0,
        };
        if !self.reserve(TRAILER_LEN)? {
            return Ok(None);
        }
        self.file.seek(SeekFrom::End(0))?;
        self.file.write_all(&encode_trailer(key, digest))?;
        let (dir, name) = (&self.cache.0.dir, key.name());
        // Replaces one that another program made meanwhile, and frees its bytes.
        let old = dir.symlink_metadata(&name);
        let old = old.map_or(0, |old| if old.is_file() { old.len() } else { 0 });
        dir.rename(&self.name, dir, &name)?;
        self.reserved = old;
        self.done = true;
        Ok(Some(digest))
    }
}

impl Drop for NewVariant {
    fn drop(&mut self) {
        if !self.done {
            let _ = self.cache.0.dir.remove_file(&self.name);
        }
        if self.reserved > 0 {
            let reserved = self.reserved;
            let _ = self.cache.with_used(|used| {
                *used = used.map(|used| used.saturating_sub(reserved));
                Ok(())
            });
        }
    }
}
