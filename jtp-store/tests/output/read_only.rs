//! A folder that is only looked at.

use std::collections::BTreeMap;
use std::path::Path;

use jtp_core::{FileType, ImageId};
use jtp_kit::stamps;
use jtp_store::{FileName, FileState, MoveError, OutputError, OutputFolder};

use super::common::*;
use super::{all, begin, ids, open, stage};

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
        let before = stamps(&temp);
        let folder = read_only(&temp);
        assert_eq!(ids(&folder), expected);
        folder.close();
        drop(folder);
        assert_eq!(stamps(&temp), before, "index: {index}");
    }
}

#[test]
fn w9_nothing_is_written_to_or_renamed_in_a_read_only_folder() {
    let temp = temp();
    write(&temp, "a.png", b"a");
    temp.make_dir("sub");
    let before = stamps(&temp);
    let folder = read_only(&temp);
    let look = folder.look("a.png").unwrap();
    let settled = stage(&folder, b"c").settle();
    assert!(
        matches!(settled, Err(OutputError::ReadOnly { .. })),
        "{settled:?}"
    );
    for path in ["b.png", "new⧸x.png", "sub⧸new⧸x.png", "sub⧸x.png"] {
        let to = FileName::in_folders(path, ImageId(1), FileType::Png);
        for bytes in [b"x".to_vec(), noise(100_000, 1)] {
            let committed = begin(&folder, &bytes).commit(&to, verified(&bytes));
            assert!(
                matches!(committed, Err(OutputError::ReadOnly { .. })),
                "{committed:?}"
            );
            stage(&folder, &bytes)
                .place(&to, &FileState::NOTHING)
                .unwrap_err();
        }
        let moved = folder.rename("a.png", &look, &to, &FileState::NOTHING);
        let is_read_only = matches!(moved, Err(MoveError::Folder(OutputError::ReadOnly { .. })));
        assert!(is_read_only, "{path}: {moved:?}");
    }
    assert_eq!(stamps(&temp), before);
    assert_eq!(all(&temp.join("sub")), Vec::<String>::new());
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
