//! The folders in which the images of a plan are. // W9

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::folders::folders_of;

/// Counts the images and folders in each folder, by the hash of its folded path. It takes some 20 bytes for each folder.
///
/// The hash has a random seed and 64 bits, so that two folders with one hash are not expected, and nobody can choose
/// them. If there were two, a file would get its ID as a suffix without need.
#[derive(Debug, Clone, Default)]
pub(super) struct FolderTable {
    folders: HashTable<Folder>,
    hasher: RandomState,
}

#[derive(Debug, Clone, Copy)]
struct Folder {
    hash: u64,
    entries: u32,
}

impl FolderTable {
    /// Notes that there is a file with this folded path.
    pub(super) fn add(&mut self, folded: &str) {
        for folder in folders_of(folded) {
            let hash = self.hasher.hash_one(folder);
            let is = |other: &Folder| other.hash == hash;
            match self.folders.entry(hash, is, |folder| folder.hash) {
                // The folders around it are known.
                Entry::Occupied(mut entry) => {
                    let entries = &mut entry.get_mut().entries;
                    *entries = entries.saturating_add(1);
                    return;
                }
                Entry::Vacant(entry) => {
                    entry.insert(Folder { hash, entries: 1 });
                }
            }
        }
    }

    /// Notes that there is no file with this folded path any more.
    pub(super) fn remove(&mut self, folded: &str) {
        for folder in folders_of(folded) {
            let hash = self.hasher.hash_one(folder);
            let is = |other: &Folder| other.hash == hash;
            let Ok(mut entry) = self.folders.find_entry(hash, is) else {
                return;
            };
            let entries = &mut entry.get_mut().entries;
            *entries -= 1;
            if *entries > 0 {
                return;
            }
            entry.remove();
        }
    }

    /// Whether there is a folder with this folded path.
    pub(super) fn contains(&self, folded: &str) -> bool {
        if self.folders.is_empty() {
            return false;
        }
        let hash = self.hasher.hash_one(folded);
        self.folders
            .find(hash, |other| other.hash == hash)
            .is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.folders.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_exist_while_a_file_is_in_them() {
        let mut table = FolderTable::default();
        for path in ["a/b/1", "a/b/2", "a/3", "c/d/4", "5"] {
            table.add(path);
        }
        assert_eq!(table.len(), 4);
        for folder in ["a", "a/b", "c", "c/d"] {
            assert!(table.contains(folder), "{folder}");
        }
        assert!(!table.contains("5") && !table.contains("b") && !table.contains(""));
        table.remove("a/b/1");
        assert!(table.contains("a/b"));
        table.remove("a/b/2");
        assert!(!table.contains("a/b") && table.contains("a"));
        for path in ["a/3", "c/d/4", "5"] {
            table.remove(path);
        }
        assert_eq!(table.len(), 0);
    }
}
