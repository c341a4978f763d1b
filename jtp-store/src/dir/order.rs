//! The order of names. // S4

use std::ffi::OsStr;

use super::packed::Slot;
use super::record::Name;
use super::select::Naming;
use super::table::Table;
use crate::name::has_certain_extension;

/// The order of names: by listed name, then by file name.
pub(super) type SortKey = (Box<str>, Name);

pub(super) fn sort_key(path: &OsStr, naming: Naming) -> SortKey {
    let listed = naming.listed(path).unwrap_or_default();
    (listed.into_boxed_str(), Name::from(path))
}

/// The order in which files with the same bytes are listed. // S4
pub(super) fn holder_key(path: &OsStr, naming: Naming) -> (bool, Box<str>, Name) {
    let is_other = !has_certain_extension(&path.to_string_lossy());
    let (listed, name) = sort_key(path, naming);
    (is_other, listed, name)
}

/// Sorts files by listed name, then by file name.
pub(super) fn sort_by_name(table: &Table, slots: Vec<Slot>, naming: Naming) -> Vec<Slot> {
    let mut is_used = vec![false; table.folders().numbers_end()];
    let mut all_ascii = true;
    let mut name = Vec::new();
    for slot in &slots {
        name.clear();
        table.append_name(*slot, &mut name);
        all_ascii &= name.is_ascii();
        if let Some(used) = is_used.get_mut(index(table.folder(*slot))) {
            *used = true;
        }
    }
    let folders = (0..).zip(is_used).filter(|(_, used)| *used);
    let folders: Vec<u32> = folders.map(|(number, _)| number).collect();
    let path = |folder: &u32| table.folders().path(*folder);
    if all_ascii && folders.iter().all(|folder| path(folder).is_ascii()) {
        return sort_ascii(table, &slots, folders);
    }
    let mut slots = slots;
    slots.sort_by_cached_key(|slot| sort_key(&table.path(*slot), naming));
    slots
}

/// Sorts files with ASCII paths. The listed name of such a file is its path, with a separator that is greater than all
/// ASCII in place of the slash.
fn sort_ascii(table: &Table, slots: &[Slot], mut folders: Vec<u32>) -> Vec<Slot> {
    let prefix = |folder: u32| table.folders().path(folder).iter().copied().map(listed);
    // A separator follows the path of each folder but the root.
    let with_end = |folder: u32| {
        let path = table.folders().path(folder);
        prefix(folder).chain((!path.is_empty()).then_some(SEPARATOR))
    };
    folders.sort_by(|left, right| with_end(*left).cmp(with_end(*right)));
    let mut groups: Vec<Vec<Slot>> = Vec::new();
    groups.resize_with(folders.len(), Vec::new);
    let mut group_of = vec![usize::MAX; table.folders().numbers_end()];
    for (group, folder) in folders.iter().enumerate() {
        if let Some(of_folder) = group_of.get_mut(index(*folder)) {
            *of_folder = group;
        }
    }
    for slot in slots {
        let group = group_of.get(index(table.folder(*slot)));
        if let Some(group) = group.and_then(|group| groups.get_mut(*group)) {
            group.push(*slot);
        }
    }
    for group in &mut groups {
        sort_in_folder(table, group);
    }
    let mut sorted = groups.concat();
    let is_below = |pair: &[u32]| match pair {
        [above, below] => with_end(*above).eq(with_end(*below).take(with_end(*above).count())),
        _ => false,
    };
    // The files of a folder may belong between those of its sub-folders. Else the folders do not overlap.
    if folders.windows(2).any(is_below) {
        let path = |slot: Slot, buffer: &mut Vec<u8>| {
            buffer.clear();
            buffer.extend(with_end(table.folder(slot)));
            table.append_name(slot, buffer);
        };
        let (mut left_path, mut right_path) = (Vec::new(), Vec::new());
        sorted.sort_by(|left, right| {
            path(*left, &mut left_path);
            path(*right, &mut right_path);
            left_path.cmp(&right_path)
        });
    }
    sorted
}

/// Greater than all ASCII, as the first byte of the separator is.
const SEPARATOR: u8 = 0xff;

fn listed(byte: u8) -> u8 {
    if byte == b'/' { SEPARATOR } else { byte }
}

/// Sorts files of one folder by name.
fn sort_in_folder(table: &Table, slots: &mut [Slot]) {
    // Each name ends with a byte that is in none, and less than those that are. So names are compared by comparing all
    // that follows.
    let mut names = Vec::new();
    let mut keyed = Vec::with_capacity(slots.len());
    for slot in slots.iter() {
        keyed.push((0, names.len(), *slot));
        table.append_name(*slot, &mut names);
        names.push(0);
    }
    let from = |start: usize| names.get(start..).unwrap_or_default();
    // Names often share a prefix, and the 8 bytes behind it tell most of them apart without a full comparison.
    let first = names.iter().position(|byte| *byte == 0).unwrap_or(0);
    let prefix = keyed.iter().fold(first, |prefix, (_, start, _)| {
        let pairs = names.iter().zip(from(*start)).take(prefix);
        pairs.take_while(|(left, right)| left == right).count()
    });
    for (key, start, _) in &mut keyed {
        let rest = from(*start + prefix).iter().take_while(|byte| **byte != 0);
        let mut bytes = [0; 8];
        for (place, byte) in bytes.iter_mut().zip(rest) {
            *place = *byte;
        }
        *key = u64::from_be_bytes(bytes);
    }
    keyed.sort_unstable_by(|(left, a, _), (right, b, _)| {
        left.cmp(right).then_with(|| from(*a).cmp(from(*b)))
    });
    for (slot, (_, _, sorted)) in slots.iter_mut().zip(keyed) {
        *slot = sorted;
    }
}

fn index(folder: u32) -> usize {
    usize::try_from(folder).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dir::record::FileRecord;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn s4_files_are_sorted_by_listed_name_then_by_file_name(
            paths in prop_oneof![
                // In NFC an e with an accent sorts behind all ASCII.
                prop::collection::hash_set("((a|e\u{301}|~){1,2}/){0,3}(e\u{301}|[af!~é]){1,3}", 0..40),
                prop::collection::hash_set("([ab!~]{1,2}/){0,3}[ab!~0]{1,12}", 0..40),
                prop::collection::hash_set("a{3}[ab]{0,9}", 0..20),
            ],
            is_tree: bool,
        ) {
            let naming = if is_tree { Naming::Tree } else { Naming::Flat };
            let file_name = |path: &String| path.rsplit('/').next().unwrap().to_owned();
            let mut table = Table::default();
            for path in &paths {
                let path = if is_tree { path.clone() } else { file_name(path) };
                table.put(OsStr::new(&path), &FileRecord::sample(0)).unwrap();
            }
            let slots: Vec<Slot> = table.slots().collect();
            let sorted = sort_by_name(&table, slots.clone(), naming);
            let mut expected = slots;
            expected.sort_by_cached_key(|slot| sort_key(&table.path(*slot), naming));
            prop_assert_eq!(sorted, expected);
        }
    }
}
