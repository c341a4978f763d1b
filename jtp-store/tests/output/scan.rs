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
fn r2_a_scan_finds_images_by_extension_or_first_bytes_and_reports_all_other_names() {
    let temp = temp();
    let image = |id: ImageId| id.to_string();
    let same = image(write(&temp, "a.png", b"same"));
    write(&temp, "b.txt", b"same");
    let large = image(write(&temp, "large.JPG", noise(700_000, 1)));
    let sniffed = image(write(&temp, "photo", PNG));
    let empty = write(&temp, "empty.img", b"");
    let empty = format!("unrecognised {empty}");
    let png = image(write(&temp, "png.IMG", PNG));
    write(&temp, ".hidden.png", b"hidden");
    temp.link("a.png", "link.png");
    temp.link("nowhere", "dangling.png");
    temp.make_dir("dir.png");
    pipe(&temp.join("pipe.png"));
    let folder = open(&temp);
    let expected = found(&[
        ("a.png", &same),
        ("b.txt", "other"),
        ("dangling.png", "reserved"),
        ("dir.png", "folder"),
        ("empty.img", &empty),
        ("large.JPG", &large),
        ("link.png", "reserved"),
        ("photo", &sniffed),
        ("png.IMG", &png),
        ("pipe.png", "reserved"),
    ]);
    for mode in [ScanMode::Ids, ScanMode::Ids, ScanMode::Rehash] {
        let (all, summary) = scan(&folder, mode);
        assert_eq!(all, expected);
        assert_eq!(summary.files, 6);
    }
    let (names, summary) = scan(&folder, ScanMode::Names);
    let by_name = [
        ("a.png", "unread"),
        ("b.txt", "other"),
        ("empty.img", "unread"),
        ("large.JPG", "unread"),
        ("photo", "other"),
        ("png.IMG", "unread"),
    ];
    let expected: BTreeMap<_, _> = expected.into_iter().chain(found(&by_name)).collect();
    assert_eq!(names, expected);
    assert_eq!((summary.files, summary.read), (6, 0));
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
fn r5_a_scan_finds_out_whether_names_that_differ_in_case_are_distinguished() {
    let temp = temp();
    let folder = open(&temp);
    let case_sensitive = || scan(&folder, ScanMode::Names).1.case_sensitive;
    assert_eq!(case_sensitive(), None, "no name");
    write(&temp, "1", b"1");
    assert_eq!(case_sensitive(), None, "no letter");
    // Hard links are one file in each case; the listing shows that they are two names.
    write(&temp, "a", b"a");
    temp.hard_link("a", "A");
    assert_eq!(case_sensitive(), Some(true), "hard links");
    temp.remove("A");
    assert_eq!(case_sensitive(), Some(true), "one name");
    write(&temp, "A", b"a");
    assert_eq!(case_sensitive(), Some(true), "two files");
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
