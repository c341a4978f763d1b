//! The first images of a catalog, many at once and in catalog order.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Contents;
use super::chunk::Chunk;
use super::index::Index;
use crate::wire::entry::Entry;

/// Contents that are being made from entries in catalog order.
#[derive(Debug, Default)]
pub(super) struct Bulk {
    /// The full chunks.
    chunks: Vec<Chunk>,
    last: Chunk,
    len: usize,
}

impl Bulk {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Appends an entry. `false` if it does not follow the last one, or there is no room.
    pub(super) fn push(&mut self, entry: &Entry<'_>) -> bool {
        let is_next = self.last.is_before(entry.name, entry.id);
        if !is_next || u32::try_from(self.len + 1).is_err() {
            return false;
        }
        if !self.last.has_room_for(entry) {
            // A copy has no unused capacity, and leaves no gap between it and the next one in the heap.
            self.chunks.push(self.last.clone());
            self.last.restart(self.chunks.len());
        }
        let is_pushed = self.last.push(entry).is_ok();
        self.len += usize::from(is_pushed);
        is_pushed
    }

    /// The contents, of at least one entry. If an ID is there twice: the chunks alone.
    pub(super) fn finish(self) -> Result<Contents, Vec<Chunk>> {
        let mut chunks = self.chunks;
        chunks.push(self.last.clone());
        let Some(index) = Index::of(&chunks) else {
            return Err(chunks);
        };
        Ok(Contents {
            slots: (0..chunks.len()).collect(),
            spine: chunks.into_iter().map(Arc::new).collect(),
            index,
        })
    }
}
