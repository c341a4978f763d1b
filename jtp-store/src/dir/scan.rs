//! Scans of the folder: names and metadata are read, contents are not.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::SystemTime;

use cap_std::fs::{Dir, DirEntry};
use jtp_core::FileType;

use super::index::Index;
use super::left_out::LeftOut;
use super::non_images::SharedLeftOut;
use super::record::{FileRecord, Name};
use super::refusals::Refusals;
use super::select::{Naming, Selection};
use super::shared::{SharedIndex, SharedKnown};
use super::table::Slot;
use super::tree::Walk;
use super::unreadable::{Folders, Unreadable};
use crate::file_system::FileSystem;
use crate::fingerprint::{Fingerprint, Stat};
use crate::hash;
use crate::known::Contents;
use crate::name::has_certain_extension;

/// The number of files that a thread of the initial scan takes at once.
const BATCH: usize = 256;

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
}

/// What is known of the files of a folder.
#[derive(Clone, Copy)]
pub(super) struct Files<'a> {
    pub(super) index: &'a Index,
    pub(super) refusals: &'a Refusals,
    pub(super) unreadable: &'a Unreadable,
    pub(super) left_out: &'a SharedLeftOut,
}

/// Compares the folder with what is known of its files.
pub(super) fn scan(
    dir: &Dir,
    mut walk: Walk<'_>,
    file_system: FileSystem,
    selection: &Selection,
    files: Files<'_>,
) -> io::Result<Differences> {
    let Files {
        index,
        refusals,
        unreadable,
        left_out,
    } = files;
    let mut non_images = left_out.non_images();
    let mut found_non_images = non_images.successor();
    let mut differences = Differences::default();
    let mut found_slots = vec![false; index.slots_end()];
    let mut found_refused = HashSet::new();
    // With sub-folders, what is new. A file in a folder that was moved keeps its fingerprint.
    let mut new = HashMap::new();
    while let Some(batch) = walk.next(BATCH)? {
        for entry in &batch.entries {
            let name = batch.path(entry);
            if !is_candidate(selection, entry, &name, &mut differences.left_out) {
                continue;
            }
            let fingerprint = fingerprint(dir, file_system, entry, &name);
            let slot = index.slot(&name);
            // A file that could not be read, and has not changed since.
            let mut is_unreadable = false;
            let known = match slot.and_then(|slot| index.at(slot)) {
                Some((name, record)) => {
                    is_unreadable = unreadable.get(name) == Some(fingerprint);
                    Some(record.fingerprint)
                }
                None => match refusals.get(&name) {
                    Some(refusal) => {
                        found_refused.insert(Name::from(&*name));
                        refusal.fingerprint
                    }
                    None => found_non_images.carry(&non_images, &name),
                },
            };
            if let Some(found) = slot.and_then(|slot| found_slots.get_mut(to_index(slot))) {
                *found = true;
            }
            match fingerprint {
                _ if is_unreadable => {}
                Some(found) if known.is_none() && index.naming() == Naming::Tree => {
                    new.entry(found)
                        .or_insert_with(Vec::new)
                        .push(Name::from(name));
                }
                _ if known != fingerprint || fingerprint.is_none() => {
                    differences.changed.push(Name::from(name));
                }
                _ => {}
            }
        }
    }
    *non_images = found_non_images;
    let rest = walk.finish();
    let unreadable_folders = Folders::new(rest.unreadable.iter().map(|(path, _)| path));
    for slot in index.slots() {
        if let (Some(false), Some((name, record))) =
            (found_slots.get(to_index(slot)), index.at(slot))
        {
            if unreadable_folders.contain(name) {
                differences.unreachable.push(Name::from(name));
                continue;
            }
            differences.missing.push(Name::from(name));
            let moved = new.remove(&record.fingerprint);
            differences.moved.extend(moved.into_iter().flatten());
        }
    }
    differences.changed.extend(new.into_values().flatten());
    differences.left_out.merge(&rest.left_out);
    (differences.skipped, differences.unreadable) = (rest.skipped, rest.unreadable);
    let missing = |name: &&Name| !found_refused.contains(*name);
    differences.missing_refused = refusals.names().filter(missing).cloned().collect();
    Ok(differences)
}

/// The first scan of a folder, by several threads: after a restart with an unchanged folder it is all that the
/// store has to wait for.
pub(super) struct InitialScan<'a> {
    pub(super) dir: &'a Dir,
    pub(super) file_system: FileSystem,
    pub(super) selection: &'a Selection,
    pub(super) index: &'a SharedIndex,
    pub(super) known: &'a SharedKnown,
    pub(super) left_out: &'a SharedLeftOut,
    pub(super) stop: &'a AtomicBool,
}

struct Progress<'a> {
    walk: Mutex<Walk<'a>>,
    found: Mutex<Found>,
    now: SystemTime,
    nothing_known: bool,
}

/// The result of the initial scan.
pub(super) struct Found {
    /// The files to be read.
    pub(super) to_read: Vec<Name>,
    /// The recorded files that can change under another name.
    pub(super) links: Vec<Name>,
    /// The number of files recorded.
    pub(super) recorded: usize,
    /// The files that are left out by their names and types.
    pub(super) left_out: LeftOut,
    /// The sub-folders that are left out.
    pub(super) skipped: Vec<(Name, io::Error)>,
    /// The sub-folders that cannot be read.
    pub(super) unreadable: Vec<(Name, io::Error)>,
    result: io::Result<()>,
}

impl InitialScan<'_> {
    /// Records the files whose contents are known from an earlier run.
    pub(super) fn run(&self, walk: Walk<'_>, threads: usize) -> io::Result<Found> {
        let known = self.known.len();
        self.index.write().reserve(known);
        let progress = Progress {
            walk: Mutex::new(walk),
            found: Mutex::new(Found {
                to_read: Vec::new(),
                links: Vec::new(),
                recorded: 0,
                left_out: LeftOut::default(),
                skipped: Vec::new(),
                unreadable: Vec::new(),
                result: Ok(()),
            }),
            now: SystemTime::now(),
            nothing_known: known == 0,
        };
        thread::scope(|scope| {
            // Without known contents no metadata is needed, and one thread is enough.
            let others = if known == 0 {
                0
            } else {
                threads.saturating_sub(1)
            };
            for _ in 0..others {
                // Fewer threads do as well, where the system refuses more.
                let thread = thread::Builder::new();
                if thread.spawn_scoped(scope, || self.work(&progress)).is_err() {
                    break;
                }
            }
            self.work(&progress);
        });
        let found = progress.found.into_inner();
        let mut found = found.unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut found.result, Ok(()))?;
        let walk = progress.walk.into_inner();
        let rest = walk.unwrap_or_else(PoisonError::into_inner).finish();
        found.left_out.merge(&rest.left_out);
        (found.skipped, found.unreadable) = (rest.skipped, rest.unreadable);
        Ok(found)
    }

    fn work(&self, progress: &Progress<'_>) {
        let naming = self.index.read().naming();
        loop {
            let next = {
                let walk = progress.walk.lock();
                walk.unwrap_or_else(PoisonError::into_inner).next(BATCH)
            };
            let batch = match next {
                Ok(Some(batch)) if !self.stop.load(Ordering::Relaxed) => batch,
                Ok(_) => return,
                Err(e) => {
                    let found = progress.found.lock();
                    found.unwrap_or_else(PoisonError::into_inner).result = Err(e);
                    return;
                }
            };
            let (mut to_read, mut known) = (Vec::new(), Vec::new());
            let (mut links, mut non_images) = (Vec::new(), Vec::new());
            let mut left_out = LeftOut::default();
            for entry in &batch.entries {
                let name = batch.path(entry);
                if !is_candidate(self.selection, entry, &name, &mut left_out) {
                    continue;
                }
                let print = match progress.nothing_known {
                    true => None,
                    false => fingerprint_and_links(self.dir, self.file_system, entry, &name),
                };
                let (print, is_linked) = print.unzip();
                let found = print.and_then(|print| {
                    let contents = self.known_contents(&print, progress.now)?;
                    Some((print, contents, shows_type(entry, &name, contents)?))
                });
                let is_link = is_linked == Some(true);
                match found {
                    Some((print, _, false)) => non_images.push((Name::from(name), print)),
                    Some((print, contents, true)) if naming.listed(&name).is_some() => {
                        links.extend(is_link.then(|| Name::from(&*name)));
                        let length = u32::try_from(print.size).unwrap_or(u32::MAX);
                        known.push((name, FileRecord::new(print, length, contents, true)));
                    }
                    _ => to_read.push(Name::from(name)),
                }
            }
            let mut index = self.index.write();
            let mut recorded = 0;
            for (name, record) in known {
                if index.record(&name, &record) {
                    self.index.log().listed(&name);
                    recorded += 1;
                } else {
                    to_read.push(Name::from(name));
                }
            }
            drop(index);
            let mut found = progress
                .found
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            found.to_read.append(&mut to_read);
            found.links.append(&mut links);
            found.recorded += recorded + non_images.len();
            found.left_out.merge(&left_out);
            self.left_out.non_images().merge(&non_images);
        }
    }

    fn known_contents(&self, print: &Fingerprint, now: SystemTime) -> Option<Contents> {
        let contents = self.known.get(print).filter(|_| print.is_settled(now))?;
        let is_listable = u32::try_from(print.size).is_ok() || contents == Contents::NOT_AN_IMAGE; // S14
        is_listable.then_some(contents)
    }
}

fn is_candidate(
    selection: &Selection,
    entry: &DirEntry,
    name: &OsStr,
    left_out: &mut LeftOut,
) -> bool {
    let is_folder = || entry.file_type().is_ok_and(|file_type| file_type.is_dir());
    let reason = selection.reason_against(name, is_folder);
    if let Some(reason) = reason {
        left_out.add(reason, name);
    }
    reason.is_none()
}

/// Whether a file of known contents is an image under this name; `None` if it has to be looked at.
fn shows_type(entry: &DirEntry, name: &OsStr, contents: Contents) -> Option<bool> {
    // The name of a link's target counts.
    let is_link = entry.file_type().is_ok_and(|found| found.is_symlink());
    let has_extension = has_certain_extension(&name.to_string_lossy());
    match contents {
        Contents::NOT_AN_IMAGE => (!is_link && !has_extension).then_some(false),
        _ if has_extension && !is_link => Some(true),
        // The first bytes of a BMP are looked at more closely without an extension.
        Contents {
            sniffed: Some(found),
            ..
        } => (found != FileType::Bmp).then_some(true),
        Contents { sniffed: None, .. } => None,
    }
}

fn to_index(slot: Slot) -> usize {
    usize::try_from(slot).unwrap_or(usize::MAX)
}

fn fingerprint(
    dir: &Dir,
    file_system: FileSystem,
    entry: &DirEntry,
    name: &OsStr,
) -> Option<Fingerprint> {
    fingerprint_and_links(dir, file_system, entry, name).map(|(print, _)| print)
}

/// Also whether the file can change under another name.
fn fingerprint_and_links(
    dir: &Dir,
    file_system: FileSystem,
    entry: &DirEntry,
    name: &OsStr,
) -> Option<(Fingerprint, bool)> {
    let is_link = entry
        .file_type()
        .is_ok_and(|file_type| file_type.is_symlink());
    let metadata = if is_link {
        hash::metadata(dir, name)
    } else {
        entry.metadata()
    };
    let metadata = metadata.ok()?;
    #[cfg(unix)]
    let is_linked = is_link || cap_std::fs::MetadataExt::nlink(&metadata) > 1;
    #[cfg(not(unix))]
    let is_linked = is_link;
    let print = file_system.fingerprint(&Stat::of_cap(&metadata), name);
    Some((print, is_linked))
}
