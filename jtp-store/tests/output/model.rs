//! Random calls on a folder that another program changes between the look and the call, against a model: with sub-folders,
//! with other file systems in them, and where inodes prove nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use jtp_core::{FileType, ImageId};
use jtp_store::{FileName, FileState, MoveError, OutputFolder, ReadError};
use proptest::prelude::*;

use super::common::*;
use super::{open, stage};

const COUNT: usize = 4;
type Names = [&'static str; COUNT];

const FLAT: Names = ["a.png", "b.png", "c.png", "d.png"];
const TREE: Names = ["a.png", "1/b.png", "1/2/c.png", "3/d.png"];
const MOUNTED: Names = ["a.png", "tmpfs/b.png", "bind/1/c.png", "tmpfs/1/d.png"];

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
    Read(usize),
    Place { to: usize },
    Rename { from: usize, to: usize },
    Delete(usize),
    WriteFile(usize),
    MakeOther(usize, fn(&Path)),
    Remove(usize),
    Swap(usize, usize),
}

fn call() -> impl Strategy<Value = Call> {
    let name = || 0..COUNT;
    let others = prop::sample::select(vec![
        (|path: &Path| symlink("a.png", path).unwrap()) as fn(&Path),
        |path| fs::create_dir(path).unwrap(),
        |path| pipe(path),
    ]);
    prop_oneof![
        6 => name().prop_map(Call::Look),
        1 => name().prop_map(Call::Read),
        4 => name().prop_map(|to| Call::Place { to }),
        4 => (name(), name()).prop_map(|(from, to)| Call::Rename { from, to }),
        1 => name().prop_map(Call::Delete),
        2 => name().prop_map(Call::WriteFile),
        2 => (name(), others).prop_map(|(at, make)| Call::MakeOther(at, make)),
        1 => name().prop_map(Call::Remove),
        1 => (name(), name()).prop_map(|(a, b)| Call::Swap(a, b)),
    ]
}

fn bytes(length: usize) -> Vec<u8> {
    vec![b'x'; length]
}

struct World {
    folder: OutputFolder,
    names: Names,
    entries: [Entry; COUNT],
    /// What was looked at: a state, what it was of, and the number of moves of that file.
    looks: [(FileState, Entry, u32); COUNT],
    next_length: usize,
    /// How often each file was moved, by its length.
    moves: BTreeMap<usize, u32>,
}

impl World {
    fn new(folder: OutputFolder, names: Names) -> World {
        let nothing = folder.look(names[0]).unwrap();
        World {
            folder,
            names,
            entries: [Entry::Nothing; COUNT],
            looks: [(nothing, Entry::Nothing, 0); COUNT],
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

    /// The path of an entry, whose folder exists.
    fn path(&self, at: usize) -> PathBuf {
        let path = self.folder.path().join(self.names[at]);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn remove(&mut self, at: usize) {
        let path = self.path(at);
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
        self.entries[at] = Entry::Nothing;
    }

    fn name(&self, at: usize) -> FileName {
        let name = self.names[at].replace('/', "⧸");
        FileName::in_folders(&name, ImageId(1), FileType::Png)
    }

    /// What a move over `to` has to do.
    fn expected(&self, to: usize) -> Done {
        match (self.looks[to].1, self.entries[to]) {
            (looked, now) if looked != now => Done::Changed,
            (Entry::Other, _) => Done::Refused,
            _ => Done::Moved,
        }
    }

    /// What a call about the file `at` has to do.
    fn expected_of_file(&self, at: usize) -> Done {
        match (self.looks[at].1, self.entries[at]) {
            (looked, now @ Entry::File(_)) if looked == now => Done::Moved,
            _ => Done::Changed,
        }
    }

    fn run(&mut self, call: Call) {
        match call {
            Call::Look(at) => {
                let state = self.folder.look(self.names[at]).unwrap();
                let found = match (state.is_nothing(), state.is_file()) {
                    (true, _) => Entry::Nothing,
                    (_, true) => Entry::File(usize::try_from(state.length()).unwrap()),
                    _ => Entry::Other,
                };
                assert_eq!(found, self.entries[at]);
                self.looks[at] = (state, found, self.moves_of(found));
            }
            Call::Read(at) => {
                let (state, stop) = (self.looks[at].0, AtomicBool::new(false));
                let done = match self.folder.read_id(self.names[at], &state, &stop) {
                    Ok(id) => {
                        let length = usize::try_from(state.length()).unwrap();
                        assert_eq!(id, ImageId::of(&bytes(length)));
                        Done::Moved
                    }
                    Err(ReadError::Changed) => Done::Changed,
                    Err(error) => panic!("{error:?}"),
                };
                self.check_done(done, self.expected_of_file(at), &[at]);
            }
            Call::Place { to } => {
                let length = self.new_length();
                let expected = self.expected(to);
                let mut staged = stage(&self.folder, &bytes(length));
                let done = done(staged.place(&self.name(to), &self.looks[to].0));
                if self.check_done(done, expected, &[to]) == Done::Moved {
                    self.entries[to] = Entry::File(length);
                }
            }
            Call::Rename { from, to } => {
                let expected = match self.expected_of_file(from) {
                    Done::Moved => self.expected(to),
                    other => other,
                };
                let (state, over) = (self.looks[from].0, self.looks[to].0);
                let renamed = self
                    .folder
                    .rename(self.names[from], &state, &self.name(to), &over);
                let done = done(renamed);
                if self.check_done(done, expected, &[from, to]) == Done::Moved && from != to {
                    let now = self.entries[from];
                    self.has_moved(now);
                    self.entries[to] = now;
                    self.entries[from] = Entry::Nothing;
                }
            }
            Call::Delete(at) => {
                let done = done(self.folder.remove(self.names[at], &self.looks[at].0));
                if self.check_done(done, self.expected_of_file(at), &[at]) == Done::Moved {
                    self.entries[at] = Entry::Nothing;
                }
            }
            Call::WriteFile(at) => {
                let length = self.new_length();
                self.remove(at);
                fs::write(self.path(at), bytes(length)).unwrap();
                self.entries[at] = Entry::File(length);
            }
            Call::MakeOther(at, make) => {
                self.remove(at);
                make(&self.path(at));
                self.entries[at] = Entry::Other;
            }
            Call::Remove(at) => self.remove(at),
            Call::Swap(a, b) => {
                let (from, to) = (self.path(a), self.path(b));
                let swapped = match (self.entries[a], self.entries[b]) {
                    (Entry::Nothing, Entry::Nothing) => return,
                    (_, Entry::Nothing) => fs::rename(from, to).is_ok(),
                    (Entry::Nothing, _) => fs::rename(to, from).is_ok(),
                    _ => exchange(&from, &to).is_ok(),
                };
                if swapped {
                    self.has_moved(self.entries[a]);
                    self.has_moved(self.entries[b]);
                    self.entries.swap(a, b);
                }
            }
        }
    }

    /// The files of the folder, and nothing else, are those of the model.
    fn check(&self) {
        let mut found = BTreeMap::new();
        self.find(Path::new(""), &mut found);
        let entries = self.names.iter().zip(self.entries);
        let expected = entries
            .filter(|(_, entry)| *entry != Entry::Nothing)
            .map(|(name, entry)| ((*name).to_owned(), entry));
        assert_eq!(found, expected.collect());
    }

    fn find(&self, below: &Path, found: &mut BTreeMap<String, Entry>) {
        for entry in fs::read_dir(self.folder.path().join(below)).unwrap() {
            let entry = entry.unwrap();
            let path = below.join(entry.file_name());
            let name = path.to_str().unwrap().to_owned();
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() && !self.names.contains(&&*name) {
                self.find(&path, found);
            } else if !name.ends_with(".lock") {
                let entry = match metadata.is_file() {
                    true => Entry::File(fs::read(entry.path()).unwrap().len()),
                    false => Entry::Other,
                };
                found.insert(name, entry);
            }
        }
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
    fn r8_w9_calls_on_a_changing_folder_do_what_was_looked_at_or_nothing(
        calls in proptest::collection::vec(call(), 1..60),
        kind in 0..4,
    ) {
        let (place, other) = (temp(), temp());
        let mut mounts = Vec::new();
        if kind == 3 {
            for name in ["tmpfs", "bind"] {
                place.make_dir(name);
            }
            mounts.push(Mounted::new("tmpfs", &place.join("tmpfs"), c"size=2m"));
            mounts.push(Mounted::bind(&other, &place.join("bind")));
        }
        let (folder, names) = match kind {
            0 => (open(&place), FLAT),
            1 => (OutputFolder::open_distrusting_inodes(&place).unwrap(), TREE),
            2 => (open(&place), TREE),
            // Where nothing can be mounted, these are plain folders.
            _ => (open(&place), MOUNTED),
        };
        let mut world = World::new(folder, names);
        for call in calls {
            world.run(call);
            world.check();
        }
        drop(world);
        drop(mounts);
    }
}
