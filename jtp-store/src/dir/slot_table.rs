//! A hash table of slots that takes some 6 bytes for each, however many there are.
//!
//! hashbrown's tables have a power of two of buckets, so one with a million slots takes 10.5 bytes for each. This one
//! consists of as many tables of one size as it takes for each to be nearly full.

use hashbrown::HashTable;

use super::packed::Slot;

/// The slots in each part, on average. Parts have room for 28,672 in 32,768 buckets: six times the deviation of random
/// hashes more.
const PART_LEN: usize = 27_500;

#[derive(Debug, Default)]
pub(super) struct SlotTable {
    /// None if the table is empty.
    parts: Vec<HashTable<Slot>>,
    len: usize,
}

impl SlotTable {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Reserves memory for more slots.
    pub(super) fn reserve(&mut self, more: usize, hash_of: impl Fn(&Slot) -> u64) {
        let parts = (self.len + more).div_ceil(PART_LEN);
        if parts > self.parts.len() {
            self.divide(parts, self.len + more, hash_of);
        }
    }

    pub(super) fn find(&self, hash: u64, is_match: impl FnMut(&Slot) -> bool) -> Option<Slot> {
        let part = self.parts.get(part_of(hash, self.parts.len()))?;
        part.find(hash, is_match).copied()
    }

    pub(super) fn find_mut(
        &mut self,
        hash: u64,
        is_match: impl FnMut(&Slot) -> bool,
    ) -> Option<&mut Slot> {
        let part = part_of(hash, self.parts.len());
        self.parts.get_mut(part)?.find_mut(hash, is_match)
    }

    /// Inserts a slot that the table does not have.
    pub(super) fn insert(&mut self, hash: u64, slot: Slot, hash_of: impl Fn(&Slot) -> u64) {
        if self.len >= self.parts.len() * PART_LEN {
            // Larger steps than hashbrown's would waste memory, smaller ones time.
            let parts = self.parts.len() + self.parts.len() / 4 + 1;
            self.divide(parts, self.len + 1, &hash_of);
        }
        let part = part_of(hash, self.parts.len());
        if let Some(part) = self.parts.get_mut(part) {
            part.insert_unique(hash, slot, hash_of);
            self.len += 1;
        }
    }

    pub(super) fn remove(&mut self, hash: u64, is_match: impl FnMut(&Slot) -> bool) {
        let part = part_of(hash, self.parts.len());
        let Some(part) = self.parts.get_mut(part) else {
            return;
        };
        if let Ok(entry) = part.find_entry(hash, is_match) {
            entry.remove();
            self.len -= 1;
        }
    }

    /// Distributes all slots to this number of parts, with room for `expected` in total.
    fn divide(&mut self, count: usize, expected: usize, hash_of: impl Fn(&Slot) -> u64) {
        let each = expected.div_ceil(count);
        // Room for chance.
        let each = if count > 1 { each + each / 32 } else { each };
        let mut parts = Vec::with_capacity(count);
        parts.resize_with(count, || HashTable::with_capacity(each));
        for slot in std::mem::take(&mut self.parts).into_iter().flatten() {
            let hash = hash_of(&slot);
            if let Some(part) = parts.get_mut(part_of(hash, count)) {
                part.insert_unique(hash, slot, &hash_of);
            }
        }
        self.parts = parts;
    }
}

/// The part of a hash. It does not depend on the lowest and highest bits, which choose the place in the part.
fn part_of(hash: u64, parts: usize) -> usize {
    let middle = hash >> 16 & 0xffff_ffff;
    let parts = u64::try_from(parts).unwrap_or(u64::MAX);
    usize::try_from(middle.saturating_mul(parts) >> 32).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret_hash::SecretHash;

    #[test]
    fn a_table_of_several_parts_finds_each_slot_that_it_has_and_takes_few_bytes() {
        let hash = SecretHash::default();
        let hash_of = |slot: &Slot| hash.of_number(u64::from(*slot));
        for reserved in [0, 200_000] {
            let mut table = SlotTable::default();
            table.reserve(reserved, hash_of);
            let count = 200_000;
            for slot in 0..count {
                table.insert(hash_of(&slot), slot, hash_of);
            }
            assert_eq!(table.len(), 200_000);
            let bytes: usize = table.parts.iter().map(HashTable::allocation_size).sum();
            let most = if reserved == 0 { 8.0 } else { 6.6 };
            let each = bytes as f64 / 200_000.0;
            assert!(each < most, "{each} bytes for each, {reserved} reserved");
            for slot in (0..count).step_by(2) {
                table.remove(hash_of(&slot), |other| *other == slot);
            }
            assert_eq!(table.len(), 100_000);
            for slot in 0..count {
                let found = table.find(hash_of(&slot), |other| *other == slot);
                assert_eq!(found, (slot % 2 == 1).then_some(slot));
            }
        }
        let empty = SlotTable::default();
        assert_eq!(empty.find(0, |_| true), None);
    }
}
