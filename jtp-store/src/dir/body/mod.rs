//! Open images.

mod file;
mod memory;
#[cfg(feature = "zstd")]
mod variant;

use std::sync::Arc;
use std::sync::mpsc::Sender;

use bytes::Bytes;
use jtp_core::{Image, ImageId};

use super::counters::OpenCounters;
use super::failure::Failure;
use super::message::Message;
use super::record::Name;
use super::small::SmallImages;
use crate::fingerprint::Fingerprint;
pub(super) use file::FileBody;
pub(super) use memory::{MemoryBody, is_read_at_once, read_at_once};
#[cfg(feature = "zstd")]
pub(super) use variant::VariantBody;

/// What open bodies share with their store.
pub(super) struct BodyContext {
    small_images: SmallImages,
    indexer: Sender<Message>,
    counters: OpenCounters,
}

impl BodyContext {
    pub(super) fn new(small_images: SmallImages, indexer: Sender<Message>) -> BodyContext {
        BodyContext {
            small_images,
            indexer,
            counters: OpenCounters::default(),
        }
    }

    pub(super) fn counters(&self) -> &OpenCounters {
        &self.counters
    }

    /// Whether the image is short enough to be kept in memory.
    pub(super) fn keeps_small(&self, image: &Image) -> bool {
        self.small_images.keeps(image)
    }

    /// The bytes of a small image, if they are in memory and were read from the file of that fingerprint. Counts a hit,
    /// but no miss: a caller may look twice.
    pub(super) fn small_image(&self, image: &Image, source: &Fingerprint) -> Option<Bytes> {
        let bytes = self.small_images.get(image, source)?;
        self.counters.small_image(true);
        Some(bytes)
    }

    /// Keeps the verified bytes of an image in memory if it is small.
    pub(super) fn keep_small(
        &self,
        id: ImageId,
        is_compressed: bool,
        source: &Fingerprint,
        bytes: &Bytes,
    ) {
        self.small_images.put(id, is_compressed, source, bytes);
    }

    pub(super) fn notify(&self, message: Message) {
        // Without an indexer there is no catalog to correct.
        let _ = self.indexer.send(message);
    }

    /// Has a file checked that may not be the indexed one any more. // S13
    pub(super) fn suspect(&self, name: &Name) {
        self.notify(Message::Suspect(Arc::clone(name)));
    }
}

/// The part of `buf` that a read at `offset` of a body of `length` bytes may fill.
fn window(length: u64, offset: u64, buf: &mut [u8]) -> Result<&mut [u8], Failure> {
    let left = length.saturating_sub(offset);
    if left == 0 && !buf.is_empty() {
        return Err(Failure::OutOfRange { offset, length });
    }
    let wanted = usize::try_from(left).map_or(buf.len(), |left| left.min(buf.len()));
    Ok(buf.get_mut(..wanted).unwrap_or_default())
}
