//! Lists the entries of a folder, or of a tree, in batches for several threads. // W9

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::Arc;

use cap_std::fs::{Dir, DirEntry, ReadDir};
use jtp_core::MAX_PATH_COMPONENTS;

use super::Inner;
use super::tree::is_absent;
use crate::hash::is_shortage;
use crate::name::is_hidden;

/// The number of entries that a thread takes at once.
const BATCH: usize = 64;

/// A folder of the tree while it is listed.
pub(super) struct ListedFolder {
    /// Its path with a `/` at its end; empty for the root.
    prefix: OsString,
    /// `None` for the root.
    dir: Option<Dir>,
}

impl ListedFolder {
    pub(super) fn dir<'a>(&'a self, root: &'a Inner) -> &'a Dir {
        self.dir.as_ref().unwrap_or(&root.dir)
    }

    pub(super) fn is_root(&self) -> bool {
        self.dir.is_none()
    }

    /// The path of the folder, with a `/` at its end; empty for the root.
    pub(super) fn prefix(&self) -> &OsStr {
        &self.prefix
    }

    /// The path of a file in the folder.
    pub(super) fn path(&self, name: &OsStr) -> OsString {
        let mut path = OsString::with_capacity(self.prefix.len() + name.len());
        path.push(&self.prefix);
        path.push(name);
        path
    }
}

/// Entries of one folder.
pub(super) struct Batch {
    pub(super) folder: Arc<ListedFolder>,
    pub(super) entries: Vec<DirEntry>,
}

/// A folder that cannot be listed to its end.
pub(super) struct Unlisted {
    pub(super) path: OsString,
    pub(super) error: io::Error,
}

/// What is still to be listed.
pub(super) struct Listing<'a> {
    root: &'a Inner,
    in_tree: bool,
    current: Option<(Arc<ListedFolder>, ReadDir)>,
    /// The paths of folders that were found. They are opened one after the other: a process may have few descriptors.
    folders: VecDeque<OsString>,
    pub(super) unlisted: Vec<Unlisted>,
}

impl<'a> Listing<'a> {
    /// `in_tree`: the entries of sub-folders, too.
    pub(super) fn new(root: &'a Inner, in_tree: bool) -> io::Result<Listing<'a>> {
        let folder = ListedFolder {
            prefix: OsString::new(),
            dir: None,
        };
        Ok(Listing {
            root,
            in_tree,
            current: Some((Arc::new(folder), root.dir.entries()?)),
            folders: VecDeque::new(),
            unlisted: Vec::new(),
        })
    }

    /// The next entries; `None` at the end. An error ends the listing.
    pub(super) fn next(&mut self) -> io::Result<Option<Batch>> {
        loop {
            let Some((folder, listed)) = &mut self.current else {
                match self.folders.pop_front() {
                    Some(path) => self.open(path)?,
                    None => return Ok(None),
                }
                continue;
            };
            let folder = Arc::clone(folder);
            let mut entries = Vec::new();
            for entry in listed.by_ref().take(BATCH) {
                match entry {
                    Ok(entry) => entries.push(entry),
                    Err(e) if folder.is_root() => return Err(e),
                    Err(error) => {
                        let path = without_slash(&folder.prefix);
                        self.unlisted.push(Unlisted { path, error });
                        self.current = None;
                        break;
                    }
                }
            }
            if entries.len() < BATCH {
                self.current = None;
            }
            if self.in_tree {
                let found = entries.iter().filter(|entry| is_entered(entry, &folder));
                self.folders
                    .extend(found.map(|entry| folder.path(&entry.file_name())));
            }
            if !entries.is_empty() {
                return Ok(Some(Batch { folder, entries }));
            }
        }
    }

    fn open(&mut self, path: OsString) -> io::Result<()> {
        let opened = self
            .root
            .open_folder(&path)
            .and_then(|dir| Ok((dir.entries()?, dir)));
        match opened {
            Ok((listed, dir)) => {
                let mut prefix = path;
                prefix.push("/");
                let dir = Some(dir);
                self.current = Some((Arc::new(ListedFolder { prefix, dir }), listed));
            }
            // It was removed, or replaced by a link or a file, since it was found.
            Err(e) if is_absent(&e) => {
                tracing::debug!(folder = ?path, error = %e, "not a folder any more");
            }
            // Of the whole process, not of the folder.
            Err(e) if is_shortage(&e) => return Err(e),
            Err(error) => self.unlisted.push(Unlisted { path, error }),
        }
        Ok(())
    }
}

/// Whether an entry is a folder that is listed, too. A file in it has at most [`MAX_PATH_COMPONENTS`].
fn is_entered(entry: &DirEntry, parent: &ListedFolder) -> bool {
    let is_folder = entry.file_type().is_ok_and(|found| found.is_dir());
    is_folder
        && !is_hidden(&entry.file_name())
        && Path::new(&parent.prefix).components().count() + 2 <= MAX_PATH_COMPONENTS
}

fn without_slash(prefix: &OsStr) -> OsString {
    // Parent and name, without what separates them.
    Path::new(prefix).components().as_path().into()
}
