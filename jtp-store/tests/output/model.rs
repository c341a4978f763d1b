//! Random calls on a folder that another program changes between the look and the call, against a model.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use jtp_store::{FileState, MoveError, OutputFolder};
use proptest::prelude::*;

use super::common::*;
use super::{all, file_name, open, stage};

const NAMES: [&str; 4] = ["a.png", "b.png", "c.png", "d.png"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Nothing,
    /// A file of this length. No two files have one length.
    File(usize),
    Other,
}

/// What was done, or why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Moved,
    Changed,
    Refused,
}

#[derive(Debug, Clone, Copy)]
enum Call {
    Look(usize),
    Place { to: usize },
    Rename { from: usize, to: usize },
    WriteFile(usize),
    MakeLink(usize),
    MakeFolder(usize),
    Remove(usize),
    Swap(usize, usize),
}

fn call() -> impl Strategy<Value = Call> {
    let name = 0..NAMES.len();
    prop_oneof![
        6 => name.clone().prop_map(Call::Look),
        4 => name.clone().prop_map(|to| Call::Place { to }),
        4 => (name.clone(), name.clone()).prop_map(|(from, to)| Call::Rename { from, to }),
        2 => name.clone().prop_map(Call::WriteFile),
        1 => name.clone().prop_map(Call::MakeLink),
        1 => name.clone().prop_map(Call::MakeFolder),
        1 => name.clone().prop_map(Call::Remove),
        1 => (name.clone(), name).prop_map(|(a, b)| Call::Swap(a, b)),
    ]
}

fn bytes(length: usize) -> Vec<u8> {
    vec![b'x'; length]
}

struct World {
    folder: OutputFolder,
    entries: [Entry; NAMES.len()],
    /// What was looked at: a state, what it was of, and the number of moves of that file.
    looks: [(FileState, Entry, u32); NAMES.len()],
    next_length: usize,
    /// How often each file was moved, by its length.
    moves: BTreeMap<usize, u32>,
}

impl World {
    fn new(path: &Path) -> World {
        let folder = open(path);
        let nothing = folder.look(NAMES[0]).unwrap();
        World {
            folder,
            entries: [Entry::Nothing; NAMES.len()],
            looks: [(nothing, Entry::Nothing, 0); NAMES.len()],
            next_length: 1,
            moves: BTreeMap::new(),
        }
    }

    fn new_length(&mut self) -> usize {
        self.next_length += 1;
        self.next_length - 1
    }

    fn moves_of(&self, entry: Entry) -> u32 {
        match entry {
            Entry::File(length) => self.moves.get(&length).copied().unwrap_or(0),
            _ => 0,
        }
    }

    fn has_moved(&mut self, entry: Entry) {
        if let Entry::File(length) = entry {
            *self.moves.entry(length).or_default() += 1;
        }
    }

    /// Checks a result. The state of a file that was moved and came back has another ctime, or the same within a tick
    /// of the clock: both are right.
    fn check_done(&self, done: Done, expected: Done, names: &[usize]) -> Done {
        let is_moved = |at: &usize| {
            let (_, looked, moves) = self.looks[*at];
            self.moves_of(looked) != moves
        };
        let came_back = done == Done::Changed && names.iter().any(is_moved);
        assert!(
            done == expected || came_back,
            "{done:?} instead of {expected:?}"
        );
        done
    }

    fn remove(&mut self, at: usize) {
        let path = self.folder.path().join(NAMES[at]);
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
        self.entries[at] = Entry::Nothing;
    }

    /// What a move over `to` has to do.
    fn expected(&self, to: usize) -> Done {
        match (self.looks[to].1, self.entries[to]) {
            (looked, now) if looked != now => Done::Changed,
            (Entry::Other, _) => Done::Refused,
            _ => Done::Moved,
        }
    }

    fn run(&mut self, call: Call) {
        let path = |at: usize| self.folder.path().join(NAMES[at]);
        match call {
            Call::Look(at) => {
                let state = self.folder.look(NAMES[at]).unwrap();
                let found = match (state.is_nothing(), state.is_file()) {
                    (true, _) => Entry::Nothing,
                    (_, true) => Entry::File(usize::try_from(state.length()).unwrap()),
                    _ => Entry::Other,
                };
                assert_eq!(found, self.entries[at]);
                self.looks[at] = (state, found, self.moves_of(found));
            }
            Call::Place { to } => {
                let length = self.new_length();
                let expected = self.expected(to);
                let mut staged = stage(&self.folder, &bytes(length));
                let done = done(staged.place(&file_name(NAMES[to], b""), &self.looks[to].0));
                if self.check_done(done, expected, &[to]) == Done::Moved {
                    self.entries[to] = Entry::File(length);
                }
            }
            Call::Rename { from, to } => {
                let (looked, now) = (self.looks[from].1, self.entries[from]);
                let expected = match now {
                    Entry::File(_) if looked == now => self.expected(to),
                    _ => Done::Changed,
                };
                let (from_state, over) = (self.looks[from].0, self.looks[to].0);
                let to_name = file_name(NAMES[to], b"");
                let done = done(
                    self.folder
                        .rename(NAMES[from], &from_state, &to_name, &over),
                );
                if self.check_done(done, expected, &[from, to]) == Done::Moved && from != to {
                    self.has_moved(now);
                    self.entries[to] = now;
                    self.entries[from] = Entry::Nothing;
                }
            }
            Call::WriteFile(at) => {
                let length = self.new_length();
                self.remove(at);
                write(self.folder.path(), NAMES[at], bytes(length));
                self.entries[at] = Entry::File(length);
            }
            Call::MakeLink(at) => {
                let path = path(at);
                self.remove(at);
                symlink(NAMES[0], path).unwrap();
                self.entries[at] = Entry::Other;
            }
            Call::MakeFolder(at) => {
                let path = path(at);
                self.remove(at);
                fs::create_dir(path).unwrap();
                self.entries[at] = Entry::Other;
            }
            Call::Remove(at) => self.remove(at),
            Call::Swap(a, b) => {
                let aside = self.folder.path().join("aside");
                let _ = fs::rename(path(a), &aside);
                let _ = fs::rename(path(b), path(a));
                let _ = fs::rename(&aside, path(b));
                self.has_moved(self.entries[a]);
                self.has_moved(self.entries[b]);
                self.entries.swap(a, b);
            }
        }
    }

    /// The files of the folder, and nothing else, are those of the model.
    fn check(&self) {
        let found: BTreeMap<String, Entry> = all(self.folder.path())
            .into_iter()
            .map(|name| {
                let path = self.folder.path().join(&name);
                let metadata = fs::symlink_metadata(&path).unwrap();
                let entry = match metadata.is_file() {
                    true => Entry::File(fs::read(&path).unwrap().len()),
                    false => Entry::Other,
                };
                (name, entry)
            })
            .collect();
        let entries = NAMES.iter().zip(self.entries);
        let expected = entries
            .filter(|(_, entry)| *entry != Entry::Nothing)
            .map(|(name, entry)| ((*name).to_owned(), entry));
        assert_eq!(found, expected.collect());
    }
}

fn done(result: Result<(), MoveError>) -> Done {
    match result {
        Ok(()) => Done::Moved,
        Err(MoveError::Changed) => Done::Changed,
        Err(MoveError::Name(_)) => Done::Refused,
        Err(e) => panic!("{e:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn r8_calls_on_a_changing_folder_do_what_was_looked_at_or_nothing(
        calls in proptest::collection::vec(call(), 1..60)
    ) {
        let temp = temp();
        let mut world = World::new(&temp);
        for call in calls {
            world.run(call);
            world.check();
        }
    }
}
