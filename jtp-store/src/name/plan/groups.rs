//! Groups of images whose names meet.

use jtp_core::FileType;

use super::super::fold_case;
use super::{NONE, NamePlan, PLAIN, index, make_name};

impl NamePlan {
    pub(super) fn fold_hash(&self, slot: u32) -> u64 {
        match self.is_plain(slot) {
            true => self.hasher.of_ascii_fold(self.listed_bytes(slot)),
            false => self.hasher.of(&self.safe_name(slot).folded()),
        }
    }

    /// The first image of the group with this fold.
    pub(super) fn group(&self, folded: &str) -> Option<u32> {
        self.group_hashed(self.hasher.of(folded), folded)
    }

    /// The same. A name that is ASCII need not be folded: only its hash is that of its fold.
    pub(super) fn group_hashed(&self, hash: u64, folded: &str) -> Option<u32> {
        let folded = folded.as_bytes();
        let is_equal = |name: &[u8]| name == folded || name.eq_ignore_ascii_case(folded);
        let is = |slot: &u32| match self.is_plain(*slot) {
            true => is_equal(self.listed_bytes(*slot)),
            false => is_equal(self.safe_name(*slot).folded().as_bytes()),
        };
        self.groups.find(hash, is).copied()
    }

    pub(super) fn first_listed(&self, name: &str) -> Option<u32> {
        let is = |slot: &u32| self.listed_name(*slot) == name;
        self.listed.find(self.hasher.of(name), is).copied()
    }

    pub(super) fn next(&self, slot: u32) -> u32 {
        self.links.get(index(slot)).map_or(NONE, |links| links[1])
    }

    pub(super) fn link(&mut self, before: u32, after: u32) {
        if let Some(links) = self.links.get_mut(index(before)) {
            links[1] = after;
        }
        if let Some(links) = self.links.get_mut(index(after)) {
            links[0] = before;
        }
    }

    pub(super) fn insert_listed(&mut self, slot: u32) {
        let (names, arena, hasher) = (&self.names, &self.arena, &self.hasher);
        let hash = |slot: &u32| hasher.of(arena.name(names[index(*slot)]));
        self.listed.insert_unique(hash(&slot), slot, hash);
    }

    pub(super) fn join_group(&mut self, slot: u32) {
        let safe = self.safe_text(slot);
        let folded = fold_case(&safe);
        let hash = self.hasher.of(&folded);
        let Some(first) = self.group_hashed(hash, &folded) else {
            return self.insert_group(slot, hash);
        };
        if self.links.len() < self.ids.len() {
            self.links.resize(self.ids.len(), [NONE; 2]);
        }
        if self.next(first) == NONE {
            self.insert_listed(first);
        }
        if let Some(same) = self.first_listed(self.listed_name(slot)) {
            let next = self.next(same);
            self.link(slot, next);
            self.link(same, slot);
        } else {
            self.link(slot, first);
            self.insert_listed(slot);
            if let Some(head) = self.groups.find_mut(hash, |other| *other == first) {
                *head = slot;
            }
        }
    }

    /// Begins a group with its first image, whose fold has this hash.
    pub(super) fn insert_group(&mut self, slot: u32, hash: u64) {
        let in_folders = self.folders.is_some();
        let plan = (&self.ids, &self.names, &self.arena, &self.hasher);
        let rehash = |slot: &u32| {
            let (ids, names, arena, hasher) = plan;
            let (id, at) = (ids[index(*slot)], names[index(*slot)]);
            let tag = arena.tag(at);
            if tag & PLAIN != 0 {
                return hasher.of_ascii_fold(arena.name_bytes(at));
            }
            let file_type = FileType::from_code(tag);
            let safe = make_name(in_folders, arena.name(at), id, file_type);
            hasher.of(&safe.folded())
        };
        self.groups.insert_unique(hash, slot, rehash);
    }

    /// Whether other images have the same fold.
    pub(super) fn is_linked(&self, slot: u32) -> bool {
        self.links
            .get(index(slot))
            .is_some_and(|links| *links != [NONE; 2])
    }

    /// Removes an image from its group. Does nothing if it is superseded.
    pub(super) fn leave_group(&mut self, slot: u32) {
        if self.has_mark(slot) {
            return;
        }
        let hash = self.fold_hash(slot);
        let [before, after] = self.links.get(index(slot)).copied().unwrap_or([NONE; 2]);
        if [before, after] == [NONE; 2] {
            if let Ok(entry) = self.groups.find_entry(hash, |other| *other == slot) {
                entry.remove();
            }
            return;
        }
        self.remove_listed(slot, after);
        if before == NONE {
            if let Some(head) = self.groups.find_mut(hash, |other| *other == slot) {
                *head = after;
            }
        }
        self.link(before, after);
        self.links[index(slot)] = [NONE; 2];
        // A single image is found by its group alone.
        let first = if before == NONE { after } else { before };
        if self.links[index(first)] == [NONE; 2] {
            self.remove_listed(first, NONE);
        }
    }

    /// Makes `next` the first image with the name of `slot` if it has that name.
    pub(super) fn remove_listed(&mut self, slot: u32, next: u32) {
        let hash = self.hasher.of(self.listed_name(slot));
        let follows = next != NONE && self.listed_name(next) == self.listed_name(slot);
        if let Ok(mut entry) = self.listed.find_entry(hash, |other| *other == slot) {
            if follows {
                *entry.get_mut() = next;
            } else {
                entry.remove();
            }
        }
    }
}
