//! Walks the folder: its entries alone, or also those of its sub-folders. // W9

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io;

use cap_std::fs::{Dir, DirEntry, ReadDir};
use jtp_core::MAX_PATH_COMPONENTS;

use super::file_log::FileLog;
use super::left_out::{LeftOut, LeftOutReason};
use super::record::Name;
use super::select::Naming;
use super::watcher::Watcher;
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
    /// The folder that is being read; its path is empty for the root.
    current: Option<(Name, ReadDir)>,
    /// The paths of the folders that are to be read.
    pending: Vec<Name>,
    left_out: LeftOut,
    skipped: Vec<(Name, io::Error)>,
    unreadable: Vec<(Name, io::Error)>,
}

/// Entries of one folder.
pub(super) struct Batch {
    folder: Name,
    pub(super) entries: Vec<DirEntry>,
}

impl Batch {
    /// The path of an entry below the root.
    pub(super) fn path(&self, entry: &DirEntry) -> OsString {
        let name = entry.file_name();
        match self.folder.is_empty() {
            true => name,
            false => join(&self.folder, &name),
        }
    }
}

/// What a walk leaves out.
pub(super) struct Rest {
    pub(super) left_out: LeftOut,
    /// The sub-folders that are left out, for the log; at most [`MAX_SKIPPED`].
    pub(super) skipped: Vec<(Name, io::Error)>,
    /// The sub-folders that cannot be read now, or not to the end. Files below them may exist.
    pub(super) unreadable: Vec<(Name, io::Error)>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(root: &'a Dir, naming: Naming, watcher: &'a Watcher) -> io::Result<Walk<'a>> {
        Ok(Walk {
            root,
            naming,
            watcher,
            current: Some((Name::from(OsStr::new("")), root.entries()?)),
            pending: Vec::new(),
            left_out: LeftOut::default(),
            skipped: Vec::new(),
            unreadable: Vec::new(),
        })
    }

    /// The next entries, at most `most`, without the folders that are walked themselves. `None` at the end.
    ///
    /// # Errors
    ///
    /// The folder itself cannot be read, or the process has no file descriptor or memory for a sub-folder. Then the walk
    /// is at its end.
    pub(super) fn next(&mut self, most: usize) -> io::Result<Option<Batch>> {
        let next = self.find_next(most);
        if next.is_err() {
            self.current = None;
            self.pending = Vec::new();
        }
        next
    }

    fn find_next(&mut self, most: usize) -> io::Result<Option<Batch>> {
        loop {
            let Some((folder, mut entries)) = self.current.take() else {
                match self.pending.pop() {
                    Some(path) => self.open(path)?,
                    None => return Ok(None),
                }
                continue;
            };
            let mut found = Vec::new();
            let mut is_end = false;
            while found.len() < most {
                match entries.next() {
                    Some(Ok(entry)) => found.extend(self.keep(&folder, entry)),
                    Some(Err(error)) => {
                        self.fail(&folder, error)?;
                        is_end = true;
                        break;
                    }
                    None => {
                        is_end = true;
                        break;
                    }
                }
            }
            if !is_end {
                self.current = Some((Name::clone(&folder), entries));
            }
            if !found.is_empty() {
                return Ok(Some(Batch {
                    folder,
                    entries: found,
                }));
            }
        }
    }

    /// Returns an entry that is no folder to be walked.
    fn keep(&mut self, folder: &OsStr, entry: DirEntry) -> Option<DirEntry> {
        if self.naming == Naming::Flat {
            return Some(entry);
        }
        let name = entry.file_name();
        let is_folder = entry.file_type().is_ok_and(|found| found.is_dir());
        if !is_folder || is_hidden(&name) {
            return Some(entry);
        }
        let path = join(folder, &name);
        // One component is left for a file.
        match components(&path) < MAX_PATH_COMPONENTS {
            true => self.pending.push(Name::from(path)),
            false => {
                let why = io::Error::other("a path has at most 32 components");
                self.skip(LeftOutReason::TooDeep, &Name::from(path), why);
            }
        }
        None
    }

    fn open(&mut self, path: Name) -> io::Result<()> {
        let opened = below::folder(self.root, &path).and_then(|dir| {
            self.watcher.watch(&dir, &path);
            dir.entries()
        });
        match opened {
            Ok(entries) => self.current = Some((path, entries)),
            Err(error) => self.fail(&path, error)?,
        }
        Ok(())
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
        }
    }
}

/// The path of an entry of a folder. That of the root is empty.
pub(super) fn join(folder: &OsStr, name: &OsStr) -> OsString {
    if folder.is_empty() {
        return name.to_owned();
    }
    let mut path = OsString::with_capacity(folder.len() + 1 + name.len());
    path.push(folder);
    path.push("/");
    path.push(name);
    path
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
    pub(super) fn set(&mut self, found: Vec<(Name, io::Error)>, log: &FileLog) {
        for (path, error) in &found {
            if !self.0.contains(path) {
                log.folder_left_out(path, error);
            }
        }
        self.0 = found.into_iter().map(|(path, _)| path).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w9_paths_are_joined_by_slashes_below_the_folder() {
        assert_eq!(join(OsStr::new(""), OsStr::new("a.png")), "a.png");
        assert_eq!(join(OsStr::new("a/b"), OsStr::new("c.png")), "a/b/c.png");
        assert_eq!(components(OsStr::new("a/b/c.png")), 3);
    }
}
