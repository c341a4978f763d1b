//! Files that were images and are empty now: a copy, an editor or a full disk has failed, so they are not listed as empty
//! images, which clients would take in place of the good ones.

use std::collections::HashSet;
use std::sync::Arc;

use super::record::Name;
use super::shared::SharedKnown;
use crate::fingerprint::Fingerprint;

/// What identifies a file whatever its size: the ID of its file system, and its inode or the hash of its name.
type FileId = (u64, u64);

#[derive(Default)]
pub(super) struct Emptied {
    names: HashSet<Name>,
    /// An empty file may be moved.
    files: HashSet<FileId>,
    /// Until the initial index is complete: the contents of files in earlier runs.
    known: Option<Arc<SharedKnown>>,
    /// The files of these that were not empty, once an empty one was found.
    earlier: Option<HashSet<FileId>>,
}

impl Emptied {
    pub(super) fn new(known: Arc<SharedKnown>) -> Emptied {
        Emptied {
            known: Some(known),
            ..Emptied::default()
        }
    }

    /// The initial index is complete.
    pub(super) fn forget_earlier(&mut self) {
        (self.known, self.earlier) = (None, None);
    }

    /// A file was an image and is empty now.
    pub(super) fn add(&mut self, name: &Name, found: &Fingerprint) {
        self.names.insert(Arc::clone(name));
        self.files.insert(id(found));
    }

    /// Whether an empty file was an image, as far as is known.
    pub(super) fn contains(&mut self, name: &Name, found: &Fingerprint) -> bool {
        let id = id(found);
        if self.names.contains(name) || self.files.contains(&id) {
            return true;
        }
        let Some(known) = &self.known else {
            return false;
        };
        let earlier = self.earlier.get_or_insert_with(|| {
            let known = known.read();
            let images = known
                .records()
                .filter(|(print, contents)| print.size > 0 && !contents.is_not_an_image());
            images.map(|(print, _)| self::id(&print)).collect()
        });
        let is_known = earlier.contains(&id);
        if is_known {
            self.add(name, found);
        }
        is_known
    }

    /// A file has contents.
    pub(super) fn remove(&mut self, name: &Name, found: &Fingerprint) {
        if !self.files.is_empty() {
            self.names.remove(name);
            self.files.remove(&id(found));
        }
    }

    /// A file is missing.
    pub(super) fn missing(&mut self, name: &Name) {
        self.names.remove(name);
    }
}

fn id(found: &Fingerprint) -> FileId {
    (found.file_system, found.file)
}
