//! The files of a folder in as little memory as they take: 48 bytes each, its name, and some 16 bytes of the two
//! tables that find it by name and by ID.

use std::collections::hash_map::RandomState;
use std::ffi::OsStr;
use std::hash::BuildHasher;

use jtp_core::{FileType, ImageId};

use super::record::FileRecord;
use crate::fingerprint::Fingerprint;

/// Where a file is in the table.
pub(super) type Slot = u32;

/// No slot.
const NONE: Slot = Slot::MAX;

/// A file whose contents are known.
#[derive(Debug, Clone, Copy)]
struct Packed {
    inode: u64,
    modified: i64,
    changed: i64,
    id: ImageId,
    length: u32,
    /// Where its name begins.
    name: u32,
    name_len: u16,
    device: u16,
    incompressible_at: u16,
    sniffed: u8,
    state: State,
}

/// Whether a slot is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Vacant,
    /// It was read, and its ID is not claimed yet.
    Read,
    /// It is one of the files of its ID.
    Holder,
}

const NOT_SNIFFED: u8 = 0xff;

/// A hash table of slots alone: what they are the slots of is asked each time.
#[derive(Debug, Default)]
struct Slots {
    /// A power of two, never full.
    places: Vec<Slot>,
    len: usize,
}

impl Slots {
    fn start(&self, hash: u64) -> usize {
        let mask = self.places.len().wrapping_sub(1);
        // The lower bits are as good as any.
        usize::try_from(hash & u64::from(u32::MAX)).unwrap_or(0) & mask
    }

    fn find(&self, hash: u64, is_it: impl Fn(Slot) -> bool) -> Option<usize> {
        let mask = self.places.len().checked_sub(1)?;
        let mut at = self.start(hash);
        loop {
            match *self.places.get(at)? {
                NONE => return None,
                slot if is_it(slot) => return Some(at),
                _ => at = (at + 1) & mask,
            }
        }
    }

    fn insert(&mut self, hash: u64, slot: Slot, hash_of: impl Fn(Slot) -> u64) {
        self.reserve(1, hash_of);
        self.put(hash, slot);
        self.len += 1;
    }

    /// Makes room for so many more.
    fn reserve(&mut self, more: usize, hash_of: impl Fn(Slot) -> u64) {
        // Three quarters at most are in use.
        let places = ((self.len + more) * 4)
            .div_ceil(3)
            .max(8)
            .next_power_of_two();
        if places > self.places.len() {
            let old = std::mem::replace(&mut self.places, vec![NONE; places]);
            for slot in old.into_iter().filter(|slot| *slot != NONE) {
                self.put(hash_of(slot), slot);
            }
        }
    }

    fn put(&mut self, hash: u64, slot: Slot) {
        let mask = self.places.len().wrapping_sub(1);
        let mut at = self.start(hash);
        while let Some(place) = self.places.get_mut(at) {
            if *place == NONE {
                *place = slot;
                return;
            }
            at = (at + 1) & mask;
        }
    }

    fn remove(&mut self, at: usize, hash_of: impl Fn(Slot) -> u64) {
        let mask = self.places.len().wrapping_sub(1);
        self.len -= 1;
        // What stands behind it and belongs before it moves up, so that no gap ends a search too early.
        let (mut gap, mut next) = (at, (at + 1) & mask);
        loop {
            let slot = self.places.get(next).copied().unwrap_or(NONE);
            if let Some(place) = self.places.get_mut(gap) {
                *place = NONE;
            }
            if slot == NONE {
                return;
            }
            let home = self.start(hash_of(slot));
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(gap) & mask) {
                if let Some(place) = self.places.get_mut(gap) {
                    *place = slot;
                }
                gap = next;
            }
            next = (next + 1) & mask;
        }
    }
}

/// The files, and where each name and each ID is.
#[derive(Debug, Default)]
pub(super) struct Table {
    files: Vec<Packed>,
    vacant: Vec<Slot>,
    /// All names, one after another, with gaps where some are gone.
    names: Vec<u8>,
    gaps: usize,
    devices: Vec<u64>,
    by_name: Slots,
    /// The first file of each ID.
    by_id: Slots,
    hasher: RandomState,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.by_name.len
    }

    /// Makes room in the tables for so many more files, each with another ID: better at once than again and again.
    pub(super) fn reserve(&mut self, files: usize) {
        let mut by_name = std::mem::take(&mut self.by_name);
        by_name.reserve(files, |slot| self.name_hash(self.name_bytes(slot)));
        self.by_name = by_name;
        let mut by_id = std::mem::take(&mut self.by_id);
        by_id.reserve(files, |slot| self.id_hash(slot));
        self.by_id = by_id;
    }

    fn packed(&self, slot: Slot) -> Option<&Packed> {
        self.files.get(usize::try_from(slot).ok()?)
    }

    fn packed_mut(&mut self, slot: Slot) -> Option<&mut Packed> {
        self.files.get_mut(usize::try_from(slot).ok()?)
    }

    fn name_bytes(&self, slot: Slot) -> &[u8] {
        let bytes = self.packed(slot).and_then(|file| {
            let at = usize::try_from(file.name).ok()?;
            self.names.get(at..at + usize::from(file.name_len))
        });
        bytes.unwrap_or_default()
    }

    pub(super) fn name(&self, slot: Slot) -> &OsStr {
        from_bytes(self.name_bytes(slot))
    }

    fn name_hash(&self, name: &[u8]) -> u64 {
        self.hasher.hash_one(name)
    }

    pub(super) fn slot(&self, name: &OsStr) -> Option<Slot> {
        let name = to_bytes(name);
        let at = self
            .by_name
            .find(self.name_hash(name), |slot| self.name_bytes(slot) == name)?;
        self.by_name.places.get(at).copied()
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        (0..)
            .zip(&self.files)
            .filter_map(|(slot, file)| (file.state != State::Vacant).then_some(slot))
    }

    pub(super) fn slots_end(&self) -> usize {
        self.files.len()
    }

    pub(super) fn record(&self, slot: Slot) -> Option<FileRecord> {
        let file = self.packed(slot)?;
        let device = self.devices.get(usize::from(file.device)).copied();
        Some(FileRecord {
            id: file.id,
            fingerprint: Fingerprint {
                device: device.unwrap_or(0),
                inode: file.inode,
                size: u64::from(file.length),
                modified: file.modified,
                changed: file.changed,
            },
            length: file.length,
            sniffed: (file.sniffed != NOT_SNIFFED).then(|| FileType::from_code(file.sniffed)),
            incompressible_at: file.incompressible_at,
        })
    }

    pub(super) fn is_holder(&self, slot: Slot) -> bool {
        self.packed(slot)
            .is_some_and(|file| file.state == State::Holder)
    }

    #[cfg(feature = "zstd")]
    pub(super) fn set_incompressible(&mut self, slot: Slot, threshold: u16) {
        if let Some(file) = self.packed_mut(slot) {
            file.incompressible_at = threshold;
        }
    }

    /// Notes what a file holds; its slot. A holder's ID is not to be changed by this. `None` if there is no room
    /// for the name: that takes 4 GiB of them.
    pub(super) fn put(&mut self, name: &OsStr, record: &FileRecord) -> Option<Slot> {
        let device = self.device(record.fingerprint.device)?;
        let packed = |name: u32, name_len: u16, state: State| Packed {
            inode: record.fingerprint.inode,
            modified: record.fingerprint.modified,
            changed: record.fingerprint.changed,
            id: record.id,
            length: record.length,
            name,
            name_len,
            device,
            incompressible_at: record.incompressible_at,
            sniffed: record.sniffed.map_or(NOT_SNIFFED, FileType::code),
            state,
        };
        if let Some(slot) = self.slot(name) {
            let file = self.packed_mut(slot)?;
            *file = packed(file.name, file.name_len, file.state);
            return Some(slot);
        }
        let name = to_bytes(name);
        let name_len = u16::try_from(name.len()).ok()?;
        let at = self.add_name(name)?;
        let file = packed(at, name_len, State::Read);
        let slot = match self.vacant.pop() {
            Some(slot) => {
                *self.packed_mut(slot)? = file;
                slot
            }
            None => {
                let slot = Slot::try_from(self.files.len())
                    .ok()
                    .filter(|s| *s != NONE)?;
                reserve(&mut self.files, 1);
                self.files.push(file);
                slot
            }
        };
        let hash = self.name_hash(name);
        let mut by_name = std::mem::take(&mut self.by_name);
        by_name.insert(hash, slot, |slot| self.name_hash(self.name_bytes(slot)));
        self.by_name = by_name;
        Some(slot)
    }

    /// Forgets a file that holds no ID any more.
    pub(super) fn remove(&mut self, slot: Slot) {
        let name = self.name_bytes(slot);
        let (hash, len) = (self.name_hash(name), name.len());
        let mut by_name = std::mem::take(&mut self.by_name);
        if let Some(at) = by_name.find(hash, |other| other == slot) {
            by_name.remove(at, |slot| self.name_hash(self.name_bytes(slot)));
        }
        self.by_name = by_name;
        if let Some(file) = self.packed_mut(slot) {
            file.state = State::Vacant;
            file.name_len = 0;
        }
        self.gaps += len;
        self.vacant.push(slot);
        if self.len() == 0 {
            // What is left is gaps.
            (self.files, self.vacant, self.names, self.gaps) = Default::default();
            self.by_name = Slots::default();
            self.by_id = Slots::default();
        } else if self.gaps > self.names.len() / 2 + 64 * 1024 {
            self.close_gaps();
        }
    }

    /// The first file of an ID.
    pub(super) fn first(&self, id: ImageId) -> Option<Slot> {
        let at = self.place_of_id(id)?;
        self.by_id.places.get(at).copied()
    }

    fn place_of_id(&self, id: ImageId) -> Option<usize> {
        let is_it = |slot| self.packed(slot).is_some_and(|file| file.id == id);
        self.by_id.find(self.hasher.hash_one(id), is_it)
    }

    /// Makes a file one of those that hold its ID, and the first of them if so wanted.
    pub(super) fn hold(&mut self, slot: Slot, first: bool) {
        let Some(file) = self.packed_mut(slot) else {
            return;
        };
        file.state = State::Holder;
        let id = file.id;
        if !first {
            return;
        }
        if let Some(at) = self.place_of_id(id) {
            if let Some(place) = self.by_id.places.get_mut(at) {
                *place = slot;
            }
            return;
        }
        let hash = self.hasher.hash_one(id);
        let mut by_id = std::mem::take(&mut self.by_id);
        by_id.insert(hash, slot, |slot| self.id_hash(slot));
        self.by_id = by_id;
    }

    /// Nothing holds an ID any more.
    pub(super) fn remove_id(&mut self, id: ImageId) {
        if let Some(at) = self.place_of_id(id) {
            let mut by_id = std::mem::take(&mut self.by_id);
            by_id.remove(at, |slot| self.id_hash(slot));
            self.by_id = by_id;
        }
    }

    fn id_hash(&self, slot: Slot) -> u64 {
        let id = self.packed(slot).map(|file| file.id);
        id.map_or(0, |id| self.hasher.hash_one(id))
    }

    fn device(&mut self, device: u64) -> Option<u16> {
        let known = self.devices.iter().position(|known| *known == device);
        let index = known.unwrap_or_else(|| {
            self.devices.push(device);
            self.devices.len() - 1
        });
        u16::try_from(index).ok()
    }

    fn add_name(&mut self, name: &[u8]) -> Option<u32> {
        if u32::try_from(self.names.len() + name.len()).is_err() {
            self.close_gaps();
        }
        let at = u32::try_from(self.names.len()).ok()?;
        u32::try_from(self.names.len() + name.len()).ok()?;
        reserve(&mut self.names, name.len());
        self.names.extend_from_slice(name);
        Some(at)
    }

    fn close_gaps(&mut self) {
        let mut names = Vec::with_capacity(self.names.len() - self.gaps);
        for file in self
            .files
            .iter_mut()
            .filter(|file| file.state != State::Vacant)
        {
            let at = usize::try_from(file.name).unwrap_or(0);
            let name = self.names.get(at..at + usize::from(file.name_len));
            // Not longer than before, so it fits.
            file.name = u32::try_from(names.len()).unwrap_or(0);
            names.extend_from_slice(name.unwrap_or_default());
        }
        self.names = names;
        self.gaps = 0;
    }
}

/// Room for more by an eighth, not by as much again.
fn reserve<T>(vec: &mut Vec<T>, more: usize) {
    if vec.capacity() - vec.len() < more {
        vec.reserve_exact(more + vec.len() / 8 + 64);
    }
}

#[cfg(unix)]
fn to_bytes(name: &OsStr) -> &[u8] {
    std::os::unix::ffi::OsStrExt::as_bytes(name)
}

#[cfg(unix)]
fn from_bytes(name: &[u8]) -> &OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(name)
}

/// Names that are no Unicode are left out where that is not to be had.
#[cfg(not(unix))]
fn to_bytes(name: &OsStr) -> &[u8] {
    name.to_str().map_or(&[], str::as_bytes)
}

#[cfg(not(unix))]
fn from_bytes(name: &[u8]) -> &OsStr {
    OsStr::new(std::str::from_utf8(name).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn record(id: u64) -> FileRecord {
        FileRecord {
            id: ImageId(id),
            fingerprint: Fingerprint {
                device: id % 3,
                inode: id,
                size: 5,
                modified: -1,
                changed: i64::MAX,
            },
            length: 5,
            sniffed: (id % 2 == 0).then_some(FileType::Gif),
            incompressible_at: 7,
        }
    }

    #[test]
    fn a_file_takes_48_bytes() {
        assert_eq!(size_of::<Packed>(), 48);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Against a map from name to record.
        #[test]
        fn a_table_does_what_a_map_does(
            steps in prop::collection::vec((0..40u64, any::<bool>(), 0..1000u64), 0..150)
        ) {
            let mut table = Table::default();
            let mut model = BTreeMap::new();
            for (n, comes, id) in steps {
                let name = format!("{}{n}.png", "long".repeat(usize::try_from(n).unwrap() * 40));
                if comes {
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
