//! Events of systems that report a path in the tree and little else.
//!
//! Windows and macOS do not say whether a path is that of a file or a folder, and macOS merges the events of one path
//! over time. So an event only says where to look: the file system says what is there now.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::WatchEvent;
use crate::dir::record::Name;
use crate::dir::schedule::FileEvent;
use crate::dir::scope::Scope;
use crate::dir::select::Naming;
use crate::name::is_hidden;

/// What an event says of its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// A name appeared or disappeared, or the system does not say what happened.
    Name,
    /// Contents or metadata changed.
    Contents,
}

/// Translates the events of one folder.
#[derive(Debug)]
pub(super) struct Hints {
    root: PathBuf,
    naming: Naming,
    folders: Mutex<Folders>,
}

/// The sub-folders that scans found. // W9
#[derive(Debug, Default)]
struct Folders {
    /// Each with the last scan that found it.
    found: HashMap<Name, u64>,
    /// The number of the current scan.
    scan: u64,
}

impl Hints {
    /// `root` is the path of the folder.
    pub(super) fn new(root: PathBuf, naming: Naming) -> Hints {
        Hints {
            root,
            naming,
            folders: Mutex::default(),
        }
    }

    /// What an event of a path below the folder means.
    pub(super) fn translate(&self, path: &Path, change: Change) -> Option<WatchEvent> {
        let mut parts = Vec::new();
        for part in path.components() {
            match part {
                Component::Normal(part) => parts.push(part),
                _ => return Some(WatchEvent::Rescan),
            }
        }
        let Some((last, above)) = parts.split_last() else {
            // The folder itself: its own contents changed, or it was moved.
            return (change == Change::Name).then_some(WatchEvent::Rescan);
        };
        let is_below = !above.is_empty();
        if above.iter().any(|name| is_hidden(name)) || (is_below && self.naming == Naming::Flat) {
            return None;
        }
        let name = parts.join(OsStr::new("/"));
        let name = Name::from(name);
        let found = fs::symlink_metadata(self.root.join(path));
        let is_folder = found.as_ref().is_ok_and(fs::Metadata::is_dir);
        if self.naming == Naming::Tree {
            let was_folder = self.with_folders(|folders| folders.found.contains_key(&name));
            if is_folder || was_folder {
                // The time of a folder changes with each of its entries, which have events of their own.
                let is_same = is_folder && was_folder && change == Change::Contents;
                return (!is_same && !is_hidden(last)).then_some(WatchEvent::Folder(name));
            }
        }
        let event = match (found, change) {
            (Err(_), _) => FileEvent::Removed,
            (Ok(_), Change::Name) => FileEvent::Created,
            (Ok(_), Change::Contents) => FileEvent::Changed,
        };
        Some(WatchEvent::File(name, event))
    }

    /// A scan found a sub-folder.
    pub(super) fn add_folder(&self, path: &Name) {
        self.with_folders(|folders| folders.found.insert(Name::clone(path), folders.scan));
    }

    pub(super) fn begin_scan(&self) {
        self.with_folders(|folders| folders.scan += 1);
    }

    /// Forgets the folders that the current scan covers and did not find.
    pub(super) fn end_scan(&self, scope: &Scope) {
        self.with_folders(|Folders { found, scan }| {
            found.retain(|path, last| last >= scan || !scope.has_folder(path));
        });
    }

    fn with_folders<T>(&self, act: impl FnOnce(&mut Folders) -> T) -> T {
        act(&mut self.folders.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dir::scope::Folders as Paths;

    struct Tree {
        place: tempfile::TempDir,
        hints: Hints,
    }

    impl Tree {
        fn new(naming: Naming) -> Tree {
            let place = tempfile::tempdir().unwrap();
            fs::create_dir_all(place.path().join("a/b")).unwrap();
            fs::write(place.path().join("a/b/x.png"), "x").unwrap();
            fs::write(place.path().join("y.png"), "y").unwrap();
            let hints = Hints::new(place.path().to_owned(), naming);
            Tree { place, hints }
        }

        fn path(&self, path: &str) -> PathBuf {
            self.place.path().join(path)
        }

        /// A whole scan that finds these folders.
        fn scan(&self, folders: &[&str]) {
            self.hints.begin_scan();
            for path in folders {
                self.hints.add_folder(&Name::from(OsStr::new(path)));
            }
            self.hints.end_scan(&Scope::Whole);
        }

        fn event(&self, path: &str, change: Change) -> String {
            match self.hints.translate(Path::new(path), change) {
                Some(WatchEvent::File(name, event)) => {
                    format!("{} {event:?}", name.to_str().unwrap())
                }
                Some(WatchEvent::Folder(name)) => format!("{} folder", name.to_str().unwrap()),
                Some(WatchEvent::Rescan) => "rescan".to_owned(),
                Some(WatchEvent::Failed) => "failed".to_owned(),
                None => String::new(),
            }
        }
    }

    #[test]
    fn w9_the_file_system_says_whether_a_path_is_that_of_a_file_or_folder() {
        let tree = Tree::new(Naming::Tree);
        assert_eq!(tree.event("a/b/x.png", Change::Name), "a/b/x.png Created");
        let changed = tree.event("a/b/x.png", Change::Contents);
        assert_eq!(changed, "a/b/x.png Changed");
        for change in [Change::Name, Change::Contents] {
            assert_eq!(tree.event("a/b", change), "a/b folder");
            assert_eq!(tree.event("gone.png", change), "gone.png Removed");
        }
    }

    #[test]
    fn w9_a_folder_that_a_scan_found_is_scanned_when_it_is_moved_removed_or_replaced() {
        let tree = Tree::new(Naming::Tree);
        tree.scan(&["a", "a/b"]);
        assert_eq!(tree.event("a/b", Change::Contents), "", "an entry changed");
        fs::rename(tree.path("a/b"), tree.path("c")).unwrap();
        assert_eq!(tree.event("a/b", Change::Name), "a/b folder");
        assert_eq!(tree.event("c", Change::Name), "c folder");
        fs::write(tree.path("a/b"), "a file now").unwrap();
        assert_eq!(tree.event("a/b", Change::Name), "a/b folder");
        assert_eq!(tree.event("a/b", Change::Contents), "a/b folder");
        // A scan of another folder does not say whether it is still one.
        tree.hints.begin_scan();
        let other = Paths::new([Name::from(OsStr::new("c"))].into_iter());
        tree.hints.end_scan(&Scope::Below(other));
        assert_eq!(tree.event("a/b", Change::Name), "a/b folder");
        tree.scan(&["a", "c"]);
        assert_eq!(tree.event("a/b", Change::Name), "a/b Created");
    }

    #[test]
    fn w9_events_in_hidden_folders_and_of_hidden_folders_mean_nothing() {
        let tree = Tree::new(Naming::Tree);
        fs::create_dir_all(tree.path("a/.h/d")).unwrap();
        fs::write(tree.path("a/.h/d/x.png"), "x").unwrap();
        for change in [Change::Name, Change::Contents] {
            for path in ["a/.h", "a/.h/d", "a/.h/d/x.png", ".gone/x.png"] {
                assert_eq!(tree.event(path, change), "", "{path}");
            }
        }
    }

    #[test]
    fn events_below_a_flat_folder_mean_nothing() {
        let tree = Tree::new(Naming::Flat);
        assert_eq!(tree.event("a/b/x.png", Change::Name), "");
        assert_eq!(tree.event("y.png", Change::Name), "y.png Created");
        assert_eq!(tree.event("a", Change::Name), "a Created");
    }

    #[test]
    fn an_event_of_the_root_or_of_a_path_outside_leads_to_a_scan() {
        for naming in [Naming::Flat, Naming::Tree] {
            let tree = Tree::new(naming);
            assert_eq!(tree.event("", Change::Name), "rescan");
            assert_eq!(tree.event("", Change::Contents), "");
            assert_eq!(tree.event("../y.png", Change::Contents), "rescan");
        }
    }
}
