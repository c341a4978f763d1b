//! When each file is to be checked.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::file_log::FileLog;
use super::quiet::Quiet;
use super::record::Name;
use crate::fingerprint::Fingerprint;

/// How long events of one file are collected before the file is checked.
const COLLECT: Duration = Duration::from_millis(100);

/// The longest that further events postpone the check of a file.
const MAX_DELAY: Duration = Duration::from_secs(1);

/// How long a file has had writers when that is logged.
const LOG_WRITERS: Duration = Duration::from_secs(60);

/// How often a file is checked that has writers, or that must stay unchanged for a longer time: no event may say that it
/// was closed, and a scan does not say that it changed again.
const RECHECK: Duration = Duration::from_millis(500);

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
// Each system makes some of them.
#[allow(dead_code)]
pub(super) enum FileEvent {
    /// It was closed after writing, or renamed to this name: it is complete.
    Completed,
    /// It was written to and is not closed yet.
    Written,
    /// It was written to, on a system that does not say when it is closed.
    Changed,
    /// The name appeared: a link, or a file that is about to be written.
    Created,
    /// Its metadata changed.
    Touched,
    /// A reader found that it is not the indexed file, whatever its metadata says. // S13
    Suspected,
    /// The name was removed.
    Removed,
    /// A scan found that it differs from the index.
    Scanned,
    /// The initial scan found it.
    Initial,
    /// A scan found a file in a folder that was moved: it is complete, and was listed under another path. // W9
    Moved,
}

/// A scheduled check of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Check {
    due: Instant,
    /// The time of the first event that led to this check.
    pub(super) since: Instant,
    pub(super) quiet: Quiet,
    /// Read the contents even if the fingerprint is unchanged.
    pub(super) force: bool,
    /// An event said that the name may be that of another file now.
    pub(super) replaced: bool,
    /// The fingerprint that the last check found, and when.
    pub(super) seen: Option<(Fingerprint, Instant)>,
    open: bool,
    /// Only a second reading, see [`Check::reread`]: any event brings it forward.
    reread: bool,
    /// Only another try to read a file that could not be read: any event replaces it.
    retry: bool,
    /// Whether the log says already that the file has writers.
    logged: bool,
}

impl Check {
    pub(super) fn new(event: FileEvent, now: Instant) -> Check {
        let mut check = Check {
            due: now + COLLECT,
            since: now,
            quiet: Quiet::UNCERTAIN,
            force: false,
            replaced: false,
            seen: None,
            open: false,
            reread: false,
            retry: false,
            logged: false,
        };
        match event {
            FileEvent::Scanned => (check.due, check.quiet) = (now, Quiet::FOUND),
            FileEvent::Initial => check.due = now,
            FileEvent::Moved => (check.due, check.quiet) = (now, Quiet::CLOSED),
            FileEvent::Created => check.quiet = Quiet::FOUND,
            _ => {}
        }
        check.add_event(event, now);
        check
    }

    pub(super) fn add_event(&mut self, event: FileEvent, now: Instant) {
        self.replaced |= matches!(event, FileEvent::Completed | FileEvent::Created);
        match event {
            FileEvent::Completed | FileEvent::Removed => {
                self.open = false;
                self.quiet = Quiet::CLOSED;
                // A file that is closed again and again is checked all the same.
                self.due = (now + COLLECT).min(self.since + MAX_DELAY).max(now);
            }
            FileEvent::Written => {
                // The mtime and ctime of a long write() are those of its beginning.
                self.force = true;
                self.open = true;
                self.quiet = Quiet::OPEN;
            }
            FileEvent::Changed => {
                self.force = true;
                if !self.open {
                    self.quiet = Quiet::FOUND;
                }
            }
            // The file system may have hidden a change.
            FileEvent::Suspected => self.force = true,
            FileEvent::Created if !self.open => self.quiet = Quiet::FOUND,
            FileEvent::Created
            | FileEvent::Touched
            | FileEvent::Scanned
            | FileEvent::Initial
            | FileEvent::Moved => {}
        }
    }

    /// The same check at a later time.
    pub(super) fn delayed(mut self, due: Instant) -> Check {
        self.due = due;
        self
    }

    /// The same check at a later time, because the file has writers.
    pub(super) fn awaiting_close(mut self, name: &Name, now: Instant, log: &FileLog) -> Check {
        if now.duration_since(self.since) > LOG_WRITERS
            && !std::mem::replace(&mut self.logged, true)
        {
            log.open_for_writing(name);
        }
        self.delayed(now + RECHECK)
    }

    /// An event may have been lost that says that the file was closed.
    pub(super) fn events_lost(&mut self) {
        if std::mem::take(&mut self.open) {
            self.quiet = Quiet::FOUND;
        }
    }

    /// The same check at a later time, because the file was found to be changing.
    pub(super) fn postponed(mut self, wait: Duration, now: Instant, found: Fingerprint) -> Check {
        // After a longer wait it may have been another file for long.
        self.due = now + wait.min(RECHECK);
        if self.seen.is_none_or(|(before, _)| before != found) {
            self.seen = Some((found, now));
        }
        self
    }

    /// The check that reads a file again which was read before its times were settled. `None` if this check was that
    /// one: the time of the file is in the future, and the second reading was late enough all the same.
    pub(super) fn reread(self, wait: Duration, now: Instant, found: Fingerprint) -> Option<Check> {
        let is_second = |(before, at): (Fingerprint, Instant)| {
            before == found && now.saturating_duration_since(at) >= found.settle_time()
        };
        if self.seen.is_some_and(is_second) {
            return None;
        }
        // The monotonic clock may be slightly ahead of the file system's.
        let due = now + wait + Duration::from_millis(1);
        let mut check = Check::new(FileEvent::Suspected, due).delayed(due);
        check.seen = Some((found, now));
        check.reread = true;
        Some(check)
    }

    /// The check that tries again to read a file that cannot be read now.
    pub(super) fn retry(due: Instant) -> Check {
        let mut check = Check::new(FileEvent::Touched, due).delayed(due);
        check.retry = true;
        check
    }

    fn merged_with(mut self, earlier: Check) -> Check {
        self.since = self.since.min(earlier.since);
        self.seen = self.seen.or(earlier.seen);
        if earlier.open && self.quiet != Quiet::CLOSED {
            (self.open, self.quiet) = (true, Quiet::OPEN);
        }
        self.force |= earlier.force;
        self.replaced |= earlier.replaced;
        self.logged |= earlier.logged;
        self
    }
}

/// The scheduled checks, ordered by time; at most one for each file.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    checks: HashMap<Name, Check>,
    order: BTreeSet<(Instant, Name)>,
}

impl Schedule {
    pub(super) fn add_event(&mut self, name: &Name, event: FileEvent, now: Instant) {
        match self.checks.get(name).copied() {
            Some(check) if check.reread => {
                let mut check = Check::new(event, now);
                check.force = true;
                self.put(name, check);
            }
            Some(check) if check.retry => self.put(name, Check::new(event, now)),
            Some(mut check) => {
                check.add_event(event, now);
                self.put(name, check);
            }
            None => self.put(name, Check::new(event, now)),
        }
    }

    /// Adds a check. One that is scheduled already is of later events.
    pub(super) fn insert(&mut self, name: &Name, check: Check) {
        let check = match self.checks.get(name) {
            Some(&later) if !later.retry => later.merged_with(check),
            _ => check,
        };
        self.put(name, check);
    }

    /// Adds a check of later events than those of one that is scheduled already.
    pub(super) fn insert_later(&mut self, name: &Name, check: Check) {
        let check = match self.checks.get(name) {
            Some(&earlier) if !earlier.retry => check.merged_with(earlier),
            _ => check,
        };
        self.put(name, check);
    }

    fn put(&mut self, name: &Name, check: Check) {
        if let Some(old) = self.checks.insert(Arc::clone(name), check) {
            self.order.remove(&(old.due, Arc::clone(name)));
        }
        self.order.insert((check.due, Arc::clone(name)));
    }

    pub(super) fn contains(&self, name: &Name) -> bool {
        self.checks.contains_key(name)
    }

    /// The number of files that wait for a check.
    pub(super) fn len(&self) -> usize {
        self.checks.len()
    }

    /// The names of these files.
    pub(super) fn names(&self) -> impl Iterator<Item = &Name> {
        self.checks.keys()
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.order.first().map(|(due, _)| *due)
    }

    /// Removes one check that is due.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(Name, Check)> {
        if self.next_due()? > now {
            return None;
        }
        let (_, name) = self.order.pop_first()?;
        let check = self.checks.remove(&name)?;
        Some((name, check))
    }

    /// Events were lost.
    pub(super) fn events_lost(&mut self) {
        self.checks.values_mut().for_each(Check::events_lost);
    }

    pub(super) fn clear(&mut self) {
        self.checks.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_events_postpone_a_check_up_to_the_limit() {
        let mut schedule = Schedule::default();
        let name = Name::from(std::ffi::OsStr::new("a.png"));
        let begun = Instant::now();
        let step = Duration::from_millis(50);
        for n in 0..100 {
            schedule.add_event(&name, FileEvent::Completed, begun + step * n);
            assert_eq!(schedule.order.len(), 1);
            assert!(schedule.next_due().unwrap() <= begun + (step * n).max(MAX_DELAY));
        }
        assert!(schedule.pop(begun).is_none());
        assert!(schedule.pop(begun + step * 100).is_some());
        assert!(schedule.next_due().is_none());
    }

    #[test]
    fn without_leases_a_written_file_must_be_quiet_for_a_minute_unless_it_is_closed() {
        let now = Instant::now();
        let mut check = Check::new(FileEvent::Created, now);
        assert_eq!((check.quiet, check.force), (Quiet::FOUND, false));
        check.add_event(FileEvent::Written, now);
        check.add_event(FileEvent::Touched, now);
        assert_eq!((check.quiet, check.force), (Quiet::OPEN, true));
        check.add_event(FileEvent::Completed, now);
        assert_eq!((check.quiet, check.force), (Quiet::CLOSED, true));
    }

    #[test]
    fn an_event_brings_a_second_reading_forward() {
        let name = Name::from(std::ffi::OsStr::new("a.png"));
        let now = Instant::now();
        let found = Fingerprint {
            file_system: crate::fingerprint::BY_NAME,
            modified: 3,
            changed: 3,
            ..Fingerprint::sample(1)
        };
        let wait = Duration::from_secs(2);
        let first = Check::new(FileEvent::Initial, now);
        let second = first.reread(wait, now, found).unwrap();
        let mut schedule = Schedule::default();
        schedule.insert(&name, second);
        assert!(schedule.next_due().unwrap() > now + wait);
        schedule.add_event(&name, FileEvent::Scanned, now);
        let (_, brought_forward) = schedule.pop(now).unwrap();
        assert!(brought_forward.force);
        // There is no third reading of an unchanged file whose time is in the future.
        let later = now + found.settle_time();
        assert!(second.reread(wait, later, found).is_none());
        let changed = Fingerprint { size: 6, ..found };
        assert!(second.reread(wait, later, changed).is_some());
    }

    #[test]
    fn any_event_of_an_unreadable_file_replaces_the_check_that_tries_it_again() {
        let name = Name::from(std::ffi::OsStr::new("a.png"));
        let now = Instant::now();
        let mut schedule = Schedule::default();
        let later = now + Duration::from_secs(60);
        schedule.insert(&name, Check::retry(later));
        assert_eq!(schedule.next_due(), Some(later));
        schedule.add_event(&name, FileEvent::Touched, now);
        assert_eq!(schedule.next_due(), Some(now + COLLECT));
        let (_, check) = schedule.pop(now + COLLECT).unwrap();
        assert!(!check.retry && !check.force);
    }

    #[test]
    fn s13_a_suspected_file_is_read_again_whatever_its_metadata_says() {
        let now = Instant::now();
        assert!(Check::new(FileEvent::Suspected, now).force);
        assert!(!Check::new(FileEvent::Touched, now).force);
    }

    #[test]
    fn a_name_has_one_check_with_what_the_earlier_ones_said() {
        let name = Name::from(std::ffi::OsStr::new("a.png"));
        let earlier = Instant::now();
        let later = earlier + COLLECT;
        let merged = |first: Check, second: Check, is_later: bool| {
            let mut schedule = Schedule::default();
            schedule.put(&name, first);
            match is_later {
                true => schedule.insert_later(&name, second),
                false => schedule.insert(&name, second),
            }
            assert!(schedule.contains(&name) && schedule.len() == 1);
            schedule.pop(earlier + RECHECK).unwrap().1
        };
        let (moved, touched) = (FileEvent::Moved, FileEvent::Touched);
        let written = Check::new(FileEvent::Created, earlier);
        let check = merged(Check::new(moved, later), written, false);
        assert!(check.since == earlier && check.due == later && check.replaced);
        let check = merged(written, Check::new(moved, later), true);
        assert!(check.since == earlier && check.due == later && check.replaced);
        // Another try is replaced, whichever was first.
        let retry = Check::retry(earlier);
        for is_later in [false, true] {
            let check = merged(retry, Check::new(touched, later), is_later);
            assert!(check.since == later && !check.retry);
        }
        let mut schedule = Schedule::default();
        assert!(schedule.len() == 0 && !schedule.contains(&name));
        schedule.put(&name, written);
        schedule.clear();
        assert!(schedule.len() == 0 && schedule.pop(later).is_none());
    }

    #[test]
    fn a_file_with_writers_is_checked_again_and_logged_once_after_a_minute() {
        let name = Name::from(std::ffi::OsStr::new("a.png"));
        let log = FileLog::new(super::super::select::Naming::Flat);
        let now = Instant::now();
        let mut check = Check::new(FileEvent::Touched, now);
        check.add_event(FileEvent::Created, now);
        assert_eq!(check.quiet, Quiet::FOUND);
        check.add_event(FileEvent::Written, now);
        check.add_event(FileEvent::Created, now);
        assert_eq!(check.quiet, Quiet::OPEN, "it is still open");
        let minute = now + LOG_WRITERS;
        let check = check.awaiting_close(&name, minute, &log);
        assert!(!check.logged && check.due == minute + RECHECK);
        let check = check.awaiting_close(&name, minute + RECHECK, &log);
        assert!(check.logged);
    }
}
