//! What another user can put in place of the index of an output folder: nothing elsewhere is written, and nothing waits.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use jtp_store::ScanMode;
use rustix::fs::{CWD, Mode, mkfifoat};

use super::common::*;
use super::open;

const VICTIM: &[u8] = b"a file of the victim";

type Place = fn(&Path, &Path);

const OBSTACLES: [(&str, Place); 6] = [
    ("a link", |victim, path| symlink(victim, path).unwrap()),
    ("a dangling link", |victim, path| {
        symlink(victim.with_file_name("made"), path).unwrap();
    }),
    ("a hard link", |victim, path| {
        fs::hard_link(victim, path).unwrap();
    }),
    ("a pipe", |_, path| mkfifoat(CWD, path, Mode::RWXU).unwrap()),
    ("a socket", |_, path| {
        drop(UnixListener::bind(path).unwrap());
    }),
    ("a folder", |_, path| fs::create_dir(path).unwrap()),
];

/// Scans on another thread, so that a test that waits for ever fails.
fn scan_in_time(folder: &Path) {
    let (sender, result) = mpsc::channel();
    let folder = folder.to_owned();
    thread::spawn(move || {
        let found = scan(&open(&folder), ScanMode::Ids);
        sender.send(found.images.len()).unwrap();
    });
    assert_eq!(result.recv_timeout(PATIENCE), Ok(1));
}

#[test]
fn whatever_has_the_name_of_the_index_is_neither_followed_nor_written() {
    for (what, place) in OBSTACLES {
        let folders = temp();
        let folder = folders.join("out");
        let victim = folders.join("victim");
        fs::create_dir(&folder).unwrap();
        fs::write(&victim, VICTIM).unwrap();
        write(&folder, "a.png", b"a");
        settle(&folder);
        let index = folder.join(".jtp-index");
        place(&victim, &index);
        for _ in 0..2 {
            scan_in_time(&folder);
            assert_eq!(fs::read(&victim).unwrap(), VICTIM, "{what}");
            assert!(!folders.join("made").exists(), "{what}");
        }
        if what != "a folder" {
            let found = fs::symlink_metadata(&index).unwrap();
            assert!(found.is_file() && found.nlink() == 1, "{what}");
        }
    }
}

#[test]
fn an_index_with_a_second_name_is_not_appended_to() {
    let place = temp();
    let folder = place.join("out");
    fs::create_dir(&folder).unwrap();
    write(&folder, "a.png", b"a");
    settle(&folder);
    scan_in_time(&folder);
    let other = place.join("other");
    fs::hard_link(folder.join(".jtp-index"), &other).unwrap();
    let before = fs::read(&other).unwrap();
    folder.rename("a.png", "b.png");
    settle(&folder);
    scan_in_time(&folder);
    assert_eq!(fs::read(&other).unwrap(), before);
    let index = folder.join(".jtp-index");
    assert_eq!(fs::symlink_metadata(&index).unwrap().nlink(), 1);
    assert_ne!(fs::read(index).unwrap(), before);
}
