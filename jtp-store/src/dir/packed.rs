//! The records of files, packed: 48 bytes for each file, and its name.

use std::ffi::OsStr;

use jtp_core::{FileType, ImageId};

use super::record::FileRecord;
use crate::fingerprint::Fingerprint;

/// The position of a file in [`PackedFiles`].
pub(super) type Slot = u32;

/// Stands for a type that the first bytes do not show.
const NOT_SNIFFED: u8 = 0x7f;

/// Set if the record is not [settled](FileRecord::settled).
const UNSETTLED: u8 = 0x80;

/// The record of one file.
#[derive(Debug, Clone, Copy)]
struct Packed {
    file: u64,
    modified: i64,
    changed: i64,
    id: ImageId,
    length: u32,
    /// The offset of the name.
    name: u32,
    name_len: u16,
    file_system: u16,
    incompressible_at: u16,
    /// The type, and [`UNSETTLED`].
    sniffed: u8,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Vacant,
    /// The file was read, and does not hold its ID yet.
    Recorded,
    /// The file is one of the holders of its ID.
    Holder,
}

/// Records and names by slot.
#[derive(Debug, Default)]
pub(super) struct PackedFiles {
    files: Vec<Packed>,
    vacant: Vec<Slot>,
    /// All names, one after another. Names of removed files stay as gaps until they are compacted.
    names: Vec<u8>,
    gaps: usize,
    file_systems: Vec<u64>,
}

impl PackedFiles {
    fn file(&self, slot: Slot) -> Option<&Packed> {
        self.files.get(usize::try_from(slot).ok()?)
    }

    fn file_mut(&mut self, slot: Slot) -> Option<&mut Packed> {
        self.files.get_mut(usize::try_from(slot).ok()?)
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        (0..)
            .zip(&self.files)
            .filter_map(|(slot, file)| (file.state != State::Vacant).then_some(slot))
    }

    /// An exclusive upper bound of all slots.
    pub(super) fn slots_end(&self) -> usize {
        self.files.len()
    }

    pub(super) fn name_bytes(&self, slot: Slot) -> &[u8] {
        let bytes = self.file(slot).and_then(|file| {
            let at = usize::try_from(file.name).ok()?;
            self.names.get(at..at + usize::from(file.name_len))
        });
        bytes.unwrap_or_default()
    }

    pub(super) fn name(&self, slot: Slot) -> &OsStr {
        from_bytes(self.name_bytes(slot))
    }

    pub(super) fn id(&self, slot: Slot) -> Option<ImageId> {
        self.file(slot).map(|file| file.id)
    }

    pub(super) fn is_holder(&self, slot: Slot) -> bool {
        self.file(slot)
            .is_some_and(|file| file.state == State::Holder)
    }

    pub(super) fn set_holder(&mut self, slot: Slot) {
        if let Some(file) = self.file_mut(slot) {
            file.state = State::Holder;
        }
    }

    #[cfg(feature = "zstd")]
    pub(super) fn set_incompressible(&mut self, slot: Slot, threshold: u16) {
        if let Some(file) = self.file_mut(slot) {
            file.incompressible_at = threshold;
        }
    }

    pub(super) fn record(&self, slot: Slot) -> Option<FileRecord> {
        let file = self.file(slot)?;
        let file_system = self.file_systems.get(usize::from(file.file_system));
        let sniffed = file.sniffed & !UNSETTLED;
        Some(FileRecord {
            id: file.id,
            fingerprint: Fingerprint {
                file_system: file_system.copied().unwrap_or(0),
                file: file.file,
                size: u64::from(file.length),
                modified: file.modified,
                changed: file.changed,
            },
            length: file.length,
            sniffed: (sniffed != NOT_SNIFFED).then(|| FileType::from_code(sniffed)),
            incompressible_at: file.incompressible_at,
            settled: file.sniffed & UNSETTLED == 0,
        })
    }

    /// Adds a file. `None` if there is no room: the names take 4 GiB, or there are 65,536 file systems.
    pub(super) fn add(&mut self, name: &OsStr, record: &FileRecord) -> Option<Slot> {
        let file_system = self.file_system(record.fingerprint.file_system)?;
        let name = to_bytes(name);
        let name_len = u16::try_from(name.len()).ok()?;
        let at = self.add_name(name)?;
        let file = pack(record, at, name_len, file_system, State::Recorded);
        if let Some(slot) = self.vacant.pop() {
            *self.file_mut(slot)? = file;
            return Some(slot);
        }
        let slot = Slot::try_from(self.files.len()).ok()?;
        reserve(&mut self.files, 1);
        self.files.push(file);
        Some(slot)
    }

    /// Replaces the record of a file; its name and state stay. `None` if there are 65,536 file systems.
    pub(super) fn update(&mut self, slot: Slot, record: &FileRecord) -> Option<()> {
        let file_system = self.file_system(record.fingerprint.file_system)?;
        let file = self.file_mut(slot)?;
        *file = pack(record, file.name, file.name_len, file_system, file.state);
        Some(())
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        let Some(file) = self.file_mut(slot) else {
            return;
        };
        let name_len = std::mem::take(&mut file.name_len);
        file.state = State::Vacant;
        self.gaps += usize::from(name_len);
        self.vacant.push(slot);
        if self.gaps > self.names.len() / 2 + 64 * 1024 {
            self.compact_names();
        }
    }

    fn file_system(&mut self, id: u64) -> Option<u16> {
        let known = self.file_systems.iter().position(|known| *known == id);
        let index = known.unwrap_or_else(|| {
            self.file_systems.push(id);
            self.file_systems.len() - 1
        });
        u16::try_from(index).ok()
    }

    fn add_name(&mut self, name: &[u8]) -> Option<u32> {
        if u32::try_from(self.names.len() + name.len()).is_err() {
            self.compact_names();
        }
        let at = u32::try_from(self.names.len()).ok()?;
        u32::try_from(self.names.len() + name.len()).ok()?;
        reserve(&mut self.names, name.len());
        self.names.extend_from_slice(name);
        Some(at)
    }

    fn compact_names(&mut self) {
        let mut names = Vec::with_capacity(self.names.len() - self.gaps);
        let used = |file: &&mut Packed| file.state != State::Vacant;
        for file in self.files.iter_mut().filter(used) {
            let at = usize::try_from(file.name).unwrap_or(0);
            let name = self.names.get(at..at + usize::from(file.name_len));
            // No longer than before, so the offset fits.
            file.name = u32::try_from(names.len()).unwrap_or(0);
            names.extend_from_slice(name.unwrap_or_default());
        }
        self.names = names;
        self.gaps = 0;
    }
}

fn pack(record: &FileRecord, name: u32, name_len: u16, file_system: u16, state: State) -> Packed {
    let sniffed = record.sniffed.map_or(NOT_SNIFFED, FileType::code);
    Packed {
        file: record.fingerprint.file,
        modified: record.fingerprint.modified,
        changed: record.fingerprint.changed,
        id: record.id,
        length: record.length,
        name,
        name_len,
        file_system,
        incompressible_at: record.incompressible_at,
        sniffed: sniffed | if record.settled { 0 } else { UNSETTLED },
        state,
    }
}

/// Grows by an eighth, not by the double.
fn reserve<T>(vec: &mut Vec<T>, more: usize) {
    if vec.capacity() - vec.len() < more {
        vec.reserve_exact(more + vec.len() / 8 + 64);
    }
}

#[cfg(unix)]
pub(super) fn to_bytes(name: &OsStr) -> &[u8] {
    std::os::unix::ffi::OsStrExt::as_bytes(name)
}

#[cfg(unix)]
fn from_bytes(name: &[u8]) -> &OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(name)
}

/// On systems without byte names, names that are not Unicode are left out.
#[cfg(not(unix))]
pub(super) fn to_bytes(name: &OsStr) -> &[u8] {
    name.to_str().map_or(&[], str::as_bytes)
}

#[cfg(not(unix))]
fn from_bytes(name: &[u8]) -> &OsStr {
    OsStr::new(std::str::from_utf8(name).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_takes_48_bytes() {
        assert_eq!(size_of::<Packed>(), 48);
    }
}
