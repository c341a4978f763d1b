//! Images that were stored are in the index: the next scan reads none of them that nobody has changed.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use jtp_core::{FileType, ImageId};
use jtp_store::{FileName, FileState, OutputFolder, ScanMode};

use super::common::*;
use super::{begin, file_name, ids, open, parts, stage, visible};

const INDEX: &str = ".jtp-index";

fn indexing(path: &Path) -> OutputFolder {
    let folder = open(path);
    folder.index_stored();
    folder
}

/// An empty image, one that stays in memory until it is stored, and one that does not.
fn sizes() -> [Vec<u8>; 3] {
    [Vec::new(), noise(1000, 1), noise(600_000, 2)]
}

/// The number of files that a scan reads.
fn read_by(folder: &OutputFolder) -> u64 {
    let stop = AtomicBool::new(false);
    let summary = folder.scan_tree(ScanMode::Ids, &stop, &mut |_| {});
    summary.unwrap().read
}

fn place(folder: &OutputFolder, name: &str, bytes: &[u8]) {
    let name = FileName::in_folders(name, ImageId::of(bytes), FileType::Png);
    let over = folder.look(name.as_str()).unwrap();
    let mut staged = stage(folder, bytes);
    staged.place(&name, &over).unwrap();
}

#[test]
fn w9_a_scan_does_not_read_what_was_stored() {
    type Open = fn(&Path) -> OutputFolder;
    let distrusting: Open = |path| OutputFolder::open_distrusting_inodes(path).unwrap();
    for open_folder in [open as Open, distrusting] {
        let temp = temp();
        let folder = open_folder(&temp);
        folder.index_stored();
        let mut expected = Vec::new();
        for (n, bytes) in sizes().iter().enumerate() {
            let name = |what: &str| format!("{what}{n}.png");
            place(&folder, &name("new"), bytes);
            place(&folder, &name("a⧸b⧸new"), bytes);
            write(&temp, &name("replaced"), b"old");
            place(&folder, &name("replaced"), bytes);
            let mut settled = stage(&folder, bytes);
            settled.settle().unwrap();
            let to = file_name(&name("settled"), bytes);
            settled.place(&to, &FileState::NOTHING).unwrap();
            let committed = begin(&folder, bytes);
            let to = file_name(&name("committed"), bytes);
            committed.commit(&to, verified(bytes)).unwrap();
            for what in ["new", "replaced", "settled", "committed"] {
                expected.push((name(what), ImageId::of(bytes)));
            }
        }
        drop(folder);
        let folder = open_folder(&temp);
        assert_eq!(read_by(&folder), 0);
        assert_eq!(ids(&folder), expected.into_iter().collect());
    }
}

#[test]
fn a_file_that_is_changed_directly_after_it_was_stored_is_read() {
    let temp = temp();
    let folder = indexing(&temp);
    let mut expected = std::collections::BTreeMap::new();
    let mut changed = 0;
    for n in 0..20 {
        for bytes in sizes() {
            let name = format!("{n}-{}.png", bytes.len());
            place(&folder, &name, &bytes);
            let other = noise(bytes.len(), 100 + n);
            let id = match n % 2 {
                // In place, or by another file with this name: in most cases in the same tick of the kernel's clock.
                0 => write(&temp, &name, &other),
                _ => {
                    let id = write(&temp, "other", &other);
                    temp.rename("other", &name);
                    id
                }
            };
            changed += u64::from(!bytes.is_empty());
            expected.insert(name, id);
        }
    }
    folder.close();
    let folder = open(&temp);
    let read = read_by(&folder);
    assert!(read >= changed, "{read} of {changed} were read");
    assert_eq!(ids(&folder), expected);
}

#[test]
fn a_hidden_file_that_is_replaced_before_it_gets_its_name_is_read() {
    let temp = temp();
    let folder = indexing(&temp);
    for bytes in sizes() {
        let mut staged = stage(&folder, &bytes);
        staged.settle().unwrap();
        let entries = fs::read_dir(&temp).unwrap();
        let part = entries
            .map(|entry| entry.unwrap().path())
            .find(|path| path.extension().is_some_and(|end| end == "part"))
            .unwrap();
        let modified = fs::metadata(&part).unwrap().modified().unwrap();
        fs::remove_file(&part).unwrap();
        let other = noise(bytes.len(), 9);
        fs::write(&part, &other).unwrap();
        fs::File::open(&part)
            .unwrap()
            .set_modified(modified)
            .unwrap();
        staged
            .place(&file_name("a.png", &bytes), &folder.look("a.png").unwrap())
            .unwrap();
        folder.close();
        let folder = open(&temp);
        assert_eq!(read_by(&folder), 1);
        assert_eq!(ids(&folder).get("a.png"), Some(&ImageId::of(&other)));
    }
    assert_eq!(parts(&temp), 0);
}

#[test]
fn without_index_stored_a_folder_gets_no_index() {
    let temp = temp();
    let folder = open(&temp);
    place(&folder, "a.png", b"a");
    drop(folder);
    assert!(!temp.join(INDEX).exists());
    assert_eq!(read_by(&open(&temp)), 1);
}

#[test]
fn what_was_stored_by_two_clients_at_once_is_not_read() {
    let temp = temp();
    let folders = [indexing(&temp), indexing(&temp)];
    for n in 0..1500 {
        let which = usize::from(n % 3 == 0);
        let bytes = format!("image {n}");
        place(&folders[which], &format!("{n}.png"), bytes.as_bytes());
    }
    drop(folders);
    assert_eq!(read_by(&open(&temp)), 0);
}

#[test]
fn a_client_that_is_killed_leaves_few_images_to_be_read() {
    let temp = temp();
    let folder = indexing(&temp);
    for n in 0..1100 {
        let bytes = format!("image {n}");
        place(&folder, &format!("{n}.png"), bytes.as_bytes());
    }
    std::mem::forget(folder);
    let folder = open(&temp);
    assert_eq!(read_by(&folder), 1100 - 2 * 512);
    // Large images count by their size.
    let temp = super::temp();
    let folder = indexing(&temp);
    place(&folder, "large.png", &vec![1; 33 << 20]);
    place(&folder, "larger.png", &vec![2; 33 << 20]);
    std::mem::forget(folder);
    assert_eq!(read_by(&open(&temp)), 0);
}

#[test]
fn an_index_that_is_damaged_while_images_are_stored_is_repaired() {
    for damage in [
        |path: &Path| fs::write(path, "garbage").unwrap(),
        |path: &Path| fs::remove_file(path).unwrap(),
        |path: &Path| {
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_len(fs::metadata(path).unwrap().len() - 1).unwrap();
        },
        |path: &Path| {
            let mut bytes = fs::read(path).unwrap();
            bytes.extend_from_slice(b"more");
            fs::write(path, bytes).unwrap();
        },
    ] {
        let temp = temp();
        let folder = indexing(&temp);
        place(&folder, "a.png", b"a");
        folder.close();
        damage(&temp.join(INDEX));
        place(&folder, "b.png", b"b");
        folder.close();
        let read = read_by(&open(&temp));
        assert!(read <= 1, "{read}");
        settle(&temp);
        read_by(&open(&temp));
        assert_eq!(read_by(&open(&temp)), 0);
        assert_eq!(visible(&temp).len(), 2);
    }
}

#[test]
fn an_index_does_not_grow_with_each_run_that_stores_the_same_images() {
    let temp = temp();
    let index = temp.join(INDEX);
    let mut longest = 0;
    for _ in 0..5 {
        let folder = indexing(&temp);
        let stop = AtomicBool::new(false);
        folder.scan(ScanMode::Names, &stop, &mut |_| {}).unwrap();
        for _ in 0..1500 {
            let _ = fs::remove_file(temp.join("a.png"));
            place(&folder, "a.png", b"a");
        }
        folder.close();
        longest = longest.max(fs::metadata(&index).unwrap().len());
    }
    assert!(longest < 5 * 1500 * 51, "{longest}");
    assert_eq!(read_by(&open(&temp)), 0);
}

#[test]
fn a_scan_does_not_read_what_was_renamed_and_not_changed() {
    let temp = temp();
    let folder = indexing(&temp);
    let rename = |from: &str, to: &str, change: bool| {
        let state = folder.look(from).unwrap();
        let id = folder
            .read_id(from, &state, &AtomicBool::new(false))
            .unwrap();
        let name = FileName::in_folders(to, id, FileType::Png);
        let over = folder.look(name.as_str()).unwrap();
        folder.rename(from, &state, &name, &over).unwrap();
        if change {
            write(&temp, name.as_str(), noise(700, 9));
        }
        folder.index_renamed(&name, &state, id);
    };
    write(&temp, "a.png", noise(700, 1));
    write(&temp, "b.png", noise(700, 2));
    write(&temp, "c.png", noise(700, 3));
    settle(&temp);
    rename("a.png", "sub\u{29f8}a.png", false);
    rename("b.png", "B.png", false);
    rename("c.png", "d.png", true);
    // One that was changed directly before.
    let new = write(&temp, "e.png", noise(700, 4));
    rename("e.png", "f.png", false);
    folder.close();
    let folder = open(&temp);
    assert_eq!(read_by(&folder), 2);
    let ids = ids(&folder);
    assert_eq!(ids.get("f.png"), Some(&new));
    assert_eq!(ids.get("d.png"), Some(&ImageId::of(&noise(700, 9))));
}
