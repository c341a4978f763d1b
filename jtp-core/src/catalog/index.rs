//! Lookup by ID: sorted shards, shared between snapshots until one changes.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::image::ImageId;

/// The index grows when its shards hold more than this on average.
const SHARD_LEN: usize = 512;

/// The chunk that holds an image. The ID is in two halves, so that a record takes 12 bytes instead of 16.
#[derive(Debug, Clone, Copy)]
struct Record {
    high: u32,
    low: u32,
    slot: u32,
}

impl Record {
    fn new(id: ImageId, slot: u32) -> Record {
        let [a, b, c, d, low @ ..] = id.to_be_bytes();
        Record {
            high: u32::from_be_bytes([a, b, c, d]),
            low: u32::from_be_bytes(low),
            slot,
        }
    }

    fn id(&self) -> u64 {
        u64::from(self.high) << 32 | u64::from(self.low)
    }
}

/// Maps IDs to chunks. IDs are uniformly distributed, so the top bits choose the shard.
#[derive(Debug, Clone)]
pub(super) struct Index {
    bits: u32,
    shards: Vec<Arc<Vec<Record>>>,
    len: usize,
}

impl Index {
    pub(super) fn new() -> Index {
        Index {
            bits: 0,
            shards: vec![Arc::default()],
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn shard_of(&self, id: ImageId) -> usize {
        // With no bits there is one shard, and a shift by 64 is an overflow.
        let top = id.0.checked_shr(u64::BITS - self.bits).unwrap_or(0);
        usize::try_from(top).unwrap_or(0)
    }

    fn find(&self, id: ImageId) -> Option<(usize, Result<usize, usize>)> {
        let shard = self.shard_of(id);
        Some((
            shard,
            self.shards
                .get(shard)?
                .binary_search_by_key(&id.0, Record::id),
        ))
    }

    /// The slot of the chunk that holds the image.
    pub(super) fn slot(&self, id: ImageId) -> Option<usize> {
        let (shard, position) = self.find(id)?;
        let record = self.shards.get(shard)?.get(position.ok()?)?;
        usize::try_from(record.slot).ok()
    }

    /// The image's position in the order of IDs, given [`Index::starts`].
    pub(super) fn ordinal(&self, id: ImageId, starts: &[usize]) -> Option<usize> {
        let (shard, position) = self.find(id)?;
        Some(starts.get(shard)? + position.ok()?)
    }

    /// [`Index::ordinal`] and [`Index::slot`] in one lookup.
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
                shard.insert(at, Record::new(id, slot));
                self.len += 1;
                if self.len > self.shards.len() * SHARD_LEN {
                    self.grow();
                }
            }
        }
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
                let middle = shard.partition_point(|record| (record.id() >> bit) & 1 == 0);
                let (low, high) = shard.split_at(middle);
                [Arc::new(low.to_vec()), Arc::new(high.to_vec())]
            })
            .collect();
    }
}
