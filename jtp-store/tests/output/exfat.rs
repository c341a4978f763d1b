//! A file system that ignores case, has no hard links and no ctime, and cannot rename without replacing: exFAT over
//! FUSE. The spellings of a name have different inodes there. Needs root, `mkfs.exfat` and `mount.exfat-fuse`.

use std::sync::atomic::AtomicBool;

use jtp_store::{MoveError, ScanMode};

use super::common::*;
use super::{all, file_name, ids, open, pair, put, rename, stage, visible};

#[test]
fn r5_a_scan_of_exfat_finds_that_case_is_ignored_and_times_prove_nothing() {
    let Some(disk) = Disk::exfat() else { return };
    let folder = open(&disk.path());
    let scan = || {
        let stop = AtomicBool::new(false);
        folder.scan(ScanMode::Names, &stop, &mut |_| {}).unwrap()
    };
    assert_eq!(scan().case_sensitive, None);
    for (n, name) in ["1", "a.png", "b.png", "c.png"].iter().enumerate() {
        let id = write(&disk.path(), name, name);
        let expected = (n > 0).then_some(false);
        assert_eq!(scan().case_sensitive, expected, "{n} names with letters");
        assert!(n == 0 || ids(&folder)[*name] == id);
    }
    assert_eq!(scan().settled_before, None);
}

#[test]
fn r8_a_file_on_exfat_gets_its_name_in_another_case() {
    let Some(disk) = Disk::exfat() else { return };
    let folder = open(&disk.path());
    write(&disk.path(), "a.png", b"one");
    for (from, to) in [
        ("a.png", "A.PNG"),
        ("A.PNG", "a.Png"),
        ("a.Png", "b.png"),
        ("B.PNG", "c.png"),
    ] {
        rename(&folder, from, to).unwrap();
        assert_eq!(visible(&disk.path()), [pair(to, b"one")]);
    }
}

#[test]
fn r8_what_has_a_name_in_another_case_on_exfat_is_replaced_only_if_it_was_looked_at() {
    let Some(disk) = Disk::exfat() else { return };
    let folder = open(&disk.path());
    let nothing = folder.look("A.PNG").unwrap();
    assert!(nothing.is_nothing());
    write(&disk.path(), "a.png", b"old");
    let to = file_name("A.PNG", b"newer");
    let mut staged = stage(&folder, b"newer");
    let placed = staged.place(&to, &nothing);
    assert!(matches!(placed, Err(MoveError::Changed)), "{placed:?}");
    write(&disk.path(), "b.png", b"two");
    let moved = folder.rename("b.png", &folder.look("b.png").unwrap(), &to, &nothing);
    assert!(matches!(moved, Err(MoveError::Changed)), "{moved:?}");
    assert_eq!(
        visible(&disk.path()),
        [pair("a.png", b"old"), pair("b.png", b"two")]
    );
    let over = folder.look("A.PNG").unwrap();
    assert!(over.is_file() && over.length() == 3);
    write(&disk.path(), "a.png", b"changed");
    let placed = staged.place(&to, &over);
    assert!(matches!(placed, Err(MoveError::Changed)), "{placed:?}");
    staged.place(&to, &folder.look("A.PNG").unwrap()).unwrap();
    let all = visible(&disk.path());
    let [(name, text), rest] = &all[..] else {
        panic!("{all:?}");
    };
    assert!(name.eq_ignore_ascii_case("a.png") && text == b"newer");
    assert_eq!(rest, &pair("b.png", b"two"));
}

#[test]
fn r2_images_are_placed_and_committed_on_exfat() {
    let Some(mut disk) = Disk::exfat() else {
        return;
    };
    let folder = open(&disk.path());
    for (n, bytes) in [b"small".to_vec(), noise(600_000, 1)].iter().enumerate() {
        let name = format!("{n}.png");
        let mut staged = stage(&folder, bytes);
        staged
            .place(&file_name(&name, bytes), &folder.look(&name).unwrap())
            .unwrap();
        put(&folder, &format!("commit-{n}.png"), bytes).unwrap();
        put(&folder, &format!("COMMIT-{n}.png"), bytes).unwrap();
    }
    assert_eq!(ids(&folder).len(), 4);
    let hidden = |name: &String| name.starts_with('.') && name != ".jtp-index";
    assert!(!all(&disk.path()).iter().any(hidden));
    drop(folder);
    disk.remount();
    assert_eq!(ids(&open(&disk.path())).len(), 4);
}
