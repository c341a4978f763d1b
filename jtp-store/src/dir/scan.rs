//! Scans of the folder: names and metadata are read, contents are not.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;

use cap_std::fs::Dir;

use super::index::Index;
use super::left_out::LeftOut;
use super::non_images::SharedLeftOut;
use super::record::{FileRecord, Name};
use super::refusals::Refusals;
use super::scope::{Folders, Scope};
use super::select::{Naming, Selection};
use super::table::Slot;
use super::tree::{Entry, Rest, Walk};
use super::unreadable::Unreadable;
use crate::entries::Kind;
use crate::file_system::FileSystem;
use crate::fingerprint::{Fingerprint, Stat};
use crate::hash;

/// The differences between the folder and what is known of it.
#[derive(Debug, Default)]
pub(super) struct Differences {
    /// Files that are new or have another fingerprint.
    pub(super) changed: Vec<Name>,
    /// New files that have the fingerprint of a missing one: their folder was moved.
    pub(super) moved: Vec<Name>,
    /// Indexed files that are missing.
    pub(super) missing: Vec<Name>,
    /// Indexed files in folders that cannot be read: they may be there.
    pub(super) unreachable: Vec<Name>,
    /// Refused files that are missing.
    pub(super) missing_refused: Vec<Name>,
    /// The files that are left out by their names and types.
    pub(super) left_out: LeftOut,
    /// The sub-folders that are left out.
    pub(super) skipped: Vec<(Name, io::Error)>,
    /// The sub-folders that cannot be read.
    pub(super) unreadable: Vec<(Name, io::Error)>,
    /// The mount points in sub-folders.
    pub(super) mounts: Vec<Name>,
}

/// What is known of the files of a folder.
#[derive(Clone, Copy)]
pub(super) struct Files<'a> {
    pub(super) index: &'a Index,
    pub(super) refusals: &'a Refusals,
    pub(super) unreadable: &'a Unreadable,
    pub(super) left_out: &'a SharedLeftOut,
}

/// How often the folders that changed during a scan are read again, at most: the files in one that changes all the time
/// are then taken as they were found.
const MAX_ROUNDS: u32 = 5;

/// Compares the folder with what is known of its files.
///
/// A file is missing only if it was not found in any folder as that was after the last one was read. Else a folder that
/// is moved during the scan, from a place that is not read yet to one that was, would be missing.
pub(super) fn scan(
    place: (&Dir, FileSystem),
    walk: Walk<'_>,
    scope: &Scope,
    selection: &Selection,
    files: Files<'_>,
) -> io::Result<Differences> {
    let mut comparison = Comparison::new(place, scope, selection, files);
    comparison.run(walk)?;
    Ok(comparison.differences)
}

struct Comparison<'a> {
    dir: &'a Dir,
    file_system: FileSystem,
    scope: &'a Scope,
    selection: &'a Selection,
    files: Files<'a>,
    found_slots: Vec<bool>,
    found_refused: HashSet<Name>,
    /// With sub-folders, what is new. A file in a folder that was moved keeps its fingerprint.
    new: HashMap<Fingerprint, Vec<Name>>,
    differences: Differences,
}

impl<'a> Comparison<'a> {
    fn new(
        (dir, file_system): (&'a Dir, FileSystem),
        scope: &'a Scope,
        selection: &'a Selection,
        files: Files<'a>,
    ) -> Comparison<'a> {
        Comparison {
            dir,
            file_system,
            scope,
            selection,
            files,
            found_slots: vec![false; files.index.slots_end()],
            found_refused: HashSet::new(),
            new: HashMap::new(),
            differences: Differences::default(),
        }
    }

    fn run(&mut self, mut walk: Walk<'_>) -> io::Result<()> {
        let mut non_images = self.files.left_out.non_images();
        // A scan of the whole folder forgets the others that it does not find.
        let mut found_non_images = self.scope.is_whole().then(|| non_images.successor());
        let mut path = OsString::new();
        for round in 0.. {
            while let Some(batch) = walk.next()? {
                for entry in batch.entries() {
                    let name = entry.path(&mut path);
                    let is_other = |name: &OsStr| match &mut found_non_images {
                        Some(found) => found.carry(&non_images, name),
                        None => non_images.fingerprint(name),
                    };
                    self.compare(entry, name, round > 0, is_other);
                }
            }
            let is_last = round >= MAX_ROUNDS || self.missing().next().is_none();
            if is_last || !walk.read_changed_again(round == 0) {
                break;
            }
        }
        if let Some(found) = found_non_images {
            *non_images = found;
        }
        drop(non_images);
        self.finish(walk.finish());
        Ok(())
    }

    fn compare(
        &mut self,
        entry: Entry<'_>,
        name: &OsStr,
        is_again: bool,
        other: impl FnOnce(&OsStr) -> Option<Fingerprint>,
    ) {
        let mut counted_before = LeftOut::default();
        let left_out = match is_again {
            true => &mut counted_before,
            false => &mut self.differences.left_out,
        };
        if !is_candidate(self.selection, entry, name, left_out) {
            return;
        }
        let Files {
            index,
            refusals,
            unreadable,
            ..
        } = self.files;
        let fingerprint = fingerprint(self.dir, self.file_system, entry, name);
        let slot = index.slot(name);
        let known = match slot.and_then(|slot| index.record_at(slot)) {
            Some(record) => Some(record.fingerprint),
            None => match refusals.get(name) {
                Some(refusal) => {
                    self.found_refused.insert(Name::from(name));
                    refusal.fingerprint
                }
                None => other(name),
            },
        };
        if let Some(found) = slot.and_then(|slot| self.found_slots.get_mut(to_index(slot))) {
            *found = true;
        }
        // A file that could not be read, and has not changed since.
        if slot.is_some() && unreadable.get(name) == Some(fingerprint) {
            return;
        }
        match fingerprint {
            Some(found) if known.is_none() && index.naming() == Naming::Tree => {
                let name = Name::from(name);
                let names = self.new.entry(found).or_default();
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            _ if known != fingerprint || fingerprint.is_none() => {
                self.differences.changed.push(Name::from(name));
            }
            _ => {}
        }
    }

    /// The indexed files that were not found.
    fn missing(&self) -> impl Iterator<Item = (Name, FileRecord)> + '_ {
        let index = self.files.index;
        index.slots().filter_map(move |slot| {
            let is_found = *self.found_slots.get(to_index(slot))?;
            let missing = (!is_found).then(|| index.at(slot)).flatten();
            missing.filter(|(name, _)| self.scope.has_file(name))
        })
    }

    fn finish(&mut self, rest: Rest) {
        let unreadable = Folders::new(rest.unreadable.iter().map(|(path, _)| Name::clone(path)));
        let missing: Vec<_> = self.missing().collect();
        for (name, record) in missing {
            if unreadable.contain(&name) {
                self.differences.unreachable.push(name);
                continue;
            }
            self.differences.missing.push(name);
            let moved = self.new.remove(&record.fingerprint);
            self.differences.moved.extend(moved.into_iter().flatten());
        }
        let new = std::mem::take(&mut self.new);
        self.differences.changed.extend(new.into_values().flatten());
        self.differences.left_out.merge(&rest.left_out);
        self.differences.skipped = rest.skipped;
        self.differences.unreadable = rest.unreadable;
        self.differences.mounts = rest.mounts;
        let refused = self.files.refusals.names();
        let missing =
            refused.filter(|name| self.scope.has_file(name) && !self.found_refused.contains(*name));
        self.differences.missing_refused = missing.cloned().collect();
    }
}

pub(super) fn is_candidate(
    selection: &Selection,
    entry: Entry<'_>,
    path: &OsStr,
    left_out: &mut LeftOut,
) -> bool {
    let is_folder = entry.kind() == Kind::Folder;
    let reason = selection.reason_against(path, entry.name(), is_folder);
    if let Some(reason) = reason {
        left_out.add(reason, path);
    }
    reason.is_none()
}

fn to_index(slot: Slot) -> usize {
    usize::try_from(slot).unwrap_or(usize::MAX)
}

fn fingerprint(
    dir: &Dir,
    file_system: FileSystem,
    entry: Entry<'_>,
    path: &OsStr,
) -> Option<Fingerprint> {
    fingerprint_and_links(dir, file_system, entry, path).map(|(print, _)| print)
}

/// Also whether the file can change under another name.
pub(super) fn fingerprint_and_links(
    dir: &Dir,
    file_system: FileSystem,
    entry: Entry<'_>,
    path: &OsStr,
) -> Option<(Fingerprint, bool)> {
    let (stat, is_linked) = match entry.kind() {
        Kind::Link => (Stat::of_cap(&hash::metadata(dir, path).ok()?), true),
        _ => entry.stat_and_links()?,
    };
    Some((file_system.fingerprint(&stat, path), is_linked))
}
