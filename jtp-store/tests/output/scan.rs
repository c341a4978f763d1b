//! What a scan finds, reads and proves.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use jtp_core::ImageId;
use jtp_store::{FileContent, OutputFolder, ReadError, ScanMode, ScanSummary, ScannedFile};

use super::common::*;
use super::{ids, open};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n and pixels";

fn scan(folder: &OutputFolder, mode: ScanMode) -> (BTreeMap<String, String>, ScanSummary) {
    scan_with(folder, mode, Of::Folder, &mut |_| {})
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Folder,
    Tree,
}

/// What a scan finds, each name once, except for folders that cannot be listed. `each` is called with each name.
pub(super) fn scan_with(
    folder: &OutputFolder,
    mode: ScanMode,
    of: Of,
    each: &mut (dyn FnMut(&str) + Send),
) -> (BTreeMap<String, String>, ScanSummary) {
    let mut found = BTreeMap::new();
    let stop = AtomicBool::new(false);
    let mut add = |file: ScannedFile<'_>| {
        let name = file.name.to_str().unwrap().to_owned();
        each(&name);
        let content = match file.content {
            FileContent::Image(id) => id.to_string(),
            FileContent::Unrecognised(id) => format!("unrecognised {id}"),
            FileContent::Unreadable(_) => "unreadable".to_owned(),
            FileContent::UnreadableFolder(_) => {
                let before = found.insert(name, "unlisted".to_owned());
                assert_eq!(before.as_deref(), Some("folder"));
                return;
            }
            other => format!("{other:?}").to_lowercase(),
        };
        assert!(found.insert(name, content).is_none(), "found twice");
    };
    let summary = match of {
        Of::Folder => folder.scan(mode, &stop, &mut add),
        Of::Tree => folder.scan_tree(mode, &stop, &mut add),
    };
    (found, summary.unwrap())
}

pub(super) fn found(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(name, content): &(&str, &str)| ((*name).to_owned(), (*content).to_owned());
    pairs.iter().map(owned).collect()
}

#[test]
fn r2_w9_a_scan_finds_images_by_extension_or_first_bytes_and_reports_all_other_names() {
    let (temp, outside) = (temp(), temp());
    write(&outside, "x.png", b"outside");
    for folder in ["2024/Rome", "2024/.hidden", ".hidden", "dir.png"] {
        temp.make_dir(folder);
    }
    temp.link("a.png", "link.png");
    temp.link("nowhere", "dangling.png");
    temp.link(&outside, "link");
    temp.link("..", "2024/up");
    pipe(&temp.join("pipe.png"));
    pipe(&temp.join("2024/pipe.png"));
    for hidden in [
        ".d.png",
        ".hidden/d.png",
        "2024/.d.png",
        "2024/.hidden/d.png",
    ] {
        write(&temp, hidden, b"d");
    }
    let image = |name: &str, bytes: &[u8]| write(&temp, name, bytes).to_string();
    let empty = format!("unrecognised {}", image("empty.img", b""));
    // What a scan finds, and what one finds that reads no files.
    let all = [
        ("2024", "folder", "folder"),
        ("2024/Rome", "folder", "folder"),
        (
            "2024/Rome/c.JPG",
            &*image("2024/Rome/c.JPG", b"c"),
            "unread",
        ),
        ("2024/Rome/notes.txt", "other", "other"),
        ("2024/b.png", &*image("2024/b.png", b"b"), "unread"),
        // An image by its first bytes, which are not read in sub-folders.
        ("2024/photo", "other", "other"),
        ("2024/pipe.png", "reserved", "reserved"),
        ("2024/up", "reserved", "reserved"),
        ("a.png", &*image("a.png", b"same"), "unread"),
        ("b.txt", "other", "other"),
        ("dangling.png", "reserved", "reserved"),
        ("dir.png", "folder", "folder"),
        ("empty.img", &*empty, "unread"),
        (
            "large.JPG",
            &*image("large.JPG", &noise(700_000, 1)),
            "unread",
        ),
        ("link", "reserved", "reserved"),
        ("link.png", "reserved", "reserved"),
        ("photo", &*image("photo", PNG), "other"),
        ("pipe.png", "reserved", "reserved"),
        ("png.IMG", &*image("png.IMG", PNG), "unread"),
    ];
    write(&temp, "2024/Rome/notes.txt", b"text");
    write(&temp, "2024/photo", PNG);
    write(&temp, "b.txt", b"same");
    let folder = open(&temp);
    for (of, files) in [(Of::Folder, 6), (Of::Tree, 10)] {
        let is_in = |name: &str| of == Of::Tree || !name.contains('/');
        let rows = || all.iter().filter(|(name, ..)| is_in(name));
        let read: Vec<_> = rows().map(|(name, content, _)| (*name, *content)).collect();
        for mode in [ScanMode::Ids, ScanMode::Ids, ScanMode::Rehash] {
            let (found_all, summary) = scan_with(&folder, mode, of, &mut |_| {});
            assert_eq!(found_all, found(&read));
            assert_eq!((summary.files, summary.case_sensitive), (files, Some(true)));
        }
        let unread: Vec<_> = rows().map(|(name, _, content)| (*name, *content)).collect();
        let (names, summary) = scan_with(&folder, ScanMode::Names, of, &mut |_| {});
        assert_eq!(names, found(&unread));
        assert_eq!((summary.files, summary.read), (files, 0));
    }
}

#[test]
fn s14_a_file_longer_than_a_packet_is_not_read() {
    let temp = temp();
    let id = write(&temp, "a.png", b"a");
    // Sparse files: reading one would take minutes.
    let lengths = [
        ("long.png", u64::from(u32::MAX) + 1),
        ("longer.png", 1 << 40),
        ("long.txt", 1 << 40),
    ];
    for (name, length) in lengths {
        let file = fs::File::create(temp.join(name)).unwrap();
        file.set_len(length).unwrap();
    }
    let folder = open(&temp);
    let a = id.to_string();
    let expected = found(&[
        ("a.png", &a),
        ("long.png", "toolong"),
        ("long.txt", "other"),
        ("longer.png", "toolong"),
    ]);
    for mode in [ScanMode::Ids, ScanMode::Rehash] {
        let (all, summary) = scan(&folder, mode);
        assert_eq!(all, expected);
        assert_eq!((summary.files, summary.read), (4, 1));
    }
    for (name, _) in lengths {
        let state = folder.look(name).unwrap();
        let read = folder.read_id(name, &state, &AtomicBool::new(false));
        assert!(matches!(read, Err(ReadError::TooLong)), "{read:?}");
    }
}

#[test]
fn a_scan_stops_when_asked() {
    let temp = temp();
    for n in 0..1000 {
        write(&temp, &format!("{n}.png"), n.to_string());
    }
    let folder = open(&temp);
    let stop = AtomicBool::new(true);
    let stopped = folder.scan(ScanMode::Ids, &stop, &mut |_| {
        panic!("it was stopped before")
    });
    stopped.unwrap_err();
    for mode in [ScanMode::Names, ScanMode::Ids, ScanMode::Rehash] {
        let (stop, mut count) = (AtomicBool::new(false), 0);
        let stopped = folder.scan(mode, &stop, &mut |_| {
            count += 1;
            stop.store(true, Ordering::Relaxed);
        });
        stopped.unwrap_err();
        assert!(count < 1000);
    }
    assert_eq!(ids(&folder).len(), 1000);
}

#[test]
fn r8_index_knows_an_unchanged_file_under_whatever_name() {
    let temp = temp();
    let id = write(&temp, "a.png", b"a");
    let folder = open(&temp);
    let known = |name| folder.known_id(&folder.look(name).unwrap());
    assert_eq!(known("a.png"), None);
    settle(&temp);
    ids(&folder);
    temp.make_dir("sub");
    temp.rename("a.png", "sub/b.png");
    // On most file systems the rename was a change.
    assert!([None, Some(id)].contains(&known("sub/b.png")));
    temp.rename("sub", "moved");
    settle(&temp);
    folder
        .scan_tree(ScanMode::Ids, &AtomicBool::new(false), &mut |_| {})
        .unwrap();
    temp.rename("moved", "again");
    assert_eq!(known("again/b.png"), Some(id));
    assert_eq!(known("moved/b.png"), None, "nothing");
    temp.write("again/b.png", b"changed");
    assert_eq!(known("again/b.png"), None);
}

#[test]
fn a_scan_reads_only_what_changed_since_the_last_one() {
    let temp = temp();
    let id = write(&temp, "a.png", b"a");
    let folder = open(&temp);
    ids(&folder);
    settle(&temp);
    let id_of = |mode| {
        let (found, summary) = scan(&folder, mode);
        let (_, content) = found.first_key_value().unwrap();
        let id: ImageId = content.parse().unwrap();
        (id, summary.read)
    };
    assert_eq!(id_of(ScanMode::Ids), (id, 1));
    // A wrong ID in the index shows when the index is used.
    let index = temp.join(".jtp-index");
    make_index_lie(&index, ImageId(42));
    assert_eq!(id_of(ScanMode::Ids), (ImageId(42), 0));
    assert_eq!(id_of(ScanMode::Rehash), (id, 1));
    assert_eq!(id_of(ScanMode::Ids), (id, 0), "the index was rewritten");
    // A change is found although size and mtime are unchanged.
    let new = rewrite(&temp, "a.png", b"b");
    assert_eq!(id_of(ScanMode::Ids), (new, 1));
    fs::write(&index, b"garbage").unwrap();
    assert_eq!(id_of(ScanMode::Ids), (new, 1));
}

#[test]
fn r8_a_file_that_is_changed_after_a_scan_is_not_older_than_its_settled_time() {
    let temp = temp();
    write(&temp, "a.png", b"a");
    write(&temp, "b.png", b"b");
    let folder = open(&temp);
    settle(&temp);
    let (_, summary) = scan(&folder, ScanMode::Ids);
    let Some(settled) = summary.settled_before else {
        eprintln!("skipped: the times of this file system prove nothing");
        return;
    };
    let is_older = |name| folder.look(name).unwrap().is_older(settled);
    assert!(is_older("a.png") && is_older("b.png"));
    rewrite(&temp, "a.png", b"c");
    assert!(!is_older("a.png"), "changed, with its mtime restored");
    temp.rename("b.png", "c.png");
    assert!(!is_older("c.png"), "moved");
    assert!(!is_older("b.png"), "removed");
    temp.make_dir("d.png");
    assert!(!is_older("d.png"), "not a regular file");
}
