//! The records of files and their names, packed: some 25 bytes for each, if files of one folder have similar names and
//! were written in a row.

use jtp_core::{FileType, ImageId};
use std::ffi::{OsStr, OsString};

use super::page::{OpenPage, PAGE, Page, Row};
use super::record::FileRecord;
use crate::fingerprint::Fingerprint;

/// The position of a file in [`PackedFiles`].
pub(super) type Slot = u32;

/// The small parts of a record: from the lowest bits on whether the record is not [settled](FileRecord::settled) (1), the
/// type (4), the threshold at which it is incompressible (14), and the number of the file system (11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rest(u32);

const UNSETTLED: u32 = 1;
const TYPE_AT: u32 = 1;
const THRESHOLD_AT: u32 = 5;
const FILE_SYSTEM_AT: u32 = 19;

/// More than each threshold, which is at most 10,000.
const MAX_THRESHOLD: u16 = (1 << 14) - 1;

/// The most file systems that the files of one folder are on.
const MAX_FILE_SYSTEMS: u32 = 1 << 11;

/// Stands for a type that the first bytes do not show.
const NOT_SNIFFED: u32 = 8;

impl Rest {
    fn of(record: &FileRecord, file_system: u32) -> Rest {
        let settled = if record.settled { 0 } else { UNSETTLED };
        let sniffed = record.sniffed.map(|found| u32::from(found.code()));
        let threshold = u32::from(record.incompressible_at.min(MAX_THRESHOLD));
        Rest(
            settled
                | sniffed.unwrap_or(NOT_SNIFFED) << TYPE_AT
                | threshold << THRESHOLD_AT
                | file_system << FILE_SYSTEM_AT,
        )
    }

    fn is_settled(self) -> bool {
        self.0 & UNSETTLED == 0
    }

    fn sniffed(self) -> Option<FileType> {
        let code = self.0 >> TYPE_AT & 0xf;
        let code = u8::try_from(code).ok().filter(|_| code != NOT_SNIFFED);
        code.map(FileType::from_code)
    }

    fn threshold(self) -> u16 {
        u16::try_from(self.0 >> THRESHOLD_AT & u32::from(MAX_THRESHOLD)).unwrap_or(0)
    }

    #[cfg(feature = "zstd")]
    fn with_threshold(self, threshold: u16) -> Rest {
        let others = self.0 & !(u32::from(MAX_THRESHOLD) << THRESHOLD_AT);
        Rest(others | u32::from(threshold.min(MAX_THRESHOLD)) << THRESHOLD_AT)
    }

    fn file_system(self) -> usize {
        usize::try_from(self.0 >> FILE_SYSTEM_AT).unwrap_or(usize::MAX)
    }
}

/// Records and names by slot.
#[derive(Debug, Default)]
pub(super) struct PackedFiles {
    /// Full pages. One whose files were all removed is empty.
    pages: Vec<Page>,
    /// The files after those of the pages.
    last: OpenPage,
    /// The states of the files of each page, and of the last files.
    states: Vec<States>,
    vacant: Vec<Slot>,
    file_systems: Vec<u64>,
}

/// The states of the files of a page, a bit for each. They change more often than records.
#[derive(Debug, Clone, Copy, Default)]
struct States {
    used: u64,
    /// The files that are holders of their IDs. The others were read, and do not hold their IDs yet.
    holders: u64,
}

/// The page of a slot, and the place in it.
fn place(slot: Slot) -> (usize, usize) {
    let slot = usize::try_from(slot).unwrap_or(usize::MAX);
    (slot / PAGE, slot % PAGE)
}

impl PackedFiles {
    fn row(&self, slot: Slot) -> Option<Row> {
        let (page, at) = place(slot);
        match self.pages.get(page) {
            Some(page) => page.row(at),
            None if page == self.pages.len() => self.last.row(at),
            None => None,
        }
    }

    fn states(&self, slot: Slot) -> (States, u64) {
        let (page, at) = place(slot);
        (self.states.get(page).copied().unwrap_or_default(), 1 << at)
    }

    /// The states of a slot's page, and the bit of the slot.
    fn states_mut(&mut self, slot: Slot) -> Option<(&mut States, u64)> {
        let (page, at) = place(slot);
        Some((self.states.get_mut(page)?, 1 << at))
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        let bits = self.states.iter().flat_map(|states| {
            let used = states.used;
            (0..PAGE).map(move |at| used >> at & 1 == 1)
        });
        (0..)
            .zip(bits)
            .filter_map(|(slot, used)| used.then_some(slot))
    }

    /// An exclusive upper bound of all slots.
    pub(super) fn slots_end(&self) -> usize {
        self.pages.len() * PAGE + self.last.len()
    }

    /// The number of the file's folder.
    pub(super) fn folder(&self, slot: Slot) -> u32 {
        let (page, at) = place(slot);
        let folder = match self.pages.get(page) {
            Some(page) => page.folder(at),
            None => self.last.row(at).map(|row| row.folder),
        };
        folder.unwrap_or_default()
    }

    /// Appends the file's name in its folder.
    pub(super) fn append_name(&self, slot: Slot, to: &mut Vec<u8>) {
        let (page, at) = place(slot);
        match self.pages.get(page) {
            Some(page) => page.append_name(at, to),
            None => to.extend_from_slice(self.last.name(at)),
        }
    }

    /// Whether this is the file's name in this folder.
    pub(super) fn is_named(&self, slot: Slot, (folder, name): (u32, &[u8])) -> bool {
        let (page, at) = place(slot);
        match self.pages.get(page) {
            Some(page) => page.has_name(at, name) && page.folder(at) == Some(folder),
            None => self.last.name(at) == name && self.folder(slot) == folder,
        }
    }

    pub(super) fn id(&self, slot: Slot) -> Option<ImageId> {
        let (page, at) = place(slot);
        match self.pages.get(page) {
            Some(page) => page.id(at),
            None => self.last.row(at).map(|row| row.id),
        }
    }

    pub(super) fn is_holder(&self, slot: Slot) -> bool {
        let (states, bit) = self.states(slot);
        states.holders & bit != 0
    }

    pub(super) fn set_holder(&mut self, slot: Slot) {
        if let Some((states, bit)) = self.states_mut(slot) {
            states.holders |= bit;
        }
    }

    #[cfg(feature = "zstd")]
    pub(super) fn set_incompressible(&mut self, slot: Slot, threshold: u16) {
        if let Some(row) = self.row(slot) {
            let rest = Rest(row.rest).with_threshold(threshold).0;
            self.replace(slot, None, Row { rest, ..row });
        }
    }

    pub(super) fn record(&self, slot: Slot) -> Option<FileRecord> {
        let row = self.row(slot)?;
        let rest = Rest(row.rest);
        let file_system = self.file_systems.get(rest.file_system());
        Some(FileRecord {
            id: row.id,
            fingerprint: Fingerprint {
                file_system: file_system.copied().unwrap_or(0),
                file: row.file,
                size: u64::from(row.length),
                modified: row.modified,
                changed: row.changed,
            },
            length: row.length,
            sniffed: rest.sniffed(),
            incompressible_at: rest.threshold(),
            settled: rest.is_settled(),
        })
    }

    /// Reserves memory for more files.
    pub(super) fn reserve(&mut self, files: usize) {
        self.pages.reserve_exact(files / PAGE + 1);
        self.states.reserve_exact(files / PAGE + 1);
    }

    /// Returns memory that is reserved and not used.
    pub(super) fn shrink_to_fit(&mut self) {
        self.pages.shrink_to_fit();
        self.states.shrink_to_fit();
    }

    /// Adds a file. `None` if there is no room: there are 2,048 file systems.
    pub(super) fn add(&mut self, folder: u32, name: &[u8], record: &FileRecord) -> Option<Slot> {
        u16::try_from(name.len()).ok()?;
        let row = self.pack(folder, record)?;
        let slot = match self.vacant.pop() {
            Some(slot) => {
                self.replace(slot, Some(name), row);
                slot
            }
            None => {
                let slot = Slot::try_from(self.slots_end()).ok()?;
                self.push(name, row);
                slot
            }
        };
        let (states, bit) = self.states_mut(slot)?;
        states.used |= bit;
        Some(slot)
    }

    fn push(&mut self, name: &[u8], row: Row) {
        if self.last.len() == 0 {
            reserve(&mut self.states);
            self.states.push(States::default());
        }
        self.last.push(name, row);
        if self.last.len() == PAGE {
            reserve(&mut self.pages);
            self.pages.push(Page::pack(&self.last));
            self.last.clear();
        }
    }

    /// Replaces the record of a file; its name and state stay. `None` if there are 2,048 file systems.
    pub(super) fn update(&mut self, slot: Slot, record: &FileRecord) -> Option<()> {
        let row = self.pack(self.folder(slot), record)?;
        self.replace(slot, None, row);
        Some(())
    }

    /// Replaces a row, and the name if there is a new one.
    fn replace(&mut self, slot: Slot, name: Option<&[u8]>, row: Row) {
        let (page, at) = place(slot);
        let Some(page) = self.pages.get_mut(page) else {
            self.last.replace(at, name, row);
            return;
        };
        let mut open = page.unpack();
        if open.len() == 0 {
            // All of its files were removed. Rows that are alike take the least memory.
            (0..PAGE).for_each(|_| open.push(name.unwrap_or_default(), row));
        }
        open.replace(at, name, row);
        *page = Page::pack(&open);
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        let Some((states, bit)) = self.states_mut(slot) else {
            return;
        };
        states.used &= !bit;
        states.holders &= !bit;
        let is_unused = states.used == 0;
        self.vacant.push(slot);
        // The memory of single files is used again by others.
        if let Some(page) = self.pages.get_mut(place(slot).0).filter(|_| is_unused) {
            *page = Page::default();
        }
    }

    fn pack(&mut self, folder: u32, record: &FileRecord) -> Option<Row> {
        let file_system = self.file_system(record.fingerprint.file_system)?;
        Some(Row {
            id: record.id,
            file: record.fingerprint.file,
            modified: record.fingerprint.modified,
            changed: record.fingerprint.changed,
            length: record.length,
            rest: Rest::of(record, file_system).0,
            folder,
        })
    }

    fn file_system(&mut self, id: u64) -> Option<u32> {
        let known = self.file_systems.iter().position(|known| *known == id);
        let number = u32::try_from(known.unwrap_or(self.file_systems.len())).ok()?;
        if number >= MAX_FILE_SYSTEMS {
            return None;
        }
        if known.is_none() {
            self.file_systems.push(id);
        }
        Some(number)
    }
}

/// Makes room for one more. Grows by an eighth, not by the double.
fn reserve<T>(vec: &mut Vec<T>) {
    if vec.len() == vec.capacity() {
        vec.reserve_exact(vec.len() / 8 + 4);
    }
}

#[cfg(unix)]
pub(super) fn to_bytes(name: &OsStr) -> &[u8] {
    std::os::unix::ffi::OsStrExt::as_bytes(name)
}

/// Changes the bytes of a name or path, and uses its memory again.
pub(super) fn with_bytes(name: &mut OsString, change: impl FnOnce(&mut Vec<u8>)) {
    #[cfg(unix)]
    let mut bytes = std::os::unix::ffi::OsStringExt::into_vec(std::mem::take(name));
    #[cfg(not(unix))]
    let mut bytes = std::mem::take(name)
        .into_string()
        .unwrap_or_default()
        .into_bytes();
    change(&mut bytes);
    #[cfg(unix)]
    let changed = std::os::unix::ffi::OsStringExt::from_vec(bytes);
    #[cfg(not(unix))]
    let changed = OsString::from(String::from_utf8(bytes).unwrap_or_default());
    *name = changed;
}

/// On systems without byte names, names that are not Unicode are left out.
#[cfg(not(unix))]
pub(super) fn to_bytes(name: &OsStr) -> &[u8] {
    name.to_str().map_or(&[], str::as_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn record() -> impl Strategy<Value = FileRecord> {
        let numbers = prop::array::uniform3(prop_oneof![0..4u64, any::<u64>()]);
        let times = prop::array::uniform2(prop_oneof![0..4i64, any::<i64>()]);
        let rest = (prop::option::of(0..8u8), 0..=10_000u16, any::<bool>());
        (numbers, times, any::<u32>(), rest).prop_map(|(numbers, times, length, rest)| FileRecord {
            id: ImageId(numbers[0]),
            fingerprint: Fingerprint {
                file_system: numbers[1],
                file: numbers[2],
                size: u64::from(length),
                modified: times[0],
                changed: times[1],
            },
            length,
            sniffed: rest.0.map(FileType::from_code),
            incompressible_at: rest.1,
            settled: rest.2,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn packed_files_equal_a_map(
            steps in prop::collection::vec((0..300u32, 0..8u8, 0..3u32, "[ab]{1,3}", record()), 0..400),
            shared in ("[ab]{0,2}", "[ab]{0,2}"),
        ) {
            let (mut files, mut model) = (PackedFiles::default(), BTreeMap::new());
            for (slot, step, folder, name, record) in steps {
                let name = format!("{}{name}{}", shared.0, shared.1);
                match step {
                    0 if model.remove(&slot).is_some() => files.remove(slot),
                    1 => {
                        if let Some((_, known, is_holder)) = model.get_mut(&slot) {
                            files.update(slot, &record).unwrap();
                            files.set_holder(slot);
                            (*known, *is_holder) = (record, true);
                        }
                    }
                    #[cfg(feature = "zstd")]
                    2 => {
                        files.set_incompressible(slot, record.incompressible_at);
                        if let Some((_, known, _)) = model.get_mut(&slot) {
                            known.incompressible_at = record.incompressible_at;
                        }
                    }
                    _ => {
                        let slot = files.add(folder, name.as_bytes(), &record).unwrap();
                        let before = model.insert(slot, ((folder, name), record, false));
                        prop_assert!(before.is_none());
                    }
                }
            }
            prop_assert!(files.slots().eq(model.keys().copied()));
            prop_assert!((1000..1100).all(|slot| files.record(slot).is_none()), "never added");
            for (slot, ((folder, name), record, is_holder)) in model {
                prop_assert_eq!(files.record(slot), Some(record));
                prop_assert_eq!(files.id(slot), Some(record.id));
                prop_assert_eq!(files.is_holder(slot), is_holder);
                let mut found = Vec::new();
                files.append_name(slot, &mut found);
                prop_assert_eq!((files.folder(slot), &found[..]), (folder, name.as_bytes()));
                prop_assert!(files.is_named(slot, (folder, name.as_bytes())));
                for other in [format!("{name}a"), name.replace('a', "b"), String::new()] {
                    let is_named = files.is_named(slot, (folder, other.as_bytes()));
                    prop_assert_eq!(is_named, other == name);
                }
            }
        }
    }

    #[test]
    fn files_on_too_many_file_systems_are_refused() {
        let mut files = PackedFiles::default();
        for id in 0..u64::from(MAX_FILE_SYSTEMS) {
            assert!(files.add(0, b"a.png", &FileRecord::sample(id)).is_some());
        }
        let other = FileRecord::sample(u64::from(MAX_FILE_SYSTEMS));
        assert!(files.add(0, b"b.png", &other).is_none());
        assert!(files.add(0, b"b.png", &FileRecord::sample(7)).is_some());
    }
}
