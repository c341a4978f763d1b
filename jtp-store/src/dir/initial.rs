//! The initial index. Nothing is published before it is complete.

use std::collections::HashSet;
use std::sync::mpsc::Sender;

use super::record::Name;

/// The progress of the initial index of a [`DirStore`](crate::DirStore).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct IndexProgress {
    /// Files that were read, or found to be unlistable.
    pub files_done: u64,
    /// Files found in the folder.
    pub files_total: u64,
    /// Bytes read.
    pub bytes: u64,
}

pub(super) type ProgressCallback = Box<dyn FnMut(IndexProgress) + Send>;

/// Tracks the first check of each file. IDs are claimed only after all files were read, in the order of names, so
/// that the first of two files with one ID is the first by name, whichever thread was faster. // S4
pub(super) struct InitialIndex {
    /// Files whose check has not begun, in reverse order.
    todo: Vec<Name>,
    /// Files that are being checked.
    pending: HashSet<Name>,
    phase: Phase,
    progress: IndexProgress,
    callback: Option<ProgressCallback>,
    ready: Sender<()>,
}

#[derive(PartialEq, Eq)]
enum Phase {
    /// The folder was not scanned yet.
    New,
    /// Files are being read.
    Reading,
    /// Files with the same ID are being compared.
    Comparing,
}

impl InitialIndex {
    /// Sends to `ready` when it is complete.
    pub(super) fn new(callback: Option<ProgressCallback>, ready: Sender<()>) -> InitialIndex {
        InitialIndex {
            todo: Vec::new(),
            pending: HashSet::new(),
            phase: Phase::New,
            progress: IndexProgress::default(),
            callback,
            ready,
        }
    }

    pub(super) fn is_new(&self) -> bool {
        self.phase == Phase::New
    }

    /// Begins with the files to be read, and the number of files that are known without.
    pub(super) fn begin(&mut self, todo: Vec<Name>, known: usize) {
        self.phase = Phase::Reading;
        self.progress.files_total = count(todo.len() + known);
        self.progress.files_done = count(known);
        self.todo = todo;
        self.todo.reverse();
        self.report();
    }

    /// The next file to check.
    pub(super) fn next(&mut self) -> Option<Name> {
        let name = self.todo.pop()?;
        if self.todo.len() * 4 < self.todo.capacity() {
            self.todo.shrink_to_fit();
        }
        self.pending.insert(Name::clone(&name));
        Some(name)
    }

    /// Whether files are recorded as they are read, and their IDs claimed later.
    pub(super) fn is_reading(&self) -> bool {
        self.phase == Phase::Reading
    }

    /// The check of a file is complete; `bytes` were read.
    pub(super) fn done(&mut self, name: &Name, bytes: Option<u64>) {
        if self.pending.remove(name) && self.phase == Phase::Reading {
            self.progress.files_done += 1;
            self.progress.bytes += bytes.unwrap_or(0);
            self.report();
        }
    }

    /// The folder is missing. Only the files that a thread is reading stay pending, since their outcome will come.
    pub(super) fn folder_lost(&mut self, is_being_read: impl Fn(&Name) -> bool) {
        self.todo.clear();
        self.phase = match self.phase {
            Phase::New => Phase::Reading,
            Phase::Reading | Phase::Comparing => {
                self.pending.retain(|name| is_being_read(name));
                return;
            }
        };
        self.report();
    }

    /// Moves on to comparing once all files were read; `true` if it did so now.
    pub(super) fn finish_reading(&mut self) -> bool {
        if self.phase != Phase::Reading || !self.todo.is_empty() || !self.pending.is_empty() {
            return false;
        }
        self.phase = Phase::Comparing;
        true
    }

    /// Adds a file that is being compared.
    pub(super) fn add_pending(&mut self, name: &Name) {
        self.pending.insert(Name::clone(name));
    }

    pub(super) fn is_complete(&self) -> bool {
        self.phase == Phase::Comparing && self.pending.is_empty()
    }

    /// Wakes the thread that opens the store.
    pub(super) fn notify_ready(self) {
        let _ = self.ready.send(());
    }

    fn report(&mut self) {
        if let Some(callback) = &mut self.callback {
            callback(self.progress);
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
    fn losing_the_folder_ends_the_wait_for_files_that_no_thread_reads() {
        let name = |name: &str| Name::from(OsStr::new(name));
        let (ready, _is_ready) = mpsc::channel();
        let mut initial = InitialIndex::new(None, ready);
        let names = ["reading.png", "postponed.png", "not begun.png"].map(name);
        initial.begin(names.to_vec(), 0);
        assert_eq!(initial.next(), Some(name("reading.png")));
        assert_eq!(initial.next(), Some(name("postponed.png")));
        initial.folder_lost(|file| **file == *OsStr::new("reading.png"));
        assert!(!initial.finish_reading() && !initial.is_complete());
        initial.done(&name("reading.png"), None);
        assert!(initial.finish_reading() && initial.is_complete());
    }
}
