//! A run of consecutive entries, encoded as in a LIST response.

use alloc::vec::Vec;
use core::cmp::Ordering;

use crate::image::{Flags, Image, ImageId};
use crate::wire::entry::{self, Entry, FIXED_LEN, NameTooLong};
use crate::wire::{Decoded, varint};

/// A chunk of more entries than this is split.
const MAX_ENTRIES: usize = 512;

/// A chunk of more bytes than this is split, unless it is one entry.
const MAX_BYTES: usize = 64 * 1024;

/// Whether a chunk of this size is not split.
fn fits(entries: usize, bytes: usize) -> bool {
    entries <= 1 || (entries <= MAX_ENTRIES && bytes <= MAX_BYTES)
}

/// Entries in catalog order, encoded. The encoding is the only copy of a name.
#[derive(Debug, Clone, Default)]
pub(super) struct Chunk {
    /// Index into `Contents::slots`.
    pub(super) slot: usize,
    bytes: Vec<u8>,
    /// The offset of each entry; a chunk is far below 4 GiB.
    starts: Vec<u32>,
}

impl Chunk {
    pub(super) fn new(slot: usize) -> Chunk {
        Chunk {
            slot,
            ..Chunk::default()
        }
    }

    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn from(&self, index: usize) -> Option<&[u8]> {
        let start = usize::try_from(*self.starts.get(index)?).ok()?;
        self.bytes.get(start..)
    }

    pub(super) fn entry(&self, index: usize) -> Option<Entry<'_>> {
        match entry::decode(self.from(index)?) {
            Ok(Decoded::Complete { value, .. }) => Some(value),
            _ => None,
        }
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        (0..self.len()).filter_map(|index| self.entry(index))
    }

    /// The entry's image, without decoding the name.
    pub(super) fn image(&self, index: usize) -> Option<Image> {
        let (fixed, rest) = self.from(index)?.split_first_chunk::<FIXED_LEN>()?;
        let [id @ .., bits, n0, n1] = *fixed;
        let name_len = usize::from(u16::from_be_bytes([n0, n1]));
        match varint::decode(rest.get(name_len..)?) {
            Ok(Decoded::Complete { value: length, .. }) => Some(Image::new(
                ImageId::from_be_bytes(id),
                Flags::from_bits(bits),
                length,
            )),
            _ => None,
        }
    }

    fn id(&self, index: usize) -> Option<ImageId> {
        self.from(index)?
            .first_chunk::<8>()
            .copied()
            .map(ImageId::from_be_bytes)
    }

    pub(super) fn index_of(&self, id: ImageId) -> Option<usize> {
        (0..self.len()).find(|&index| self.id(index) == Some(id))
    }

    /// Compares the entry at `index` with a key, in catalog order. // S5
    pub(super) fn compare(&self, index: usize, name: &str, id: ImageId) -> Ordering {
        let key = self.from(index).and_then(|entry| {
            let (fixed, rest) = entry.split_first_chunk::<FIXED_LEN>()?;
            let [id @ .., _, n0, n1] = *fixed;
            let name = rest.get(..usize::from(u16::from_be_bytes([n0, n1])))?;
            Some((name, ImageId::from_be_bytes(id)))
        });
        key.map_or(Ordering::Less, |key| key.cmp(&(name.as_bytes(), id)))
    }

    /// Whether all entries sort before a key.
    pub(super) fn is_before(&self, name: &str, id: ImageId) -> bool {
        self.len()
            .checked_sub(1)
            .is_none_or(|last| self.compare(last, name, id) == Ordering::Less)
    }

    /// The index at which an entry of this key belongs.
    fn position(&self, name: &str, id: ImageId) -> usize {
        if self.is_before(name, id) {
            return self.len();
        }
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.compare(middle, name, id) == Ordering::Less {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Inserts an entry in order. Returns whether it is the last one now.
    pub(super) fn insert(&mut self, new: &Entry<'_>) -> Result<bool, NameTooLong> {
        let index = self.position(new.name, new.id);
        let mut encoded = Vec::with_capacity(entry::encoded_len(new.name.len(), new.length));
        entry::encode(new, &mut encoded)?;
        let start = self.start(index);
        let grown = u32::try_from(encoded.len()).unwrap_or(u32::MAX);
        // Grow by an eighth, not by a factor of two: there are thousands of chunks, and most do not change again.
        if self.bytes.capacity() - self.bytes.len() < encoded.len() {
            self.bytes
                .reserve_exact(encoded.len() + self.bytes.len() / 8);
        }
        if self.starts.capacity() == self.starts.len() {
            self.starts.reserve_exact(self.starts.len() / 8 + 4);
        }
        self.bytes.splice(start..start, encoded);
        for later in self.starts.iter_mut().skip(index) {
            *later += grown;
        }
        self.starts
            .insert(index, u32::try_from(start).unwrap_or(u32::MAX));
        Ok(index + 1 == self.len())
    }

    /// Whether an entry can be appended without a split.
    pub(super) fn has_room_for(&self, new: &Entry<'_>) -> bool {
        let len = entry::encoded_len(new.name.len(), new.length);
        fits(self.len() + 1, self.bytes.len() + len)
    }

    /// Appends an entry that follows the last one.
    pub(super) fn push(&mut self, new: &Entry<'_>) -> Result<(), NameTooLong> {
        let start = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        entry::encode(new, &mut self.bytes)?;
        self.starts.push(start);
        Ok(())
    }

    /// Becomes an empty chunk, and keeps its buffers.
    pub(super) fn restart(&mut self, slot: usize) {
        self.slot = slot;
        self.bytes.clear();
        self.starts.clear();
    }

    pub(super) fn remove(&mut self, index: usize) {
        let (start, end) = (self.start(index), self.start(index + 1));
        self.bytes.drain(start..end);
        if index < self.starts.len() {
            self.starts.remove(index);
        }
        let shrunk = u32::try_from(end - start).unwrap_or(u32::MAX);
        for later in self.starts.iter_mut().skip(index) {
            *later -= shrunk;
        }
    }

    /// The entries that `keep` accepts as a new chunk, and the IDs of the others; `None` if it accepts all.
    pub(super) fn retained(
        &self,
        mut keep: impl FnMut(Entry<'_>) -> bool,
    ) -> Option<(Chunk, Vec<ImageId>)> {
        let mut removed = Vec::new();
        let mut kept = Vec::new();
        for (index, entry) in self.entries().enumerate() {
            if keep(entry) {
                kept.push(index);
            } else {
                removed.push(entry.id);
            }
        }
        if removed.is_empty() {
            return None;
        }
        let mut chunk = Chunk::new(self.slot);
        for index in kept {
            let (start, end) = (self.start(index), self.start(index + 1));
            let at = u32::try_from(chunk.bytes.len()).unwrap_or(u32::MAX);
            chunk.starts.push(at);
            let bytes = self.bytes.get(start..end).unwrap_or_default();
            chunk.bytes.extend_from_slice(bytes);
        }
        // Chunks live long and there are thousands: no unused capacity.
        chunk.starts.shrink_to_fit();
        chunk.bytes.shrink_to_fit();
        Some((chunk, removed))
    }

    /// The offset of the entry at `index`, or the end if there is none.
    fn start(&self, index: usize) -> usize {
        self.starts
            .get(index)
            .and_then(|&at| usize::try_from(at).ok())
            .unwrap_or(self.bytes.len())
    }

    pub(super) fn is_full(&self) -> bool {
        !fits(self.len(), self.bytes.len())
    }

    /// Moves the entries from `index` on into a new chunk.
    pub(super) fn split(&mut self, slot: usize, index: usize) -> Chunk {
        let at = self.start(index);
        let base = u32::try_from(at).unwrap_or(u32::MAX);
        let bytes = self.bytes.split_off(at);
        // Images are often inserted in name order: then this chunk does not grow again.
        self.bytes.shrink_to_fit();
        let starts = self
            .starts
            .split_off(index)
            .into_iter()
            .map(|start| start - base)
            .collect();
        self.starts.shrink_to_fit();
        Chunk {
            slot,
            bytes,
            starts,
        }
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = ImageId> + '_ {
        (0..self.len()).filter_map(|index| self.id(index))
    }
}
