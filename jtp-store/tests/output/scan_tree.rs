//! What a scan of a tree finds. // W9

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use jtp_core::ImageId;
use jtp_store::{OutputFolder, ScanMode, ScanSummary};
use rustix::fs::{FlockOperation, flock};

use super::common::*;
use super::scan::{Of, found, scan_with};
use super::{begin, open};

fn scan(folder: &OutputFolder, mode: ScanMode) -> (BTreeMap<String, String>, ScanSummary) {
    scan_with(folder, mode, Of::Tree, &mut |_| {})
}

/// Writes a file, and creates its folders.
fn put(root: &Path, path: &str, bytes: &[u8]) -> String {
    let file = root.join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, bytes).unwrap();
    ImageId::of(bytes).to_string()
}

#[test]
fn w9_unchanged_files_in_sub_folders_are_not_read_again() {
    let temp = temp();
    for path in ["a.png", "x/a.png", "x/y/a.png"] {
        put(&temp, path, path.as_bytes());
    }
    for distrusts in [false, true] {
        let folder = match distrusts {
            true => OutputFolder::open_distrusting_inodes(&temp).unwrap(),
            false => open(&temp),
        };
        for path in ["a.png", "x/a.png", "x/y/a.png"] {
            set_age(&temp.join(path), 3600);
        }
        settle(&temp);
        let (first, summary) = scan(&folder, ScanMode::Ids);
        assert_eq!(summary.read, 3);
        settle(&temp);
        let (second, summary) = scan(&folder, ScanMode::Ids);
        assert_eq!((second, summary.read), (first, 0), "{distrusts}");
    }
    // By its name, a file in another folder is another file.
    let folder = OutputFolder::open_distrusting_inodes(&temp).unwrap();
    temp.rename("x/y/a.png", "x/b.png");
    assert_eq!(scan(&folder, ScanMode::Ids).1.read, 1);
}

#[test]
fn w9_a_scan_goes_32_components_deep() {
    let temp = temp();
    let folders = |n: usize| "d/".repeat(n);
    let deepest = put(&temp, &(folders(31) + "a.png"), b"a");
    put(&temp, &(folders(32) + "b.png"), b"b");
    let (all, _) = scan(&open(&temp), ScanMode::Ids);
    let images: Vec<_> = all
        .iter()
        .filter(|(name, _)| name.ends_with("png"))
        .collect();
    assert_eq!(images, [(&(folders(31) + "a.png"), &deepest)]);
    assert_eq!(
        all.len(),
        32 + 1,
        "the last folder is reported and not entered"
    );
}

#[test]
fn w9_ten_thousand_folders_are_scanned_with_few_descriptors() {
    // In memory, if that is possible: a disk takes seconds to create and remove 20,000 files.
    let temp = Temp::in_folder("/dev/shm");
    for n in 0..10_000 {
        let folder = temp.join(format!("{}/{n}", n % 100));
        fs::create_dir_all(&folder).unwrap();
        File::create(folder.join("a.png")).unwrap();
    }
    let folder = open(&temp);
    for mode in [ScanMode::Names, ScanMode::Ids] {
        let mut most = 0;
        let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
        let before = descriptors();
        let (all, summary) = scan_with(&folder, mode, Of::Tree, &mut |name| {
            if name.ends_with("00/a.png") {
                most = most.max(descriptors());
            }
        });
        assert_eq!((all.len(), summary.files), (20_100, 10_000));
        // Other tests of this process run at the same time.
        assert!(most < before + 500, "{most} descriptors");
    }
}

#[test]
fn w9_folders_that_are_removed_or_replaced_during_a_scan_count_as_removed() {
    let (temp, outside) = (temp(), temp());
    let root = &*temp;
    put(&outside, "x.png", b"outside");
    let a = put(root, "a.png", b"a");
    let kept = put(root, "kept/x.png", b"kept");
    for name in ["gone", "link", "file"] {
        put(root, &format!("{name}/x.png"), b"x");
    }
    // The entries of the root are listed first.
    let mut is_first = true;
    let (all, summary) = scan_with(&open(root), ScanMode::Names, Of::Tree, &mut |_| {
        if std::mem::take(&mut is_first) {
            for name in ["gone", "link", "file"] {
                root.remove(name);
            }
            root.link(&outside, "link");
            root.write("file", b"");
        }
    });
    let expected = [
        ("a.png", "unread"),
        ("file", "folder"),
        ("gone", "folder"),
        ("kept", "folder"),
        ("kept/x.png", "unread"),
        ("link", "folder"),
    ];
    assert_eq!(all, found(&expected));
    assert_eq!(summary.files, 2);
    let (all, _) = scan(&open(root), ScanMode::Ids);
    assert_eq!((&all["a.png"], &all["kept/x.png"]), (&a, &kept));
}

#[test]
fn w9_files_and_folders_that_cannot_be_read_are_reported_and_end_no_scan() {
    let temp = temp();
    let a = put(&temp, "a/a.png", b"a");
    for path in ["b.png", "c.txt", "z/locked/e.png"] {
        put(&temp, path, b"secret");
    }
    let secret = put(&temp, "locked/d.png", b"secret");
    let locked = ["b.png", "c.txt", "locked", "z/locked"];
    for name in locked {
        temp.set_mode(name, 0o000);
    }
    let folder = open(&temp);
    let expected = found(&[
        ("a", "folder"),
        ("a/a.png", &a),
        ("b.png", "unreadable"),
        ("c.txt", "other"),
        ("locked", "unlisted"),
        ("z", "folder"),
        ("z/locked", "unlisted"),
    ]);
    let (all, summary) = without_privileges(|| scan(&folder, ScanMode::Ids));
    assert_eq!(all, expected);
    assert_eq!((summary.files, summary.read), (3, 1));
    for name in locked {
        temp.set_mode(name, 0o755);
    }
    assert_eq!(scan(&folder, ScanMode::Ids).0["locked/d.png"], secret);
}

#[test]
fn w9_stale_temporary_files_in_sub_folders_are_removed_but_not_those_of_running_clients() {
    let temp = temp();
    let root = &*temp;
    let exists = |path: &str| root.join(path).exists();
    // A client of the whole tree has crashed: nobody holds its lock.
    put(root, ".jtp-00000000000000aa.lock", b"");
    put(root, "a/b/.jtp-00000000000000aa-0.part", b"crashed");
    // A client of the sub-folder `a` runs, another one has crashed.
    put(root, "a/.jtp-00000000000000bb.lock", b"");
    put(root, "a/b/.jtp-00000000000000bb-0.part", b"running");
    let lock = File::open(root.join("a/.jtp-00000000000000bb.lock")).unwrap();
    flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    put(root, "a/.jtp-00000000000000cc.lock", b"");
    put(root, "a/.jtp-00000000000000cc-0.part", b"crashed");
    // Nobody knows whose this is, and it is not old.
    put(root, "a/.jtp-00000000000000dd-0.part", b"unknown");
    let folder = open(root);
    scan(&folder, ScanMode::Names);
    assert!(!exists("a/b/.jtp-00000000000000aa-0.part"));
    assert!(!exists(".jtp-00000000000000aa.lock"));
    assert!(exists("a/b/.jtp-00000000000000bb-0.part") && exists("a/.jtp-00000000000000bb.lock"));
    assert!(!exists("a/.jtp-00000000000000cc-0.part"));
    assert!(exists("a/.jtp-00000000000000dd-0.part"));
    drop(lock);
    // Another client finds the one that has crashed since.
    let other = open(root);
    let writing = begin(&folder, &noise(600_000, 1));
    scan(&other, ScanMode::Names);
    assert!(!exists("a/b/.jtp-00000000000000bb-0.part"));
    assert_eq!(super::parts(root), 1, "this program writes");
    drop(writing);
}
