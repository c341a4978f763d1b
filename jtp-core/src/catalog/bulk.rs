//! The first images of a catalog, many at once and in catalog order.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Contents;
use super::chunk::Chunk;
use crate::image::ImageId;
use crate::wire::entry::Entry;

/// Contents that are being made from entries in catalog order. The index is made at the end: inserting IDs one by one
/// costs several cache misses for each.
#[derive(Debug, Default)]
pub(super) struct Bulk {
    /// The full chunks.
    chunks: Vec<Chunk>,
    last: Chunk,
    /// Each image and the slot of its chunk.
    slots: Vec<(ImageId, u32)>,
}

impl Bulk {
    /// Appends an entry. `false` if it does not follow the last one, or there is no room.
    pub(super) fn push(&mut self, entry: &Entry<'_>) -> bool {
        let is_next = self.last.len() == 0 || self.last.is_before(entry.name, entry.id);
        if !is_next || u32::try_from(self.slots.len() + 1).is_err() {
            return false;
        }
        if !self.last.has_room_for(entry) {
            let slot = self.chunks.len() + 1;
            let mut full = core::mem::replace(&mut self.last, Chunk::new(slot));
            full.shrink_to_fit();
            self.chunks.push(full);
        }
        let slot = u32::try_from(self.last.slot).unwrap_or(u32::MAX);
        let is_pushed = self.last.push(entry).is_ok();
        if is_pushed {
            self.slots.push((entry.id, slot));
        }
        is_pushed
    }

    /// The IDs, in order.
    pub(super) fn ids(&self) -> impl Iterator<Item = ImageId> + '_ {
        self.slots.iter().map(|(id, _)| *id)
    }

    /// The contents. If an ID is there twice: the chunks alone.
    pub(super) fn finish(self) -> Result<Contents, Vec<Chunk>> {
        let mut chunks = self.chunks;
        let mut last = self.last;
        if last.len() > 0 {
            last.shrink_to_fit();
            chunks.push(last);
        }
        let mut contents = Contents::new();
        if !contents.index.fill(self.slots) {
            return Err(chunks);
        }
        contents.slots = (0..chunks.len()).collect();
        contents.spine = chunks.into_iter().map(Arc::new).collect();
        Ok(contents)
    }
}
