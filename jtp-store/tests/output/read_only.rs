//! A folder that is only looked at.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use jtp_core::{FileType, ImageId};
use jtp_store::{FileName, FileState, MoveError, OutputError, OutputFolder, ScanMode};

use super::common::*;
use super::{all, begin, file_name, ids, open, put, stage};

/// Size, content and times of each entry, and of the folder itself as `.`.
fn states(folder: &Path) -> BTreeMap<String, (u64, ImageId, i64, i64, i64, i64)> {
    let mut names = super::all(folder);
    names.push(".".to_owned());
    let state = |name: String| {
        let path = folder.join(&name);
        let metadata = fs::symlink_metadata(&path).unwrap();
        let id = ImageId::of(&fs::read(&path).unwrap_or_default());
        let times = (metadata.mtime(), metadata.mtime_nsec());
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        let state = (metadata.len(), id, times.0, times.1, changed.0, changed.1);
        (name, state)
    };
    names.into_iter().map(state).collect()
}

fn read_only(path: &Path) -> OutputFolder {
    OutputFolder::open_read_only(path).unwrap().unwrap()
}

#[test]
fn a_scan_of_a_read_only_folder_changes_nothing() {
    let temp = temp();
    let mut expected = BTreeMap::new();
    let mut add = |name: &str, bytes: &[u8]| {
        expected.insert(name.to_owned(), write(&temp, name, bytes));
    };
    add("a.png", b"a");
    settle(&temp);
    ids(&open(&temp));
    assert!(temp.join(".jtp-index").exists());
    // The index does not have this one, and it could be appended.
    add("b.png", b"b");
    settle(&temp);
    write(&temp, ".jtp-0123456789abcdef-0.part", b"crashed");
    write(&temp, ".jtp-0123456789abcdef.lock", b"");
    for index in [true, false] {
        if !index {
            temp.remove(".jtp-index");
        }
        let before = states(&temp);
        let folder = read_only(&temp);
        assert_eq!(ids(&folder), expected);
        folder.close();
        drop(folder);
        assert_eq!(states(&temp), before, "index: {index}");
    }
}

#[test]
fn nothing_is_written_to_or_renamed_in_a_read_only_folder() {
    let temp = temp();
    write(&temp, "a.png", b"a");
    let before = states(&temp);
    let folder = read_only(&temp);
    let error = put(&folder, "b.png", b"b").unwrap_err();
    assert!(matches!(error, OutputError::ReadOnly { .. }), "{error:?}");
    let error = stage(&folder, b"c").settle().unwrap_err();
    assert!(matches!(error, OutputError::ReadOnly { .. }), "{error:?}");
    let look = folder.look("a.png").unwrap();
    let error = folder
        .rename(
            "a.png",
            &look,
            &file_name("z.png", b"a"),
            &FileState::NOTHING,
        )
        .unwrap_err();
    let is_read_only = matches!(error, MoveError::Folder(OutputError::ReadOnly { .. }));
    assert!(is_read_only, "{error:?}");
    assert_eq!(states(&temp), before);
}

#[test]
fn a_read_only_folder_is_not_created_and_what_is_no_folder_is_an_error() {
    let temp = temp();
    let missing = temp.join("missing/folder");
    assert!(OutputFolder::open_read_only(&missing).unwrap().is_none());
    assert!(super::all(&temp).is_empty());
    write(&temp, "file", b"");
    temp.link("nowhere", "link");
    for name in ["file", "link"] {
        let opened = OutputFolder::open_read_only(temp.join(name));
        assert!(
            matches!(opened, Err(OutputError::Io { .. })),
            "{name}: {opened:?}"
        );
    }
}

#[test]
fn w9_a_folder_that_is_only_looked_at_gets_no_sub_folders() {
    let temp = temp();
    write(&temp, "a.png", b"a");
    temp.make_dir("sub");
    let folder = OutputFolder::open_read_only(&temp).unwrap().unwrap();
    for path in ["new⧸x.png", "sub⧸new⧸x.png", "sub⧸x.png"] {
        let to = FileName::in_folders(path, ImageId(1), FileType::Png);
        for bytes in [b"x".to_vec(), noise(100_000, 1)] {
            let placed = stage(&folder, &bytes).place(&to, &FileState::NOTHING);
            placed.unwrap_err();
            begin(&folder, &bytes)
                .commit(&to, verified(&bytes))
                .unwrap_err();
        }
        let state = folder.look("a.png").unwrap();
        folder
            .rename("a.png", &state, &to, &FileState::NOTHING)
            .unwrap_err();
    }
    let mut found = 0;
    let stop = AtomicBool::new(false);
    let scanned = folder.scan_tree(ScanMode::Ids, &stop, &mut |_| found += 1);
    assert_eq!((scanned.unwrap().files, found), (1, 2));
    assert_eq!(all(&temp), ["a.png", "sub"]);
    assert_eq!(all(&temp.join("sub")), Vec::<String>::new());
}
