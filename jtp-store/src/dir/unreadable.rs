//! What was listed and cannot be read at the moment. It stays listed: only what is known to be gone is unlisted.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::sync::Arc;

use super::file_log::FileLog;
use super::left_out::{LeftOut, LeftOutReason};
use super::record::Name;
use crate::fingerprint::Fingerprint;

/// The sub-folders that the last scan could not read (W9), and the listed files that could not be read in others, by
/// folder.
#[derive(Debug, Default)]
pub(super) struct Unreadable {
    folders: HashSet<Name>,
    files: HashMap<Name, HashMap<Name, Option<Fingerprint>>>,
}

/// Finds out whether files are in one of some folders.
#[derive(Debug, Default)]
pub(super) struct Folders<'a>(HashSet<&'a OsStr>);

impl<'a> Folders<'a> {
    pub(super) fn new(paths: impl Iterator<Item = &'a Name>) -> Folders<'a> {
        Folders(paths.map(|path| &**path).collect())
    }

    /// Whether a file is below one of these folders.
    pub(super) fn contain(&self, file: &OsStr) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let mut path = std::path::Path::new(file);
        while let Some(parent) = path.parent() {
            if self.0.contains(parent.as_os_str()) {
                return true;
            }
            path = parent;
        }
        false
    }
}

impl Unreadable {
    /// Takes the folders of a complete scan, and logs which are new and which can be read again.
    pub(super) fn set_folders(&mut self, found: &[(Name, io::Error)], log: &FileLog) {
        let names: HashSet<Name> = found.iter().map(|(path, _)| Name::clone(path)).collect();
        for (path, error) in found {
            if !self.folders.contains(path) {
                log.folder_unreadable(path, error);
            }
        }
        for path in self.folders.difference(&names) {
            log.folder_readable(path);
        }
        self.folders = names;
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
                if !Folders::new(self.folders.iter()).contain(name) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w9_a_file_is_in_its_folder_and_in_those_above_and_in_no_other() {
        let paths = ["a/b", "c"].map(|path| Name::from(OsStr::new(path)));
        let folders = Folders::new(paths.iter());
        for (file, is_inside) in [
            ("a/b/x.png", true),
            ("a/b/d/x.png", true),
            ("c/x.png", true),
            ("a/x.png", false),
            ("a/bc/x.png", false),
            ("x.png", false),
            ("c", false),
        ] {
            assert_eq!(folders.contain(OsStr::new(file)), is_inside, "{file}");
        }
        let root = [Name::from(OsStr::new(""))];
        assert!(Folders::new(root.iter()).contain(OsStr::new("a/x.png")));
    }
}
