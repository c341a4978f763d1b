//! What the index knows, in few bytes: 16 for each record.
//!
//! The records themselves stay in the file. A fingerprint is represented by 60 bits of its hash, whose seed is random: no
//! file can be chosen so that it has the hash of another one, and by chance one of a million changed files has the hash
//! of one of a million records once in a million scans.

use std::collections::hash_map::RandomState;
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};

use jtp_core::{FileType, ImageId};

use crate::fingerprint::Fingerprint;
use crate::known::{self, Contents, LogReader, Record};

/// The bits of a hash that tell fingerprints apart. The others hold the type.
const HASH: u64 = !0xf;

/// Stands for the type of a file whose first bytes do not show it.
const NO_TYPE: u64 = 8;

/// Stands for the type of a file that is no image.
const NO_IMAGE: u64 = 9;

/// The number of entries in a bucket, on average.
const BUCKET: usize = 32;

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// The upper bits of the hash, and the type.
    key: u64,
    id: u64,
}

fn position(at: u32) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

/// IDs by fingerprint.
#[derive(Debug, Default)]
pub(super) struct IdTable {
    /// In the order of their hashes.
    entries: Vec<Entry>,
    /// The position in `entries` at which the hashes begin whose upper bits are the index.
    buckets: Vec<u32>,
    /// The number of bits that are not part of a bucket's index.
    shift: u32,
    /// One bit for each entry: whether a file has that fingerprint.
    used: Vec<AtomicU64>,
    seed: RandomState,
    /// The number of records that were read.
    records: usize,
}

impl IdTable {
    /// Reads a log to its end, or to its first damaged block. `expected`: the number of records, about. Also returns the
    /// length of the log; `None` if it is damaged.
    pub(super) fn read(from: impl Read, expected: usize) -> (IdTable, Option<u64>) {
        let mut table = IdTable::default();
        let Some(mut reader) = LogReader::new(from) else {
            return (table, None);
        };
        table.entries.reserve_exact(expected);
        let mut end = None;
        loop {
            let at = reader.position();
            match reader.next() {
                None => break,
                Some([]) => {
                    end = Some(at);
                    break;
                }
                Some(block) => table.add(block),
            }
        }
        table.sort();
        (table, end)
    }

    fn add(&mut self, block: &[Record]) {
        self.records += block.len();
        if self.entries.capacity() - self.entries.len() < block.len() {
            // Grows by an eighth, not by the double.
            self.entries
                .reserve_exact(block.len() + self.entries.len() / 8);
        }
        let seed = &self.seed;
        self.entries.extend(block.iter().map(|(print, contents)| {
            let key = known::hash(seed, print) & HASH | code(*contents);
            let id = contents.id.0;
            Entry { key, id }
        }));
    }

    fn sort(&mut self) {
        let count = (self.entries.len() / BUCKET).next_power_of_two();
        self.shift = u64::BITS - count.ilog2();
        self.count_buckets(count);
        // The hashes are random: each bucket has few entries.
        let mut next = self.buckets.clone();
        let mut sorted = vec![Entry { key: 0, id: 0 }; self.entries.len()];
        // The last record of a fingerprint is the valid one.
        for entry in self.entries.iter().rev() {
            let Some(at) = next.get_mut(self.bucket(entry.key)) else {
                continue;
            };
            if let Some(place) = sorted.get_mut(position(*at)) {
                *place = *entry;
            }
            *at += 1;
        }
        for (start, end) in self.buckets.iter().zip(self.buckets.iter().skip(1)) {
            if let Some(bucket) = sorted.get_mut(position(*start)..position(*end)) {
                bucket.sort_by_key(|entry| entry.key & HASH);
            }
        }
        sorted.dedup_by_key(|entry| entry.key & HASH);
        let has_equal = sorted.len() < self.entries.len();
        self.entries = sorted;
        if has_equal {
            self.entries.shrink_to_fit();
            self.count_buckets(count);
        }
        self.used = (0..self.entries.len().div_ceil(64))
            .map(|_| AtomicU64::new(0))
            .collect();
    }

    /// Finds out at which position each bucket begins.
    fn count_buckets(&mut self, count: usize) {
        let mut buckets = vec![0; count + 1];
        for entry in &self.entries {
            if let Some(next) = buckets.get_mut(self.bucket(entry.key) + 1) {
                *next += 1;
            }
        }
        let mut sum = 0;
        for start in &mut buckets {
            sum += *start;
            *start = sum;
        }
        self.buckets = buckets;
    }

    fn bucket(&self, key: u64) -> usize {
        // With one bucket, all bits are shifted out.
        usize::try_from(key.checked_shr(self.shift).unwrap_or(0)).unwrap_or(0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The number of records in the log.
    pub(super) fn records(&self) -> usize {
        self.records
    }

    /// The position of a fingerprint.
    fn find(&self, print: &Fingerprint) -> Option<usize> {
        if self.entries.is_empty() {
            return None;
        }
        let hash = known::hash(&self.seed, print) & HASH;
        let bucket = self.bucket(hash);
        let start = |bucket: usize| usize::try_from(*self.buckets.get(bucket)?).ok();
        let (from, to) = (start(bucket)?, start(bucket + 1)?);
        let entries = self.entries.get(from..to)?;
        let at = entries.binary_search_by_key(&hash, |entry| entry.key & HASH);
        at.ok().map(|at| from + at)
    }

    /// The contents of the file with this fingerprint, and the position to [use](Self::set_used).
    pub(super) fn get(&self, print: &Fingerprint) -> Option<(usize, Contents)> {
        let at = self.find(print)?;
        self.entries.get(at).map(|entry| (at, entry.contents()))
    }

    /// Notes that there is a file with this fingerprint.
    pub(super) fn set_used(&self, at: usize) {
        if let Some(word) = self.used.get(at / 64) {
            word.fetch_or(1 << (at % 64), Ordering::Relaxed);
        }
    }

    /// Whether this is the valid record of a fingerprint that a file has.
    pub(super) fn is_used(&self, (print, contents): &Record) -> bool {
        self.find(print).is_some_and(|at| {
            let word = self.used.get(at / 64);
            let is_used =
                word.is_some_and(|word| word.load(Ordering::Relaxed) & (1 << (at % 64)) != 0);
            let is_valid =
                |entry: &Entry| (entry.id, entry.key & !HASH) == (contents.id.0, code(*contents));
            is_used && self.entries.get(at).is_some_and(is_valid)
        })
    }
}

impl Entry {
    fn contents(self) -> Contents {
        let sniffed = match self.key & !HASH {
            NO_IMAGE => return Contents::NOT_AN_IMAGE,
            code => u8::try_from(code).ok().filter(|code| *code < 8),
        };
        Contents {
            id: ImageId(self.id),
            sniffed: sniffed.map(FileType::from_code),
            incompressible_at: 0,
        }
    }
}

/// Four bits that stand for the type.
fn code(contents: Contents) -> u64 {
    match contents {
        Contents::NOT_AN_IMAGE => NO_IMAGE,
        contents => contents.sniffed.map_or(NO_TYPE, |t| u64::from(t.code())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::known::tests;
    use jtp_core::ImageId;

    /// Without what only a store keeps.
    fn record(n: u64) -> Record {
        let (print, mut contents) = tests::record(n);
        contents.incompressible_at = 0;
        (print, contents)
    }

    fn read(records: impl Iterator<Item = Record>) -> IdTable {
        let mut bytes = Vec::new();
        let length = known::write(records, &mut bytes).unwrap();
        let (table, end) = IdTable::read(bytes.as_slice(), 0);
        assert_eq!(end, Some(length));
        table
    }

    #[test]
    fn records_are_found_by_their_fingerprints_alone() {
        for count in [0, 1, 31, 64, 65, 5_000, 20_000] {
            let table = read((0..count).map(record));
            assert_eq!(table.is_empty(), count == 0);
            for n in 0..count {
                let (print, contents) = record(n);
                assert_eq!(table.get(&print).map(|found| found.1), Some(contents));
            }
            assert!((count..count + 1000).all(|n| table.get(&record(n).0).is_none()));
        }
    }

    #[test]
    fn a_record_takes_16_bytes_in_the_table() {
        const COUNT: u64 = 50_000;
        let table = read((0..COUNT).map(record));
        let bytes = table.entries.capacity() * size_of::<Entry>()
            + table.buckets.capacity() * size_of::<u32>()
            + table.used.capacity() * size_of::<u64>();
        assert!(bytes as u64 <= 17 * COUNT, "{bytes}");
    }

    #[test]
    fn the_last_record_of_a_fingerprint_is_valid_and_used() {
        let (print, old) = record(1);
        let new = Contents {
            id: ImageId(99),
            ..old
        };
        let table = read([(print, old), record(2), (print, new)].into_iter());
        let (at, contents) = table.get(&print).unwrap();
        assert_eq!(contents, new);
        assert!(!table.is_used(&(print, new)));
        table.set_used(at);
        assert!(table.is_used(&(print, new)) && !table.is_used(&(print, old)));
        assert!(!table.is_used(&record(2)) && !table.is_used(&record(3)));
        table.set_used(table.get(&record(2).0).unwrap().0);
        assert!(table.is_used(&record(2)));
    }

    #[test]
    fn a_file_that_is_no_image_is_found_as_such() {
        let (print, _) = record(3);
        let table = read([record(1), (print, Contents::NOT_AN_IMAGE)].into_iter());
        assert_eq!(table.get(&print).map(|f| f.1), Some(Contents::NOT_AN_IMAGE));
    }
}
