//! What is in a folder and its sub-folders.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::pictures::is_image;
use crate::support::bytes::id_of;

/// A catalog's entries: name and ID.
pub(super) type Catalog = BTreeSet<(String, u64)>;

/// The entries of a folder and its sub-folders, hidden ones too, as paths below it, in order. Links are not followed.
pub(super) fn entries(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(folder) = pending.pop() {
        // A program may remove what this reads.
        let Ok(entries) = fs::read_dir(root.join(&folder)) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = folder.join(entry.file_name());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                pending.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    found
}

fn is_kind(root: &Path, path: &Path, kind: fn(&fs::FileType) -> bool) -> bool {
    fs::symlink_metadata(root.join(path)).is_ok_and(|metadata| kind(&metadata.file_type()))
}

/// Whether a part of a path begins with a dot.
pub(super) fn is_hidden(path: &Path) -> bool {
    path.iter()
        .any(|part| part.as_encoded_bytes().starts_with(b"."))
}

/// The visible regular files.
pub(super) fn files(root: &Path) -> Vec<PathBuf> {
    let mut entries = entries(root);
    entries.retain(|path| !is_hidden(path) && is_kind(root, path, fs::FileType::is_file));
    entries
}

/// The visible sub-folders.
pub(super) fn folders(root: &Path) -> Vec<PathBuf> {
    let mut entries = entries(root);
    entries.retain(|path| !is_hidden(path) && is_kind(root, path, fs::FileType::is_dir));
    entries
}

/// The visible regular files and the IDs of their content. A file that a program renames meanwhile is not missed: the
/// folder is read until it is the same twice.
pub(super) fn content(root: &Path) -> BTreeMap<PathBuf, u64> {
    let mut before = content_once(root);
    loop {
        let content = content_once(root);
        if content == before {
            return content;
        }
        before = content;
    }
}

fn content_once(root: &Path) -> BTreeMap<PathBuf, u64> {
    let mut content = BTreeMap::new();
    for path in files(root) {
        if let Ok(bytes) = fs::read(root.join(&path)) {
            content.insert(path, id_of(&bytes));
        }
    }
    content
}

/// All entries with what tells whether one has changed, for a folder in which nothing may change.
pub(super) fn state(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut state = BTreeMap::new();
    for path in entries(root) {
        let full = root.join(&path);
        let Ok(metadata) = fs::symlink_metadata(&full) else {
            continue;
        };
        let content = match metadata.file_type() {
            kind if kind.is_file() => format!("{:016x?}", super::pictures::id_of_file(&full)),
            kind if kind.is_symlink() => format!("{:?}", fs::read_link(&full)),
            _ => "folder".to_owned(),
        };
        let mode = metadata.permissions().mode();
        state.insert(path, format!("{content} {mode:o}"));
    }
    state
}

/// What a server that shares a folder lists.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) catalog: Catalog,
    /// Images that it may list or not: empty files, and files that a mode protects.
    pub(super) optional: HashSet<u64>,
}

impl Shared {
    pub(super) fn of(root: &Path, recursive: bool) -> Shared {
        let mut shared = Shared::default();
        // The name of an image: one with an extension comes first, then the first in order. // S4
        let mut names = BTreeMap::<u64, (bool, String)>::new();
        for path in entries(root) {
            let Some((name, bytes, protected)) = candidate(root, &path, recursive) else {
                continue;
            };
            let id = id_of(&bytes);
            if bytes.is_empty() || protected {
                shared.optional.insert(id);
            }
            let named = (!jtp_store::has_image_extension(&name), name);
            let first = names.entry(id).or_insert_with(|| named.clone());
            if named < *first {
                *first = named;
            }
        }
        shared.catalog = names
            .into_iter()
            .map(|(id, (_, name))| (name, id))
            .collect();
        shared
    }

    /// What is wrong with the list of a server; empty if nothing.
    pub(super) fn differences(&self, listed: &Catalog) -> Vec<String> {
        let mandatory = |(_, id): &&(String, u64)| !self.optional.contains(id);
        let absent = self.catalog.difference(listed).filter(mandatory);
        let absent = absent.map(|(name, id)| format!("not listed: {name} {id:016x}"));
        let extra = listed.difference(&self.catalog).filter(mandatory);
        let extra = extra.map(|(name, id)| format!("listed: {name} {id:016x}"));
        absent.chain(extra).collect()
    }
}

/// The name and content of a file that is shared, and whether its mode protects it from its owner.
fn candidate(root: &Path, path: &Path, recursive: bool) -> Option<(String, Vec<u8>, bool)> {
    if is_hidden(path) || (!recursive && path.components().count() > 1) {
        return None;
    }
    let parts: Vec<&str> = path.iter().map(|part| part.to_str().unwrap()).collect();
    let last = parts.last()?;
    if is_set_aside(last) {
        return None;
    }
    // A link leads to a file of the folder that is shared itself, or nowhere.
    let full = fs::canonicalize(root.join(path)).ok()?;
    let target = full.strip_prefix(fs::canonicalize(root).ok()?).ok()?;
    if is_hidden(target) || is_set_aside(target.file_name()?.to_str()?) {
        return None;
    }
    let metadata = fs::metadata(&full).ok().filter(fs::Metadata::is_file)?;
    let protected = metadata.permissions().mode() & 0o400 == 0;
    let bytes = fs::read(&full).ok()?;
    // Only a server that shares sub-folders replaces the character that stands between folders. // W9
    let name = match recursive {
        true => jtp_core::join_folders(parts.iter().copied())?,
        false => jtp_core::join_folders(last.split(jtp_core::FOLDER_SEPARATOR))?,
    };
    let is_shared = is_image(last, &bytes) && is_image(target.file_name()?.to_str()?, &bytes);
    is_shared.then_some((name, bytes, protected))
}

/// The names of temporary files and backups that the user's programs make here.
fn is_set_aside(name: &str) -> bool {
    name.ends_with('~')
        || name
            .strip_suffix("_original")
            .is_some_and(jtp_store::has_image_extension)
        || name.ends_with(".part")
        || name.ends_with(".tmp")
}
