//! Files that were images and are empty now: a copy, an editor or a full disk has failed, so they are not listed as empty
//! images, which clients would take in place of the good ones.

use std::collections::HashSet;
use std::sync::Arc;

use super::earlier::{FileId, file_id};
use super::record::Name;
use crate::fingerprint::Fingerprint;

#[derive(Default)]
pub(super) struct Emptied {
    names: HashSet<Name>,
    /// An empty file may be moved.
    files: HashSet<FileId>,
}

impl Emptied {
    /// A file was an image and is empty now.
    pub(super) fn add(&mut self, name: &Name, found: &Fingerprint) {
        self.names.insert(Arc::clone(name));
        self.files.insert(file_id(found));
    }

    /// Whether an empty file was an image in this run.
    pub(super) fn contains(&self, name: &Name, found: &Fingerprint) -> bool {
        self.names.contains(name) || self.files.contains(&file_id(found))
    }

    /// A file has contents.
    pub(super) fn remove(&mut self, name: &Name, found: &Fingerprint) {
        if !self.files.is_empty() {
            self.names.remove(name);
            self.files.remove(&file_id(found));
        }
    }

    /// A file is missing.
    pub(super) fn missing(&mut self, name: &Name) {
        self.names.remove(name);
    }
}
