//! The first index: nothing is served before it is complete.

use std::collections::HashSet;
use std::sync::mpsc::Sender;

use super::index::Name;

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

/// Waits for what the first look at each file finds, so that names are taken in order whatever thread was
/// faster: the first of two files with one ID is the first by name. // S4
pub(super) struct FirstIndex {
    /// Files that nobody looks at yet.
    todo: Vec<Name>,
    waiting: HashSet<Name>,
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
            todo: Vec::new(),
            waiting: HashSet::new(),
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

    /// Begins it: what is to be read, and how many files are known without.
    pub(super) fn begin(&mut self, todo: Vec<Name>, known: usize) {
        self.state = State::Reading;
        self.progress.files_total = count(todo.len() + known);
        self.progress.files_done = count(known);
        self.todo = todo;
        // The last one is taken first.
        self.todo.reverse();
        self.tell_progress();
    }

    /// The next file to look at.
    pub(super) fn next(&mut self) -> Option<Name> {
        let name = self.todo.pop()?;
        if self.todo.len() * 4 < self.todo.capacity() {
            self.todo.shrink_to_fit();
        }
        self.waiting.insert(Name::clone(&name));
        Some(name)
    }

    /// Whether files are noted as they are found, to be compared when all were read.
    pub(super) fn collects(&self) -> bool {
        self.state == State::Reading
    }

    /// Nothing more is to be waited for from that file.
    pub(super) fn done(&mut self, name: &Name, bytes: Option<u64>) {
        if self.waiting.remove(name) && self.state == State::Reading {
            self.progress.files_done += 1;
            self.progress.bytes += bytes.unwrap_or(0);
            self.tell_progress();
        }
    }

    /// The folder is gone: only files that a thread is reading, of which it will tell, are waited for.
    pub(super) fn lose(&mut self, is_read: impl Fn(&Name) -> bool) {
        self.todo.clear();
        self.state = match self.state {
            State::New => State::Reading,
            State::Reading | State::Comparing => {
                self.waiting.retain(|name| is_read(name));
                return;
            }
        };
        self.tell_progress();
    }

    /// Once all files were read: they are to be compared now.
    pub(super) fn all_read(&mut self) -> bool {
        if self.state != State::Reading || !self.todo.is_empty() || !self.waiting.is_empty() {
            return false;
        }
        self.state = State::Comparing;
        true
    }

    /// A file that is being compared is waited for.
    pub(super) fn wait_for(&mut self, name: &Name) {
        self.waiting.insert(Name::clone(name));
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

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
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
        let names = ["being read.png", "put off.png", "not begun.png"].map(name);
        first.begin(names.to_vec(), 0);
        assert_eq!(first.next(), Some(name("being read.png")));
        assert_eq!(first.next(), Some(name("put off.png")));
        first.lose(|file| **file == *OsStr::new("being read.png"));
        assert!(!first.all_read() && !first.is_complete());
        first.done(&name("being read.png"), None);
        assert!(first.all_read() && first.is_complete());
    }
}
