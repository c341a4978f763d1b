//! The contents of files that earlier runs have read, so that an unchanged folder is not read again.
//!
//! The file is a log: a magic number, then blocks of records, each block with its own checksum. A record is valid
//! while the fingerprint of its file is unchanged, independently of all others. New records are therefore
//! appended, and reading ends at the first damaged or incomplete block. Records of removed files are harmless;
//! they are dropped when the log is rewritten.

mod reader;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read, Write};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use jtp_core::{FileType, ImageId};

use crate::fingerprint::{self, Fingerprint};
pub(crate) use reader::LogReader;

/// The last byte is the version of the format. Other versions are not read.
const MAGIC: &[u8; 8] = b"JTPidx\x00\x03";
const BLOCK_HEAD_LEN: usize = 4 + 8;
pub(crate) const RECORD_LEN: usize = fingerprint::ENCODED_LEN + 8 + 1 + 2;

/// The most records in a block, which is read, checked and written at once.
pub(crate) const BLOCK: usize = 4096;

/// The longest log that is read. It has room for some 20 million files.
pub(crate) const MAX_LEN: u64 = 1024 * 1024 * 1024;

/// The number of records that [`KnownContents::get_near`] compares: files were read by several threads, so the order of
/// their records is not quite that of a walk.
const NEAR: usize = 8;

/// Stands for the type if the first bytes of a file do not show it. // W5
const NO_TYPE: u8 = 0xff;

/// Stands for the type of a file that is no image. Earlier versions end reading at a block with one.
const NO_IMAGE: u8 = 0xfe;

/// The contents of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) id: ImageId,
    /// The type found in the first bytes.
    pub(crate) sniffed: Option<FileType>,
    /// The threshold, in ten-thousandths, that compressing did not meet; 0 if it was not tried. // S9
    pub(crate) incompressible_at: u16,
}

impl Contents {
    /// Stands for those of a file without an image extension whose first bytes are not those of an image. It is not
    /// hashed, so it has no ID.
    pub(crate) const NOT_AN_IMAGE: Contents = Contents {
        id: ImageId(0),
        sniffed: None,
        // No threshold: they are at most 10,000.
        incompressible_at: u16::MAX,
    };
}

impl Contents {
    pub(crate) fn is_not_an_image(&self) -> bool {
        *self == Contents::NOT_AN_IMAGE
    }
}

/// A file's fingerprint and contents.
pub(crate) type Record = (Fingerprint, Contents);

/// Contents by fingerprint. A fingerprint includes what identifies the file: its inode or its name.
///
/// The index file may come from another user, so the hash of a fingerprint has a random seed.
#[derive(Debug, Default)]
pub(crate) struct KnownContents {
    records: Vec<Record>,
    /// Positions in `records`.
    by_fingerprint: HashTable<u32>,
    seed: RandomState,
    /// The length of the log, if all of it could be read.
    appendable: Option<u64>,
}

impl KnownContents {
    pub(crate) fn get(&self, fingerprint: &Fingerprint) -> Option<Contents> {
        let at = self.position(fingerprint)?;
        record_at(&self.records, at).map(|(_, contents)| *contents)
    }

    fn position(&self, fingerprint: &Fingerprint) -> Option<u32> {
        if self.records.is_empty() {
            return None;
        }
        let is_match = |at: &u32| is_at(&self.records, *at, fingerprint);
        let hash = hash(&self.seed, fingerprint);
        self.by_fingerprint.find(hash, is_match).copied()
    }

    /// The same for files that come in about the order of the records, as those of a folder do that is walked as it was
    /// before: the records from `near` on are compared first, without a hash and mostly without a cache miss. `near` is
    /// set to the place behind the one that was found.
    pub(crate) fn get_near(&self, fingerprint: &Fingerprint, near: &mut usize) -> Option<Contents> {
        let next = self.records.iter().skip(*near).take(NEAR);
        if let Some(ahead) = next.clone().position(|record| record.0 == *fingerprint) {
            *near += ahead + 1;
            return self.records.get(*near - 1).map(|(_, contents)| *contents);
        }
        let at = self.position(fingerprint)?;
        *near = usize::try_from(at).ok()? + 1;
        record_at(&self.records, at).map(|(_, contents)| *contents)
    }

    pub(crate) fn from_records(records: Vec<Record>) -> KnownContents {
        let mut known = KnownContents {
            records,
            ..KnownContents::default()
        };
        known.index_records();
        known
    }

    /// All records. Those of one fingerprint are equal.
    pub(crate) fn records(&self) -> impl Iterator<Item = Record> + '_ {
        self.records.iter().copied()
    }

    /// Keeps only the records that pass `keep`, and returns the memory of the others.
    pub(crate) fn retain(&mut self, keep: impl Fn(&Record) -> bool) {
        let before = self.records.len();
        self.records.retain(keep);
        if self.records.len() < before {
            self.records.shrink_to_fit();
            self.by_fingerprint = HashTable::new();
            self.index_records();
        }
    }

    fn index_records(&mut self) {
        let (records, seed) = (&self.records, &self.seed);
        let hash_at = |at: &u32| record_at(records, *at).map_or(0, |r| hash(seed, &r.0));
        self.by_fingerprint.reserve(records.len(), hash_at);
        let mut outdated = Vec::new();
        for (at, (fingerprint, _)) in (0..).zip(records) {
            let is_match = |at: &u32| is_at(records, *at, fingerprint);
            match self
                .by_fingerprint
                .entry(hash(seed, fingerprint), is_match, hash_at)
            {
                // The last record of a fingerprint is the valid one.
                Entry::Occupied(mut entry) => {
                    outdated.push((*entry.get(), at));
                    *entry.get_mut() = at;
                }
                Entry::Vacant(entry) => {
                    entry.insert(at);
                }
            }
        }
        // The last ones first: of three records, the first one gets the contents of the third.
        for (earlier, later) in outdated.into_iter().rev() {
            let valid = record_at(&self.records, later).copied();
            let place = usize::try_from(earlier).ok();
            let place = place.and_then(|at| self.records.get_mut(at));
            if let (Some(valid), Some(place)) = (valid, place) {
                *place = valid;
            }
        }
    }

    /// The length of the log; `None` if it cannot be appended to because it is damaged, missing or empty.
    pub(crate) fn appendable(&self) -> Option<u64> {
        self.appendable
    }

    /// The number of records in the log.
    pub(crate) fn record_count(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Reads a log up to the first damaged block. Anything else than a log is read as an empty one: all contents
    /// can be read from the files again.
    pub(crate) fn read(from: impl Read) -> KnownContents {
        let mut known = KnownContents::default();
        let Some(mut reader) = LogReader::new(from) else {
            return known;
        };
        loop {
            let at = reader.position();
            match reader.next() {
                None => break,
                Some([]) => {
                    known.appendable = Some(at);
                    break;
                }
                Some(block) => {
                    let records = &mut known.records;
                    if records.capacity() - records.len() < block.len() {
                        // Grows by an eighth, not by the double.
                        records.reserve_exact(block.len() + records.len() / 8);
                    }
                    records.extend_from_slice(block);
                }
            }
        }
        known.index_records();
        known
    }
}

fn record_at(records: &[Record], at: u32) -> Option<&Record> {
    records.get(usize::try_from(at).ok()?)
}

fn is_at(records: &[Record], at: u32, fingerprint: &Fingerprint) -> bool {
    #[cfg(test)]
    tests::COMPARISONS.set(tests::COMPARISONS.get() + 1);
    record_at(records, at).is_some_and(|record| record.0 == *fingerprint)
}

pub(crate) fn hash(seed: &RandomState, fingerprint: &Fingerprint) -> u64 {
    // All fields: the records may have been chosen so that any of them is the same in all.
    let Fingerprint {
        file_system,
        file,
        size,
        modified,
        changed,
    } = fingerprint;
    let mut bytes = [0; 5 * 8];
    let numbers = [*file_system, *file, *size].map(u64::to_ne_bytes);
    let times = [*modified, *changed].map(i64::to_ne_bytes);
    for (place, field) in bytes.chunks_exact_mut(8).zip(numbers.iter().chain(&times)) {
        place.copy_from_slice(field);
    }
    // One call takes some half of the instructions of five.
    let mut hasher = seed.build_hasher();
    hasher.write(&bytes);
    hasher.finish()
}

fn decode(record: &[u8]) -> Option<Record> {
    let (fingerprint, rest) = record.split_first_chunk()?;
    let (id, rest) = rest.split_first_chunk()?;
    let (&sniffed, incompressible_at) = rest.split_first()?;
    let sniffed = match sniffed {
        NO_IMAGE => return Some((Fingerprint::decode(fingerprint), Contents::NOT_AN_IMAGE)),
        NO_TYPE => None,
        code @ 0..=7 => Some(FileType::from_code(code)),
        _ => return None,
    };
    let contents = Contents {
        id: ImageId::from_be_bytes(*id),
        sniffed,
        incompressible_at: u16::from_be_bytes(*incompressible_at.first_chunk()?),
    };
    Some((Fingerprint::decode(fingerprint), contents))
}

/// Writes a log and returns its length.
pub(crate) fn write(records: impl Iterator<Item = Record>, to: &mut impl Write) -> io::Result<u64> {
    to.write_all(MAGIC)?;
    let length = append(records, to)?;
    Ok(length + 8)
}

/// Writes blocks to be appended to a log, and returns their length.
pub(crate) fn append(
    records: impl Iterator<Item = Record>,
    to: &mut impl Write,
) -> io::Result<u64> {
    let mut records = records.peekable();
    let mut length = 0;
    let mut block = Vec::new();
    while records.peek().is_some() {
        block.clear();
        let mut count = 0u32;
        for (fingerprint, contents) in records.by_ref().take(BLOCK) {
            fingerprint.encode(&mut block);
            block.extend_from_slice(&contents.id.to_be_bytes());
            block.push(match contents {
                Contents::NOT_AN_IMAGE => NO_IMAGE,
                contents => contents.sniffed.map_or(NO_TYPE, FileType::code),
            });
            block.extend_from_slice(&contents.incompressible_at.to_be_bytes());
            count += 1;
        }
        to.write_all(&count.to_be_bytes())?;
        to.write_all(&ImageId::of(&block).to_be_bytes())?;
        to.write_all(&block)?;
        length += u64::try_from(BLOCK_HEAD_LEN + block.len()).unwrap_or(0);
    }
    Ok(length)
}

/// Whether a log of `logged` records about `files` files should be rewritten. It then shrinks by at least a third,
/// so that each record is written three times on average at most.
pub(crate) fn is_overgrown(logged: usize, files: usize) -> bool {
    logged > files + files / 2 + BLOCK
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        /// How often a record was compared with a fingerprint that was looked up.
        pub(super) static COMPARISONS: Cell<u64> = const { Cell::new(0) };
    }

    /// The record of a file with this inode.
    pub(crate) fn record(n: u64) -> Record {
        let contents = Contents {
            id: ImageId(n * 7),
            sniffed: (n % 3 != 0).then(|| FileType::from_code(u8::try_from(n % 8).unwrap())),
            incompressible_at: 9500,
        };
        (Fingerprint::sample(n), contents)
    }

    #[test]
    fn the_last_record_of_a_fingerprint_is_found_in_any_order() {
        let of = |n: u64, id: u64| {
            let (print, contents) = record(n);
            let id = ImageId(id);
            (print, Contents { id, ..contents })
        };
        let numbers = (0..100).chain([3, 50, 3]);
        let records = numbers.zip(1000..).map(|(n, id)| of(n, id));
        let known = KnownContents::read(log(records).as_slice());
        let expected = |n| match n {
            3 => 1102,
            50 => 1101,
            n => 1000 + n,
        };
        let mut near = 0;
        let orders = [0, 1, 2, 5, 4, 3, 99, 50, 51, 3, 0, 98, 99];
        for n in orders.into_iter().chain(0..100).chain((0..100).rev()) {
            let print = record(n).0;
            let found = known.get_near(&print, &mut near);
            assert_eq!(found, known.get(&print));
            assert_eq!(
                found.map(|contents| contents.id.0),
                Some(expected(n)),
                "{n}"
            );
        }
        assert_eq!(known.get_near(&record(100).0, &mut near), None);
        COMPARISONS.set(0);
        near = 0;
        assert!((4..100).all(|n| known.get_near(&record(n).0, &mut near).is_some()));
        assert_eq!(COMPARISONS.get(), 0, "none was looked up");
    }

    #[test]
    fn looking_up_chosen_records_takes_as_few_comparisons_as_random_ones() {
        const COUNT: u64 = 5_000;
        let (print, contents) = record(1);
        // Fingerprints that differ in one field alone.
        let fields: [fn(&mut Fingerprint, u64); 5] = [
            |print, n| print.file_system = n,
            |print, n| print.file = n,
            |print, n| print.size = n,
            |print, n| print.modified = n as i64,
            |print, n| print.changed = n as i64,
        ];
        for (field, set) in fields.into_iter().enumerate() {
            let prints = (0..COUNT).map(|n| {
                let mut print = print;
                set(&mut print, n);
                print
            });
            let prints: Vec<Fingerprint> = prints.collect();
            let records = prints.iter().map(|print| (*print, contents));
            COMPARISONS.set(0);
            let known = KnownContents::read(log(records).as_slice());
            assert!(prints.iter().all(|print| known.get(print).is_some()));
            let comparisons = COMPARISONS.get();
            assert!(
                comparisons < 2 * COUNT,
                "{comparisons} comparisons for {COUNT} records that differ in field {field}"
            );
        }
    }

    fn log(records: impl Iterator<Item = Record>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let length = write(records, &mut bytes).unwrap();
        assert_eq!(length, bytes.len() as u64);
        bytes
    }

    fn knows(bytes: &[u8]) -> Vec<u64> {
        let known = KnownContents::read(bytes);
        (0..10_000)
            .filter(|n| known.get(&record(*n).0) == Some(record(*n).1))
            .collect()
    }

    #[test]
    fn records_that_were_written_and_appended_are_read_back() {
        let mut bytes = log((0..9000).map(record));
        append([record(9500)].into_iter(), &mut bytes).unwrap();
        let known = KnownContents::read(bytes.as_slice());
        assert_eq!(known.appendable(), Some(bytes.len() as u64));
        assert_eq!(known.record_count(), 9001);
        assert_eq!(knows(&bytes), (0..9000).chain([9500]).collect::<Vec<_>>());
        let none = log(std::iter::empty());
        assert_eq!(KnownContents::read(none.as_slice()).appendable(), Some(8));
    }

    #[test]
    fn a_file_that_is_no_image_is_read_back_as_such() {
        let (print, _) = record(3);
        let bytes = log([record(1), (print, Contents::NOT_AN_IMAGE)].into_iter());
        let known = KnownContents::read(bytes.as_slice());
        assert_eq!(known.get(&print), Some(Contents::NOT_AN_IMAGE));
        assert_eq!(known.get(&record(1).0), Some(record(1).1));
    }

    #[test]
    fn a_damaged_log_is_read_up_to_the_first_damaged_block() {
        let first = log((0..3).map(record));
        let mut bytes = first.clone();
        append((3..5).map(record), &mut bytes).unwrap();
        for cut in 0..bytes.len() {
            let whole = match cut {
                cut if cut < first.len() => Vec::new(),
                _ => vec![0, 1, 2],
            };
            assert_eq!(knows(&bytes[..cut]), whole, "cut at {cut}");
            let ends_between = cut == 8 || cut == first.len();
            let read = KnownContents::read(&bytes[..cut]);
            assert_eq!(read.appendable().is_some(), ends_between, "cut at {cut}");
        }
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            let whole = if at < first.len() {
                vec![]
            } else {
                vec![0, 1, 2]
            };
            assert_eq!(knows(&bad), whole, "changed at {at}");
            assert_eq!(
                KnownContents::read(bad.as_slice()).appendable(),
                None,
                "changed at {at}"
            );
        }
        let older = [b"JTPidx\x00\x02".as_slice(), &bytes[8..]].concat();
        assert!(KnownContents::read(older.as_slice()).is_empty());
    }
}
