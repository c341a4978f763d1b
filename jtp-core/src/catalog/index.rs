//! Lookup by ID: sorted shards, shared between snapshots until one changes.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::image::ImageId;

/// The index grows when its shards hold more than this on average.
const SHARD_LEN: usize = 512;

/// The chunk that holds an image. The key is in two halves, so that a record takes 12 bytes instead of 16.
#[derive(Debug, Clone, Copy)]
struct Record {
    high: u32,
    low: u32,
    slot: u32,
}

impl Record {
    fn new(key: u64, slot: u32) -> Record {
        let [a, b, c, d, low @ ..] = key.to_be_bytes();
        Record {
            high: u32::from_be_bytes([a, b, c, d]),
            low: u32::from_be_bytes(low),
            slot,
        }
    }

    #[inline]
    fn key(&self) -> u64 {
        u64::from(self.high) << 32 | u64::from(self.low)
    }
}

/// Maps IDs to chunks. The top bits of an ID's key choose the shard.
///
/// The key is a product of the ID and a random odd factor, which is a bijection. IDs with equal top bits can be made at
/// will; without the factor, all of them would be in one shard, and adding `n` would move `n * n` records.
#[derive(Debug, Clone)]
pub(super) struct Index {
    factor: u64,
    bits: u32,
    shards: Vec<Arc<Vec<Record>>>,
    len: usize,
    /// See [`Index::append`].
    appended: Vec<Record>,
}

impl Index {
    pub(super) fn new() -> Index {
        Index {
            factor: random() | 1,
            bits: 0,
            shards: vec![Arc::default()],
            len: 0,
            appended: Vec::new(),
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

    #[inline]
    fn find(&self, id: ImageId) -> Option<(usize, Result<usize, usize>)> {
        let key = self.key(id);
        let shard = self.shard_of(key);
        let records = self.shards.get(shard)?;
        Some((shard, records.binary_search_by_key(&key, Record::key)))
    }

    /// The slot of the chunk that holds the image.
    pub(super) fn slot(&self, id: ImageId) -> Option<usize> {
        let (shard, position) = self.find(id)?;
        let record = self.shards.get(shard)?.get(position.ok()?)?;
        usize::try_from(record.slot).ok()
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
        let record = self.shards.get(shard)?.get(position)?;
        let slot = usize::try_from(record.slot).ok()?;
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
        let Ok(slot) = u32::try_from(slot) else {
            return;
        };
        let Some((shard, position)) = self.find(id) else {
            return;
        };
        let key = self.key(id);
        let Some(shard) = self.shards.get_mut(shard) else {
            return;
        };
        let shard = Arc::make_mut(shard);
        match position {
            Ok(at) => {
                if let Some(record) = shard.get_mut(at) {
                    record.slot = slot;
                }
            }
            Err(at) => {
                if shard.len() == shard.capacity() {
                    // Grow by an eighth, not by a factor of two: shards are short, and there are thousands.
                    shard.reserve_exact(shard.len() / 8 + 4);
                }
                shard.insert(at, Record::new(key, slot));
                self.len += 1;
                if self.len > self.shards.len() * SHARD_LEN {
                    self.grow();
                }
            }
        }
    }

    /// Reserves memory for images that are appended.
    pub(super) fn reserve(&mut self, images: usize) {
        self.appended.reserve_exact(images);
    }

    /// Adds an image that is found only after [`Index::sort_appended`]. Setting IDs one by one costs several cache misses
    /// for each.
    pub(super) fn append(&mut self, id: ImageId, slot: usize) {
        let slot = u32::try_from(slot).unwrap_or(u32::MAX);
        let key = self.key(id);
        self.appended.push(Record::new(key, slot));
    }

    /// The number of images that were appended.
    pub(super) fn appended(&self) -> usize {
        self.appended.len()
    }

    /// Takes the appended images, which replace all others. `false` if an ID is there twice: then there are none.
    pub(super) fn sort_appended(&mut self) -> bool {
        let mut records = core::mem::take(&mut self.appended);
        records.sort_unstable_by_key(Record::key);
        let is_twice = |pair: &[Record]| matches!(pair, [a, b] if a.key() == b.key());
        if records.windows(2).any(is_twice) {
            return false;
        }
        self.len = records.len();
        self.bits = 0;
        while self.len > SHARD_LEN << self.bits {
            self.bits += 1;
        }
        let mut rest = records.as_slice();
        self.shards = (0..1usize << self.bits)
            .map(|shard| {
                let end = rest.partition_point(|record| self.shard_of(record.key()) <= shard);
                let (records, later) = rest.split_at(end);
                rest = later;
                Arc::new(records.to_vec())
            })
            .collect();
        true
    }

    pub(super) fn remove(&mut self, id: ImageId) {
        if let Some((shard, Ok(at))) = self.find(id) {
            if let Some(shard) = self.shards.get_mut(shard) {
                Arc::make_mut(shard).remove(at);
                self.len -= 1;
            }
        }
    }

    /// Splits every shard in two.
    fn grow(&mut self) {
        self.bits += 1;
        let bit = u64::BITS - self.bits;
        self.shards = self
            .shards
            .iter()
            .flat_map(|shard| {
                let middle = shard.partition_point(|record| (record.key() >> bit) & 1 == 0);
                let (low, high) = shard.split_at(middle);
                [Arc::new(low.to_vec()), Arc::new(high.to_vec())]
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
    #[cfg(feature = "std")]
    fn each_index_has_a_factor_of_its_own() {
        assert_ne!(Index::new().factor, Index::new().factor);
    }
}
