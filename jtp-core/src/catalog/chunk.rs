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

/// The entries in each group but the last one.
const GROUP: usize = 8;

/// Entries in catalog order, encoded. The encoding is the only copy of a name.
#[derive(Debug, Clone, Default)]
pub(super) struct Chunk {
    /// Index into `Contents::slots`.
    pub(super) slot: usize,
    bytes: Vec<u8>,
    /// The number of entries.
    len: usize,
    groups: Vec<Group>,
}

/// Consecutive entries. The offset of each entry would take more memory, and an ID is found faster by the tags.
#[derive(Debug, Clone, Copy)]
struct Group {
    /// The offset of the first entry; a chunk is far below 4 GiB.
    start: u32,
    /// A byte of each entry's ID.
    tags: [u8; GROUP],
}

impl Group {
    /// Whether an entry can have an ID of this tag.
    #[inline]
    fn may_have(&self, tag: u8) -> bool {
        // A byte of `different` is 0 where the tag is equal. Subtracting 1 from each sets the top bit of such a byte.
        const ONES: u64 = u64::MAX / 0xff;
        let different = u64::from_ne_bytes(self.tags) ^ (ONES * u64::from(tag));
        different.wrapping_sub(ONES) & !different & (ONES << 7) != 0
    }
}

fn tag(id: ImageId) -> u8 {
    let [.., last] = id.to_be_bytes();
    last
}

impl Chunk {
    pub(super) fn new(slot: usize) -> Chunk {
        Chunk {
            slot,
            ..Chunk::default()
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn entry(&self, offset: usize) -> Option<Entry<'_>> {
        match entry::decode(self.bytes.get(offset..)?) {
            Ok(Decoded::Complete { value, .. }) => Some(value),
            _ => None,
        }
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let offsets = self.offsets(0, self.bytes.len());
        offsets.filter_map(|offset| self.entry(offset))
    }

    /// The image of the entry at an offset, without decoding the name, and the offset of the next entry.
    #[inline]
    pub(super) fn image(&self, offset: usize) -> Option<(Image, usize)> {
        let (fixed, rest) = self.bytes.get(offset..)?.split_first_chunk::<FIXED_LEN>()?;
        let [id @ .., bits, n0, n1] = *fixed;
        let name_len = usize::from(u16::from_be_bytes([n0, n1]));
        match varint::decode(rest.get(name_len..)?) {
            Ok(Decoded::Complete { value, used }) => {
                let image = Image::new(ImageId::from_be_bytes(id), Flags::from_bits(bits), value);
                Some((image, offset + FIXED_LEN + name_len + used))
            }
            _ => None,
        }
    }

    /// The offset after the entry at an offset.
    #[inline]
    fn after(&self, offset: usize) -> Option<usize> {
        let (fixed, rest) = self.bytes.get(offset..)?.split_first_chunk::<FIXED_LEN>()?;
        let [.., n0, n1] = *fixed;
        let name_len = usize::from(u16::from_be_bytes([n0, n1]));
        let length = rest.get(name_len..)?;
        let used = length.iter().position(|byte| byte & 0x80 == 0)? + 1;
        Some(offset + FIXED_LEN + name_len + used)
    }

    /// The offsets of the entries from one offset to another.
    fn offsets(&self, start: usize, end: usize) -> impl Iterator<Item = usize> + '_ {
        let first = Some(start).filter(|start| *start < end);
        core::iter::successors(first, move |offset| {
            self.after(*offset).filter(|next| *next < end)
        })
    }

    /// The offset of a group, or the end if there is none.
    fn group(&self, group: usize) -> usize {
        let group = self.groups.get(group);
        group.map_or(self.bytes.len(), |group| to_usize(group.start))
    }

    /// The offsets of the entries of a group.
    fn group_offsets(&self, group: usize) -> impl Iterator<Item = usize> + '_ {
        self.offsets(self.group(group), self.group(group + 1))
    }

    /// The offset of the last entry.
    fn last(&self) -> Option<usize> {
        self.group_offsets(self.groups.len().checked_sub(1)?).last()
    }

    #[inline]
    fn id(&self, offset: usize) -> Option<ImageId> {
        let id = self.bytes.get(offset..)?.first_chunk::<8>();
        id.copied().map(ImageId::from_be_bytes)
    }

    /// The offset of the entry with an ID.
    pub(super) fn offset_of(&self, id: ImageId) -> Option<usize> {
        let tag = tag(id);
        let groups = self.groups.iter().enumerate();
        groups
            .filter(|(_, group)| group.may_have(tag))
            .find_map(|(group, _)| {
                self.group_offsets(group)
                    .find(|offset| self.id(*offset) == Some(id))
            })
    }

    /// Compares the entry at an offset with a key, in catalog order. // S5
    pub(super) fn compare(&self, offset: usize, name: &str, id: ImageId) -> Ordering {
        let key = self.bytes.get(offset..).and_then(|entry| {
            let (fixed, rest) = entry.split_first_chunk::<FIXED_LEN>()?;
            let [id @ .., _, n0, n1] = *fixed;
            let name = rest.get(..usize::from(u16::from_be_bytes([n0, n1])))?;
            Some((name, ImageId::from_be_bytes(id)))
        });
        key.map_or(Ordering::Less, |key| key.cmp(&(name.as_bytes(), id)))
    }

    /// Whether all entries sort before a key.
    pub(super) fn is_before(&self, name: &str, id: ImageId) -> bool {
        self.last()
            .is_none_or(|last| self.compare(last, name, id) == Ordering::Less)
    }

    /// The group in which an entry of this key belongs, and its offset.
    fn position(&self, name: &str, id: ImageId) -> (usize, usize) {
        let is_before = |offset: usize| self.compare(offset, name, id) == Ordering::Less;
        let group = match self.is_before(name, id) {
            true => self.groups.len(),
            false => self
                .groups
                .partition_point(|group| is_before(to_usize(group.start))),
        };
        let group = group.saturating_sub(1);
        let offset = self.group_offsets(group).find(|offset| !is_before(*offset));
        (group, offset.unwrap_or_else(|| self.group(group + 1)))
    }

    /// Inserts an entry in order. Returns whether it is the last one now.
    pub(super) fn insert(&mut self, new: &Entry<'_>) -> Result<bool, NameTooLong> {
        let (group, offset) = self.position(new.name, new.id);
        let mut encoded = Vec::with_capacity(entry::encoded_len(new.name.len(), new.length));
        entry::encode(new, &mut encoded)?;
        let is_last = offset == self.bytes.len();
        // Grow by an eighth, not by a factor of two: there are thousands of chunks, and most do not change again.
        if self.bytes.capacity() - self.bytes.len() < encoded.len() {
            self.bytes
                .reserve_exact(encoded.len() + self.bytes.len() / 8);
        }
        self.bytes.splice(offset..offset, encoded);
        if self.groups.capacity() == self.groups.len() {
            self.groups.reserve_exact(self.groups.len() / 8 + 1);
        }
        self.regroup(group);
        Ok(is_last)
    }

    /// Makes the groups from one on anew, after a change of its entries.
    fn regroup(&mut self, first: usize) {
        let mut offset = match first {
            0 => 0,
            first => self.group(first),
        };
        self.groups.truncate(first);
        self.len = self.groups.len() * GROUP;
        while let (Some(id), Some(after)) = (self.id(offset), self.after(offset)) {
            self.count(offset, id);
            offset = after;
        }
    }

    /// Adds the next entry to the groups.
    #[inline]
    fn count(&mut self, offset: usize, id: ImageId) {
        if self.len % GROUP == 0 {
            self.groups.push(Group {
                start: u32::try_from(offset).unwrap_or(u32::MAX),
                tags: [0; GROUP],
            });
        }
        let place = self.groups.last_mut();
        let place = place.and_then(|group| group.tags.get_mut(self.len % GROUP));
        if let Some(place) = place {
            *place = tag(id);
        }
        self.len += 1;
    }

    /// Whether an entry can be appended without a split.
    pub(super) fn has_room_for(&self, new: &Entry<'_>) -> bool {
        let len = entry::encoded_len(new.name.len(), new.length);
        fits(self.len + 1, self.bytes.len() + len)
    }

    /// Appends an entry that follows the last one.
    pub(super) fn push(&mut self, new: &Entry<'_>) -> Result<(), NameTooLong> {
        let offset = self.bytes.len();
        entry::encode(new, &mut self.bytes)?;
        self.count(offset, new.id);
        Ok(())
    }

    /// Becomes an empty chunk, and keeps its buffers.
    pub(super) fn restart(&mut self, slot: usize) {
        self.slot = slot;
        self.bytes.clear();
        self.groups.clear();
        self.len = 0;
    }

    /// Removes the entry at an offset.
    pub(super) fn remove(&mut self, offset: usize) {
        let Some(end) = self.after(offset) else {
            return;
        };
        let begins = |group: &Group| to_usize(group.start) <= offset;
        let group = self.groups.partition_point(begins).saturating_sub(1);
        self.bytes.drain(offset..end);
        self.regroup(group);
    }

    /// The entries that `keep` accepts as a new chunk, and the IDs of the others; `None` if it accepts all.
    pub(super) fn retained(
        &self,
        mut keep: impl FnMut(Entry<'_>) -> bool,
    ) -> Option<(Chunk, Vec<ImageId>)> {
        let mut removed = Vec::new();
        let mut chunk = Chunk::new(self.slot);
        for offset in self.offsets(0, self.bytes.len()) {
            match self.entry(offset) {
                // Each was encoded before, so its name is not too long.
                Some(entry) if keep(entry) => _ = chunk.push(&entry),
                entry => removed.extend(entry.map(|entry| entry.id)),
            }
        }
        if removed.is_empty() {
            return None;
        }
        // Chunks live long and there are thousands: no unused capacity.
        chunk.groups.shrink_to_fit();
        chunk.bytes.shrink_to_fit();
        Some((chunk, removed))
    }

    pub(super) fn is_full(&self) -> bool {
        !fits(self.len, self.bytes.len())
    }

    /// Moves the last entry (`only_last`) or about half of them into a new chunk. There are at least two.
    pub(super) fn split(&mut self, slot: usize, only_last: bool) -> Chunk {
        let middle = match self.groups.len() {
            _ if only_last => self.last(),
            1 => self.group_offsets(0).nth(self.len / 2),
            groups => Some(self.group(groups / 2)),
        };
        let offset = middle.unwrap_or(self.bytes.len());
        let mut later = Chunk::new(slot);
        later.bytes = self.bytes.split_off(offset);
        later.groups.reserve_exact(self.groups.len() / 2 + 1);
        later.regroup(0);
        let begins = |group: &Group| to_usize(group.start) < offset;
        self.groups.truncate(self.groups.partition_point(begins));
        self.len -= later.len;
        // Images are often inserted in name order: then this chunk does not grow again.
        self.bytes.shrink_to_fit();
        self.groups.shrink_to_fit();
        later
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = ImageId> + '_ {
        let offsets = self.offsets(0, self.bytes.len());
        offsets.filter_map(|offset| self.id(offset))
    }
}

fn to_usize(offset: u32) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::FileType;
    use alloc::format;
    use alloc::string::String;
    use proptest::prelude::*;

    fn image(id: u64) -> Image {
        Image::new(ImageId(id), Flags::new(FileType::Png, false), 300)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_chunk_equals_a_sorted_list_and_its_groups_are_full(
            steps in prop::collection::vec((0..200u64, 0..4u8), 1..400),
        ) {
            let name = |id: u64| format!("{:03}{}", id, "x".repeat(usize::try_from(id % 7).unwrap()));
            let (mut chunk, mut model) = (Chunk::default(), Vec::<(String, u64)>::new());
            for (id, step) in steps {
                let place = model.binary_search(&(name(id), id));
                match (place, step) {
                    (Err(at), 0..=2) => {
                        let is_last = chunk.insert(&Entry::new(&name(id), image(id))).unwrap();
                        prop_assert_eq!(is_last, at == model.len());
                        model.insert(at, (name(id), id));
                    }
                    (Ok(at), 0) => {
                        chunk.remove(chunk.offset_of(ImageId(id)).unwrap());
                        model.remove(at);
                    }
                    (_, 3) if id < 40 && model.len() > 1 => {
                        let later = chunk.split(1, id < 20);
                        let rest = model.split_off(chunk.len());
                        prop_assert_eq!(later.len(), rest.len());
                        prop_assert!(later.entries().map(|entry| entry.name).eq(rest.iter().map(|(name, _)| name)));
                        if id % 2 == 0 {
                            (chunk, model) = (later, rest);
                        }
                    }
                    _ => {}
                }
                prop_assert_eq!(chunk.len(), model.len());
                prop_assert!(chunk.entries().map(|entry| entry.name).eq(model.iter().map(|(name, _)| name)));
                for (name, id) in &model {
                    let offset = chunk.offset_of(ImageId(*id)).unwrap();
                    prop_assert_eq!(chunk.image(offset).unwrap().0, image(*id));
                    prop_assert_eq!(chunk.compare(offset, name, ImageId(*id)), Ordering::Equal);
                }
                let lengths: Vec<_> = (0..chunk.groups.len()).map(|group| chunk.group_offsets(group).count()).collect();
                let full = lengths.split_last().map_or(&[][..], |(_, full)| full);
                prop_assert!(full.iter().all(|len| *len == GROUP));
                prop_assert_eq!(lengths.iter().sum::<usize>(), chunk.len());
            }
        }
    }
}
