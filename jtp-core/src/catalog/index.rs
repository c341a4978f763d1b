//! Lookup by ID: sorted shards, shared between snapshots until one changes.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use super::chunk::Chunk;
use crate::image::ImageId;

/// The index grows when its shards hold more than this on average.
const SHARD_LEN: usize = 512;

/// Maps IDs to chunks. The top bits of an ID's key choose the shard.
///
/// The key is a product of the ID and a random odd factor, which is a bijection. IDs with equal top bits can be made at
/// will; without the factor, all of them would be in one shard, and adding `n` would move `n * n` records.
///
/// A record takes 8 bytes: all keys of a shard have the same top bits, so the slot of the chunk takes their place, in the
/// lowest bits. There are as many shards as it takes for each slot to fit.
#[derive(Debug, Clone)]
pub(super) struct Index {
    factor: u64,
    /// The number of bits that choose a shard, and of those that are a slot: at most 32.
    bits: u32,
    shards: Vec<Arc<Vec<u64>>>,
    len: usize,
}

impl Index {
    pub(super) fn new() -> Index {
        Index {
            factor: random() | 1,
            bits: 0,
            shards: vec![Arc::default()],
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn key(&self, id: ImageId) -> u64 {
        id.0.wrapping_mul(self.factor)
    }

    #[inline]
    fn shard_of(&self, key: u64) -> usize {
        // With no bits there is one shard, and a shift by 64 is an overflow.
        let top = key.checked_shr(u64::BITS - self.bits).unwrap_or(0);
        usize::try_from(top).unwrap_or(0)
    }

    /// The shard of an ID, and the place of its record in it.
    #[inline]
    fn find(&self, id: ImageId) -> Option<(usize, Result<usize, usize>)> {
        let key = self.key(id);
        let shard = self.shard_of(key);
        let records = self.shards.get(shard)?;
        let rest = key << self.bits;
        let of_record = |record: &u64| record & !self.slot_mask();
        Some((shard, records.binary_search_by_key(&rest, of_record)))
    }

    #[inline]
    fn slot_mask(&self) -> u64 {
        (1 << self.bits) - 1
    }

    #[inline]
    fn slot_at(&self, shard: usize, position: usize) -> Option<usize> {
        let record = self.shards.get(shard)?.get(position)?;
        usize::try_from(record & self.slot_mask()).ok()
    }

    /// The slot of the chunk that holds the image.
    pub(super) fn slot(&self, id: ImageId) -> Option<usize> {
        let (shard, position) = self.find(id)?;
        self.slot_at(shard, position.ok()?)
    }

    /// The image's position in the order of keys, given [`Index::starts`].
    pub(super) fn ordinal(&self, id: ImageId, starts: &[usize]) -> Option<usize> {
        let (shard, position) = self.find(id)?;
        Some(starts.get(shard)? + position.ok()?)
    }

    /// [`Index::ordinal`] and [`Index::slot`] in one lookup.
    #[inline]
    pub(super) fn locate(&self, id: ImageId, starts: &[usize]) -> Option<(usize, usize)> {
        let (shard, position) = self.find(id)?;
        let position = position.ok()?;
        let slot = self.slot_at(shard, position)?;
        Some((starts.get(shard)? + position, slot))
    }

    /// The number of IDs before each shard.
    pub(super) fn starts(&self) -> Vec<usize> {
        self.shards
            .iter()
            .scan(0, |total, shard| {
                let start = *total;
                *total += shard.len();
                Some(start)
            })
            .collect()
    }

    /// Records the chunk of an image, which replaces an earlier record.
    pub(super) fn set(&mut self, id: ImageId, slot: usize) {
        let Ok(slot) = u32::try_from(slot).map(u64::from) else {
            return;
        };
        while slot > self.slot_mask() {
            self.grow();
        }
        let Some((shard, position)) = self.find(id) else {
            return;
        };
        let record = self.key(id) << self.bits | slot;
        let Some(shard) = self.shards.get_mut(shard) else {
            return;
        };
        let shard = Arc::make_mut(shard);
        match position {
            Ok(at) => {
                if let Some(known) = shard.get_mut(at) {
                    *known = record;
                }
            }
            Err(at) => {
                if shard.len() == shard.capacity() {
                    // Grow by an eighth, not by a factor of two: shards are short, and there are thousands.
                    shard.reserve_exact(shard.len() / 8 + 4);
                }
                shard.insert(at, record);
                self.len += 1;
                if self.len > self.shards.len() * SHARD_LEN {
                    self.grow();
                }
            }
        }
    }

    /// The index of chunks. `None` if an ID is there twice. Setting IDs one by one costs several cache misses for each.
    pub(super) fn of(chunks: &[Chunk]) -> Option<Index> {
        let mut index = Index::new();
        index.len = chunks.iter().map(Chunk::len).sum();
        let last_slot = chunks.iter().map(|chunk| chunk.slot).max().unwrap_or(0);
        index.bits = usize::BITS - last_slot.leading_zeros();
        while index.len > SHARD_LEN << index.bits {
            index.bits += 1;
        }
        let keys = |chunk| Chunk::ids(chunk).map(|id| index.key(id));
        let mut lengths = vec![0; 1 << index.bits];
        for key in chunks.iter().flat_map(keys) {
            if let Some(length) = lengths.get_mut(index.shard_of(key)) {
                *length += 1;
            }
        }
        let mut shards: Vec<_> = lengths.into_iter().map(Vec::with_capacity).collect();
        for chunk in chunks {
            let slot = u64::try_from(chunk.slot).unwrap_or(0);
            for key in keys(chunk) {
                if let Some(shard) = shards.get_mut(index.shard_of(key)) {
                    shard.push(key << index.bits | slot);
                }
            }
        }
        let mask = index.slot_mask();
        let is_twice = |pair: &[u64]| matches!(pair, [a, b] if a ^ b <= mask);
        for shard in &mut shards {
            shard.sort_unstable();
            if shard.windows(2).any(is_twice) {
                return None;
            }
        }
        index.shards = shards.into_iter().map(Arc::new).collect();
        Some(index)
    }

    pub(super) fn remove(&mut self, id: ImageId) {
        if let Some((shard, Ok(at))) = self.find(id) {
            if let Some(shard) = self.shards.get_mut(shard) {
                Arc::make_mut(shard).remove(at);
                self.len -= 1;
            }
        }
    }

    /// Splits every shard in two, which makes room for one more bit of the slots.
    fn grow(&mut self) {
        const TOP: u32 = u64::BITS - 1;
        let mask = self.slot_mask();
        self.bits += 1;
        let widen = |record: &u64| (record & !mask) << 1 | record & mask;
        self.shards = self
            .shards
            .iter()
            .flat_map(|shard| {
                let middle = shard.partition_point(|record| record >> TOP == 0);
                let (low, high) = shard.split_at(middle);
                let half = |records: &[u64]| Arc::new(records.iter().map(widen).collect());
                [half(low), half(high)]
            })
            .collect();
    }
}

/// A number that a peer cannot know.
#[cfg(feature = "std")]
fn random() -> u64 {
    use core::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}

/// A number that a peer hardly knows: without `std` the only source is the address of an allocation.
#[cfg(not(feature = "std"))]
fn random() -> u64 {
    let address = Arc::as_ptr(&Arc::new(0u64)).addr();
    let address = u64::try_from(address).unwrap_or(u64::MAX);
    (address ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{FileType, Flags, Image};
    use crate::wire::entry::Entry;

    #[test]
    fn chosen_ids_fill_the_shards_as_evenly_as_random_ones() {
        const COUNT: u64 = 50_000;
        let ascending = |n: u64| n;
        let descending = |n: u64| u64::MAX - n;
        let with_equal_top_bits = |n: u64| 0xabcd << 48 | n << 8;
        let with_equal_low_bits = |n: u64| n << 48;
        let chosen: [fn(u64) -> u64; 4] = [
            ascending,
            descending,
            with_equal_top_bits,
            with_equal_low_bits,
        ];
        for (what, id) in chosen.iter().enumerate() {
            let mut index = Index {
                factor: 0x9e37_79b9_7f4a_7c15,
                ..Index::new()
            };
            for n in 0..COUNT {
                index.set(ImageId(id(n)), 0);
            }
            let longest = index.shards.iter().map(|shard| shard.len()).max();
            assert!(longest.unwrap() <= 4 * SHARD_LEN, "{what}: {longest:?}");
            assert!((0..COUNT).all(|n| index.slot(ImageId(id(n))).is_some()));
        }
    }

    #[test]
    fn many_slots_for_few_images_are_found_however_they_were_added() {
        let slots = [0, 1, 2, 3, 4, 900, 5, 17];
        let id = |slot: usize| ImageId(u64::MAX - u64::try_from(slot).unwrap());
        let mut index = Index::new();
        let chunk = |slot: usize| {
            let image = Image::new(id(slot), Flags::new(FileType::Png, false), 1);
            let mut chunk = Chunk::new(slot);
            chunk.push(&Entry::new("a.png", image)).unwrap();
            chunk
        };
        for slot in slots {
            index.set(id(slot), slot);
        }
        for index in [index, Index::of(&slots.map(chunk)).unwrap()] {
            let found = |slot| index.locate(id(slot), &index.starts());
            for slot in slots {
                assert_eq!(found(slot).map(|(_, slot)| slot), Some(slot));
            }
            assert_eq!((found(6), index.len()), (None, slots.len()));
        }
    }

    #[test]
    #[cfg(feature = "std")]
    fn each_index_has_a_factor_of_its_own() {
        assert_ne!(Index::new().factor, Index::new().factor);
    }
}
