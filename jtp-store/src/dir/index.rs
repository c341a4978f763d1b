//! What the folder holds, as far as it is known: no I/O, no clock.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ffi::OsStr;
use std::sync::Arc;

use jtp_core::compress::is_eligible;
use jtp_core::{FileType, Flags, Image, ImageId};

use super::select;
use super::table::{Slot, Table};
use crate::fingerprint::Fingerprint;
use crate::known::{Contents, Record};

/// A file name in the folder.
pub(super) type Name = Arc<OsStr>;

/// A file whose contents are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileRecord {
    pub(super) id: ImageId,
    pub(super) fingerprint: Fingerprint,
    /// Its length: a file that no packet can carry has no record. // S14
    pub(super) length: u32,
    /// The type that its first bytes tell.
    pub(super) sniffed: Option<FileType>,
    /// See [`Contents::unworthy`].
    pub(super) unworthy: u16,
}

impl FileRecord {
    pub(super) fn new(fingerprint: Fingerprint, length: u32, contents: Contents) -> FileRecord {
        FileRecord {
            id: contents.id,
            fingerprint,
            length,
            sniffed: contents.sniffed,
            unworthy: contents.unworthy,
        }
    }

    /// What is kept for the next run.
    pub(super) fn known(&self) -> Record {
        let contents = Contents {
            id: self.id,
            sniffed: self.sniffed,
            unworthy: self.unworthy,
        };
        (self.fingerprint, contents)
    }
}

/// The compressed form of an image, made and checked. // S9
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "zstd"), allow(dead_code))]
pub(super) enum Form {
    /// In memory.
    Memory(Arc<[u8]>),
    /// In the cache: its length, and the checksum over it.
    Cached { length: u32, checksum: u64 },
}

impl Form {
    pub(super) fn length(&self) -> Option<u32> {
        match self {
            Form::Memory(bytes) => u32::try_from(bytes.len()).ok(),
            Form::Cached { length, .. } => Some(*length),
        }
    }

    #[cfg(feature = "zstd")]
    pub(super) fn whole(&self) -> Option<crate::forms::Whole> {
        match *self {
            Form::Memory(_) => None,
            Form::Cached { length, checksum } => Some(crate::forms::Whole { length, checksum }),
        }
    }
}

/// How far an image is with its compressed form; nothing is noted of one that has none and waits for none.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "zstd"), allow(dead_code))]
enum Pressing {
    Queued,
    /// There is no room for it now.
    NoRoom,
    Ready(Form),
}

/// What [`DirStore::open`](super::DirStore) has to know of an image.
#[derive(Debug, Clone)]
pub(super) struct Located {
    pub(super) name: Name,
    pub(super) record: FileRecord,
    pub(super) form: Option<Form>,
}

/// The files of an ID that has several, by listed name, then file name: the first one stands for all. // S4
type Holders = BTreeSet<(Box<str>, Name)>;

/// The files and images of a folder, and which images changed since that was last asked.
#[derive(Debug, Default)]
pub(super) struct Index {
    table: Table,
    several: HashMap<ImageId, Holders>,
    pressing: HashMap<ImageId, Pressing>,
    dirty: Vec<ImageId>,
    /// Images to be compressed, in order.
    queue: VecDeque<ImageId>,
    /// Bytes of all forms in memory.
    form_bytes: u64,
    /// At which threshold images are compressed, in ten-thousandths; 0 if they are not. // S9
    threshold: u16,
}

impl Index {
    pub(super) fn new(threshold: u16) -> Index {
        Index {
            threshold,
            ..Index::default()
        }
    }

    pub(super) fn file(&self, name: &OsStr) -> Option<FileRecord> {
        self.table.record(self.table.slot(name)?)
    }

    /// How many files there are.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// All that is known of contents, to be kept for the next run.
    pub(super) fn known(&self) -> impl Iterator<Item = Record> + '_ {
        let records = self
            .table
            .slots()
            .filter_map(|slot| self.table.record(slot));
        records.map(|record| record.known())
    }

    pub(super) fn slot(&self, name: &OsStr) -> Option<Slot> {
        self.table.slot(name)
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.table.slots()
    }

    /// All slots are below this.
    pub(super) fn slots_end(&self) -> usize {
        self.table.slots_end()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &OsStr> {
        self.table.slots().map(|slot| self.table.name(slot))
    }

    pub(super) fn holds(&self, id: ImageId) -> bool {
        self.table.first(id).is_some()
    }

    /// The files with that ID's bytes, in order.
    fn holders(&self, id: ImageId) -> impl Iterator<Item = (Name, FileRecord)> + '_ {
        let several = self.several.get(&id);
        let only = match several {
            None => self
                .table
                .first(id)
                .map(|slot| Name::from(self.table.name(slot))),
            Some(_) => None,
        };
        let names = several
            .into_iter()
            .flatten()
            .map(|(_, name)| Arc::clone(name));
        names
            .chain(only)
            .filter_map(|name| self.file(&name).map(|record| (name, record)))
    }

    /// The first file with that ID's bytes that passes `usable`.
    pub(super) fn holder(
        &self,
        id: ImageId,
        usable: impl Fn(&Name) -> bool,
    ) -> Option<(Name, FileRecord)> {
        self.holders(id).find(|(name, _)| usable(name))
    }

    /// The other names of a file, as far as they are known.
    pub(super) fn links(&self, name: &OsStr) -> Vec<Name> {
        let Some(record) = self.file(name) else {
            return Vec::new();
        };
        self.holders(record.id)
            .filter(|(other, there)| {
                **other != *name && there.fingerprint.is_same_file(&record.fingerprint)
            })
            .map(|(other, _)| other)
            .collect()
    }

    /// Makes room for so many more files.
    pub(super) fn expect(&mut self, files: usize) {
        self.table.expect(files);
    }

    /// Notes what a file holds that was read, and does not take it at its word yet: for the first index. `false`
    /// if it cannot be noted.
    pub(super) fn collect(&mut self, name: &OsStr, record: &FileRecord) -> bool {
        self.table.put(name, record).is_some()
    }

    /// Takes the files that were noted so at their word, but those whose ID another one has: of these the first by
    /// name is taken, and the others are given back, in the order of names. // S4
    pub(super) fn claim_collected(&mut self) -> Vec<Slot> {
        let mut slots: Vec<Slot> = self
            .table
            .slots()
            .filter(|slot| !self.table.is_holder(*slot))
            .collect();
        sort_by_name(&self.table, &mut slots);
        slots.retain(|slot| {
            let Some(record) = self.table.record(*slot) else {
                return false;
            };
            if self.table.first(record.id).is_some() {
                return true;
            }
            self.table.hold(*slot, true);
            self.queue_to_press(*slot, &record);
            self.dirty.push(record.id);
            false
        });
        slots.shrink_to_fit();
        slots
    }

    /// A file by its slot.
    pub(super) fn at(&self, slot: Slot) -> Option<(&OsStr, FileRecord)> {
        Some((self.table.name(slot), self.table.record(slot)?))
    }

    /// Whether a file is one of those that hold an ID.
    pub(super) fn is_holder(&self, name: &OsStr, id: ImageId) -> bool {
        let slot = self
            .table
            .slot(name)
            .filter(|slot| self.table.is_holder(*slot));
        slot.and_then(|slot| self.table.record(slot))
            .is_some_and(|record| record.id == id)
    }

    /// Notes what a file holds, in place of what it held. `false` if it cannot be noted.
    pub(super) fn attach(&mut self, name: &OsStr, record: &FileRecord) -> bool {
        if self.file(name).is_some_and(|old| old.id != record.id) {
            self.detach(name);
        }
        let Some(slot) = self.table.put(name, record) else {
            return false;
        };
        self.hold(slot, record.id);
        self.queue_to_press(slot, record);
        self.dirty.push(record.id);
        true
    }

    fn queue_to_press(&mut self, slot: Slot, record: &FileRecord) {
        let file_type = select::file_type(record.sniffed, self.table.name(slot));
        if self.threshold > record.unworthy
            && is_eligible(file_type, u64::from(record.length))
            && !self.pressing.contains_key(&record.id)
        {
            self.pressing.insert(record.id, Pressing::Queued);
            self.queue.push_back(record.id);
        }
    }

    fn hold(&mut self, slot: Slot, id: ImageId) {
        let Some(first) = self.table.first(id).filter(|first| *first != slot) else {
            self.table.hold(slot, true);
            return;
        };
        let key = |slot| sort_key(self.table.name(slot));
        let (key, first_key) = (key(slot), key(first));
        let holders = self.several.entry(id).or_default();
        if holders.is_empty() {
            holders.insert(first_key);
        }
        holders.insert(key.clone());
        let is_first = holders.first() == Some(&key);
        self.table.hold(slot, is_first);
    }

    /// Forgets a file. The ID if it was the last one with those bytes.
    pub(super) fn detach(&mut self, name: &OsStr) -> Option<ImageId> {
        let slot = self.table.slot(name)?;
        let id = self.table.record(slot)?.id;
        if !self.table.is_holder(slot) {
            self.table.remove(slot);
            return None;
        }
        self.dirty.push(id);
        let last = match self.several.get_mut(&id) {
            None => true,
            Some(holders) => {
                holders.remove(&sort_key(name));
                let next = holders.first().and_then(|(_, name)| self.table.slot(name));
                if holders.len() < 2 {
                    self.several.remove(&id);
                }
                if let Some(next) = next {
                    self.table.hold(next, true);
                }
                false
            }
        };
        if last {
            self.table.forget_id(id);
            if let Some(Pressing::Ready(form)) = self.pressing.remove(&id) {
                self.forget_form(&form);
            }
        }
        self.table.remove(slot);
        last.then_some(id)
    }

    fn forget_form(&mut self, form: &Form) {
        if let Form::Memory(bytes) = form {
            self.form_bytes = self.form_bytes.saturating_sub(byte_len(bytes));
        }
    }

    /// The image as the catalog should list it. // S6
    pub(super) fn listing(&self, id: ImageId) -> Option<(String, Image)> {
        let slot = self.table.first(id)?;
        let (name, record) = self.at(slot)?;
        let file_type = select::file_type(record.sniffed, name);
        let form = self.form(id, file_type, &record);
        let form_length = form.and_then(Form::length);
        let image = Image::new(
            id,
            Flags::new(file_type, form_length.is_some()),
            form_length.unwrap_or(record.length),
        );
        Some((select::listed_name(name)?, image))
    }

    fn form(&self, id: ImageId, file_type: FileType, record: &FileRecord) -> Option<&Form> {
        match self.pressing.get(&id) {
            // Another name's extension may have made the type one that travels raw.
            Some(Pressing::Ready(form)) if is_eligible(file_type, u64::from(record.length)) => {
                Some(form)
            }
            _ => None,
        }
    }

    /// Where an image is.
    pub(super) fn located(&self, id: ImageId) -> Option<Located> {
        let (name, record) = self.at(self.table.first(id)?)?;
        let form = match self.pressing.get(&id) {
            Some(Pressing::Ready(form)) => Some(form.clone()),
            _ => None,
        };
        Some(Located {
            name: Name::from(name),
            record,
            form,
        })
    }

    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The IDs that came, went or changed since the last call, each once, in the order they did so first.
    pub(super) fn take_dirty(&mut self) -> Vec<ImageId> {
        let dirty = std::mem::take(&mut self.dirty);
        let mut order: Vec<u32> = (0..u32::try_from(dirty.len()).unwrap_or(u32::MAX)).collect();
        let id_at = |at: u32| {
            usize::try_from(at)
                .ok()
                .and_then(|at| dirty.get(at).copied())
        };
        order.sort_by_key(|at| id_at(*at));
        order.dedup_by_key(|at| id_at(*at));
        order.sort_unstable();
        order.into_iter().filter_map(id_at).collect()
    }
}

/// Sorts files by listed name, then file name.
fn sort_by_name(table: &Table, slots: &mut [Slot]) {
    let bytes = |slot: Slot| table.name(slot).as_encoded_bytes();
    // Names often begin alike, and what follows tells most of them apart without a look at the whole.
    let first = slots.first().map_or(&[][..], |slot| bytes(*slot));
    let common = slots.iter().fold(first.len(), |common, slot| {
        let alike = first.iter().zip(bytes(*slot)).take(common);
        alike.take_while(|(left, right)| left == right).count()
    });
    let plain = slots.iter().all(|slot| bytes(*slot).is_ascii());
    let key = |slot: Slot| {
        let mut key = [0; 8];
        let rest = bytes(slot).get(common..).unwrap_or_default();
        for (key, byte) in key.iter_mut().zip(rest) {
            *key = *byte;
        }
        u64::from_be_bytes(key)
    };
    let mut keyed: Vec<(u64, Slot)> = slots.iter().map(|slot| (key(*slot), *slot)).collect();
    if plain {
        // Listed as they are.
        keyed.sort_unstable_by(|(left, a), (right, b)| {
            left.cmp(right).then_with(|| bytes(*a).cmp(bytes(*b)))
        });
    } else {
        keyed.sort_by_cached_key(|(_, slot)| sort_key(table.name(*slot)));
    }
    for (slot, (_, sorted)) in slots.iter_mut().zip(keyed) {
        *slot = sorted;
    }
}

/// The order of files of the same bytes. // S4
fn sort_key(name: &OsStr) -> (Box<str>, Name) {
    let listed = select::listed_name(name).unwrap_or_default();
    (listed.into_boxed_str(), Name::from(name))
}

#[cfg(feature = "zstd")]
impl Index {
    pub(super) fn form_bytes(&self) -> u64 {
        self.form_bytes
    }

    /// The next image to be compressed, and its first file.
    pub(super) fn next_to_press(&mut self) -> Option<(Name, FileRecord)> {
        while let Some(id) = self.queue.pop_front() {
            if matches!(self.pressing.get(&id), Some(Pressing::Queued)) {
                if let Some(found) = self.holder(id, |_| true) {
                    return Some(found);
                }
            }
        }
        None
    }

    /// Notes the form of an image.
    pub(super) fn pressed(&mut self, id: ImageId, form: Form) {
        if !self.holds(id) {
            return;
        }
        if let Form::Memory(bytes) = &form {
            self.form_bytes += byte_len(bytes);
        }
        if let Some(Pressing::Ready(old)) = self.pressing.insert(id, Pressing::Ready(form)) {
            self.forget_form(&old);
        }
        self.dirty.push(id);
    }

    /// Notes that an image is not worth compressing at this threshold; what is to be kept of that.
    pub(super) fn unworthy(&mut self, id: ImageId) -> Vec<Record> {
        self.pressing.remove(&id);
        let holders: Vec<_> = self.holders(id).collect();
        let mut known = Vec::new();
        for (name, mut record) in holders {
            if let Some(slot) = self.table.slot(&name) {
                self.table.set_unworthy(slot, self.threshold);
                record.unworthy = self.threshold;
                known.push(record.known());
            }
        }
        known
    }

    /// There is no room for the form of an image: it travels raw.
    pub(super) fn no_room(&mut self, id: ImageId) {
        if self.holds(id) {
            self.pressing.insert(id, Pressing::NoRoom);
        }
    }

    /// An image is to be tried once more.
    pub(super) fn queue_again(&mut self, id: ImageId) {
        if matches!(self.pressing.get(&id), Some(Pressing::Queued)) {
            self.queue.push_back(id);
        }
    }

    /// Compressing failed because the file changed: to be tried with what is found next.
    pub(super) fn not_pressed(&mut self, id: ImageId) {
        self.pressing.remove(&id);
    }

    /// The images that are listed with a form in the cache.
    pub(super) fn cached(&self) -> impl Iterator<Item = ImageId> + '_ {
        self.pressing
            .iter()
            .filter(|(_, pressing)| matches!(pressing, Pressing::Ready(Form::Cached { .. })))
            .map(|(id, _)| *id)
    }

    pub(super) fn lists_cached(&self, id: ImageId) -> bool {
        let pressing = self.pressing.get(&id);
        matches!(pressing, Some(Pressing::Ready(Form::Cached { .. })))
    }

    /// The form of an image is lost: it travels raw until there is one again.
    pub(super) fn lost_form(&mut self, id: ImageId) {
        if self.lists_cached(id) {
            self.pressing.insert(id, Pressing::Queued);
            self.queue.push_back(id);
            self.dirty.push(id);
        }
    }
}

fn byte_len(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
