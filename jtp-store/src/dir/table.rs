//! Finds files by path and by ID. Beside the packed records it takes some 12 bytes for each file, and the paths of folders.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::hash::Hasher;

use jtp_core::ImageId;

use super::folders::{FolderPaths, split};
pub(super) use super::packed::Slot;
use super::packed::{PackedFiles, to_bytes, with_bytes};
use super::record::{FileRecord, Name};
use super::slot_table::SlotTable;
use crate::secret_hash::SecretHash;

/// The files of a folder. Names are chosen by those who fill the folder and IDs by file contents, so both hashes have
/// random keys.
#[derive(Debug, Default)]
pub(super) struct Table {
    files: PackedFiles,
    folders: FolderPaths,
    by_name: SlotTable,
    /// The first holder of each ID.
    by_id: SlotTable,
    hash: SecretHash,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Reserves memory for more files, each with its own ID.
    pub(super) fn reserve(&mut self, files: usize) {
        let (records, hash) = (&self.files, &self.hash);
        self.by_name.reserve(files, name_hashes(records, hash));
        self.by_id
            .reserve(files, |slot| id_hash(records, hash, *slot));
        self.files.reserve(files);
    }

    /// Returns memory that is reserved and not used.
    pub(super) fn shrink_to_fit(&mut self) {
        self.files.shrink_to_fit();
    }

    /// The path below the images folder.
    pub(super) fn path(&self, slot: Slot) -> Name {
        let mut path = OsString::new();
        Name::from(self.path_in(slot, &mut path))
    }

    /// The path below the images folder, in a buffer whose memory is used again.
    pub(super) fn path_in<'a>(&self, slot: Slot, buffer: &'a mut OsString) -> &'a OsStr {
        with_bytes(buffer, |path| {
            path.clear();
            path.extend_from_slice(self.folders.path(self.files.folder(slot)));
            if !path.is_empty() {
                path.push(b'/');
            }
            self.files.append_name(slot, path);
        });
        buffer
    }

    /// The number of the file's folder.
    pub(super) fn folder(&self, slot: Slot) -> u32 {
        self.files.folder(slot)
    }

    /// Appends the name in its folder.
    pub(super) fn append_name(&self, slot: Slot, to: &mut Vec<u8>) {
        self.files.append_name(slot, to);
    }

    pub(super) fn folders(&self) -> &FolderPaths {
        &self.folders
    }

    pub(super) fn slot(&self, path: &OsStr) -> Option<Slot> {
        let (folder, name) = split(to_bytes(path));
        self.find((self.folders.number(folder)?, name))
    }

    fn find(&self, key: (u32, &[u8])) -> Option<Slot> {
        let is_match = |slot: &Slot| self.files.is_named(*slot, key);
        self.by_name.find(name_hash(&self.hash, key), is_match)
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
    pub(super) fn put(&mut self, path: &OsStr, record: &FileRecord) -> Option<Slot> {
        let (folder, name) = split(to_bytes(path));
        let number = self.folders.number(folder);
        if let Some(slot) = number.and_then(|number| self.find((number, name))) {
            self.files.update(slot, record)?;
            return Some(slot);
        }
        let folder = self.folders.enter(folder, number)?;
        let Some(slot) = self.files.add(folder, name, record) else {
            self.folders.leave(folder);
            return None;
        };
        let (records, hash) = (&self.files, &self.hash);
        let of_name = name_hash(hash, (folder, name));
        self.by_name
            .insert(of_name, slot, name_hashes(records, hash));
        Some(slot)
    }

    /// Removes a file that is not the first holder of an ID any more.
    pub(super) fn remove(&mut self, slot: Slot) {
        let folder = self.files.folder(slot);
        let hash = name_hashes(&self.files, &self.hash)(&slot);
        self.by_name.remove(hash, |other| *other == slot);
        self.files.remove(slot);
        self.folders.leave(folder);
        if self.len() == 0 {
            // Returns the memory of a folder that was emptied.
            *self = Table::default();
        }
    }

    /// The first holder of an ID.
    pub(super) fn first(&self, id: ImageId) -> Option<Slot> {
        let is_match = |slot: &Slot| self.files.id(*slot) == Some(id);
        self.by_id.find(self.hash.of_number(id.0), is_match)
    }

    /// Makes a file the first holder of its ID, unless another file is one; `true` if it is one now.
    pub(super) fn hold_unless_held(&mut self, slot: Slot) -> bool {
        let Some(id) = self.files.id(slot) else {
            return false;
        };
        let (records, hash) = (&self.files, &self.hash);
        let of_id = hash.of_number(id.0);
        let is_match = |slot: &Slot| records.id(*slot) == Some(id);
        if self.by_id.find(of_id, is_match).is_some() {
            return false;
        }
        self.by_id
            .insert(of_id, slot, |slot| id_hash(records, hash, *slot));
        self.files.set_holder(slot);
        true
    }

    /// Makes a file a holder of its ID, and the first one if `first` is set.
    pub(super) fn hold(&mut self, slot: Slot, first: bool) {
        self.files.set_holder(slot);
        let Some(id) = self.files.id(slot).filter(|_| first) else {
            return;
        };
        let (records, hash) = (&self.files, &self.hash);
        let of_id = hash.of_number(id.0);
        let is_match = |slot: &Slot| records.id(*slot) == Some(id);
        if let Some(before) = self.by_id.find_mut(of_id, is_match) {
            *before = slot;
            return;
        }
        self.by_id
            .insert(of_id, slot, |slot| id_hash(records, hash, *slot));
    }

    /// Removes an ID that no file holds any more. Its first holder must not be removed before.
    pub(super) fn remove_id(&mut self, id: ImageId) {
        let files = &self.files;
        let is_match = |slot: &Slot| files.id(*slot) == Some(id);
        self.by_id.remove(self.hash.of_number(id.0), is_match);
    }
}

fn name_hash(hash: &SecretHash, (folder, name): (u32, &[u8])) -> u64 {
    hash.of(|hasher| {
        hasher.write_u32(folder);
        hasher.write(name);
    })
}

/// The hash of the name of each slot.
fn name_hashes<'a>(files: &'a PackedFiles, hash: &'a SecretHash) -> impl Fn(&Slot) -> u64 + 'a {
    let buffer = RefCell::new(Vec::new());
    move |slot| {
        let mut name = buffer.borrow_mut();
        name.clear();
        files.append_name(*slot, &mut name);
        name_hash(hash, (files.folder(*slot), &name))
    }
}

fn id_hash(files: &PackedFiles, hash: &SecretHash, slot: Slot) -> u64 {
    files.id(slot).map_or(0, |id| hash.of_number(id.0))
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
                ..Fingerprint::sample(id)
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
                let long = "long".repeat(usize::try_from(n).unwrap() * 40);
                let name = match n % 3 {
                    0 => format!("{long}{n}.png"),
                    folder => format!("{folder}/{long}/{n}.png"),
                };
                if add {
                    // The ID of a holder stays.
                    let id = model.get(&name).copied().unwrap_or(id * 64 + n);
                    let file = FileRecord {
                        incompressible_at: if cfg!(feature = "zstd") { 0 } else { 7 },
                        ..record(id)
                    };
                    let slot = table.put(OsStr::new(&name), &file).unwrap();
                    table.hold(slot, true);
                    #[cfg(feature = "zstd")]
                    table.set_incompressible(slot, 7);
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
                    prop_assert_eq!(&*table.path(slot), OsStr::new(name));
                    prop_assert_eq!(table.record(slot).unwrap(), record(*id));
                    prop_assert_eq!(table.first(ImageId(*id)), Some(slot));
                }
            }
        }
    }
}
