//! The files and images of a folder as far as they are known. No I/O, no clock.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use jtp_core::compress::is_eligible;
use jtp_core::{FileType, Flags, Image, ImageId};

use super::left_out::{LeftOut, LeftOutReason};
use super::order::{holder_key, sort_by_name};
use super::record::{FileRecord, Located, Name, Variant};
use super::select::{self, Naming};
use super::table::{Slot, Table};
use crate::fingerprint::Fingerprint;
use crate::known::Record;

/// The progress of an image towards its encoded variant. An image that has none and waits for none has no entry.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "zstd"), allow(dead_code))]
enum VariantState {
    Queued,
    /// Memory or cache is full.
    NoRoom,
    Ready(Variant),
}

/// The files of an ID that several files share: those with an image extension first, then by listed name, then by file
/// name. The first one is listed. // S4
type Holders = BTreeSet<(bool, Box<str>, Name)>;

/// The files and images of a folder, and which images changed since the last [`Index::take_dirty`].
///
/// A file is first recorded; it becomes a holder of its ID once it is certain that no file of other bytes has
/// that ID. Only holders are listed. // S4
#[derive(Debug, Default)]
pub(super) struct Index {
    table: Table,
    shared_ids: HashMap<ImageId, Holders>,
    variants: HashMap<ImageId, VariantState>,
    dirty: Vec<ImageId>,
    /// The files that became holders by [`Index::claim_recorded`], in the order of names.
    claimed: Vec<Slot>,
    /// Images to be compressed, in order.
    queue: VecDeque<ImageId>,
    /// The bytes of all variants in memory.
    variant_bytes: u64,
    /// The compression threshold in ten-thousandths; 0 if nothing is compressed. // S9
    threshold: u16,
    naming: Naming,
}

impl Index {
    pub(super) fn new(threshold: u16, naming: Naming) -> Index {
        Index {
            threshold,
            naming,
            ..Index::default()
        }
    }

    pub(super) fn naming(&self) -> Naming {
        self.naming
    }

    pub(super) fn file(&self, name: &OsStr) -> Option<FileRecord> {
        self.table.record(self.table.slot(name)?)
    }

    /// The number of files.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// The settled contents of all files, to be kept for the next run.
    pub(super) fn known(&self) -> impl Iterator<Item = Record> + '_ {
        let records = self
            .table
            .slots()
            .filter_map(|slot| self.table.record(slot));
        records.filter_map(|record| record.known())
    }

    pub(super) fn slot(&self, name: &OsStr) -> Option<Slot> {
        self.table.slot(name)
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.table.slots()
    }

    /// An exclusive upper bound of all slots.
    pub(super) fn slots_end(&self) -> usize {
        self.table.slots_end()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = Name> + '_ {
        self.table.slots().map(|slot| self.table.path(slot))
    }

    /// Whether any file holds the ID.
    pub(super) fn contains(&self, id: ImageId) -> bool {
        self.table.first(id).is_some()
    }

    /// The holders of an ID, in order.
    fn holders(&self, id: ImageId) -> impl Iterator<Item = (Name, FileRecord)> + '_ {
        let several = self.shared_ids.get(&id);
        let only = match several {
            None => self.table.first(id).map(|slot| self.table.path(slot)),
            Some(_) => None,
        };
        let names = several
            .into_iter()
            .flatten()
            .map(|(_, _, name)| Arc::clone(name));
        names
            .chain(only)
            .filter_map(|name| self.file(&name).map(|record| (name, record)))
    }

    /// The first holder of an ID whose name passes `usable`.
    pub(super) fn holder(
        &self,
        id: ImageId,
        usable: impl Fn(&Name) -> bool,
    ) -> Option<(Name, FileRecord)> {
        self.holders(id).find(|(name, _)| usable(name))
    }

    /// The other known names (hard links) of a file.
    pub(super) fn links(&self, name: &OsStr) -> Vec<Name> {
        let Some(record) = self.file(name) else {
            return Vec::new();
        };
        self.holders(record.id)
            .filter(|(other, found)| {
                **other != *name && found.fingerprint.is_same_file(&record.fingerprint)
            })
            .map(|(other, _)| other)
            .collect()
    }

    /// Counts the files that are not listed because another one with the same bytes is.
    pub(super) fn count_duplicates_in(&self, left_out: &mut LeftOut) {
        for holders in self.shared_ids.values() {
            for (_, _, name) in holders.iter().skip(1) {
                left_out.add(LeftOutReason::Duplicate, name);
            }
        }
    }

    /// Reserves memory for more files, to avoid repeated growth.
    pub(super) fn reserve(&mut self, files: usize) {
        self.table.reserve(files);
    }

    /// Records a file without making it a holder; for the initial index. `false` if the index is full.
    pub(super) fn record(&mut self, name: &OsStr, record: &FileRecord) -> bool {
        self.table.put(name, record).is_some()
    }

    /// Makes each recorded file a holder if it is the first by name with its ID. Returns the others, sorted by
    /// name: their bytes have to be compared. // S4
    pub(super) fn claim_recorded(&mut self) -> Vec<Slot> {
        self.table.shrink_to_fit();
        let slots = self
            .table
            .slots()
            .filter(|slot| !self.table.is_holder(*slot))
            .collect();
        let mut slots = sort_by_name(&self.table, slots, self.naming);
        self.claimed.reserve_exact(slots.len());
        let mut path = OsString::new();
        slots.retain(|slot| {
            let Some(record) = self.table.record(*slot) else {
                return false;
            };
            if !self.table.hold_unless_held(*slot) {
                return true;
            }
            self.queue_compression(*slot, &record, &mut path);
            self.claimed.push(*slot);
            false
        });
        slots.shrink_to_fit();
        slots
    }

    pub(super) fn at(&self, slot: Slot) -> Option<(Name, FileRecord)> {
        Some((self.table.path(slot), self.table.record(slot)?))
    }

    pub(super) fn record_at(&self, slot: Slot) -> Option<FileRecord> {
        self.table.record(slot)
    }

    pub(super) fn is_holder(&self, name: &OsStr, id: ImageId) -> bool {
        let slot = self
            .table
            .slot(name)
            .filter(|slot| self.table.is_holder(*slot));
        slot.and_then(|slot| self.table.record(slot))
            .is_some_and(|record| record.id == id)
    }

    /// Makes a file a holder of its ID; replaces what was known of it. `false` if the index is full.
    pub(super) fn attach(&mut self, name: &OsStr, record: &FileRecord) -> bool {
        if self.file(name).is_some_and(|old| old.id != record.id) {
            self.detach(name);
        }
        let Some(slot) = self.table.put(name, record) else {
            return false;
        };
        self.hold(slot, record.id);
        self.queue_compression(slot, record, &mut OsString::new());
        self.dirty.push(record.id);
        true
    }

    /// `buffer`: for the path.
    fn queue_compression(&mut self, slot: Slot, record: &FileRecord, buffer: &mut OsString) {
        let by_name = || select::file_type(None, self.table.path_in(slot, buffer));
        let file_type = record.sniffed.unwrap_or_else(by_name);
        if self.threshold > record.incompressible_at
            && is_eligible(file_type, u64::from(record.length))
            && !self.variants.contains_key(&record.id)
        {
            self.variants.insert(record.id, VariantState::Queued);
            self.queue.push_back(record.id);
        }
    }

    fn hold(&mut self, slot: Slot, id: ImageId) {
        let Some(first) = self.table.first(id).filter(|first| *first != slot) else {
            self.table.hold(slot, true);
            return;
        };
        let naming = self.naming;
        let key = |slot| holder_key(&self.table.path(slot), naming);
        let (key, first_key) = (key(slot), key(first));
        let holders = self.shared_ids.entry(id).or_default();
        if holders.is_empty() {
            holders.insert(first_key);
        }
        holders.insert(key.clone());
        let is_first = holders.first() == Some(&key);
        self.table.hold(slot, is_first);
    }

    /// Removes a file. Returns its ID if no other file holds that.
    pub(super) fn detach(&mut self, name: &OsStr) -> Option<ImageId> {
        let slot = self.table.slot(name)?;
        let id = self.table.record(slot)?.id;
        if !self.table.is_holder(slot) {
            self.table.remove(slot);
            return None;
        }
        self.dirty.push(id);
        let last = match self.shared_ids.get_mut(&id) {
            None => true,
            Some(holders) => {
                holders.remove(&holder_key(name, self.naming));
                let next = holders
                    .first()
                    .and_then(|(_, _, name)| self.table.slot(name));
                if holders.len() < 2 {
                    self.shared_ids.remove(&id);
                }
                if let Some(next) = next {
                    self.table.hold(next, true);
                }
                false
            }
        };
        if last {
            self.table.remove_id(id);
            if let Some(VariantState::Ready(variant)) = self.variants.remove(&id) {
                self.release(&variant);
            }
        }
        self.table.remove(slot);
        last.then_some(id)
    }

    fn release(&mut self, variant: &Variant) {
        if let Variant::Memory(bytes) = variant {
            self.variant_bytes = self.variant_bytes.saturating_sub(byte_len(bytes));
        }
    }

    /// The catalog entry of an image: name, flags and length. `buffer`: for the path. // S6
    pub(super) fn listing(&self, id: ImageId, buffer: &mut OsString) -> Option<(String, Image)> {
        self.listing_at(self.table.first(id)?, buffer)
    }

    /// The same for the file that holds the ID. `None` if it holds none.
    pub(super) fn listing_at(&self, slot: Slot, buffer: &mut OsString) -> Option<(String, Image)> {
        let record = self.table.record(slot);
        let record = record.filter(|_| self.table.is_holder(slot))?;
        let id = record.id;
        let path = self.table.path_in(slot, buffer);
        let file_type = select::file_type(record.sniffed, path);
        let variant = self.variant(id, file_type, &record);
        let variant_length = variant.and_then(Variant::length);
        let image = Image::new(
            id,
            Flags::new(file_type, variant_length.is_some()),
            variant_length.unwrap_or(record.length),
        );
        Some((self.naming.listed(path)?, image))
    }

    fn variant(&self, id: ImageId, file_type: FileType, record: &FileRecord) -> Option<&Variant> {
        match self.variants.get(&id) {
            // After a rename the extension may give a type that is sent raw.
            Some(VariantState::Ready(variant))
                if is_eligible(file_type, u64::from(record.length)) =>
            {
                Some(variant)
            }
            _ => None,
        }
    }

    pub(super) fn located(&self, id: ImageId) -> Option<Located> {
        let (name, record) = self.at(self.table.first(id)?)?;
        let variant = match self.variants.get(&id) {
            Some(VariantState::Ready(variant)) => Some(variant.clone()),
            _ => None,
        };
        Some(Located {
            name,
            record,
            variant,
        })
    }

    /// The fingerprint of an image's file, and its encoded variant. Cheaper than [`Index::located`].
    pub(super) fn source(&self, id: ImageId) -> Option<(Fingerprint, Option<&Variant>)> {
        let record = self.table.record(self.table.first(id)?)?;
        let variant = match self.variants.get(&id) {
            Some(VariantState::Ready(variant)) => Some(variant),
            _ => None,
        };
        Some((record.fingerprint, variant))
    }

    /// The files that became holders of their IDs by [`Index::claim_recorded`], in the order of names. Files that changed
    /// since are also in [`Index::take_dirty`].
    pub(super) fn take_claimed(&mut self) -> Vec<Slot> {
        std::mem::take(&mut self.claimed)
    }

    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The IDs that were added, removed or changed since the last call, in the order of their changes.
    pub(super) fn take_dirty(&mut self) -> Vec<ImageId> {
        std::mem::take(&mut self.dirty)
    }
}

#[cfg(feature = "zstd")]
impl Index {
    /// The bytes of all variants in memory.
    pub(super) fn variant_bytes(&self) -> u64 {
        self.variant_bytes
    }

    /// Takes the next image to be compressed from the queue; its first file.
    pub(super) fn next_to_compress(&mut self) -> Option<(Name, FileRecord)> {
        while let Some(id) = self.queue.pop_front() {
            if matches!(self.variants.get(&id), Some(VariantState::Queued)) {
                if let Some(found) = self.holder(id, |_| true) {
                    return Some(found);
                }
            }
        }
        None
    }

    pub(super) fn set_variant(&mut self, id: ImageId, variant: Variant) {
        if !self.contains(id) {
            return;
        }
        if let Variant::Memory(bytes) = &variant {
            self.variant_bytes += byte_len(bytes);
        }
        if let Some(VariantState::Ready(old)) =
            self.variants.insert(id, VariantState::Ready(variant))
        {
            self.release(&old);
        }
        self.dirty.push(id);
    }

    /// Marks an image as not worth compressing at the current threshold. Returns the changed records, to be kept
    /// for the next run.
    pub(super) fn set_incompressible(&mut self, id: ImageId) -> Vec<Record> {
        self.variants.remove(&id);
        let holders: Vec<_> = self.holders(id).collect();
        let mut known = Vec::new();
        for (name, mut record) in holders {
            if let Some(slot) = self.table.slot(&name) {
                self.table.set_incompressible(slot, self.threshold);
                record.incompressible_at = self.threshold;
                known.extend(record.known());
            }
        }
        known
    }

    /// There is no room for the variant of an image, which is therefore sent raw.
    pub(super) fn set_no_room(&mut self, id: ImageId) {
        if self.contains(id) {
            self.variants.insert(id, VariantState::NoRoom);
        }
    }

    /// Queues an image again after a failed attempt.
    pub(super) fn retry_compression(&mut self, id: ImageId) {
        if matches!(self.variants.get(&id), Some(VariantState::Queued)) {
            self.queue.push_back(id);
        }
    }

    /// Compressing failed because the file changed. The next check of the file queues it again.
    pub(super) fn clear_variant_state(&mut self, id: ImageId) {
        self.variants.remove(&id);
    }

    /// The images that are listed with a variant in the cache.
    pub(super) fn with_cached_variant(&self) -> impl Iterator<Item = ImageId> + '_ {
        self.variants
            .iter()
            .filter(|(_, state)| matches!(state, VariantState::Ready(Variant::Cached { .. })))
            .map(|(id, _)| *id)
    }

    pub(super) fn has_cached_variant(&self, id: ImageId) -> bool {
        let state = self.variants.get(&id);
        matches!(state, Some(VariantState::Ready(Variant::Cached { .. })))
    }

    /// The cached variant of an image is lost: the image is sent raw until there is a new one.
    pub(super) fn remove_cached_variant(&mut self, id: ImageId) {
        if self.has_cached_variant(id) {
            self.variants.insert(id, VariantState::Queued);
            self.queue.push_back(id);
            self.dirty.push(id);
        }
    }
}

fn byte_len(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
