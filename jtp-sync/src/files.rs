//! The files of the folder that the planner has to remember one by one.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use jtp_core::ImageId;
use jtp_store::{NameArena, fold_case};

use crate::inventory::{FileKind, grow};

/// A file. Its index stays the same until it is removed.
pub(crate) type Index = u32;

/// No address: the index is free.
const NONE: u32 = u32::MAX;

/// Files by name and by content. Names that a file system may treat as equal are found together.
#[derive(Debug, Default)]
pub(crate) struct Files {
    ids: Vec<ImageId>,
    names: Vec<u32>,
    free: Vec<Index>,
    arena: NameArena,
    by_fold: HashTable<Index>,
    /// Images only.
    by_id: HashTable<Index>,
    hasher: RandomState,
}

impl Files {
    pub(crate) fn name(&self, file: Index) -> &str {
        self.arena.name(self.names[index(file)])
    }

    pub(crate) fn kind(&self, file: Index) -> FileKind {
        FileKind::new(
            self.arena.tag(self.names[index(file)]),
            self.ids[index(file)],
        )
    }

    /// The files whose name a file system may treat as equal to this one, those with the smallest name first.
    pub(crate) fn with_fold(&self, folded: &str) -> Vec<Index> {
        let mut found: Vec<Index> = self
            .by_fold
            .iter_hash(self.hasher.hash_one(folded))
            .copied()
            .filter(|file| *fold_case(self.name(*file)) == *folded)
            .collect();
        found.sort_unstable_by_key(|file| self.name(*file));
        found
    }

    /// The file with exactly this name.
    pub(crate) fn named(&self, name: &str) -> Option<Index> {
        let hash = self.hasher.hash_one(&*fold_case(name));
        let is = |file: &Index| self.name(*file) == name;
        self.by_fold.find(hash, is).copied()
    }

    /// The files with this image, in no particular order.
    pub(crate) fn copies(&self, id: ImageId) -> impl Iterator<Item = Index> {
        self.by_id
            .iter_hash(self.hasher.hash_one(id.0))
            .copied()
            .filter(move |file| self.ids[index(*file)] == id)
    }

    /// All files, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Index> {
        self.by_fold.iter().copied()
    }

    /// Adds a file, in place of one with exactly this name. Does nothing if the name does not fit.
    pub(crate) fn insert(&mut self, name: &str, kind: FileKind) {
        if let Some(old) = self.named(name) {
            self.remove(old);
        }
        if self.arena.is_wasteful() {
            self.compact();
        }
        let Some(address) = self.arena.push(kind.code(), name) else {
            return;
        };
        let file = match self.free.pop() {
            Some(file) => file,
            None => {
                let Some(file) = Index::try_from(self.ids.len()).ok().filter(|f| *f != NONE) else {
                    return;
                };
                grow(&mut self.ids);
                grow(&mut self.names);
                self.ids.push(ImageId(0));
                self.names.push(NONE);
                file
            }
        };
        self.names[index(file)] = address;
        let (names, arena, hasher) = (&self.names, &self.arena, &self.hasher);
        let hash = |file: &Index| hasher.hash_one(&*fold_case(arena.name(names[index(*file)])));
        self.by_fold.insert_unique(hash(&file), file, hash);
        if let FileKind::Image(id) = kind {
            self.ids[index(file)] = id;
            let ids = &self.ids;
            let hash = |file: &Index| hasher.hash_one(ids[index(*file)].0);
            self.by_id.insert_unique(hash(&file), file, hash);
        }
    }

    pub(crate) fn remove(&mut self, file: Index) {
        let hash = self.hasher.hash_one(&*fold_case(self.name(file)));
        if let Ok(entry) = self.by_fold.find_entry(hash, |other| *other == file) {
            entry.remove();
        }
        let hash = self.hasher.hash_one(self.ids[index(file)].0);
        if let Ok(entry) = self.by_id.find_entry(hash, |other| *other == file) {
            entry.remove();
        }
        self.arena.forget(self.names[index(file)]);
        self.names[index(file)] = NONE;
        self.free.push(file);
    }

    fn compact(&mut self) {
        let mut arena = NameArena::new();
        for address in self.names.iter_mut().filter(|address| **address != NONE) {
            let (tag, name) = (self.arena.tag(*address), self.arena.name(*address));
            // It fits, because the old arena held more.
            if let Some(moved) = arena.push(tag, name) {
                *address = moved;
            }
        }
        self.arena = arena;
    }
}

fn index(file: Index) -> usize {
    usize::try_from(file).unwrap_or(usize::MAX)
}
