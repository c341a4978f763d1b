//! Makes the encoded variant of one image, or finds it in the cache. // S9

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use cap_std::fs::Dir;
use jtp_core::compress::{SAMPLE_LEN, Threshold, level};
use jtp_core::{ImageHasher, ImageId};

use super::record::{FileRecord, Name, Variant};
use crate::hash::{self, BUFFER_LEN, Chunks, Links};
use crate::variants::{NewVariant, VariantCache, VariantDigest};

/// The largest window that each receiver accepts: 8 MiB. // W8
const WINDOW_LOG_MAX: u32 = 23;

/// The bytes of a new variant that are held in memory before they are written to the cache.
const SPILL: usize = 1024 * 1024;

/// An image to be compressed.
#[derive(Debug)]
pub(super) struct EncodeJob {
    pub(super) dir: Arc<Dir>,
    pub(super) name: Name,
    pub(super) record: FileRecord,
    /// Where the variant is kept; in memory without a cache.
    pub(super) cache: Option<VariantCache>,
    /// The most bytes of a variant in memory.
    pub(super) memory: u64,
}

/// The outcome of a job.
#[derive(Debug)]
pub(super) enum Encoded {
    /// The variant. It was decompressed and found to be the image.
    Variant(Variant),
    /// The variant is not small enough for the threshold.
    Incompressible,
    /// The memory or the cache is full.
    NoRoom,
    /// The cache failed and is disabled from now on.
    CacheFailed,
    /// The file is not the indexed one any more.
    FileChanged,
    /// The store is being dropped.
    Stopped,
}

/// Finds or makes the variant of an image.
pub(super) fn encode(
    job: &EncodeJob,
    threshold: Threshold,
    buffer: &mut Vec<u8>,
    stop: &AtomicBool,
) -> io::Result<Encoded> {
    let raw = u64::from(job.record.length);
    let key = job.record.variant_key();
    let find = |cache: &VariantCache| cache.find(key, stop);
    if let (Some(cache), Some((digest, same_file))) =
        (&job.cache, job.cache.as_ref().and_then(find))
    {
        let VariantDigest { length, checksum } = digest;
        return Ok(if !threshold.accepts(raw, u64::from(length)) {
            Encoded::Incompressible
        } else if !same_file && !decodes_to_file(cache, job, digest, buffer, stop)? {
            // It belongs to another file with the same ID: only one of them can have a variant. // S4
            Encoded::NoRoom
        } else {
            Encoded::Variant(Variant::Cached { length, checksum })
        });
    }
    let file = hash::open(&job.dir, &job.name, Links::Follow)?;
    if !job.record.fingerprint.is_of(&file, &job.name)? {
        return Ok(Encoded::FileChanged);
    }
    if raw > SAMPLE_LEN && !sample_is_compressible(&file, raw, threshold)? {
        return Ok(Encoded::Incompressible);
    }
    let sink = Sink {
        bytes: Vec::new(),
        length: 0,
        raw,
        threshold,
        cache: job.cache.clone(),
        memory: job.memory,
        new_variant: None,
        rejected: None,
    };
    let mut encoder = zstd::stream::write::Encoder::new(sink, level(raw))?;
    encoder.set_pledged_src_size(Some(raw))?;
    let mut reader = Chunks::new(&file, buffer);
    let mut written = Ok(());
    while let (Ok(()), Some(chunk)) = (&written, reader.next()?) {
        if stop.load(Ordering::Relaxed) {
            return Ok(Encoded::Stopped);
        }
        written = encoder.write_all(chunk);
    }
    if written.is_ok() {
        written = encoder.do_finish();
    }
    if let Some(rejected) = encoder.get_mut().rejected.take() {
        return Ok(rejected);
    }
    written?;
    if !job.record.fingerprint.is_of(&file, &job.name)? {
        return Ok(Encoded::FileChanged);
    }
    encoder.get_mut().finish(job, stop)
}

/// Whether a variant that was made from another file with the same ID decodes to this file's bytes. // S4
fn decodes_to_file(
    cache: &VariantCache,
    job: &EncodeJob,
    digest: VariantDigest,
    buffer: &mut Vec<u8>,
    stop: &AtomicBool,
) -> io::Result<bool> {
    let variant = cache.open_variant(job.record.variant_key(), digest)?;
    let variant = variant.take(u64::from(digest.length));
    let mut decoder = zstd::stream::read::Decoder::new(variant)?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    let file = hash::open(&job.dir, &job.name, Links::Follow)?;
    let mut decoded = vec![0; BUFFER_LEN];
    let mut reader = Chunks::new(&file, buffer);
    while let Some(chunk) = reader.next()? {
        let decoded = decoded.get_mut(..chunk.len()).unwrap_or_default();
        match decoder.read_exact(decoded) {
            Ok(()) if *decoded == *chunk => {}
            Ok(()) => return Ok(false),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(e) => return Err(e),
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
    }
    let ends = decoder.read(&mut decoded)? == 0;
    Ok(ends && job.record.fingerprint.is_of(&file, &job.name)?)
}

/// Compresses [`SAMPLE_LEN`] bytes from the middle of the file: the beginning is often unlike the rest.
fn sample_is_compressible(file: &File, raw: u64, threshold: Threshold) -> io::Result<bool> {
    let mut sample = vec![0; usize::try_from(SAMPLE_LEN).unwrap_or(BUFFER_LEN)];
    let middle = raw.saturating_sub(SAMPLE_LEN) / 2;
    let mut filled = 0;
    while let Some(rest) = sample.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let at = middle + u64::try_from(filled).unwrap_or(0);
        match hash::read_at(file, at, rest)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => filled += n,
        }
    }
    let compressed = zstd::bulk::compress(&sample, level(raw))?;
    let length = u64::try_from(compressed.len()).unwrap_or(u64::MAX);
    Ok(threshold.accepts(SAMPLE_LEN, length))
}

/// Whether the variant decodes to the image, within the window that each receiver accepts. // W8
fn decodes_to(variant: impl Read, id: ImageId, stop: &AtomicBool) -> io::Result<bool> {
    let mut decoder = zstd::stream::read::Decoder::new(variant)?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    let mut hasher = ImageHasher::new();
    let mut buffer = vec![0; BUFFER_LEN];
    loop {
        let n = decoder.read(&mut buffer)?;
        if n == 0 {
            return Ok(hasher.id() == id);
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        hasher.update(buffer.get(..n).unwrap_or_default());
    }
}

/// Accepts compressed bytes while they stay below the threshold and there is room. Keeps them in memory, or
/// writes them to the cache in pieces of [`SPILL`] bytes.
struct Sink {
    bytes: Vec<u8>,
    length: u64,
    raw: u64,
    threshold: Threshold,
    cache: Option<VariantCache>,
    memory: u64,
    new_variant: Option<NewVariant>,
    /// Why it accepts no more bytes.
    rejected: Option<Encoded>,
}

impl Sink {
    /// Moves the bytes in memory to the cache. A cache error disables the cache; the image is not at fault.
    fn spill(&mut self, cache: &VariantCache) -> io::Result<()> {
        let mut append = || {
            if self.new_variant.is_none() {
                self.new_variant = Some(cache.create()?);
            }
            match &mut self.new_variant {
                Some(variant) => variant.append(&self.bytes),
                None => Ok(false),
            }
        };
        let appended = append();
        self.bytes.clear();
        self.rejected = match appended {
            Ok(true) => return Ok(()),
            Ok(false) => Some(Encoded::NoRoom),
            Err(e) => Some(cache_failed(cache, &e)),
        };
        Err(io::ErrorKind::WriteZero.into())
    }

    /// Verifies the variant and keeps it.
    fn finish(&mut self, job: &EncodeJob, stop: &AtomicBool) -> io::Result<Encoded> {
        let id = job.record.id;
        let Some(cache) = self.cache.clone() else {
            return Ok(if decodes_to(self.bytes.as_slice(), id, stop)? {
                Encoded::Variant(Variant::Memory(Bytes::copy_from_slice(&self.bytes)))
            } else {
                Encoded::FileChanged
            });
        };
        let spilled = self.spill(&cache);
        let (Ok(()), Some(mut variant)) = (spilled, self.new_variant.take()) else {
            return Ok(self.rejected.take().unwrap_or(Encoded::NoRoom));
        };
        if !decodes_to(variant.read_back()?, id, stop)? {
            return Ok(Encoded::FileChanged);
        }
        match variant.keep(job.record.variant_key()) {
            Ok(Some(VariantDigest { length, checksum })) => {
                Ok(Encoded::Variant(Variant::Cached { length, checksum }))
            }
            Ok(None) => Ok(Encoded::NoRoom),
            Err(e) => Ok(cache_failed(&cache, &e)),
        }
    }
}

fn cache_failed(cache: &VariantCache, error: &io::Error) -> Encoded {
    if hash::is_shortage(error) {
        return Encoded::NoRoom;
    }
    cache.disable(error);
    Encoded::CacheFailed
}

impl Write for Sink {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.length += u64::try_from(buf.len()).unwrap_or(u64::MAX);
        let over_memory = self.cache.is_none() && self.length > self.memory;
        if !self.threshold.accepts(self.raw, self.length) {
            self.rejected = Some(Encoded::Incompressible);
        } else if over_memory {
            self.rejected = Some(Encoded::NoRoom);
        }
        if self.rejected.is_some() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.bytes.extend_from_slice(buf);
        if let Some(cache) = self.cache.clone().filter(|_| self.bytes.len() >= SPILL) {
            self.spill(&cache)?;
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
