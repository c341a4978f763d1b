//! What a scan covers: the whole folder, or the sub-folders that changed.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::Path;

use super::record::Name;

/// The most changed sub-folders that are kept. If more change at once, the whole folder is scanned.
const MAX_FOLDERS: usize = 10_000;

/// The part of a folder that a scan covers.
#[derive(Debug)]
pub(super) enum Scope {
    Whole,
    /// The files below these sub-folders. // W9
    Below(Folders),
}

impl Scope {
    pub(super) fn is_whole(&self) -> bool {
        matches!(self, Scope::Whole)
    }

    /// Whether the scan covers a file.
    pub(super) fn has_file(&self, path: &OsStr) -> bool {
        match self {
            Scope::Whole => true,
            Scope::Below(folders) => folders.contain(path),
        }
    }

    /// Whether the scan covers a sub-folder and all that is below it.
    pub(super) fn has_folder(&self, path: &OsStr) -> bool {
        match self {
            Scope::Whole => true,
            Scope::Below(folders) => folders.0.contains(path) || folders.contain(path),
        }
    }
}

/// A set of folders, by path.
#[derive(Debug, Default, Clone)]
pub(super) struct Folders(HashSet<Name>);

impl Folders {
    pub(super) fn new(paths: impl Iterator<Item = Name>) -> Folders {
        Folders(paths.collect())
    }

    /// Whether a file or folder is below one of these folders.
    pub(super) fn contain(&self, path: &OsStr) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let mut above = Path::new(path).ancestors().skip(1);
        above.any(|folder| self.0.contains(folder.as_os_str()))
    }

    /// Those that are not below another one.
    pub(super) fn outermost(&self) -> impl Iterator<Item = &Name> {
        self.0.iter().filter(|path| !self.contain(path))
    }
}

/// The sub-folders that changed since the last scan.
#[derive(Debug, Default)]
pub(super) struct Changed {
    folders: HashSet<Name>,
    /// Whether there were too many.
    all: bool,
}

impl Changed {
    pub(super) fn add(&mut self, path: Name) {
        if self.folders.len() < MAX_FOLDERS {
            self.folders.insert(path);
        } else {
            self.all = true;
        }
    }

    /// What is to be scanned.
    pub(super) fn take(&mut self) -> Scope {
        let Changed { folders, all } = std::mem::take(self);
        match all {
            true => Scope::Whole,
            false => Scope::Below(Folders(folders)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(paths: &[&str]) -> Folders {
        Folders::new(paths.iter().map(|path| Name::from(OsStr::new(path))))
    }

    #[test]
    fn w9_a_file_is_in_its_folder_and_in_those_above_and_in_no_other() {
        let scope = Scope::Below(folders(&["a/b", "c"]));
        for (path, has_file, has_folder) in [
            ("a/b/x", true, true),
            ("a/b/d/x", true, true),
            ("c/x", true, true),
            ("a/b", false, true),
            ("a/x", false, false),
            ("a/bc/x", false, false),
            ("x", false, false),
        ] {
            assert_eq!(scope.has_file(OsStr::new(path)), has_file, "{path}");
            assert_eq!(scope.has_folder(OsStr::new(path)), has_folder, "{path}");
        }
        assert!(folders(&[""]).contain(OsStr::new("a/x.png")));
    }

    #[test]
    fn w9_a_folder_below_another_changed_one_is_not_scanned_twice() {
        let folders = folders(&["a/b/c", "a", "a b/c", "d/e", "d/f"]);
        let mut found: Vec<_> = folders
            .outermost()
            .map(|path| path.to_str().unwrap())
            .collect();
        found.sort_unstable();
        assert_eq!(found, ["a", "a b/c", "d/e", "d/f"]);
    }

    #[test]
    fn w9_if_very_many_folders_changed_the_whole_tree_is_scanned() {
        let mut changed = Changed::default();
        for n in 0..=MAX_FOLDERS {
            assert!(!changed.all);
            changed.add(Name::from(OsStr::new(&n.to_string())));
        }
        assert!(changed.take().is_whole());
        assert!(!changed.take().is_whole());
    }
}
