//! File names from peers become one safe path component on every system, or a path of such components. Sanitizing is
//! idempotent, and a plan assigns unique names that do not depend on the order of the entries; no file has the name of a
//! folder. // R5 W9

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use jtp_core::{FileType, ImageId, MAX_PATH_COMPONENTS};
use jtp_store::{FileName, MAX_FILE_NAME_LEN, MAX_PATH_LEN, NamePlan};
use unicode_normalization::is_nfc;

use crate::ByteReader;

pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let first = FileName::new(&text, ImageId(0xab), FileType::Gif);
    check_safe(first.as_str());
    check_idempotent(&first, ImageId(0xab));
    check_path(&FileName::in_folders(&text, ImageId(0xab), FileType::Gif));
    // Each `/` is a folder.
    let text = text.replace('/', "\u{29f8}");
    check_path(&FileName::in_folders(&text, ImageId(0xab), FileType::Gif));

    let mut reader = ByteReader(data);
    let mut entries = BTreeMap::new();
    while entries.len() < 8 && !reader.0.is_empty() {
        let id = ImageId(u64::from(reader.byte() % 12));
        let length = usize::from(reader.byte() % 32);
        let name = String::from_utf8_lossy(reader.take(length)).into_owned();
        entries.insert(id, name);
    }
    check_plans(&entries, &NamePlan::new());
    check_plans(&entries, &NamePlan::with_folders());
    for name in entries.values_mut() {
        *name = name.replace('/', "\u{29f8}");
    }
    check_plans(&entries, &NamePlan::with_folders());
}

/// `empty` decides whether names have folders.
fn check_plans(entries: &BTreeMap<ImageId, String>, empty: &NamePlan) {
    let forwards = plan(empty, entries.iter());
    let backwards = plan(empty, entries.iter().rev());
    let mut folders = BTreeSet::new();
    let mut taken: BTreeMap<String, ImageId> = BTreeMap::new();
    // Images that are in no LIST get names too.
    for id in (0..14).map(ImageId) {
        let name = forwards.name(id, FileType::Gif);
        assert_eq!(
            name,
            backwards.name(id, FileType::Gif),
            "the name depends on the order"
        );
        check_path(&name);
        folders.extend(name.folders().map(fold));
        let folded = fold(name.as_str());
        if let Some(other) = taken.insert(folded, id) {
            panic!("{other} and {id} are both named {name}");
        }
    }
    if let Some(both) = taken.keys().find(|name| folders.contains(*name)) {
        panic!("a file and a folder are named {both}");
    }
    // Names announced later are safe too.
    let mut watched = forwards;
    for (id, name) in entries {
        watched.announce(ImageId(id.0 + 20), name, FileType::Png);
        check_path(&watched.name(ImageId(id.0 + 20), FileType::Png));
    }
    for id in (0..40).map(ImageId) {
        watched.remove(id);
    }
    assert_eq!(watched.folders(), 0, "a folder without images");
}

fn plan<'a>(
    empty: &NamePlan,
    entries: impl Iterator<Item = (&'a ImageId, &'a String)>,
) -> NamePlan {
    let mut plan = empty.clone();
    for (id, name) in entries {
        plan.add(*id, name, FileType::Gif);
    }
    plan
}

fn check_idempotent(name: &FileName, id: ImageId) {
    assert_eq!(
        &FileName::new(name.as_str(), id, FileType::Gif),
        name,
        "sanitizing is not idempotent"
    );
    let suffixed = name.with_id(id);
    check_safe(suffixed.as_str());
    assert_eq!(
        FileName::new(suffixed.as_str(), id, FileType::Gif),
        suffixed
    );
    assert_eq!(suffixed.with_id(id), suffixed);
}

/// Each component is safe, and the file is named like an image.
fn check_path(name: &FileName) {
    let count = name.as_str().split('/').count();
    assert!(count <= MAX_PATH_COMPONENTS, "{name}");
    // With a suffix, it may be longer.
    assert!(name.as_str().len() <= MAX_PATH_LEN + 17, "{name}");
    name.as_str().split('/').for_each(check_safe);
    assert!(jtp_store::has_image_extension(name.file()), "{name}");
    assert_eq!(name.folders().count(), count - 1, "{name}");
}

/// Equal for names that a case-insensitive file system treats as equal.
fn fold(name: &str) -> String {
    without_joiners(name).to_lowercase()
}

/// The name without joiners, which HFS+ ignores.
fn without_joiners(name: &str) -> String {
    name.chars()
        .filter(|c| !matches!(c, '\u{200c}' | '\u{200d}'))
        .collect()
}

/// Checks a name for Linux, macOS and Windows. Independent of the rules in jtp-store.
fn check_safe(name: &str) {
    assert!(
        !name.is_empty() && name.len() <= MAX_FILE_NAME_LEN,
        "{name:?}"
    );
    assert!(is_nfc(name), "{name:?}");
    let mut components = Path::new(name).components();
    assert!(
        matches!(components.next(), Some(Component::Normal(part)) if part == name),
        "{name:?}"
    );
    assert_eq!(components.next(), None);
    assert!(
        !without_joiners(name).is_empty()
            && !without_joiners(name).starts_with('.')
            && !name.ends_with(['.', ' ']),
        "{name:?}"
    );
    assert!(
        !name.contains(['/', '\\', ':', '<', '>', '"', '|', '?', '*']),
        "{name:?}"
    );
    assert!(!name.chars().any(char::is_control), "{name:?}");
    // Windows allows 255 UTF-16 units; a name never has more units than bytes.
    let stem = name
        .split('.')
        .next()
        .unwrap()
        .trim_end_matches(' ')
        .to_uppercase();
    let devices = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$"];
    assert!(!devices.contains(&stem.as_str()), "{name:?}");
    for port in ["COM", "LPT"] {
        // Not `½`, which is numeric, too.
        let number = stem.strip_prefix(port).unwrap_or_default();
        let is_digit = |c: char| c.is_ascii_digit() || "¹²³".contains(c);
        assert!(
            !(number.chars().count() == 1 && number.contains(is_digit)),
            "{name:?}"
        );
    }
}
