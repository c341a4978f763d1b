//! Lists the entries of a folder, or of a tree, in batches for several threads. // W9

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use cap_std::fs::Dir;
use jtp_core::MAX_PATH_COMPONENTS;

use super::Inner;
use super::tree::is_absent;
use crate::entries::{End, Entries, Kind, Listed, Part};
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
    pub(super) fn path<'a>(&self, name: &'a OsStr) -> Cow<'a, OsStr> {
        if self.is_root() {
            return Cow::Borrowed(name);
        }
        let mut path = OsString::with_capacity(self.prefix.len() + name.len());
        path.push(&self.prefix);
        path.push(name);
        Cow::Owned(path)
    }
}

/// Entries of one folder.
pub(super) struct Batch {
    pub(super) folder: Arc<ListedFolder>,
    pub(super) part: Arc<Part>,
    /// Which of the part.
    pub(super) entries: Range<usize>,
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
    current: Option<(Arc<ListedFolder>, Entries)>,
    /// What was read and is not taken.
    read: Option<Batch>,
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
            current: Some((Arc::new(folder), Entries::of(&root.dir)?)),
            read: None,
            folders: VecDeque::new(),
            unlisted: Vec::new(),
        })
    }

    /// The next entries; `None` at the end. An error ends the listing.
    pub(super) fn next(&mut self) -> io::Result<Option<Batch>> {
        loop {
            if let Some(batch) = self.take() {
                return Ok(Some(batch));
            }
            let Some((folder, listed)) = &mut self.current else {
                match self.folders.pop_front() {
                    Some(path) => self.open(path)?,
                    None => return Ok(None),
                }
                continue;
            };
            let folder = Arc::clone(folder);
            let Listed { part, end } = listed.next();
            if let Some(end) = end {
                self.current = None;
                match end {
                    End::Complete => {}
                    End::Failed(error) if folder.is_root() => return Err(error),
                    End::Failed(error) => {
                        let path = without_slash(&folder.prefix);
                        self.unlisted.push(Unlisted { path, error });
                    }
                }
            }
            if self.in_tree {
                let entered = (0..part.len()).filter(|at| is_entered(&part, *at, &folder));
                self.folders
                    .extend(entered.map(|at| folder.path(part.name(at)).into_owned()));
            }
            self.read = Some(Batch {
                folder,
                entries: 0..part.len(),
                part: Arc::new(part),
            });
        }
    }

    /// The first of the entries that were read.
    fn take(&mut self) -> Option<Batch> {
        let rest = self.read.as_mut()?;
        let Range { start, end } = rest.entries;
        if start == end {
            self.read = None;
            return None;
        }
        rest.entries.start = end.min(start + BATCH);
        Some(Batch {
            folder: Arc::clone(&rest.folder),
            part: Arc::clone(&rest.part),
            entries: start..rest.entries.start,
        })
    }

    fn open(&mut self, path: OsString) -> io::Result<()> {
        let opened = self
            .root
            .open_folder(&path)
            .and_then(|dir| Ok((Entries::of(&dir)?, dir)));
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
fn is_entered(part: &Part, at: usize, parent: &ListedFolder) -> bool {
    part.kind(at) == Kind::Folder
        && !is_hidden(part.name(at))
        && Path::new(&parent.prefix).components().count() + 2 <= MAX_PATH_COMPONENTS
}

fn without_slash(prefix: &OsStr) -> OsString {
    // Parent and name, without what separates them.
    Path::new(prefix).components().as_path().into()
}
