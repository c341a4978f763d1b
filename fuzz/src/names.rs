//! File names from peers: one safe component on every system, stable when made safe twice, and a plan in which
//! no two images meet and the order does not count. // R5

use std::collections::BTreeMap;
use std::path::{Component, Path};

use jtp_core::{FileType, ImageId};
use jtp_store::{FileName, MAX_FILE_NAME_LEN, NamePlan};
use unicode_normalization::is_nfc;

use crate::Choices;

pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let first = FileName::new(&text, ImageId(0xab), FileType::Gif);
    safe(first.as_str());
    stable(&first, ImageId(0xab));

    let mut choices = Choices(data);
    let mut entries = BTreeMap::new();
    while entries.len() < 8 && !choices.0.is_empty() {
        let id = ImageId(u64::from(choices.byte() % 12));
        let length = usize::from(choices.byte() % 32);
        let name = String::from_utf8_lossy(choices.take(length)).into_owned();
        entries.insert(id, name);
    }
    let forwards = plan(entries.iter());
    let backwards = plan(entries.iter().rev());
    let mut taken: BTreeMap<String, ImageId> = BTreeMap::new();
    // Images that no LIST named are named too.
    for id in (0..14).map(ImageId) {
        let name = forwards.name(id, FileType::Gif);
        assert_eq!(name, backwards.name(id, FileType::Gif), "the order counts");
        safe(name.as_str());
        let folded = fold(name.as_str());
        if let Some(other) = taken.insert(folded, id) {
            panic!("{other} and {id} are both {name}");
        }
    }
    // Names announced later are safe as well.
    let mut watched = forwards;
    for (id, name) in &entries {
        watched.announce(ImageId(id.0 + 20), name, FileType::Png);
        safe(watched.name(ImageId(id.0 + 20), FileType::Png).as_str());
    }
}

fn plan<'a>(entries: impl Iterator<Item = (&'a ImageId, &'a String)>) -> NamePlan {
    let mut plan = NamePlan::new();
    for (id, name) in entries {
        plan.add(*id, name, FileType::Gif);
    }
    plan
}

fn stable(name: &FileName, id: ImageId) {
    assert_eq!(
        &FileName::new(name.as_str(), id, FileType::Gif),
        name,
        "not stable"
    );
    let suffixed = name.with_id(id);
    safe(suffixed.as_str());
    assert_eq!(
        FileName::new(suffixed.as_str(), id, FileType::Gif),
        suffixed
    );
    assert_eq!(suffixed.with_id(id), suffixed);
}

/// Equal for names that a file system without case takes for one.
fn fold(name: &str) -> String {
    seen(name).to_lowercase()
}

/// What is left of a name in the eyes of a file system that does not see joiners (HFS+).
fn seen(name: &str) -> String {
    name.chars()
        .filter(|c| !matches!(c, '\u{200c}' | '\u{200d}'))
        .collect()
}

/// What has to hold of a name on Linux, macOS and Windows; written down anew, not taken from the store.
fn safe(name: &str) {
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
        !seen(name).is_empty() && !seen(name).starts_with('.') && !name.ends_with(['.', ' ']),
        "{name:?}"
    );
    assert!(
        !name.contains(['/', '\\', ':', '<', '>', '"', '|', '?', '*']),
        "{name:?}"
    );
    assert!(!name.chars().any(char::is_control), "{name:?}");
    // Windows takes 255 UTF-16 units, which are never more than the bytes.
    let stem = name
        .split('.')
        .next()
        .unwrap()
        .trim_end_matches(' ')
        .to_uppercase();
    let devices = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$"];
    assert!(!devices.contains(&stem.as_str()), "{name:?}");
    for port in ["COM", "LPT"] {
        let number = stem.strip_prefix(port).unwrap_or_default();
        assert!(
            !(number.chars().count() == 1 && number.contains(|c: char| c.is_numeric())),
            "{name:?}"
        );
    }
}
