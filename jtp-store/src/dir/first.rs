//! The first index: nothing is served before it is complete.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::Sender;

use super::index::{FileRecord, Name};
use super::schedule::Look;

/// How far the first index is. // cli.md: `listening on` comes after it
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Progress {
    /// Files that were read, or found to be none that can be listed.
    pub files_done: u64,
    /// Files that were found in the folder.
    pub files_total: u64,
    /// Bytes that were read.
    pub bytes: u64,
}

pub(super) type Report = Box<dyn FnMut(Progress) + Send>;

/// Collects what the first look at each file found, so that names are taken in order whatever thread was
/// faster: the first of two files with one ID is the first by name. // S4
pub(super) struct FirstIndex {
    waiting: HashSet<Name>,
    collected: HashMap<Name, (FileRecord, Look)>,
    state: State,
    progress: Progress,
    report: Option<Report>,
    ready: Sender<()>,
}

#[derive(PartialEq, Eq)]
enum State {
    /// The folder was not scanned yet.
    New,
    /// Files are being read.
    Reading,
    /// Files of one ID are being compared.
    Comparing,
}

impl FirstIndex {
    pub(super) fn new(report: Option<Report>, ready: Sender<()>) -> FirstIndex {
        FirstIndex {
            waiting: HashSet::new(),
            collected: HashMap::new(),
            state: State::New,
            progress: Progress::default(),
            report,
            ready,
        }
    }

    /// Whether no scan has begun it yet.
    pub(super) fn is_new(&self) -> bool {
        self.state == State::New
    }

    pub(super) fn begin(&mut self, names: impl Iterator<Item = Name>) {
        self.state = State::Reading;
        self.waiting.extend(names);
        self.progress.files_total = u64::try_from(self.waiting.len()).unwrap_or(u64::MAX);
        self.tell_progress();
    }

    /// Keeps what a file holds until all files were read; `false` if they were.
    pub(super) fn collect(&mut self, name: &Name, record: &FileRecord, look: Look) -> bool {
        if self.state == State::Comparing {
            return false;
        }
        self.done(name, Some(u64::from(record.length)));
        self.collected
            .insert(Arc::clone(name), (record.clone(), look));
        true
    }

    /// Nothing more is to be waited for from that file.
    pub(super) fn done(&mut self, name: &Name, bytes: Option<u64>) {
        self.collected.remove(name);
        if self.waiting.remove(name) && self.state == State::Reading {
            self.progress.files_done += 1;
            self.progress.bytes += bytes.unwrap_or(0);
            self.tell_progress();
        }
    }

    /// The folder is gone: only files that a thread is reading, of which it will tell, are waited for.
    pub(super) fn lose(&mut self, is_read: impl Fn(&Name) -> bool) {
        self.state = match self.state {
            State::New => State::Reading,
            State::Reading | State::Comparing => {
                self.collected.clear();
                self.waiting.retain(|name| is_read(name));
                return;
            }
        };
        self.tell_progress();
    }

    /// Once all files were read: what they hold, in the order of names.
    pub(super) fn collected(&mut self) -> Vec<(Name, FileRecord, Look)> {
        if self.state != State::Reading || !self.waiting.is_empty() {
            return Vec::new();
        }
        self.state = State::Comparing;
        let collected = std::mem::take(&mut self.collected).into_iter();
        let mut collected: Vec<_> = collected
            .map(|(name, (rec, look))| (name, rec, look))
            .collect();
        collected.sort_by(|(a, left, _), (b, right, _)| {
            (left.listed.as_bytes(), a).cmp(&(right.listed.as_bytes(), b))
        });
        self.waiting
            .extend(collected.iter().map(|(name, ..)| Arc::clone(name)));
        collected
    }

    pub(super) fn is_complete(&self) -> bool {
        self.state == State::Comparing && self.waiting.is_empty()
    }

    pub(super) fn tell(self) {
        // Whoever waited may have given up.
        let _ = self.ready.send(());
    }

    fn tell_progress(&mut self) {
        if let Some(report) = &mut self.report {
            report(self.progress);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::sync::mpsc;

    #[test]
    fn a_folder_that_goes_while_it_is_first_read_ends_the_wait_for_its_files() {
        let name = |name: &str| Name::from(OsStr::new(name));
        let (ready, _is_ready) = mpsc::channel();
        let mut first = FirstIndex::new(None, ready);
        first.begin([name("put off.png"), name("being read.png")].into_iter());
        first.lose(|file| **file == *OsStr::new("being read.png"));
        assert!(first.collected().is_empty() && !first.is_complete());
        first.done(&name("being read.png"), None);
        assert!(first.collected().is_empty() && first.is_complete());
    }
}
