//! The folder itself: opening it, scanning it, noticing that it went or is another.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, DirEntry, ReadDir};

use super::claims::warn_of_name;
#[cfg(target_os = "linux")]
use super::events::Events;
use super::first::FirstIndex;
use super::index::{FileRecord, Name};
use super::keeper::Keeper;
use super::schedule::Notice;
use super::select::{Selection, listed_name};
use super::{Follow, Shared};
use crate::fingerprint::{Fingerprint, SETTLE};

/// How often the folder is scanned although the system tells its news.
const SAFETY: Duration = Duration::from_secs(60);

/// How often it is scanned when the system does not, and else asked for whether it is still the same one: that it
/// was removed is not told as long as it is open here. One system call.
const GLANCE: Duration = Duration::from_secs(1);

/// The shortest interval between scans.
const SHORTEST: Duration = Duration::from_millis(10);

/// The system's news of the folder, if it gives any.
#[derive(Default)]
pub(super) struct News {
    #[cfg(target_os = "linux")]
    events: Option<Events>,
}

impl News {
    #[cfg(target_os = "linux")]
    fn are_told(&self) -> bool {
        self.events.is_some()
    }

    #[cfg(not(target_os = "linux"))]
    #[allow(clippy::unused_self)]
    fn are_told(&self) -> bool {
        false
    }
}

impl Keeper {
    /// Sees whether the folder is still the same, and if the system tells no news of it, or not just now,
    /// finds out by names and fingerprints what has to be looked at. Reads no file.
    pub(super) fn rescan(&mut self, now: Instant) {
        let result = self.open_folder().and_then(|is_new| {
            if is_new || self.scan_at.is_none_or(|at| at <= now) {
                self.scan(now)?;
                if self.first.is_none() {
                    self.save_known();
                }
                self.scan_at = now.checked_add(SAFETY).filter(|_| self.news.are_told());
            }
            Ok(())
        });
        if let Err(e) = result {
            if self.dir.is_some() || self.first.is_some() {
                tracing::error!(
                    folder = %self.settings.folder.display(), error = %e,
                    "the images folder cannot be read: its images go until it is back"
                );
            }
            self.lose_folder(now);
        }
        let interval = match self.settings.follow {
            Follow::Never => None,
            Follow::Interval(interval) if self.dir.is_some() => Some(interval.max(SHORTEST)),
            // A large or slow folder is not scanned all the time.
            Follow::Events | Follow::Interval(_) => Some(GLANCE.max(now.elapsed() * 3)),
        };
        self.rescan_at = interval.and_then(|interval| Instant::now().checked_add(interval));
    }

    /// Opens the folder, again if its path leads to another one by now; whether it did.
    fn open_folder(&mut self) -> io::Result<bool> {
        let path = self.settings.folder.clone();
        let there = Fingerprint::of(&std::fs::metadata(&path)?);
        if let Some(dir) = &self.dir {
            if is_folder(dir, &there)? {
                if self.settings.follow == Follow::Events && !self.news.are_told() {
                    self.hear_news(&path);
                }
                return Ok(false);
            }
            tracing::info!(folder = %path.display(), "the images folder is another one now");
        }
        // News first: nothing is missed that happens while it is scanned.
        self.news = News::default();
        if self.settings.follow == Follow::Events {
            self.hear_news(&path);
        }
        let dir = Arc::new(Dir::open_ambient_dir(&path, ambient_authority())?);
        self.shared.set_dir(Some(Arc::clone(&dir)));
        self.dir = Some(dir);
        Ok(true)
    }

    #[cfg(target_os = "linux")]
    fn hear_news(&mut self, path: &Path) {
        let said = std::mem::replace(&mut self.said_scanning, true);
        if super::events::is_remote(path) {
            if !said {
                tracing::info!(
                    folder = %path.display(),
                    "others may change the images folder unheard: it is scanned each second"
                );
            }
            return;
        }
        match Events::start(path, self.outbox.clone()) {
            Ok(events) => {
                self.news.events = Some(events);
                // Should they end one day, that is to be said.
                self.said_scanning = false;
            }
            Err(e) if !said => tracing::warn!(
                folder = %path.display(), error = %e,
                "the system tells no news of the images folder: it is scanned each second instead"
            ),
            Err(_) => {}
        }
    }

    #[cfg(not(target_os = "linux"))]
    #[allow(clippy::unused_self)]
    fn hear_news(&mut self, _: &Path) {}

    fn lose_folder(&mut self, now: Instant) {
        self.news = News::default();
        self.shared.set_dir(None);
        self.dir = None;
        self.schedule.clear();
        self.refused.clear();
        let names: Vec<Name> = self.shared.index().names().map(Name::from).collect();
        for name in names {
            self.detach(&name, now);
        }
        if let Some(first) = &mut self.first {
            // The looks that were put off will not be made.
            let at_work = &self.at_work;
            first.lose(|name| at_work.contains_key(name));
        }
    }

    fn scan(&mut self, now: Instant) -> io::Result<()> {
        let Some(dir) = self.dir.clone() else {
            return Ok(());
        };
        if self.first.as_ref().is_some_and(FirstIndex::is_new) {
            return self.first_scan(&dir);
        }
        // Held on: the keeper alone writes it, and does not here.
        let shared = Arc::clone(&self.shared);
        let index = shared.index();
        let mut there = vec![false; index.slots_end()];
        let mut refused_there = HashSet::new();
        for entry in dir.entries()? {
            let entry = entry?;
            let name = entry.file_name();
            if !is_candidate(&self.settings.selection, &entry, &name) {
                continue;
            }
            let fingerprint = fingerprint(&dir, &entry);
            let slot = index.slot(&name);
            let known = match slot.and_then(|slot| index.at(slot)) {
                Some((_, record)) => Some(record.fingerprint),
                None => self.refused.get(&*name).and_then(|refused| {
                    refused_there.insert(Name::from(&*name));
                    refused.fingerprint
                }),
            };
            if let Some(there) = slot.and_then(|slot| there.get_mut(to_index(slot))) {
                *there = true;
            }
            if known != fingerprint || fingerprint.is_none() {
                self.hear(&Name::from(name), Notice::Seen, now);
            }
        }
        for slot in index.slots() {
            if let (Some(false), Some((name, _))) = (there.get(to_index(slot)), index.at(slot)) {
                self.hear(&Name::from(name), Notice::Gone, now);
            }
        }
        drop(index);
        let missing = |name: &&Name| !refused_there.contains(*name);
        let gone: Vec<Name> = self.refused.keys().filter(missing).cloned().collect();
        for name in gone {
            self.forget_refusal(&name);
        }
        Ok(())
    }

    /// Finds what is to be read. What an earlier run read and nobody changed since is only looked at, by several
    /// threads: that is all that a restart waits for.
    fn first_scan(&mut self, dir: &Dir) -> io::Result<()> {
        let knows = self.shared.knows();
        self.shared.index_mut().expect(knows);
        let scan = FirstScan {
            shared: &self.shared,
            selection: &self.settings.selection,
            dir,
            now: SystemTime::now(),
            entries: Mutex::new(dir.entries()?),
            found: Mutex::new((Vec::new(), 0, Ok(()))),
        };
        thread::scope(|scope| {
            // With nothing known there is nothing to look at.
            let others = match knows {
                0 => 0,
                _ => self.settings.hashing_threads.saturating_sub(1),
            };
            for _ in 0..others {
                scope.spawn(|| scan.work());
            }
            scan.work();
        });
        let found = scan.found.into_inner();
        let (todo, known, listed) = found.unwrap_or_else(PoisonError::into_inner);
        listed?;
        if let Some(first) = &mut self.first {
            first.begin(todo, known);
        }
        Ok(())
    }
}

/// How many files a thread of the first scan takes at once.
const BATCH: usize = 256;

/// The first scan: what its threads share.
struct FirstScan<'a> {
    shared: &'a Shared,
    selection: &'a Selection,
    dir: &'a Dir,
    now: SystemTime,
    entries: Mutex<ReadDir>,
    /// What is to be read, and how many files are known without.
    found: Mutex<(Vec<Name>, usize, io::Result<()>)>,
}

impl FirstScan<'_> {
    fn work(&self) {
        let knows_nothing = self.shared.knows() == 0;
        loop {
            let batch: Vec<_> = {
                let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
                entries.by_ref().take(BATCH).collect()
            };
            if batch.is_empty() || self.shared.stop.load(Ordering::Relaxed) {
                return;
            }
            let (mut todo, mut known) = (Vec::new(), Vec::new());
            let mut listed = Ok(());
            for entry in batch {
                let entry = match entry {
                    Ok(entry) => entry,
                    Err(e) => {
                        listed = Err(e);
                        break;
                    }
                };
                let name = entry.file_name();
                if !is_candidate(self.selection, &entry, &name) {
                    continue;
                }
                let print = match knows_nothing {
                    true => None,
                    false => fingerprint(self.dir, &entry),
                };
                match print.and_then(|print| self.known(print)) {
                    Some(record) if listed_name(&name).is_some() => known.push((name, record)),
                    _ => todo.push(Name::from(name)),
                }
            }
            let mut index = self.shared.index_mut();
            let mut count = 0;
            for (name, record) in known {
                if index.collect(&name, &record) {
                    warn_of_name(&name);
                    count += 1;
                } else {
                    todo.push(Name::from(name));
                }
            }
            drop(index);
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            found.0.append(&mut todo);
            found.1 += count;
            if listed.is_err() {
                found.2 = listed;
                return;
            }
        }
    }

    fn known(&self, print: Fingerprint) -> Option<FileRecord> {
        let settled = print.age(self.now).is_some_and(|age| age >= SETTLE);
        let contents = self.shared.known(&print).filter(|_| settled)?;
        let length = u32::try_from(print.size).ok()?; // S14
        Some(FileRecord::new(print, length, contents))
    }
}

fn is_candidate(selection: &Selection, entry: &DirEntry, name: &OsStr) -> bool {
    let is_dir = || entry.file_type().is_ok_and(|file_type| file_type.is_dir());
    selection.takes(name) && !is_dir()
}

fn to_index(slot: super::table::Slot) -> usize {
    usize::try_from(slot).unwrap_or(usize::MAX)
}

fn fingerprint(dir: &Dir, entry: &DirEntry) -> Option<Fingerprint> {
    let is_link = entry
        .file_type()
        .is_ok_and(|file_type| file_type.is_symlink());
    let metadata = if is_link {
        dir.metadata(entry.file_name())
    } else {
        entry.metadata()
    };
    metadata.ok().map(|metadata| Fingerprint::of_cap(&metadata))
}

fn is_folder(dir: &Dir, there: &Fingerprint) -> io::Result<bool> {
    let here = Fingerprint::of_cap(&dir.dir_metadata()?);
    // Where the system tells no inodes, a folder is known by its path alone.
    Ok(cfg!(not(unix)) || here.is_same_file(there))
}
