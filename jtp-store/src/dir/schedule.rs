//! Which files are to be looked at, and when.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::index::Name;
use crate::fingerprint::{Fingerprint, SETTLE};

/// How long news of one file are collected before it is looked at.
const COLLECT: Duration = Duration::from_millis(100);

/// How long the look at a file is put off at most by further news of it.
const PUT_OFF: Duration = Duration::from_secs(1);

/// A file that nobody told to be complete is taken for it when it has been quiet for so long.
pub(super) const QUIET: Duration = Duration::from_millis(400);

/// The same for a file that is known to be still open for writing. Below 2 s, because some programs never
/// close what they wrote.
const QUIET_WHILE_OPEN: Duration = Duration::from_millis(1200);

/// What was heard of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notice {
    /// It was closed after writing, or renamed to this name: it is complete.
    Complete,
    /// It was written to and is not closed yet.
    Written,
    /// The name appeared; by a link, or a file that is going to be written.
    Created,
    /// Its metadata changed, or someone found that it is not what was indexed.
    Touched,
    /// The name is no more.
    Gone,
    /// A scan found it different from what was known.
    Seen,
    /// The first scan of the folder found it.
    First,
}

/// A look that is due.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    due: Instant,
    /// When the first news came that this look answers.
    pub(super) since: Instant,
    /// How old the file's last change must be.
    pub(super) quiet: Duration,
    /// The contents are to be read even if the fingerprint is the known one.
    pub(super) force: bool,
    /// What the last look saw, and when.
    pub(super) seen: Option<(Fingerprint, Instant)>,
    open: bool,
}

impl Look {
    pub(super) fn new(notice: Notice, now: Instant) -> Look {
        let mut look = Look {
            due: now + COLLECT,
            since: now,
            quiet: SETTLE,
            force: false,
            seen: None,
            open: false,
        };
        match notice {
            Notice::Seen => (look.due, look.quiet) = (now, QUIET),
            Notice::First => look.due = now,
            Notice::Created => look.quiet = QUIET,
            _ => {}
        }
        look.hear(notice, now);
        look
    }

    /// Takes further news into account.
    pub(super) fn hear(&mut self, notice: Notice, now: Instant) {
        match notice {
            Notice::Complete | Notice::Gone => {
                self.open = false;
                self.quiet = SETTLE;
                // A file that is closed again and again is looked at all the same.
                self.due = (now + COLLECT).min(self.since + PUT_OFF).max(now);
            }
            Notice::Written => {
                // The time of a long write() is that of its beginning.
                self.force = true;
                self.open = true;
                self.quiet = QUIET_WHILE_OPEN;
            }
            Notice::Created if !self.open => self.quiet = QUIET,
            Notice::Created | Notice::Touched | Notice::Seen | Notice::First => {}
        }
    }

    /// The same look, later, after one that saw the file change.
    pub(super) fn again(mut self, due: Instant, now: Instant, saw: Fingerprint) -> Look {
        self.due = due;
        if self.seen.is_none_or(|(before, _)| before != saw) {
            self.seen = Some((saw, now));
        }
        self
    }

    /// Both looks in one; `self` is the later.
    fn merge(mut self, earlier: Look) -> Look {
        self.since = self.since.min(earlier.since);
        self.force |= earlier.force;
        self
    }
}

/// The looks that are due, in order of time.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    looks: HashMap<Name, Look>,
    order: BTreeSet<(Instant, Name)>,
}

impl Schedule {
    pub(super) fn hear(&mut self, name: &Name, notice: Notice, now: Instant) {
        match self.looks.get(name).copied() {
            Some(mut look) => {
                look.hear(notice, now);
                self.put(name, look);
            }
            None => self.put(name, Look::new(notice, now)),
        }
    }

    pub(super) fn insert(&mut self, name: &Name, look: Look) {
        let look = match self.looks.get(name) {
            Some(&later) => later.merge(look),
            None => look,
        };
        self.put(name, look);
    }

    fn put(&mut self, name: &Name, look: Look) {
        if let Some(old) = self.looks.insert(Arc::clone(name), look) {
            self.order.remove(&(old.due, Arc::clone(name)));
        }
        self.order.insert((look.due, Arc::clone(name)));
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.order.first().map(|(due, _)| *due)
    }

    /// Takes out one look that is due.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(Name, Look)> {
        if self.next_due()? > now {
            return None;
        }
        let (_, name) = self.order.pop_first()?;
        let look = self.looks.remove(&name)?;
        Some((name, look))
    }

    pub(super) fn clear(&mut self) {
        self.looks.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_put_a_look_off_but_not_for_ever() {
        let mut schedule = Schedule::default();
        let name = Name::from(std::ffi::OsStr::new("a.png"));
        let begun = Instant::now();
        let step = Duration::from_millis(50);
        for n in 0..100 {
            schedule.hear(&name, Notice::Complete, begun + step * n);
            assert_eq!(schedule.order.len(), 1);
            assert!(schedule.next_due().unwrap() <= begun + (step * n).max(PUT_OFF));
        }
        assert!(schedule.pop(begun).is_none());
        assert!(schedule.pop(begun + step * 100).is_some());
        assert!(schedule.next_due().is_none());
    }

    #[test]
    fn a_file_that_is_open_for_writing_is_given_longer_until_it_is_closed() {
        let now = Instant::now();
        let mut look = Look::new(Notice::Created, now);
        assert_eq!((look.quiet, look.force), (QUIET, false));
        look.hear(Notice::Written, now);
        look.hear(Notice::Touched, now);
        assert_eq!((look.quiet, look.force), (QUIET_WHILE_OPEN, true));
        look.hear(Notice::Complete, now);
        assert_eq!((look.quiet, look.force), (SETTLE, true));
    }
}
