//! Walks the folder: its entries alone, or also those of its sub-folders. // W9

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use cap_std::fs::Dir;
use jtp_core::MAX_PATH_COMPONENTS;

use super::file_log::FileLog;
use super::left_out::{LeftOut, LeftOutReason};
use super::mounts::{SharedMounts, is_mount_point, not_mounted};
use super::record::Name;
use super::scope::Scope;
use super::select::Naming;
use super::visit::Visit;
use super::watcher::Watcher;
use crate::entries::{End, Entries, Kind, Listed, Part};
use crate::fingerprint::Stat;
use crate::name::is_hidden;
use crate::{below, hash};

/// The most folders that are left out whose paths are kept. Others are only counted.
const MAX_SKIPPED: usize = 1000;

/// The entries of the folder and, with [`Naming::Tree`], of its sub-folders, one folder after the other. Few folders are
/// open at a time, however many there are.
pub(super) struct Walk<'a> {
    root: &'a Dir,
    naming: Naming,
    /// Watches each sub-folder before it is read, so that no change is missed.
    watcher: &'a Watcher,
    /// The mount points that earlier walks found.
    mounts: &'a SharedMounts,
    found_mounts: Vec<Name>,
    /// The folder that is being read.
    current: Option<Current>,
    /// The paths of the folders that are to be read.
    pending: Vec<Name>,
    /// The folders that were read, as they were before.
    visited: HashMap<Name, Option<Visit>>,
    left_out: LeftOut,
    skipped: Vec<(Name, io::Error)>,
    unreadable: Vec<(Name, io::Error)>,
}

/// A folder that is being read.
struct Current {
    folder: Arc<OpenFolder>,
    entries: Entries,
    /// Whether it was a mount point and is none now, and no entry was found yet.
    is_unmounted: bool,
}

struct OpenFolder {
    /// Empty for the root.
    path: Name,
    /// `None` for the root.
    dir: Option<Dir>,
}

/// Entries of one folder.
pub(super) struct Batch<'a> {
    root: &'a Dir,
    naming: Naming,
    folder: Arc<OpenFolder>,
    part: Part,
}

impl Batch<'_> {
    /// The entries, without the folders that are walked themselves.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let entries = (0..self.part.len()).map(|at| Entry { batch: self, at });
        entries.filter(|entry| !is_walked(self.naming, entry.kind(), entry.name()))
    }
}

/// An entry of a folder.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    batch: &'a Batch<'a>,
    at: usize,
}

impl<'a> Entry<'a> {
    pub(super) fn name(self) -> &'a OsStr {
        self.batch.part.name(self.at)
    }

    pub(super) fn kind(self) -> Kind {
        self.batch.part.kind(self.at)
    }

    /// The path below the root, in a buffer whose memory is used again.
    pub(super) fn path(self, buffer: &mut OsString) -> &OsStr {
        buffer.clear();
        join_to(buffer, &self.batch.folder.path, self.name());
        buffer
    }

    /// The metadata of the entry itself, if it is a link, and whether the file has other names.
    pub(super) fn stat_and_links(self) -> Option<(Stat, bool)> {
        let folder = &*self.batch.folder;
        let dir = folder.dir.as_ref().unwrap_or(self.batch.root);
        self.batch.part.stat_and_links(dir, self.at)
    }
}

/// Whether an entry is a folder whose entries are walked, too.
fn is_walked(naming: Naming, kind: Kind, name: &OsStr) -> bool {
    naming == Naming::Tree && kind == Kind::Folder && !is_hidden(name)
}

/// What a walk leaves out.
pub(super) struct Rest {
    pub(super) left_out: LeftOut,
    /// The sub-folders that are left out, for the log; at most [`MAX_SKIPPED`].
    pub(super) skipped: Vec<(Name, io::Error)>,
    /// The sub-folders that cannot be read now, or not to the end. Files below them may exist.
    pub(super) unreadable: Vec<(Name, io::Error)>,
    /// The sub-folders on which a file system is mounted, or was when they were last read with entries.
    pub(super) mounts: Vec<Name>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        root: &'a Dir,
        naming: Naming,
        watcher: &'a Watcher,
        mounts: &'a SharedMounts,
        scope: &Scope,
    ) -> io::Result<Walk<'a>> {
        let mut walk = Walk {
            root,
            naming,
            watcher,
            mounts,
            found_mounts: Vec::new(),
            current: None,
            pending: Vec::new(),
            visited: HashMap::new(),
            left_out: LeftOut::default(),
            skipped: Vec::new(),
            unreadable: Vec::new(),
        };
        match scope {
            Scope::Whole => walk.open(&Name::from(OsStr::new("")))?,
            Scope::Below(folders) => {
                let paths = folders.outermost().map(Name::clone);
                paths.for_each(|path| walk.add_folder(path));
            }
        }
        Ok(walk)
    }

    /// Plans that the folders are read again that have changed since they were read, if there are any: files may have been
    /// moved from one that was not read yet to one that was. With `recent`, also those that may have changed without
    /// another time.
    pub(super) fn read_changed_again(&mut self, recent: bool) -> bool {
        if self.naming == Naming::Flat {
            return false;
        }
        let now = SystemTime::now();
        let has_changed = |(path, before): (&Name, &Option<Visit>)| {
            let is_same = before.is_some_and(|before| {
                let is_settled = !recent || before.is_settled(now);
                is_settled && Visit::at(self.root, path).is_ok_and(|found| found == before)
            });
            (!is_same).then(|| Name::clone(path))
        };
        self.pending = self.visited.iter().filter_map(has_changed).collect();
        !self.pending.is_empty()
    }

    /// The next entries, without the folders that are walked themselves. `None` at the end.
    ///
    /// # Errors
    ///
    /// The folder itself cannot be read, or the process has no file descriptor or memory for a sub-folder. Then the walk
    /// is at its end.
    pub(super) fn next(&mut self) -> io::Result<Option<Batch<'a>>> {
        let next = self.find_next();
        if next.is_err() {
            self.current = None;
            self.pending = Vec::new();
        }
        next
    }

    fn find_next(&mut self) -> io::Result<Option<Batch<'a>>> {
        loop {
            let Some(mut current) = self.current.take() else {
                match self.pending.pop() {
                    Some(path) => self.open(&path)?,
                    None => return Ok(None),
                }
                continue;
            };
            let Listed { part, end } = current.entries.next();
            let folder = Arc::clone(&current.folder);
            for at in 0..part.len() {
                current.is_unmounted &= is_hidden(part.name(at));
                if is_walked(self.naming, part.kind(at), part.name(at)) {
                    let path = Name::from(join(&folder.path, part.name(at)));
                    if !self.visited.contains_key(&path) {
                        self.add_folder(path);
                    }
                }
            }
            match end {
                None => self.current = Some(current),
                Some(end) => {
                    if let End::Failed(error) = end {
                        self.fail(&folder.path, error)?;
                    }
                    if current.is_unmounted {
                        let path = &folder.path;
                        self.found_mounts.push(Name::clone(path));
                        self.unreadable.push((Name::clone(path), not_mounted()));
                    }
                }
            }
            let batch = Batch {
                root: self.root,
                naming: self.naming,
                folder,
                part,
            };
            if batch.entries().next().is_some() {
                return Ok(Some(batch));
            }
        }
    }

    /// Plans that a sub-folder is read.
    fn add_folder(&mut self, path: Name) {
        // One component is left for a file.
        if components(&path) < MAX_PATH_COMPONENTS {
            self.pending.push(path);
        } else {
            let why = io::Error::other("a path has at most 32 components");
            self.skip(LeftOutReason::TooDeep, &path, why);
        }
    }

    fn open(&mut self, path: &Name) -> io::Result<()> {
        let opened = match path.is_empty() {
            true => self.begin(None, path),
            false => below::folder(self.root, path).and_then(|dir| {
                self.watcher.watch(&dir, path);
                self.begin(Some(dir), path)
            }),
        };
        match opened {
            Ok(current) => self.current = Some(current),
            Err(error) => self.fail(path, error)?,
        }
        Ok(())
    }

    /// `opened`: a sub-folder; `None` for the root.
    fn begin(&mut self, opened: Option<Dir>, path: &Name) -> io::Result<Current> {
        let dir = opened.as_ref().unwrap_or(self.root);
        let mut is_unmounted = false;
        if self.naming == Naming::Tree {
            self.visited.insert(Name::clone(path), Visit::of(dir));
            if !path.is_empty() && is_mount_point(dir, self.root) {
                self.found_mounts.push(Name::clone(path));
            } else {
                is_unmounted = self.mounts.contains(path);
            }
        }
        Ok(Current {
            entries: Entries::of(dir)?,
            folder: Arc::new(OpenFolder {
                path: Name::clone(path),
                dir: opened,
            }),
            is_unmounted,
        })
    }

    fn fail(&mut self, path: &Name, error: io::Error) -> io::Result<()> {
        if path.is_empty() || hash::is_shortage(&error) {
            return Err(error);
        }
        // Else it was removed or replaced meanwhile: an event or the next scan says so.
        if hash::is_inconclusive(&error) {
            self.unreadable.push((Name::clone(path), error));
        }
        Ok(())
    }

    fn skip(&mut self, reason: LeftOutReason, path: &Name, error: io::Error) {
        self.left_out.add(reason, path);
        if self.skipped.len() < MAX_SKIPPED {
            self.skipped.push((Name::clone(path), error));
        }
    }

    pub(super) fn finish(self) -> Rest {
        Rest {
            left_out: self.left_out,
            skipped: self.skipped,
            unreadable: self.unreadable,
            mounts: self.found_mounts,
        }
    }
}

/// The path of an entry of a folder. That of the root is empty.
pub(super) fn join(folder: &OsStr, name: &OsStr) -> OsString {
    let mut path = OsString::with_capacity(folder.len() + 1 + name.len());
    join_to(&mut path, folder, name);
    path
}

/// Appends the path of an entry of a folder.
pub(super) fn join_to(path: &mut OsString, folder: &OsStr, name: &OsStr) {
    if !folder.is_empty() {
        path.push(folder);
        path.push("/");
    }
    path.push(name);
}

fn components(path: &OsStr) -> usize {
    let separators = path.as_encoded_bytes().iter().filter(|byte| **byte == b'/');
    1 + separators.count()
}

/// The sub-folders that were left out by the last scan, so that each is logged once.
#[derive(Debug, Default)]
pub(super) struct Skipped(HashSet<Name>);

impl Skipped {
    /// Takes those of a complete scan.
    pub(super) fn set(&mut self, scope: &Scope, found: Vec<(Name, io::Error)>, log: &FileLog) {
        for (path, error) in &found {
            if !self.0.contains(path) {
                log.folder_left_out(path, error);
            }
        }
        self.0.retain(|path| !scope.has_folder(path));
        self.0.extend(found.into_iter().map(|(path, _)| path));
    }
}

#[cfg(test)]
mod tests {
    use super::super::watcher::EventSink;
    use super::*;
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;

    fn put(root: &Path, path: &str) {
        fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        fs::write(root.join(path), path).unwrap();
    }

    /// The paths of the next files.
    fn next(walk: &mut Walk<'_>) -> Option<Vec<String>> {
        let batch = walk.next().unwrap()?;
        let mut buffer = OsString::new();
        let paths = batch
            .entries()
            .map(|entry| entry.path(&mut buffer).to_str().unwrap().to_owned());
        let mut paths: Vec<String> = paths.collect();
        paths.sort_unstable();
        Some(paths)
    }

    fn rest(walk: &mut Walk<'_>) -> Vec<String> {
        let mut paths: Vec<_> = std::iter::from_fn(|| next(walk)).flatten().collect();
        paths.sort_unstable();
        paths
    }

    #[test]
    fn w9_n1_a_folder_that_is_moved_to_one_that_was_read_is_found_by_reading_that_one_again() {
        for recent in [false, true] {
            let place = tempfile::tempdir().unwrap();
            let root = place.path();
            for path in ["1/x.png", "1/album/a.png", "2/x.png", "2/album/a.png"] {
                put(root, path);
            }
            let dir = Dir::open_ambient_dir(root, cap_std::ambient_authority()).unwrap();
            let sink: EventSink = Arc::new(|_| true);
            let watcher = Watcher::new(root.to_owned(), Naming::Tree, sink);
            let mounts = SharedMounts::default();
            let scope = Scope::Whole;
            let mut walk = Walk::new(&dir, Naming::Tree, &watcher, &mounts, &scope).unwrap();
            // The order of the folders is that of the system.
            let first = next(&mut walk).unwrap();
            let (read, other) = match first.iter().any(|path| path.starts_with("1/")) {
                true => ("1", "2"),
                false => ("2", "1"),
            };
            fs::rename(
                root.join(other).join("album"),
                root.join(read).join("moved"),
            )
            .unwrap();
            let found = rest(&mut walk);
            let moved = format!("{read}/moved/a.png");
            assert!(!found.contains(&moved), "{found:?}");
            assert!(walk.read_changed_again(recent));
            let found = rest(&mut walk);
            assert!(found.contains(&moved), "{found:?}");
            assert!(!walk.read_changed_again(false), "nothing has changed since");
            assert!(walk.finish().unreadable.is_empty());
        }
    }

    #[test]
    fn w9_a_walk_of_changed_folders_reads_no_others() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path();
        for path in ["a/b/1.png", "a/b/c/2.png", "a/3.png", "d/4.png", "5.png"] {
            put(root, path);
        }
        let dir = Dir::open_ambient_dir(root, cap_std::ambient_authority()).unwrap();
        let sink: EventSink = Arc::new(|_| true);
        let watcher = Watcher::new(root.to_owned(), Naming::Tree, sink);
        let mut changed = crate::dir::scope::Changed::default();
        for path in ["a/b", "a/b/c", "gone", "d"] {
            changed.add(Name::from(OsStr::new(path)));
        }
        let mounts = SharedMounts::default();
        let scope = changed.take();
        let mut walk = Walk::new(&dir, Naming::Tree, &watcher, &mounts, &scope).unwrap();
        assert_eq!(rest(&mut walk), ["a/b/1.png", "a/b/c/2.png", "d/4.png"]);
    }

    #[test]
    fn w9_paths_are_joined_by_slashes_below_the_folder() {
        assert_eq!(join(OsStr::new(""), OsStr::new("a.png")), "a.png");
        assert_eq!(join(OsStr::new("a/b"), OsStr::new("c.png")), "a/b/c.png");
        assert_eq!(components(OsStr::new("a/b/c.png")), 3);
    }
}
