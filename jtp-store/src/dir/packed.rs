//! The records of files, packed: 44 bytes for each file, and its name with 2 to 4 bytes for its folder and length.

use std::ffi::OsStr;

use jtp_core::{FileType, ImageId};

use super::record::FileRecord;
use crate::fingerprint::Fingerprint;

/// The position of a file in [`PackedFiles`].
pub(super) type Slot = u32;

/// The record of one file. Numbers of 64 bits are in two halves: as they are, they would add 4 bytes.
#[derive(Debug, Clone, Copy)]
struct Packed {
    file: Halves,
    modified: Halves,
    changed: Halves,
    id: Halves,
    length: u32,
    /// The offset of the name.
    name: u32,
    rest: Rest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Halves([u32; 2]);

impl Halves {
    fn of(number: u64) -> Halves {
        let [a, b, c, d, high @ ..] = number.to_le_bytes();
        Halves([u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes(high)])
    }

    fn of_time(time: i64) -> Halves {
        Halves::of(u64::from_ne_bytes(time.to_ne_bytes()))
    }

    fn number(self) -> u64 {
        let Halves([low, high]) = self;
        u64::from(high) << 32 | u64::from(low)
    }

    fn time(self) -> i64 {
        i64::from_ne_bytes(self.number().to_ne_bytes())
    }
}

/// The small parts of a record: from the lowest bits on the state (2), whether the record is not
/// [settled](FileRecord::settled) (1), the type (4), the threshold at which it is incompressible (14), and the number of
/// the file system (11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rest(u32);

const UNSETTLED: u32 = 1 << 2;
const TYPE_AT: u32 = 3;
const THRESHOLD_AT: u32 = 7;
const FILE_SYSTEM_AT: u32 = 21;

/// More than each threshold, which is at most 10,000.
const MAX_THRESHOLD: u16 = (1 << 14) - 1;

/// The most file systems that the files of one folder are on.
const MAX_FILE_SYSTEMS: u32 = 1 << (u32::BITS - FILE_SYSTEM_AT);

/// Stands for a type that the first bytes do not show.
const NOT_SNIFFED: u32 = 8;

impl Rest {
    fn of(record: &FileRecord, file_system: u32, state: State) -> Rest {
        let settled = if record.settled { 0 } else { UNSETTLED };
        let sniffed = record.sniffed.map(|found| u32::from(found.code()));
        let threshold = u32::from(record.incompressible_at.min(MAX_THRESHOLD));
        Rest(
            state.code()
                | settled
                | sniffed.unwrap_or(NOT_SNIFFED) << TYPE_AT
                | threshold << THRESHOLD_AT
                | file_system << FILE_SYSTEM_AT,
        )
    }

    fn state(self) -> State {
        match self.0 & 3 {
            1 => State::Recorded,
            2 => State::Holder,
            _ => State::Vacant,
        }
    }

    fn with_state(self, state: State) -> Rest {
        Rest(self.0 & !3 | state.code())
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Vacant,
    /// The file was read, and does not hold its ID yet.
    Recorded,
    /// The file is one of the holders of its ID.
    Holder,
}

impl State {
    fn code(self) -> u32 {
        match self {
            State::Vacant => 0,
            State::Recorded => 1,
            State::Holder => 2,
        }
    }
}

/// Records and names by slot.
#[derive(Debug, Default)]
pub(super) struct PackedFiles {
    files: Vec<Packed>,
    vacant: Vec<Slot>,
    /// All names, one after another, each after the number of its folder and its length. Those of removed files stay as
    /// gaps until they are compacted.
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
            .filter_map(|(slot, file)| (file.rest.state() != State::Vacant).then_some(slot))
    }

    /// An exclusive upper bound of all slots.
    pub(super) fn slots_end(&self) -> usize {
        self.files.len()
    }

    /// The number of the file's folder, and the file's name in it.
    pub(super) fn name(&self, slot: Slot) -> (u32, &[u8]) {
        let found = self.file(slot).and_then(|file| {
            let at = usize::try_from(file.name).ok()?;
            decode_name(self.names.get(at..)?)
        });
        found.unwrap_or_default()
    }

    pub(super) fn id(&self, slot: Slot) -> Option<ImageId> {
        self.file(slot).map(|file| ImageId(file.id.number()))
    }

    pub(super) fn is_holder(&self, slot: Slot) -> bool {
        self.file(slot)
            .is_some_and(|file| file.rest.state() == State::Holder)
    }

    pub(super) fn set_holder(&mut self, slot: Slot) {
        if let Some(file) = self.file_mut(slot) {
            file.rest = file.rest.with_state(State::Holder);
        }
    }

    #[cfg(feature = "zstd")]
    pub(super) fn set_incompressible(&mut self, slot: Slot, threshold: u16) {
        if let Some(file) = self.file_mut(slot) {
            file.rest = file.rest.with_threshold(threshold);
        }
    }

    pub(super) fn record(&self, slot: Slot) -> Option<FileRecord> {
        let file = self.file(slot)?;
        let file_system = self.file_systems.get(file.rest.file_system());
        Some(FileRecord {
            id: ImageId(file.id.number()),
            fingerprint: Fingerprint {
                file_system: file_system.copied().unwrap_or(0),
                file: file.file.number(),
                size: u64::from(file.length),
                modified: file.modified.time(),
                changed: file.changed.time(),
            },
            length: file.length,
            sniffed: file.rest.sniffed(),
            incompressible_at: file.rest.threshold(),
            settled: file.rest.is_settled(),
        })
    }

    /// Reserves memory for more files.
    pub(super) fn reserve(&mut self, files: usize) {
        self.files.reserve_exact(files);
    }

    /// Returns memory that is reserved and not used.
    pub(super) fn shrink_to_fit(&mut self) {
        self.files.shrink_to_fit();
        self.names.shrink_to_fit();
    }

    /// Adds a file. `None` if there is no room: the names take 4 GiB, or there are 2,048 file systems.
    pub(super) fn add(&mut self, folder: u32, name: &[u8], record: &FileRecord) -> Option<Slot> {
        let file_system = self.file_system(record.fingerprint.file_system)?;
        let at = self.add_name(folder, name)?;
        let file = pack(record, at, file_system, State::Recorded);
        if let Some(slot) = self.vacant.pop() {
            *self.file_mut(slot)? = file;
            return Some(slot);
        }
        let slot = Slot::try_from(self.files.len()).ok()?;
        reserve(&mut self.files, 1);
        self.files.push(file);
        Some(slot)
    }

    /// Replaces the record of a file; its name and state stay. `None` if there are 2,048 file systems.
    pub(super) fn update(&mut self, slot: Slot, record: &FileRecord) -> Option<()> {
        let file_system = self.file_system(record.fingerprint.file_system)?;
        let file = self.file_mut(slot)?;
        *file = pack(record, file.name, file_system, file.rest.state());
        Some(())
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        let (folder, name) = self.name(slot);
        self.gaps += encoded_len(folder, name);
        let Some(file) = self.file_mut(slot) else {
            return;
        };
        file.rest = file.rest.with_state(State::Vacant);
        self.vacant.push(slot);
        if self.gaps > self.names.len() / 2 + 64 * 1024 {
            self.compact_names();
        }
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

    fn add_name(&mut self, folder: u32, name: &[u8]) -> Option<u32> {
        u16::try_from(name.len()).ok()?;
        let len = encoded_len(folder, name);
        if u32::try_from(self.names.len() + len).is_err() {
            self.compact_names();
        }
        let at = u32::try_from(self.names.len()).ok()?;
        u32::try_from(self.names.len() + len).ok()?;
        reserve(&mut self.names, len);
        encode_name(&mut self.names, folder, name);
        Some(at)
    }

    fn compact_names(&mut self) {
        let mut names = Vec::with_capacity(self.names.len() - self.gaps);
        let used = |file: &&mut Packed| file.rest.state() != State::Vacant;
        for file in self.files.iter_mut().filter(used) {
            let at = usize::try_from(file.name).unwrap_or(0);
            let name = self.names.get(at..).and_then(decode_name);
            let (folder, name) = name.unwrap_or_default();
            // No longer than before, so the offset fits.
            file.name = u32::try_from(names.len()).unwrap_or(0);
            encode_name(&mut names, folder, name);
        }
        self.names = names;
        self.gaps = 0;
    }
}

fn pack(record: &FileRecord, name: u32, file_system: u32, state: State) -> Packed {
    Packed {
        file: Halves::of(record.fingerprint.file),
        modified: Halves::of_time(record.fingerprint.modified),
        changed: Halves::of_time(record.fingerprint.changed),
        id: Halves::of(record.id.0),
        length: record.length,
        name,
        rest: Rest::of(record, file_system, state),
    }
}

fn encode_name(to: &mut Vec<u8>, folder: u32, name: &[u8]) {
    encode_number(to, folder);
    encode_number(to, u32::try_from(name.len()).unwrap_or(0));
    to.extend_from_slice(name);
}

/// The folder and the name at the beginning of `from`.
fn decode_name(from: &[u8]) -> Option<(u32, &[u8])> {
    let (folder, from) = decode_number(from)?;
    let (len, from) = decode_number(from)?;
    Some((folder, from.get(..usize::try_from(len).ok()?)?))
}

fn encoded_len(folder: u32, name: &[u8]) -> usize {
    let len = u32::try_from(name.len()).unwrap_or(0);
    number_len(folder) + number_len(len) + name.len()
}

/// Seven bits in each byte, the lowest first; the last byte is below 0x80.
fn encode_number(to: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        to.push(0x80 | u8::try_from(number & 0x7f).unwrap_or(0));
        number >>= 7;
    }
    to.push(u8::try_from(number).unwrap_or(0));
}

fn decode_number(from: &[u8]) -> Option<(u32, &[u8])> {
    let mut number = 0;
    for (at, byte) in (0..).zip(from.iter().take(5)) {
        number |= u32::from(byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            return Some((number, &from[usize::try_from(at).ok()? + 1..]));
        }
    }
    None
}

fn number_len(number: u32) -> usize {
    let bits = u32::BITS - number.leading_zeros();
    usize::try_from(bits.div_ceil(7).max(1)).unwrap_or(1)
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
pub(super) fn from_bytes(name: &[u8]) -> &OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(name)
}

/// On systems without byte names, names that are not Unicode are left out.
#[cfg(not(unix))]
pub(super) fn to_bytes(name: &OsStr) -> &[u8] {
    name.to_str().map_or(&[], str::as_bytes)
}

#[cfg(not(unix))]
pub(super) fn from_bytes(name: &[u8]) -> &OsStr {
    OsStr::new(std::str::from_utf8(name).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_record_takes_44_bytes() {
        assert_eq!(size_of::<Packed>(), 44);
    }

    proptest! {
        #[test]
        fn a_name_is_the_same_after_it_was_encoded_and_decoded(
            folder in prop_oneof![0..300u32, any::<u32>()],
            name in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut bytes = Vec::new();
            encode_name(&mut bytes, folder, &name);
            prop_assert_eq!(bytes.len(), encoded_len(folder, &name));
            prop_assert_eq!(decode_name(&bytes), Some((folder, &*name)));
        }

        #[test]
        fn a_record_is_the_same_after_it_was_packed(
            numbers in prop::array::uniform3(any::<u64>()),
            times in prop::array::uniform2(any::<i64>()),
            length: u32,
            sniffed in prop::option::of(0..8u8),
            incompressible_at in 0..=10_000u16,
            settled: bool,
        ) {
            let record = FileRecord {
                id: ImageId(numbers[0]),
                fingerprint: Fingerprint {
                    file_system: numbers[1],
                    file: numbers[2],
                    size: u64::from(length),
                    modified: times[0],
                    changed: times[1],
                },
                length,
                sniffed: sniffed.map(FileType::from_code),
                incompressible_at,
                settled,
            };
            let mut files = PackedFiles::default();
            for _ in 0..2 {
                let slot = files.add(3, b"a.png", &record).unwrap();
                prop_assert_eq!(files.record(slot), Some(record));
                files.set_holder(slot);
                prop_assert_eq!(files.record(slot), Some(record));
                files.update(slot, &record).unwrap();
                prop_assert!(files.is_holder(slot));
                prop_assert_eq!(files.name(slot), (3, &b"a.png"[..]));
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
