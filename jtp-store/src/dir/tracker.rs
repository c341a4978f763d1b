//! Decides which files are checked, listed, refused and removed. No I/O and no clock of its own.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jtp_core::ImageId;

use super::earlier::EarlierImages;
use super::emptied::Emptied;
use super::initial::InitialIndex;
use super::left_out::LeftOutReason;
use super::non_images::SharedLeftOut;
use super::pool::Task;
use super::record::{FileRecord, Name};
use super::refusals::{Refusal, Refusals};
use super::scan::Differences;
use super::schedule::{Check, FileEvent, Schedule};
use super::scope::Scope;
use super::shared::SharedIndex;
use super::unreadable::Unreadable;
use crate::known::Record;

/// How long a removed file stays listed while other files are checked: it may have been renamed, and a rename is
/// no event for clients (N1).
const REMOVAL_DELAY: Duration = Duration::from_secs(1);

/// How long the initial index waits for a file that is being changed.
const MAX_INITIAL: Duration = Duration::from_secs(2);

/// The most files that the pool works on. It keeps each thread busy and bounds the memory.
const MAX_IN_PROGRESS: usize = 1024;

/// The initial index goes on when fewer files than this wait for their check, so that their memory is bounded on a file
/// system where each file is looked at twice.
const MAX_SCHEDULED: usize = 65_536;

/// Publishing waits for a check that is due within this time.
const SOON: Duration = Duration::from_millis(300);

/// A file that the pool works on.
struct InProgress {
    check: Check,
    /// A further check, because of events since the job began.
    again: Option<Check>,
    /// The contents, while they are compared with another file. // S4
    claim: Option<FileRecord>,
}

/// The state of each file between an event and the index.
///
/// ```text
///  event ─► schedule ─► in progress ─► claim of an ID ─► index (listed)
///               ▲            │               ├─► comparison with another file ─► index, or refused
///               └────────────┘               └─► refused
/// ```
pub(super) struct Tracker {
    index: Arc<SharedIndex>,
    schedule: Schedule,
    in_progress: HashMap<Name, InProgress>,
    /// Comparisons that the pool has not got yet; their files are in progress.
    comparisons: VecDeque<(Name, Task)>,
    refusals: Refusals,
    left_out: Arc<SharedLeftOut>,
    unreadable: Unreadable,
    emptied: Emptied,
    earlier: EarlierImages,
    /// Removed files that are still listed, and until when.
    removed: HashMap<Name, Instant>,
    /// `None` once the initial index is complete.
    initial: Option<InitialIndex>,
    /// New records, to be kept for the next run.
    learned: Vec<Record>,
}

impl Tracker {
    pub(super) fn new(
        index: Arc<SharedIndex>,
        left_out: Arc<SharedLeftOut>,
        earlier: EarlierImages,
        initial: InitialIndex,
    ) -> Tracker {
        Tracker {
            index,
            schedule: Schedule::default(),
            in_progress: HashMap::new(),
            comparisons: VecDeque::new(),
            refusals: Refusals::default(),
            left_out,
            unreadable: Unreadable::default(),
            emptied: Emptied::default(),
            earlier,
            removed: HashMap::new(),
            initial: Some(initial),
            learned: Vec::new(),
        }
    }

    pub(super) fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// The folders and listed files that cannot be read now.
    pub(super) fn unreadable(&self) -> &Unreadable {
        &self.unreadable
    }

    /// Takes the folders that a scan could not read.
    pub(super) fn set_unreadable(&mut self, scope: &Scope, folders: &[(Name, io::Error)]) {
        let is_initial = self.is_initial();
        self.unreadable
            .set_folders(scope, folders, is_initial, self.index.log());
    }

    /// Whether the initial index is not complete yet.
    pub(super) fn is_initial(&self) -> bool {
        self.initial.is_some()
    }

    /// Whether the folder was never scanned.
    pub(super) fn awaits_initial_scan(&self) -> bool {
        self.initial.as_ref().is_some_and(InitialIndex::is_new)
    }

    fn is_initial_reading(&self) -> bool {
        self.initial.as_ref().is_some_and(InitialIndex::is_reading)
    }

    /// Takes the result of the initial scan.
    pub(super) fn begin_initial(&mut self, to_read: Vec<Name>, recorded: usize) {
        if let Some(initial) = &mut self.initial {
            initial.begin(to_read, recorded);
        }
    }

    /// Moves the initial index on; `true` once it is complete.
    pub(super) fn advance_initial(&mut self, now: Instant) -> bool {
        let Some(initial) = &mut self.initial else {
            return false;
        };
        if initial.finish_reading() {
            let contended = self.index.write().claim_recorded();
            for slot in contended {
                let found = self.index.read().at(slot);
                let Some((name, record)) = found else {
                    continue;
                };
                if self.in_progress.contains_key(&name) {
                    // An event led to another check: the ID is claimed after that.
                    self.add_pending(&name);
                    continue;
                }
                let check = Check::new(FileEvent::Initial, now);
                self.claim(&name, record, check, now);
            }
        }
        self.initial.as_ref().is_some_and(InitialIndex::is_complete)
    }

    /// The initial index is complete and published.
    pub(super) fn finish_initial(&mut self) {
        self.earlier.forget();
        if let Some(initial) = self.initial.take() {
            initial.notify_ready();
        }
    }

    fn add_pending(&mut self, name: &Name) {
        if let Some(initial) = &mut self.initial {
            initial.add_pending(name);
        }
    }

    fn initial_done(&mut self, name: &Name, bytes: Option<u64>) {
        if let Some(initial) = &mut self.initial {
            initial.done(name, bytes);
        }
    }

    /// Takes an event of one file.
    pub(super) fn add_event(&mut self, name: &Name, event: FileEvent, now: Instant) {
        match self.in_progress.get_mut(name) {
            Some(work) => match &mut work.again {
                Some(check) => check.add_event(event, now),
                None => work.again = Some(Check::new(event, now)),
            },
            None => self.schedule.add_event(name, event, now),
        }
    }

    /// Events were lost: perhaps those that say that files were closed.
    pub(super) fn events_lost(&mut self) {
        self.schedule.events_lost();
        for work in self.in_progress.values_mut() {
            work.check.events_lost();
            work.again.iter_mut().for_each(Check::events_lost);
        }
    }

    /// Takes the result of a scan.
    pub(super) fn add_differences(&mut self, differences: Differences, now: Instant) {
        for name in differences.changed {
            self.add_event(&name, FileEvent::Scanned, now);
        }
        for name in differences.moved {
            self.add_event(&name, FileEvent::Moved, now);
        }
        for name in differences.missing {
            self.add_event(&name, FileEvent::Removed, now);
        }
        for name in differences.missing_refused {
            self.refusals.remove(&name);
        }
        for name in differences.unreachable {
            self.keep_listed(&name, now);
        }
    }

    /// The folder is missing: so are all its images.
    pub(super) fn folder_lost(&mut self, now: Instant) {
        self.schedule.clear();
        self.refusals.clear();
        self.unreadable.clear();
        self.left_out.non_images().forget_unsettled();
        let names: Vec<Name> = self.index.read().names().collect();
        for name in names {
            self.detach(&name, now);
        }
        if let Some(initial) = &mut self.initial {
            let in_progress = &self.in_progress;
            initial.folder_lost(|name| in_progress.contains_key(name));
        }
    }

    /// The next task for the pool, if one is due and the pool has room.
    pub(super) fn next_task(&mut self, now: Instant) -> Option<(Name, Task)> {
        if let Some(comparison) = self.comparisons.pop_front() {
            return Some(comparison);
        }
        while self.in_progress.len() < MAX_IN_PROGRESS {
            let (name, check) = self.schedule.pop(now).or_else(|| {
                let has_room = self.schedule.len() < MAX_SCHEDULED;
                let initial = self.initial.as_mut().filter(|_| has_room);
                let name = initial.and_then(InitialIndex::next)?;
                Some((name, Check::new(FileEvent::Initial, now)))
            })?;
            if let Some(work) = self.in_progress.get_mut(&name) {
                work.again = Some(check);
                continue;
            }
            let known = self.index.read().file(&name);
            let known = known.map(|record| record.fingerprint);
            let known = known.or_else(|| self.left_out.non_images().fingerprint(&name));
            let task = Task::Examine {
                quiet: check.quiet,
                known,
                seen: check.seen,
                rehash: check.force,
                replaced: check.replaced,
            };
            self.start(&name, check, None);
            return Some((name, task));
        }
        None
    }

    fn start(&mut self, name: &Name, check: Check, claim: Option<FileRecord>) {
        let work = InProgress {
            check,
            again: None,
            claim,
        };
        self.in_progress.insert(Arc::clone(name), work);
    }

    /// When [`Tracker::next_task`] or [`Tracker::expire_removed`] has something to do next.
    pub(super) fn next_due(&self, not_scanned_since: Option<Instant>) -> Option<Instant> {
        // While the pool is full, its next outcome makes room.
        let due = self.schedule.next_due();
        let due = due.filter(|_| self.in_progress.len() < MAX_IN_PROGRESS);
        let removals = self.removed.values().copied();
        let removal = removals
            .filter(|until| may_expire(*until, not_scanned_since))
            .min();
        due.into_iter()
            .chain(removal.filter(|_| !self.is_initial()))
            .min()
    }

    fn file_read(&mut self, name: &Name, record: FileRecord, check: Check, now: Instant) {
        if self.index.read().naming().listed(name).is_none() {
            let refusal = Refusal {
                fingerprint: Some(record.fingerprint),
                kind: LeftOutReason::NameTooLong,
                reason: "its name is longer than 65,535 bytes".to_owned(), // S14
                collides_with: None,
            };
            self.refuse(name, refusal, now);
        } else if !self.is_initial_reading() {
            self.claim(name, record, check, now);
        } else if self.index.write().record(name, &record) {
            self.listable(name);
            self.index.log().listed(name);
            self.initial_done(name, Some(u64::from(record.length)));
        } else {
            self.refuse_for_room(name, &record, now);
        }
    }

    /// A file claims its ID. Unless no other file has that ID, the bytes are compared first. // S4
    fn claim(&mut self, name: &Name, record: FileRecord, check: Check, now: Instant) {
        let index = self.index.read();
        let usable = |other: &Name| other != name && !self.removed.contains_key(other);
        let other = match index.is_holder(name, record.id) {
            true => None,
            false => index.holder(record.id, usable),
        };
        drop(index);
        let Some((other, other_record)) = other else {
            self.attach(name, record, now);
            return;
        };
        self.add_pending(name);
        let task = Task::Compare {
            id: record.id,
            fingerprint: record.fingerprint,
            other,
            other_fingerprint: other_record.fingerprint,
        };
        self.start(name, check, Some(record));
        self.comparisons.push_back((Arc::clone(name), task));
    }

    /// The record of a file that was checked again when the others claimed their IDs after the initial reading.
    fn unclaimed(&self, name: &Name) -> Option<FileRecord> {
        let index = self.index.read();
        let record = index.file(name)?;
        let is_due = !self.is_initial_reading() && !index.is_holder(name, record.id);
        is_due.then_some(record)
    }

    fn attach(&mut self, name: &Name, record: FileRecord, now: Instant) {
        let mut index = self.index.write();
        let old = index.file(name).map(|old| old.id);
        let attached = index.attach(name, &record);
        drop(index);
        if !attached {
            self.refuse_for_room(name, &record, now);
            return;
        }
        if old.is_none() {
            self.index.log().listed(name);
        }
        self.removed.remove(name);
        self.listable(name);
        self.initial_done(name, Some(u64::from(record.length)));
        self.retry_colliding(old, now);
    }

    fn detach(&mut self, name: &Name, now: Instant) {
        self.removed.remove(name);
        let free = self.index.write().detach(name);
        self.retry_colliding(free, now);
    }

    /// If no file holds the ID any more, checks the files again that were refused for it. // S4
    fn retry_colliding(&mut self, id: Option<ImageId>, now: Instant) {
        let Some(id) = id.filter(|_| self.refusals.has_collisions()) else {
            return;
        };
        if self.index.read().contains(id) {
            return;
        }
        for name in self.refusals.colliding_with(id) {
            self.add_event(&name, FileEvent::Touched, now);
        }
    }

    fn file_missing(&mut self, name: &Name, now: Instant) {
        self.emptied.missing(name);
        self.listable(name);
        self.initial_done(name, None);
        // The removal of one link changes the ctime of the others.
        let links = self.index.read().links(name);
        for link in links {
            self.add_event(&link, FileEvent::Touched, now);
        }
        let is_indexed = self.index.read().file(name).is_some();
        if self.is_initial_reading() {
            self.detach(name, now);
        } else if is_indexed {
            let until = now + REMOVAL_DELAY;
            self.removed.entry(Arc::clone(name)).or_insert(until);
        }
    }

    /// Whether no file is being checked and none is to be checked soon.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        let due = self.schedule.next_due();
        self.in_progress.is_empty() && due.is_none_or(|due| due > now + SOON)
    }

    /// Unlists the files that were removed and not found under another name. Those that were removed after the time
    /// `not_scanned_since` may have been moved to a folder that is to be scanned.
    pub(super) fn expire_removed(&mut self, now: Instant, not_scanned_since: Option<Instant>) {
        let idle = self.is_idle(now);
        let expired = |(name, until): (&Name, &Instant)| {
            let is_due = idle || *until <= now;
            (is_due && may_expire(*until, not_scanned_since)).then(|| Arc::clone(name))
        };
        let names: Vec<Name> = self.removed.iter().filter_map(expired).collect();
        for name in names {
            self.detach(&name, now);
        }
    }

    /// The records of files that were read since the last call.
    pub(super) fn take_learned(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.learned)
    }
}

/// Whether a removed file, which stays listed until then at most, was removed before the last scan of changed folders.
fn may_expire(until: Instant, not_scanned_since: Option<Instant>) -> bool {
    not_scanned_since.is_none_or(|since| until < since + REMOVAL_DELAY)
}

mod keep;
mod outcomes;
mod refuse;
#[cfg(test)]
mod tests;
