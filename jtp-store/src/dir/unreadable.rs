//! What was listed and cannot be read at the moment. It stays listed: only what is known to be gone is unlisted.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::sync::Arc;

use super::file_log::FileLog;
use super::left_out::{LeftOut, LeftOutReason};
use super::record::Name;
use super::scope::{Folders, Scope};
use crate::fingerprint::Fingerprint;

/// The sub-folders that the last scan could not read (W9), and the listed files that could not be read in others, by
/// folder.
#[derive(Debug, Default)]
pub(super) struct Unreadable {
    folders: HashSet<Name>,
    files: HashMap<Name, HashMap<Name, Option<Fingerprint>>>,
}

impl Unreadable {
    /// Takes the folders of a complete scan, and logs which are new and which can be read again.
    pub(super) fn set_folders(
        &mut self,
        scope: &Scope,
        found: &[(Name, io::Error)],
        is_initial: bool,
        log: &FileLog,
    ) {
        let unreadable = Folders::new(found.iter().map(|(path, _)| Name::clone(path)));
        let mut now = HashSet::new();
        for (path, error) in found {
            // A folder that changed during the scan was read twice.
            if now.insert(Name::clone(path)) && !self.folders.contains(path) {
                log.folder_unreadable(path, error, is_initial);
            }
        }
        self.folders.retain(|path| {
            let is_kept = !scope.has_folder(path) || now.contains(path);
            if !is_kept && !unreadable.contain(path) {
                log.folder_readable(path);
            }
            is_kept
        });
        self.folders.extend(now);
    }

    /// Counts the folders. Their files are listed, or not known.
    pub(super) fn count_in(&self, left_out: &mut LeftOut) {
        for path in &self.folders {
            left_out.add(LeftOutReason::Unreadable, path);
        }
    }

    /// Adds a file, with the fingerprint that it has now. Logs the first one of a folder that can be read.
    pub(super) fn insert(
        &mut self,
        name: &Name,
        found: Option<Fingerprint>,
        reason: &str,
        log: &FileLog,
    ) {
        let folder = folder_of(name);
        match self.files.get_mut(folder) {
            Some(files) => _ = files.insert(Arc::clone(name), found),
            None => {
                if !Folders::new(self.folders.iter().cloned()).contain(name) {
                    log.files_unreadable(folder, name, reason);
                }
                let files = HashMap::from([(Arc::clone(name), found)]);
                self.files.insert(Name::from(folder), files);
            }
        }
    }

    /// The fingerprint that a file had when it could not be read.
    pub(super) fn get(&self, name: &OsStr) -> Option<Option<Fingerprint>> {
        if self.files.is_empty() {
            return None;
        }
        self.files.get(folder_of(name))?.get(name).copied()
    }

    /// Removes a file, which is missing, or was read. Logs when no file of the folder is left.
    pub(super) fn remove(&mut self, name: &Name, is_readable: bool, log: &FileLog) {
        if self.files.is_empty() {
            return;
        }
        let folder = folder_of(name);
        let Some(files) = self.files.get_mut(folder) else {
            return;
        };
        if files.remove(name).is_some() && files.is_empty() {
            self.files.remove(folder);
            if is_readable {
                log.files_readable(folder);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Unreadable::default();
    }
}

/// The path of the folder that contains a file; empty for the root.
fn folder_of(path: &OsStr) -> &OsStr {
    let parent = std::path::Path::new(path).parent();
    parent.map_or(OsStr::new(""), std::path::Path::as_os_str)
}
