//! A file system whose inodes and ctimes prove nothing, which may number its files again at any time: only sizes and
//! mtimes show that a file has changed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use jtp_core::ImageId;
use jtp_store::{FileState, MoveError, OutputFolder, ReadError, ScanMode};

use super::common::*;
use super::{file_name, pair, stage, visible};

fn open(folder: &Path) -> OutputFolder {
    OutputFolder::open_distrusting_inodes(folder).unwrap()
}

fn look(folder: &OutputFolder, name: &str) -> FileState {
    folder.look(name).unwrap()
}

fn read_id(folder: &OutputFolder, name: &str, state: &FileState) -> Result<ImageId, ReadError> {
    folder.read_id(name, state, &AtomicBool::new(false))
}

/// Replaces a file by a copy with its size and mtime: the same file, with another inode and ctime.
fn renumber(folder: &Path, name: &str) {
    let (path, copy) = (folder.join(name), folder.join(".copy"));
    let before = fs::metadata(&path).unwrap();
    fs::copy(&path, &copy).unwrap();
    let file = fs::File::options().write(true).open(&copy).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
    fs::rename(&copy, &path).unwrap();
    assert_ne!(fs::metadata(&path).unwrap().ino(), before.ino());
}

#[test]
fn r8_a_file_whose_inode_was_renumbered_is_read_renamed_and_replaced() {
    let temp = temp();
    let folder = open(&temp);
    let id = write(&temp, "a.png", b"one");
    let state = look(&folder, "a.png");
    renumber(&temp, "a.png");
    assert_eq!(look(&folder, "a.png"), state);
    assert_eq!(read_id(&folder, "a.png", &state).unwrap(), id);

    write(&temp, "b.png", b"two");
    let over = look(&folder, "b.png");
    for name in ["a.png", "b.png"] {
        renumber(&temp, name);
    }
    let to = file_name("b.png", b"");
    folder.rename("a.png", &state, &to, &over).unwrap();
    assert_eq!(visible(&temp), [pair("b.png", b"one")]);

    let over = look(&folder, "b.png");
    renumber(&temp, "b.png");
    stage(&folder, b"three").place(&to, &over).unwrap();
    assert_eq!(visible(&temp), [pair("b.png", b"three")]);
}

#[test]
fn r8_a_file_of_another_mtime_is_neither_read_nor_renamed_nor_replaced() {
    let temp = temp();
    let folder = open(&temp);
    write(&temp, "a.png", b"one");
    set_age(&temp.join("a.png"), 3600);
    let state = look(&folder, "a.png");
    set_age(&temp.join("a.png"), 1800);
    let (to, other) = (file_name("a.png", b""), file_name("b.png", b""));
    let read = read_id(&folder, "a.png", &state);
    assert!(matches!(read, Err(ReadError::Changed)), "{read:?}");
    for moved in [
        stage(&folder, b"new").place(&to, &state),
        folder.rename("a.png", &state, &other, &FileState::NOTHING),
    ] {
        assert!(matches!(moved, Err(MoveError::Changed)), "{moved:?}");
    }
}

#[test]
fn r8_no_time_proves_that_a_file_has_not_changed_and_no_inode_that_two_names_are_one_file() {
    let temp = temp();
    let folder = open(&temp);
    write(&temp, "a.png", b"a");
    temp.hard_link("a.png", "b.png");
    let state = look(&folder, "a.png");
    assert!(!state.is_older(SystemTime::now() + Duration::from_secs(3600)));
    assert!(!state.is_same_file(&look(&folder, "b.png")));
    let stop = AtomicBool::new(false);
    let summary = folder.scan(ScanMode::Ids, &stop, &mut |_| {}).unwrap();
    assert_eq!(summary.settled_before, None);
}

#[test]
fn r8_a_hard_link_renamed_to_another_has_that_name_alone() {
    let temp = temp();
    let folder = open(&temp);
    write(&temp, "a.png", b"one");
    for (from, to) in [("a.png", "b.png"), ("b.png", "B.png")] {
        temp.hard_link(from, to);
        let (state, over) = (look(&folder, from), look(&folder, to));
        folder
            .rename(from, &state, &file_name(to, b""), &over)
            .unwrap();
        assert_eq!(visible(&temp), [pair(to, b"one")]);
    }
}
