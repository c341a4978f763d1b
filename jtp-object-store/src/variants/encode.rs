//! Compresses an image, and verifies a variant. // S9

use std::io::{self, Write};

use jtp_core::compress::{Threshold, level};
use jtp_core::{BodyReceiver, DEFAULT_MAX_WINDOW, Flags, Image, ImageHasher};
use zstd::stream::write::Encoder;

use super::make::MAX_LEN;
use crate::format::Variant;

/// What came of compressing an image.
pub(super) enum Encoded {
    Bytes(Vec<u8>),
    /// What the record says of a variant that would be too long.
    TooLong(Variant),
}

/// An image that is being compressed.
pub(super) struct Encoding {
    raw: Image,
    hasher: ImageHasher,
    encoder: Encoder<'static, Sink>,
}

impl Encoding {
    pub(super) fn new(raw: Image, threshold: Threshold) -> io::Result<Encoding> {
        let sink = Sink {
            bytes: Vec::new(),
            raw: raw.length.into(),
            threshold,
            rejected: None,
        };
        let mut encoder = Encoder::new(sink, level(raw.length.into()))?;
        encoder.set_pledged_src_size(Some(raw.length.into()))?;
        Ok(Encoding {
            raw,
            hasher: ImageHasher::new(),
            encoder,
        })
    }

    /// Compresses the next bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.encoder.write_all(bytes)
    }

    /// Ends the variant and verifies it.
    pub(super) fn finish(mut self) -> io::Result<Encoded> {
        let finished = self.encoder.do_finish();
        if let Some(variant) = self.rejected() {
            return Ok(Encoded::TooLong(variant));
        }
        finished?;
        let bytes = std::mem::take(&mut self.encoder.get_mut().bytes);
        match self.hasher.id() == self.raw.id && decodes_to(&bytes, self.raw) {
            true => Ok(Encoded::Bytes(bytes)),
            false => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// What the record says if the variant became too long.
    pub(super) fn rejected(&self) -> Option<Variant> {
        self.encoder.get_ref().rejected
    }
}

/// Whether a sample of an image shows that the variant would be below the threshold.
pub(super) fn is_compressible(sample: &[u8], raw: Image, threshold: Threshold) -> bool {
    let compressed = zstd::bulk::compress(sample, level(raw.length.into()));
    let length = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    compressed.is_ok_and(|bytes| threshold.accepts(length(sample), length(&bytes)))
}

/// Whether a variant decodes to the image, as each client decodes it. // S13 W8
pub(super) fn decodes_to(variant: &[u8], raw: Image) -> bool {
    let Ok(length) = u32::try_from(variant.len()) else {
        return false;
    };
    let flags = Flags::new(raw.flags.file_type(), true);
    let mut body = BodyReceiver::new(raw.length.into(), DEFAULT_MAX_WINDOW);
    body.begin(Image::new(raw.id, flags, length));
    let mut rest = variant;
    loop {
        let received = body.receive(rest);
        rest = rest.get(received.used..).unwrap_or_default();
        if let Some(verdict) = body.verdict() {
            return verdict.is_ok();
        }
    }
}

/// Accepts bytes while they are below the threshold.
struct Sink {
    bytes: Vec<u8>,
    raw: u64,
    threshold: Threshold,
    rejected: Option<Variant>,
}

impl Write for Sink {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let length = u64::try_from(self.bytes.len() + buf.len()).unwrap_or(u64::MAX);
        let threshold = if length > MAX_LEN {
            10_000 // At no threshold.
        } else if !self.threshold.accepts(self.raw, length) {
            self.threshold.ten_thousandths()
        } else {
            self.bytes.extend_from_slice(buf);
            return Ok(buf.len());
        };
        self.rejected = Some(Variant::TooLong { threshold });
        Err(io::ErrorKind::WriteZero.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
