//! A folder and a server in memory.

use std::collections::{BTreeMap, BTreeSet};

use jtp_core::{FileType, ImageId, nfc};
pub(crate) use jtp_kit::Rng;
use jtp_store::{FileName, NamePlan, fold_case};
use jtp_sync::FileKind;

/// A folder: names and what they stand for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Folder {
    pub(crate) files: BTreeMap<String, FileKind>,
    /// Folders, which stay when they are empty.
    pub(crate) made: BTreeSet<String>,
    /// Whether names that differ in case or normal form are one.
    pub(crate) folding: bool,
    /// Whether the program knows that they are not.
    pub(crate) case_sensitive: bool,
    /// Whether scans leave some images unread, where that is possible: to fetch all of them.
    pub(crate) unread: bool,
    /// Names of files that cannot be renamed or replaced.
    pub(crate) immutable: BTreeSet<String>,
}

impl Folder {
    /// The name of the file that the file system finds under a name.
    pub(crate) fn find(&self, name: &str) -> Option<String> {
        if !self.folding {
            return self.files.contains_key(name).then(|| name.to_owned());
        }
        let is = |other: &&String| fold_case(other) == fold_case(name);
        self.files.keys().find(is).cloned()
    }

    fn is_equal(&self, one: &str, two: &str) -> bool {
        one == two || (self.folding && fold_case(one) == fold_case(two))
    }

    pub(crate) fn is_folder(&self, name: &str) -> bool {
        let mut folders = self.made.iter();
        folders.any(|folder| self.is_equal(folder, name))
    }

    pub(crate) fn folders(&self) -> &BTreeSet<String> {
        &self.made
    }

    /// The files in place of the folders of a name.
    pub(crate) fn in_place_of_folders(&self, name: &str) -> Vec<String> {
        let folders = folders(name);
        folders.filter_map(|folder| self.find(folder)).collect()
    }

    /// Adds a file, and its folders; in a folder that is there in another case, if the file system ignores case.
    pub(crate) fn insert(&mut self, name: &str, kind: FileKind) {
        let mut path = name.to_owned();
        for folder in folders(name) {
            if let Some(there) = self.made.iter().find(|there| self.is_equal(there, folder)) {
                path = format!("{there}{}", &name[folder.len()..]);
                break;
            }
        }
        self.made.extend(folders(&path).map(str::to_owned));
        self.files.insert(path, kind);
    }

    /// Does nothing if there is a folder of this name, or a file in place of its folder.
    pub(crate) fn put(&mut self, name: &str, kind: FileKind) {
        if self.is_folder(name) || !self.in_place_of_folders(name).is_empty() {
            return;
        }
        if let Some(old) = self.find(name) {
            self.files.remove(&old);
            self.immutable.remove(&old);
        }
        self.insert(name, kind);
    }

    pub(crate) fn holders(&self, id: ImageId) -> Vec<&str> {
        let has = |(_, kind): &(&String, &FileKind)| **kind == FileKind::Image(id);
        let holders = self.files.iter().filter(has);
        holders.map(|(name, _)| name.as_str()).collect()
    }

    pub(crate) fn contains(&self, id: ImageId) -> bool {
        !self.holders(id).is_empty()
    }
}

/// The folders of a path, the innermost first.
pub(crate) fn folders(path: &str) -> impl Iterator<Item = &str> {
    path.rmatch_indices('/').map(|(at, _)| &path[..at])
}

/// What a server lists, in its order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Server {
    pub(crate) entries: Vec<(String, ImageId)>,
    next_id: u64,
}

impl Server {
    pub(crate) fn ids(&self) -> BTreeSet<ImageId> {
        self.entries.iter().map(|(_, id)| *id).collect()
    }

    /// The names that the images are to have, found with the name plan alone.
    pub(crate) fn expected_names(&self) -> BTreeMap<ImageId, FileName> {
        let mut order: Vec<(ImageId, &str)> = Vec::new();
        for (name, id) in &self.entries {
            // The first entry of an ID stands. // S4
            if order.iter().all(|(other, _)| other != id) {
                order.push((*id, name));
            }
        }
        let mut plan = NamePlan::with_folders();
        for (id, name) in &order {
            plan.add(*id, name, FileType::Png);
        }
        for (n, (id, name)) in order.iter().enumerate() {
            let mut later = order[n + 1..].iter();
            if later.any(|(_, other)| nfc(other) == nfc(name)) {
                plan.supersede(*id);
            }
        }
        let named = order
            .iter()
            .map(|(id, _)| (*id, plan.name(*id, FileType::Png)));
        named.collect()
    }

    /// Changes something at random. Returns the events that WATCH reports.
    pub(crate) fn change(&mut self, rng: &mut Rng) -> Vec<(String, ImageId)> {
        let before = self.ids();
        let n = self.entries.len();
        let name = random_name(rng);
        match rng.below(8) {
            0 | 1 => {
                let id = self.new_id(rng);
                self.set(&name, id);
            }
            2 if n > 0 => {
                // Rename.
                let (_, id) = self.entries.remove(rng.below(n));
                self.set(&name, id);
            }
            3 if n > 1 => {
                // Swap.
                let (a, b) = (rng.below(n), rng.below(n));
                let id = self.entries[a].1;
                self.entries[a].1 = self.entries[b].1;
                self.entries[b].1 = id;
            }
            4 if n > 1 => {
                // Rotation of all names.
                let ids: Vec<ImageId> = self.entries.iter().map(|(_, id)| *id).collect();
                for (n, entry) in self.entries.iter_mut().enumerate() {
                    entry.1 = ids[(n + 1) % ids.len()];
                }
            }
            5 if n > 0 => {
                self.entries.remove(rng.below(n));
            }
            6 if n > 0 => {
                // The file changes: rename the old image, and add a new one with its name.
                let at = rng.below(n);
                let old = self.entries[at].clone();
                self.entries[at].1 = self.new_id(rng);
                if rng.percent(50) {
                    self.set(&name, old.1);
                } else if rng.percent(30) {
                    // A server that never drops old images.
                    self.entries.insert(at, old);
                }
            }
            _ => self.entries.sort(),
        }
        let new = |(_, id): &&(String, ImageId)| !before.contains(id);
        self.entries.iter().filter(new).cloned().collect()
    }

    fn new_id(&mut self, rng: &mut Rng) -> ImageId {
        // Few IDs, so that images come back.
        if rng.percent(30) {
            let id = ImageId(rng.next() % 12);
            if !self.ids().contains(&id) {
                return id;
            }
        }
        self.next_id += 1;
        ImageId(1000 + self.next_id)
    }

    fn set(&mut self, name: &str, id: ImageId) {
        self.entries
            .retain(|(other, old)| other != name && *old != id);
        self.entries.push((name.to_owned(), id));
    }
}

/// One of few names, many of which meet.
pub(crate) fn random_name(rng: &mut Rng) -> String {
    let id = rng.next() % 12;
    match rng.below(12) {
        0 => format!("a-{}.png", ImageId(id)),
        1 => format!("B-{}.png", ImageId(id)),
        _ => (*rng.pick(&[
            "a.png",
            "A.png",
            "a.PNG",
            "b.png",
            "B.png",
            "c.png",
            "d.png",
            "é.png",
            "e\u{301}.png",
            "É.png",
            "straße.png",
            "STRASSE.png",
            "Makefile",
            "makefile.img",
            "-x.png",
            "x/y.png",
            "d⧸a.png",
            "D⧸a.png",
            "d⧸A.png",
            "d⧸e⧸a.png",
            "d⧸e.png",
            "a.png⧸b.png",
            "A.png⧸b.png",
            "é.png⧸d.png⧸a.png",
            "d⧸e.png⧸a.png",
        ]))
        .to_owned(),
    }
}

/// Whether a name was made from an ID: `<id>.<ext>`, or one that ends in `-<id>` or `-<id>-<number>`.
pub(crate) fn is_made(name: &str, id: ImageId) -> bool {
    let name = name.rsplit_once('/').map_or(name, |(_, file)| file);
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let digits = stem.trim_end_matches(|c: char| c.is_ascii_digit());
    let unnumbered = digits.strip_suffix('-').unwrap_or(stem);
    let id = id.to_string();
    [stem, unnumbered]
        .iter()
        .any(|stem| *stem == id || stem.ends_with(&format!("-{id}")))
}
