//! What another user can put in place of the index of an output folder: nothing elsewhere is written, and nothing waits.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use jtp_store::ScanMode;

use super::common::*;
use super::open;

const VICTIM: &[u8] = b"a file of the victim";

/// Scans on another thread, so that a test that waits for ever fails.
fn scan_in_time(folder: &Path) {
    let folder = folder.to_owned();
    let found = in_time(move || scan(&open(&folder), ScanMode::Ids));
    assert_eq!(found.images.len(), 1);
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
