//! Scans of the folder: names and metadata are read, contents are not.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::SystemTime;

use cap_std::fs::{Dir, DirEntry, ReadDir};

use super::index::Index;
use super::record::{FileRecord, Name};
use super::refusals::Refusals;
use super::select::{Selection, listed_name};
use super::shared::{SharedIndex, SharedKnown};
use super::table::Slot;
use crate::file_system::FileSystem;
use crate::fingerprint::{Fingerprint, Stat};
use crate::hash;

/// The number of files that a thread of the initial scan takes at once.
const BATCH: usize = 256;

/// The differences between the folder and what is known of it.
#[derive(Debug, Default)]
pub(super) struct Differences {
    /// Files that are new or have another fingerprint.
    pub(super) changed: Vec<Name>,
    /// Indexed files that are missing.
    pub(super) missing: Vec<Name>,
    /// Refused files that are missing.
    pub(super) missing_refused: Vec<Name>,
}

/// Compares the folder with the index and the refused files.
pub(super) fn scan(
    dir: &Dir,
    file_system: FileSystem,
    selection: &Selection,
    index: &Index,
    refusals: &Refusals,
) -> io::Result<Differences> {
    let mut differences = Differences::default();
    let mut found_slots = vec![false; index.slots_end()];
    let mut found_refused = HashSet::new();
    for entry in dir.entries()? {
        let entry = entry?;
        let name = entry.file_name();
        if !is_candidate(selection, &entry, &name) {
            continue;
        }
        let fingerprint = fingerprint(dir, file_system, &entry, &name);
        let slot = index.slot(&name);
        let known = match slot.and_then(|slot| index.at(slot)) {
            Some((_, record)) => Some(record.fingerprint),
            None => refusals.get(&name).and_then(|refusal| {
                found_refused.insert(Name::from(&*name));
                refusal.fingerprint
            }),
        };
        if let Some(found) = slot.and_then(|slot| found_slots.get_mut(to_index(slot))) {
            *found = true;
        }
        if known != fingerprint || fingerprint.is_none() {
            differences.changed.push(Name::from(name));
        }
    }
    for slot in index.slots() {
        if let (Some(false), Some((name, _))) = (found_slots.get(to_index(slot)), index.at(slot)) {
            differences.missing.push(Name::from(name));
        }
    }
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
    pub(super) stop: &'a AtomicBool,
}

struct Progress {
    entries: Mutex<ReadDir>,
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
    result: io::Result<()>,
}

impl InitialScan<'_> {
    /// Records the files whose contents are known from an earlier run.
    pub(super) fn run(&self, threads: usize) -> io::Result<Found> {
        let known = self.known.len();
        self.index.write().reserve(known);
        let progress = Progress {
            entries: Mutex::new(self.dir.entries()?),
            found: Mutex::new(Found {
                to_read: Vec::new(),
                links: Vec::new(),
                recorded: 0,
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
                scope.spawn(|| self.work(&progress));
            }
            self.work(&progress);
        });
        let found = progress.found.into_inner();
        let found = found.unwrap_or_else(PoisonError::into_inner);
        match found.result {
            Ok(()) => Ok(found),
            Err(e) => Err(e),
        }
    }

    fn work(&self, progress: &Progress) {
        loop {
            let batch: Vec<_> = {
                let mut entries = progress
                    .entries
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                entries.by_ref().take(BATCH).collect()
            };
            if batch.is_empty() || self.stop.load(Ordering::Relaxed) {
                return;
            }
            let (mut to_read, mut known) = (Vec::new(), Vec::new());
            let mut links = Vec::new();
            let mut result = Ok(());
            for entry in batch {
                let entry = match entry {
                    Ok(entry) => entry,
                    Err(e) => {
                        result = Err(e);
                        break;
                    }
                };
                let name = entry.file_name();
                if !is_candidate(self.selection, &entry, &name) {
                    continue;
                }
                let print = match progress.nothing_known {
                    true => None,
                    false => fingerprint_and_links(self.dir, self.file_system, &entry, &name),
                };
                let (print, is_linked) = print.unzip();
                match print.and_then(|print| self.known_record(print, progress.now)) {
                    Some(record) if listed_name(&name).is_some() => {
                        if is_linked == Some(true) {
                            links.push(Name::from(&*name));
                        }
                        known.push((name, record));
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
            found.recorded += recorded;
            if result.is_err() {
                found.result = result;
                return;
            }
        }
    }

    fn known_record(&self, print: Fingerprint, now: SystemTime) -> Option<FileRecord> {
        let contents = self.known.get(&print).filter(|_| print.is_settled(now))?;
        let length = u32::try_from(print.size).ok()?; // S14
        Some(FileRecord::new(print, length, contents, true))
    }
}

fn is_candidate(selection: &Selection, entry: &DirEntry, name: &OsStr) -> bool {
    let is_dir = || entry.file_type().is_ok_and(|file_type| file_type.is_dir());
    selection.takes(name) && !is_dir()
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
