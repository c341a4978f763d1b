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
    /// The first file of each image. One entry for each image: if all copies were in the table, each would be compared
    /// with all others, since their hashes are equal.
    by_id: HashTable<Index>,
    /// The files before and after each file among those with its image. Empty until an image has two files.
    links: Vec<[Index; 2]>,
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
        if self.by_fold.is_empty() {
            return Vec::new();
        }
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
        // Often there are none: files under the names of their images are not here.
        if self.by_fold.is_empty() {
            return None;
        }
        let hash = self.hasher.hash_one(&*fold_case(name));
        let is = |file: &Index| self.name(*file) == name;
        self.by_fold.find(hash, is).copied()
    }

    /// The files with this image, in no particular order.
    pub(crate) fn copies(&self, id: ImageId) -> impl Iterator<Item = Index> {
        std::iter::successors(self.first(id), |file| {
            Some(self.neighbours(*file)[1]).filter(|next| *next != NONE)
        })
    }

    fn first(&self, id: ImageId) -> Option<Index> {
        if self.by_id.is_empty() {
            return None;
        }
        let is = |file: &Index| self.has_id(*file, id);
        self.by_id.find(self.hasher.hash_one(id.0), is).copied()
    }

    fn has_id(&self, file: Index, id: ImageId) -> bool {
        #[cfg(test)]
        tests::COMPARISONS.set(tests::COMPARISONS.get() + 1);
        self.ids[index(file)] == id
    }

    /// The files before and after this one among those with its image.
    fn neighbours(&self, file: Index) -> [Index; 2] {
        self.links.get(index(file)).copied().unwrap_or([NONE; 2])
    }

    fn link(&mut self, before: Index, after: Index) {
        if let Some(links) = self.links.get_mut(index(before)) {
            links[1] = after;
        }
        if let Some(links) = self.links.get_mut(index(after)) {
            links[0] = before;
        }
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
            self.insert_copy(file, id);
        }
    }

    fn insert_copy(&mut self, file: Index, id: ImageId) {
        if let Some(first) = self.first(id) {
            self.links.resize(self.ids.len(), [NONE; 2]);
            let next = self.neighbours(first)[1];
            self.link(file, next);
            self.link(first, file);
            return;
        }
        let (ids, hasher) = (&self.ids, &self.hasher);
        let hash = |file: &Index| hasher.hash_one(ids[index(*file)].0);
        self.by_id.insert_unique(hash(&file), file, hash);
    }

    fn remove_copy(&mut self, file: Index, id: ImageId) {
        let [before, after] = self.neighbours(file);
        self.link(before, after);
        if let Some(links) = self.links.get_mut(index(file)) {
            *links = [NONE; 2];
        }
        if before != NONE {
            return;
        }
        let hash = self.hasher.hash_one(id.0);
        if let Ok(mut entry) = self.by_id.find_entry(hash, |other| *other == file) {
            match after {
                NONE => drop(entry.remove()),
                after => *entry.get_mut() = after,
            }
        }
    }

    pub(crate) fn remove(&mut self, file: Index) {
        let hash = self.hasher.hash_one(&*fold_case(self.name(file)));
        if let Ok(entry) = self.by_fold.find_entry(hash, |other| *other == file) {
            entry.remove();
        }
        if let FileKind::Image(id) = self.kind(file) {
            self.remove_copy(file, id);
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeSet;

    use super::*;

    thread_local! {
        /// How often an ID was compared with that of a file.
        pub(super) static COMPARISONS: Cell<usize> = const { Cell::new(0) };
    }

    fn name(n: usize) -> String {
        format!("{n}.png")
    }

    fn copies(files: &Files, id: u64) -> BTreeSet<String> {
        let copies = files.copies(ImageId(id));
        copies.map(|file| files.name(file).to_owned()).collect()
    }

    #[test]
    fn many_files_of_one_image_are_added_and_removed_with_few_comparisons() {
        const COUNT: usize = 2_000;
        let mut files = Files::default();
        for n in 0..COUNT {
            files.insert(&name(n), FileKind::Image(ImageId(7)));
        }
        assert_eq!(copies(&files, 7).len(), COUNT);
        for n in 0..COUNT {
            let file = files.named(&name((n * 7) % COUNT)).unwrap();
            files.remove(file);
        }
        assert!(copies(&files, 7).is_empty());
        let comparisons = COMPARISONS.get();
        assert!(comparisons <= 2 * COUNT, "{comparisons} comparisons");
    }

    #[test]
    fn the_copies_of_an_image_are_those_that_were_added_and_not_removed() {
        let mut files = Files::default();
        let mut model: [BTreeSet<String>; 3] = Default::default();
        let mut state = 1u32;
        for _ in 0..20_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let name = name(usize::try_from(state >> 8).unwrap() % 40);
            let kind = usize::try_from(state >> 20).unwrap() % 5;
            for copies in &mut model {
                copies.remove(&name);
            }
            match kind {
                4 => {
                    if let Some(file) = files.named(&name) {
                        files.remove(file);
                    }
                }
                3 => files.insert(&name, FileKind::Other),
                id => {
                    files.insert(&name, FileKind::Image(ImageId(id as u64)));
                    model[id].insert(name);
                }
            }
            for (id, expected) in (0..).zip(&model) {
                assert_eq!(copies(&files, id), *expected);
            }
        }
    }
}
