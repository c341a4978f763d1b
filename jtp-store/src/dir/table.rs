//! Finds files by name and by ID. Beside the packed records it takes some 12 to 23 bytes for each file.

use std::collections::hash_map::RandomState;
use std::ffi::OsStr;
use std::hash::BuildHasher;

use hashbrown::HashTable;
use jtp_core::ImageId;

pub(super) use super::packed::Slot;
use super::packed::{PackedFiles, to_bytes};
use super::record::FileRecord;

/// The files of a folder. Names are chosen by those who fill the folder and IDs by file contents, so both hashes have
/// a random seed.
#[derive(Debug, Default)]
pub(super) struct Table {
    files: PackedFiles,
    by_name: HashTable<Slot>,
    /// The first holder of each ID.
    by_id: HashTable<Slot>,
    seed: RandomState,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Reserves memory for more files, each with its own ID.
    pub(super) fn reserve(&mut self, files: usize) {
        let (records, seed) = (&self.files, &self.seed);
        self.by_name
            .reserve(files, |slot| name_hash(records, seed, *slot));
        self.by_id
            .reserve(files, |slot| id_hash(records, seed, *slot));
    }

    pub(super) fn name(&self, slot: Slot) -> &OsStr {
        self.files.name(slot)
    }

    pub(super) fn slot(&self, name: &OsStr) -> Option<Slot> {
        let name = to_bytes(name);
        let is_match = |slot: &Slot| self.files.name_bytes(*slot) == name;
        self.by_name
            .find(self.seed.hash_one(name), is_match)
            .copied()
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.files.slots()
    }

    /// An exclusive upper bound of all slots.
    pub(super) fn slots_end(&self) -> usize {
        self.files.slots_end()
    }

    pub(super) fn record(&self, slot: Slot) -> Option<FileRecord> {
        self.files.record(slot)
    }

    pub(super) fn is_holder(&self, slot: Slot) -> bool {
        self.files.is_holder(slot)
    }

    #[cfg(feature = "zstd")]
    pub(super) fn set_incompressible(&mut self, slot: Slot, threshold: u16) {
        self.files.set_incompressible(slot, threshold);
    }

    /// Adds a file or replaces its record; the ID of a holder must not change. `None` if the table is full.
    pub(super) fn put(&mut self, name: &OsStr, record: &FileRecord) -> Option<Slot> {
        if let Some(slot) = self.slot(name) {
            self.files.update(slot, record)?;
            return Some(slot);
        }
        let slot = self.files.add(name, record)?;
        let (records, seed) = (&self.files, &self.seed);
        let hash = seed.hash_one(to_bytes(name));
        self.by_name
            .insert_unique(hash, slot, |slot| name_hash(records, seed, *slot));
        Some(slot)
    }

    /// Removes a file that is not the first holder of an ID any more.
    pub(super) fn remove(&mut self, slot: Slot) {
        let hash = name_hash(&self.files, &self.seed, slot);
        if let Ok(entry) = self.by_name.find_entry(hash, |other| *other == slot) {
            entry.remove();
        }
        self.files.remove(slot);
        if self.len() == 0 {
            // Returns the memory of a folder that was emptied.
            (self.files, self.by_name, self.by_id) = Default::default();
        }
    }

    /// The first holder of an ID.
    pub(super) fn first(&self, id: ImageId) -> Option<Slot> {
        let is_match = |slot: &Slot| self.files.id(*slot) == Some(id);
        self.by_id.find(self.seed.hash_one(id), is_match).copied()
    }

    /// Makes a file a holder of its ID, and the first one if `first` is set.
    pub(super) fn hold(&mut self, slot: Slot, first: bool) {
        self.files.set_holder(slot);
        let Some(id) = self.files.id(slot).filter(|_| first) else {
            return;
        };
        let (records, seed) = (&self.files, &self.seed);
        let hash = seed.hash_one(id);
        let is_match = |slot: &Slot| records.id(*slot) == Some(id);
        if let Some(before) = self.by_id.find_mut(hash, is_match) {
            *before = slot;
            return;
        }
        self.by_id
            .insert_unique(hash, slot, |slot| id_hash(records, seed, *slot));
    }

    /// Removes an ID that no file holds any more. Its first holder must not be removed before.
    pub(super) fn remove_id(&mut self, id: ImageId) {
        let files = &self.files;
        let is_match = |slot: &Slot| files.id(*slot) == Some(id);
        if let Ok(entry) = self.by_id.find_entry(self.seed.hash_one(id), is_match) {
            entry.remove();
        }
    }
}

fn name_hash(files: &PackedFiles, seed: &RandomState, slot: Slot) -> u64 {
    seed.hash_one(files.name_bytes(slot))
}

fn id_hash(files: &PackedFiles, seed: &RandomState, slot: Slot) -> u64 {
    files.id(slot).map_or(0, |id| seed.hash_one(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint::Fingerprint;
    use jtp_core::FileType;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn record(id: u64) -> FileRecord {
        FileRecord {
            id: ImageId(id),
            fingerprint: Fingerprint {
                file_system: id % 3,
                file: id,
                size: 5,
                modified: -1,
                changed: i64::MAX,
            },
            length: 5,
            sniffed: (id % 2 == 0).then_some(FileType::Gif),
            incompressible_at: 7,
            settled: id % 3 > 0,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_table_equals_a_map_from_name_to_record(
            steps in prop::collection::vec((0..40u64, any::<bool>(), 0..1000u64), 0..150)
        ) {
            let mut table = Table::default();
            let mut model = BTreeMap::new();
            for (n, add, id) in steps {
                let name = format!("{}{n}.png", "long".repeat(usize::try_from(n).unwrap() * 40));
                if add {
                    // The ID of a holder stays.
                    let id = model.get(&name).copied().unwrap_or(id * 64 + n);
                    let slot = table.put(OsStr::new(&name), &record(id)).unwrap();
                    table.hold(slot, true);
                    model.insert(name, id);
                } else if let Some(id) = model.remove(&name) {
                    let slot = table.slot(OsStr::new(&name)).unwrap();
                    table.remove_id(ImageId(id));
                    table.remove(slot);
                }
                prop_assert_eq!(table.len(), model.len());
                prop_assert_eq!(table.slots().count(), model.len());
                for (name, id) in &model {
                    let slot = table.slot(OsStr::new(name)).unwrap();
                    prop_assert_eq!(table.name(slot), OsStr::new(name));
                    prop_assert_eq!(table.record(slot).unwrap(), record(*id));
                    prop_assert_eq!(table.first(ImageId(*id)), Some(slot));
                }
            }
        }
    }
}
