//! The files whose first bytes are not those of an image, so that they are not opened again while they are unchanged.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::ffi::OsStr;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use jtp_core::FileType;

use super::left_out::{Examples, LeftOut, LeftOutReason};
use crate::fingerprint::Fingerprint;
use crate::known::{Contents, Record};

/// The number of first bytes that are read of a file.
pub(super) const START_LEN: usize = 12;

/// Whether a file without an image extension is an image by its first bytes.
///
/// Two letters are not enough for a BMP: other files begin with `BM`, too. Its four reserved bytes are 0.
pub(super) fn is_image_start(start: &[u8]) -> bool {
    match FileType::sniff(start) {
        Some(FileType::Bmp) => start.get(6..10) == Some(&[0; 4]),
        Some(_) => true,
        None => false,
    }
}

/// Files by name, with their fingerprint. A file takes 65 bytes of memory, whatever the length of its name.
#[derive(Debug, Default)]
pub(super) struct NonImages {
    files: HashTable<File>,
    seed: RandomState,
    examples: Examples,
}

#[derive(Debug, Clone, Copy)]
struct File {
    /// A hash with a secret seed. If two names have the same one, both files are read at each scan.
    name: u64,
    print: Fingerprint,
    /// Whether the fingerprint identifies the contents. Else the file changed too recently, and is read again soon.
    is_settled: bool,
}

impl NonImages {
    /// Adds a file.
    pub(super) fn insert(&mut self, name: &OsStr, print: &Fingerprint, is_settled: bool) {
        self.put(File {
            name: self.seed.hash_one(name),
            print: *print,
            is_settled,
        });
        self.examples.add(name);
    }

    fn put(&mut self, file: File) {
        let is_same = |other: &File| other.name == file.name;
        match self.files.entry(file.name, is_same, |file| file.name) {
            Entry::Occupied(mut entry) => *entry.get_mut() = file,
            Entry::Vacant(entry) => _ = entry.insert(file),
        }
    }

    pub(super) fn remove(&mut self, name: &OsStr) {
        if self.files.is_empty() {
            return;
        }
        let hash = self.seed.hash_one(name);
        if let Ok(entry) = self.files.find_entry(hash, |file| file.name == hash) {
            entry.remove();
            self.examples.remove(name);
        }
    }

    fn get(&self, name: &OsStr) -> Option<&File> {
        if self.files.is_empty() {
            return None;
        }
        let hash = self.seed.hash_one(name);
        self.files.find(hash, |file| file.name == hash)
    }

    pub(super) fn contains(&self, name: &OsStr) -> bool {
        self.get(name).is_some()
    }

    /// The fingerprint that a file had when it was read.
    pub(super) fn fingerprint(&self, name: &OsStr) -> Option<Fingerprint> {
        self.get(name).map(|file| file.print)
    }

    /// The files that were to be read again soon are not.
    pub(super) fn forget_unsettled(&mut self) {
        self.files.retain(|file| file.is_settled);
    }

    /// An empty table that takes the files of this one that a scan finds.
    pub(super) fn successor(&self) -> NonImages {
        NonImages {
            seed: self.seed.clone(),
            ..NonImages::default()
        }
    }

    /// Takes a file over if `before` has it. Returns its fingerprint.
    pub(super) fn carry(&mut self, before: &NonImages, name: &OsStr) -> Option<Fingerprint> {
        let file = *before.get(name)?;
        self.put(file);
        self.examples.add(name);
        Some(file.print)
    }

    pub(super) fn merge(&mut self, other: &[(super::record::Name, Fingerprint)]) {
        for (name, print) in other {
            self.insert(name, print, true);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    fn settled(&self) -> impl Iterator<Item = Fingerprint> + '_ {
        let settled = self.files.iter().filter(|file| file.is_settled);
        settled.map(|file| file.print)
    }

    /// What is kept for the next run.
    pub(super) fn known(&self) -> impl Iterator<Item = Record> + '_ {
        self.settled().map(|print| (print, Contents::NOT_AN_IMAGE))
    }

    pub(super) fn fingerprints(&self) -> HashSet<Fingerprint> {
        self.settled().collect()
    }

    pub(super) fn count_in(&self, left_out: &mut LeftOut) {
        let count = u64::try_from(self.len()).unwrap_or(u64::MAX);
        left_out.add_many(LeftOutReason::NotAnImage, count, &self.examples);
    }
}

/// What the threads of a store share about files that are left out.
#[derive(Debug, Default)]
pub(super) struct SharedLeftOut {
    non_images: Mutex<NonImages>,
    summary: Mutex<LeftOut>,
    /// See [`StoreCounters::first_bytes_read`](super::StoreCounters::first_bytes_read).
    first_bytes_read: AtomicU64,
}

impl SharedLeftOut {
    pub(super) fn non_images(&self) -> MutexGuard<'_, NonImages> {
        let non_images = self.non_images.lock();
        non_images.unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn summary(&self) -> LeftOut {
        let summary = self.summary.lock();
        summary.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_summary(&self, summary: LeftOut) {
        let mut place = self.summary.lock().unwrap_or_else(PoisonError::into_inner);
        *place = summary;
    }

    pub(super) fn count_first_bytes(&self) {
        self.first_bytes_read.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn first_bytes_read(&self) -> u64 {
        self.first_bytes_read.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_of_images_are_told_from_those_of_other_files() {
        let images: [&[u8]; 6] = [
            b"\x89PNG\r\n\x1a\n",
            b"\xff\xd8\xff\xe0",
            b"RIFF....WEBPVP8 ",
            b"BM\x46\0\0\0\0\0\0\0\x36\0",
            b"GIF87a",
            b"GIF89a",
        ];
        for start in images {
            assert!(is_image_start(start), "{start:?}");
        }
        let others: [&[u8]; 7] = [
            b"",
            b"\x89PNG",
            b"\xff\xd8",
            b"RIFF....WAVEfmt ",
            b"BM",
            b"BMI,weight,height\n",
            b"#!/bin/sh\n",
        ];
        for start in others {
            assert!(!is_image_start(start), "{start:?}");
        }
    }

    #[test]
    fn files_are_known_by_name_and_settled_fingerprint() {
        let mut files = NonImages::default();
        let name = OsStr::new;
        assert!(!files.contains(name("a")));
        files.insert(name("a"), &Fingerprint::sample(1), true);
        files.insert(name("b"), &Fingerprint::sample(2), false);
        assert_eq!(files.fingerprint(name("a")), Some(Fingerprint::sample(1)));
        assert_eq!(files.fingerprint(name("b")), Some(Fingerprint::sample(2)));
        assert_eq!((files.len(), files.known().count()), (2, 1));
        files.forget_unsettled();
        assert!(!files.contains(name("b")));
        files.insert(name("b"), &Fingerprint::sample(3), true);
        assert_eq!((files.len(), files.known().count()), (2, 2));
        let mut next = files.successor();
        assert_eq!(next.carry(&files, name("b")), Some(Fingerprint::sample(3)));
        assert_eq!(next.carry(&files, name("c")), None);
        assert!(next.len() == 1 && !next.contains(name("a")));
        next.remove(name("b"));
        next.remove(name("c"));
        let mut left_out = LeftOut::default();
        next.count_in(&mut left_out);
        assert_eq!(left_out, LeftOut::default());
        files.count_in(&mut left_out);
        assert_eq!(left_out.count(LeftOutReason::NotAnImage), 2);
    }
}
