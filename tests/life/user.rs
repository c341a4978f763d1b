//! A user who works in the server's folder, step by step.

mod edits;
mod folders;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::pictures::{id_of_file, picture};
use super::tree;
use jtp_kit::Rng;

/// The user and the folder.
pub(super) struct User {
    pub(super) root: PathBuf,
    /// A folder on the same file system, out of the server's sight.
    aside: PathBuf,
    /// An image that is not in the folder.
    outside: PathBuf,
    /// The IDs of all contents that were complete at some time.
    pub(super) known: HashSet<u64>,
    /// What was changed since the last quiet point, folders as a whole.
    pub(super) touched: Vec<PathBuf>,
    writing: Vec<Writing>,
    pictures: u64,
    folders: u64,
}

/// A file that is written slowly.
struct Writing {
    file: File,
    /// Where it is now, if nobody moved it.
    path: PathBuf,
    rest: Vec<u8>,
}

/// What was done, or why nothing was.
type StepResult = Result<String, NoStep>;

type Step = fn(&mut User, &mut Rng) -> StepResult;

enum NoStep {
    /// There is no file or folder for such a step.
    Impossible,
    /// Names meet, a disk is full: the user sees the error.
    Failed(io::Error),
}

impl From<io::Error> for NoStep {
    fn from(error: io::Error) -> NoStep {
        NoStep::Failed(error)
    }
}

/// The steps and how often each of them comes.
const STEPS: &[(usize, Step)] = &[
    (20, User::add),
    (6, User::write_slowly),
    (12, User::go_on_writing),
    (6, User::edit_in_place),
    (6, User::edit_by_replacing),
    (10, User::rename),
    (6, User::swap),
    (4, User::rotate),
    (4, User::change_case),
    (4, User::make_folder),
    (5, User::move_folder),
    (2, User::swap_folders),
    (2, User::delete_folder),
    (8, User::delete),
    (3, User::hard_link),
    (3, User::link),
    (4, User::truncate),
    (4, User::append),
    (4, User::change_times),
    (3, User::change_mode),
    (4, User::copy),
    (2, User::add_text),
    (2, User::move_and_undo),
];

/// Names that are short, so that they meet.
const NAMES: &[&str] = &[
    "a.png",
    "b.jpg",
    "c.bmp",
    "d.gif",
    "e.png",
    "f.webp",
    "IMG_0001.JPG",
    "IMG_0002",
    "g h.png",
    "A.png",
    "B.JPG",
    "über.png",
    "u\u{308}ber.png",
    "a.b.png",
    "a",
    "scan.tif",
    "x⧸y.png",
];

impl User {
    pub(super) fn new(root: PathBuf, aside: PathBuf, outside: PathBuf) -> User {
        User {
            root,
            aside,
            outside,
            known: HashSet::new(),
            touched: Vec::new(),
            writing: Vec::new(),
            pictures: 0,
            folders: 0,
        }
    }

    /// Makes a step, and says which.
    pub(super) fn step(&mut self, rng: &mut Rng) -> String {
        loop {
            let total: usize = STEPS.iter().map(|(weight, _)| weight).sum();
            let mut left = rng.below(total);
            let step = STEPS.iter().find(|(weight, _)| {
                let found = left < *weight;
                left = left.saturating_sub(*weight);
                found
            });
            let crowded = tree::files(&self.root).len() > 60;
            let step: Step = if crowded {
                User::delete
            } else {
                step.unwrap().1
            };
            match step(self, rng) {
                Ok(what) => return what,
                Err(NoStep::Impossible) => {}
                Err(NoStep::Failed(error)) => return format!("fails: {error}"),
            }
        }
    }

    /// Ends all writing.
    pub(super) fn finish(&mut self) {
        for mut writing in std::mem::take(&mut self.writing) {
            let _ = writing.file.write_all(&writing.rest);
            self.closed(&writing.path, writing.file);
        }
        // A server may list protected files or not, and an empty file some seconds later.
        for path in tree::files(&self.root) {
            let full = self.root.join(&path);
            let metadata = fs::metadata(&full).unwrap();
            if metadata.permissions().mode() & 0o400 == 0 {
                self.touch(&path);
                fs::set_permissions(&full, fs::Permissions::from_mode(0o644)).unwrap();
            }
            if metadata.len() == 0 {
                self.pictures += 1;
                let _ = fs::write(&full, format!("GIF89a {}", self.pictures));
                self.know(&path);
            }
        }
    }

    pub(super) fn is_touched(&self, path: &Path) -> bool {
        self.touched.iter().any(|touched| path.starts_with(touched))
    }

    fn full(&self, path: &Path) -> PathBuf {
        self.root.join(path)
    }

    fn touch(&mut self, path: &Path) {
        self.touched.push(path.to_owned());
    }

    /// Notes what a file contains now.
    fn know(&mut self, path: &Path) {
        self.touch(path);
        self.known.extend(id_of_file(&self.full(path)));
    }

    /// The file may have been moved while it was written.
    fn closed(&mut self, path: &Path, file: File) {
        drop(file);
        self.touch(path);
        for path in tree::files(&self.root) {
            self.known.extend(id_of_file(&self.full(&path)));
        }
    }

    pub(super) fn picture(&mut self, rng: &mut Rng) -> Vec<u8> {
        self.pictures += 1;
        let bytes = picture(rng, self.pictures);
        self.known.insert(crate::support::bytes::id_of(&bytes));
        bytes
    }

    fn file(&self, rng: &mut Rng) -> Result<PathBuf, NoStep> {
        let file = rng.pick_any(&tree::files(&self.root));
        file.ok_or(NoStep::Impossible)
    }

    fn sub_folder(&self, rng: &mut Rng) -> Result<PathBuf, NoStep> {
        let folder = rng.pick_any(&tree::folders(&self.root));
        folder.ok_or(NoStep::Impossible)
    }

    /// A sub-folder, or the folder itself.
    fn folder(&self, rng: &mut Rng) -> PathBuf {
        let mut folders = tree::folders(&self.root);
        folders.push(PathBuf::new());
        rng.pick(&folders).clone()
    }

    /// A path, in use or not.
    fn path(&mut self, rng: &mut Rng) -> PathBuf {
        let folder = self.folder(rng);
        if rng.percent(40) {
            let path = folder.join(rng.pick(NAMES));
            // Writing would follow a link.
            if !self.full(&path).is_symlink() {
                return path;
            }
        }
        self.pictures += 1;
        folder.join(format!("n{}.png", self.pictures))
    }

    fn add(&mut self, rng: &mut Rng) -> StepResult {
        let (path, bytes) = (self.path(rng), self.picture(rng));
        let before = id_of_file(&self.full(&path));
        self.known.extend(before);
        self.touch(&path);
        if rng.percent(50) {
            let aside = self.aside.join("new");
            fs::write(&aside, bytes)?;
            fs::rename(aside, self.full(&path))?;
            return Ok(format!("moves in {path:?}"));
        }
        let written = fs::write(self.full(&path), bytes);
        self.know(&path);
        written?;
        Ok(format!("writes {path:?}"))
    }

    fn write_slowly(&mut self, rng: &mut Rng) -> StepResult {
        let (path, mut bytes) = (self.path(rng), self.picture(rng));
        let rest = bytes.split_off(rng.below(bytes.len()));
        self.touch(&path);
        let mut file = File::create(self.full(&path))?;
        let what = format!(
            "writes {} of {} bytes of {}",
            bytes.len(),
            bytes.len() + rest.len(),
            path.display()
        );
        file.write_all(&bytes)?;
        self.writing.push(Writing { file, path, rest });
        Ok(what)
    }

    fn go_on_writing(&mut self, rng: &mut Rng) -> StepResult {
        if self.writing.is_empty() {
            return Err(NoStep::Impossible);
        }
        let at = rng.below(self.writing.len());
        let mut writing = self.writing.swap_remove(at);
        let all = rng.percent(40);
        let count = if all {
            writing.rest.len()
        } else {
            rng.below(writing.rest.len() + 1)
        };
        let path = writing.path.clone();
        let written = writing.file.write_all(&writing.rest[..count]);
        self.touch(&path);
        if all || written.is_err() {
            self.closed(&writing.path, writing.file);
            written?;
            return Ok(format!("closes {path:?}"));
        }
        writing.rest.drain(..count);
        self.writing.push(writing);
        Ok(format!("writes {count} more bytes of {path:?}"))
    }

    fn rename(&mut self, rng: &mut Rng) -> StepResult {
        let from = self.file(rng)?;
        let to = self.path(rng);
        self.touch(&from);
        self.touch(&to);
        fs::rename(self.full(&from), self.full(&to))?;
        Ok(format!("renames {from:?} to {to:?}"))
    }

    /// Gives files the names of the next ones.
    fn exchange(&mut self, paths: &[PathBuf]) -> io::Result<()> {
        for path in paths {
            self.touch(path);
        }
        let first = self.full(&paths[0]).with_file_name("exchanged");
        self.touch(&paths[0].with_file_name("exchanged"));
        fs::rename(self.full(&paths[0]), &first)?;
        for pair in paths.windows(2) {
            fs::rename(self.full(&pair[1]), self.full(&pair[0]))?;
        }
        fs::rename(first, self.full(&paths[paths.len() - 1]))
    }

    fn swap(&mut self, rng: &mut Rng) -> StepResult {
        self.exchange_files(rng, 2)
    }

    fn rotate(&mut self, rng: &mut Rng) -> StepResult {
        let count = 3 + rng.below(3);
        self.exchange_files(rng, count)
    }

    fn exchange_files(&mut self, rng: &mut Rng, count: usize) -> StepResult {
        let mut files = tree::files(&self.root);
        if files.len() < count {
            return Err(NoStep::Impossible);
        }
        let chosen: Vec<_> = (0..count)
            .map(|_| files.swap_remove(rng.below(files.len())))
            .collect();
        self.exchange(&chosen)?;
        Ok(format!("exchanges {chosen:?}"))
    }

    fn change_case(&mut self, rng: &mut Rng) -> StepResult {
        let all = [tree::files(&self.root), tree::folders(&self.root)].concat();
        let from = rng.pick_any(&all).ok_or(NoStep::Impossible)?;
        let name = from.file_name().unwrap().to_str().unwrap();
        let changed = match name.to_uppercase() == name {
            true => name.to_lowercase(),
            false => name.to_uppercase(),
        };
        let to = from.with_file_name(changed);
        self.touch(&from);
        self.touch(&to);
        fs::rename(self.full(&from), self.full(&to))?;
        Ok(format!("renames {from:?} to {to:?}"))
    }

    fn delete(&mut self, rng: &mut Rng) -> StepResult {
        let path = self.file(rng)?;
        self.touch(&path);
        fs::remove_file(self.full(&path))?;
        Ok(format!("deletes {path:?}"))
    }

    fn copy(&mut self, rng: &mut Rng) -> StepResult {
        let from = self.file(rng)?;
        let to = self.path(rng);
        if from == to || self.writing.iter().any(|writing| writing.path == from) {
            return Err(NoStep::Impossible);
        }
        self.touch(&from);
        let copied = fs::copy(self.full(&from), self.full(&to));
        self.know(&to);
        copied?;
        Ok(format!("copies {from:?} to {to:?}"))
    }

    fn add_text(&mut self, rng: &mut Rng) -> StepResult {
        let path =
            self.folder(rng)
                .join(*rng.pick(&["notes.txt", "index.html", "a.xmp", ".hidden.png"]));
        self.touch(&path);
        let written = fs::write(self.full(&path), format!("text {}", rng.next()));
        self.know(&path);
        written?;
        Ok(format!("writes {path:?}"))
    }
}
