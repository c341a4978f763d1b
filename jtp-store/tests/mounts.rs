//! Indexes on real file systems: exFAT over FUSE, whose inodes are numbered in the order of look-ups and whose times are
//! whole seconds, and ext4 under another device number. The tests of `distrust.rs` simulate the same without root.
#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::*;
use jtp_core::ImageId;
use jtp_store::{DirStore, Follow, OutputFolder, ScanMode};

/// A store that does not follow its folder, and the number of bytes that it has read.
fn open_never(folder: &Path, index: &Path) -> (Arc<DirStore>, u64) {
    let builder = DirStore::builder(folder).follow(Follow::Never);
    open_and_count(builder.index_file(index))
}

#[test]
fn on_exfat_the_ids_are_right_after_one_of_five_files_was_removed_and_inodes_were_renumbered() {
    let Some(mut disk) = Disk::exfat() else {
        return;
    };
    let cache = temp();
    let index = cache.join("index");
    let mut files = five_files(&disk.path());
    let scanned = |disk: &Disk| scan(&OutputFolder::open(disk.path()).unwrap(), ScanMode::Ids);
    // Renumbers the inodes in the order of names.
    disk.remount();
    assert_eq!(entries(&open_never(&disk.path(), &index).0), files);
    assert_eq!(scanned(&disk).images.len(), 5);
    disk.remount();
    disk.path().remove("f2.png");
    files.remove(1);
    disk.remount();
    let (store, bytes) = open_never(&disk.path(), &index);
    assert_eq!(entries(&store), files);
    assert_eq!(bytes, 0, "the index has all files");
    for (_, id) in &files {
        assert_eq!(ImageId::of(&body(&store, image(&store, *id)).unwrap()), *id);
    }
    assert!(scanned(&disk).images.into_iter().eq(files));
}

#[test]
fn a_file_rewritten_within_the_second_is_found_by_a_store_and_by_a_scan_of_an_output_folder() {
    for disk in [Disk::exfat(), Disk::ext4_with_small_inodes()] {
        let Some(disk) = disk else {
            continue;
        };
        let folder = OutputFolder::open(disk.path()).unwrap();
        let modified = || {
            fs::metadata(disk.path().join("a.png"))
                .unwrap()
                .modified()
                .unwrap()
        };
        let mut last = ImageId(0);
        // Until two files of one size have the same time.
        let is_same_time = (0..10).any(|n| {
            let first = write(&disk.path(), "a.png", format!("first  {n}"));
            let before = modified();
            assert!(scan(&folder, ScanMode::Ids).contains(first));
            std::thread::sleep(Duration::from_millis(100)); // More than the tick of a kernel.
            assert!(scan(&folder, ScanMode::Ids).contains(first));
            last = write(&disk.path(), "a.png", format!("second {n}"));
            before == modified()
        });
        assert!(is_same_time, "no two writes were within one second");
        assert!(scan(&folder, ScanMode::Ids).contains(last));
        let store = build(DirStore::builder(disk.path()).follow(BY_SCANS));
        // Without leases, as on exFAT, the store lists a file only after that second.
        for n in 0..2 {
            let id = write(&disk.path(), "a.png", format!("third  {n}"));
            wait_for(&store, |catalog| catalog.contains(id) && catalog.len() == 1);
        }
    }
}

#[test]
fn under_another_device_number_the_files_of_ext4_are_not_read_again() {
    let Some(mut disk) = Disk::ext4() else {
        return;
    };
    let cache = temp();
    let index = cache.join("index");
    let files = five_files(&disk.path());
    settle(&disk.path());
    drop(open_never(&disk.path(), &index));
    scan(&OutputFolder::open(disk.path()).unwrap(), ScanMode::Ids);
    let device = fs::metadata(disk.path()).unwrap().dev();
    disk.remount_elsewhere();
    assert_ne!(fs::metadata(disk.path()).unwrap().dev(), device);
    let (store, bytes) = open_never(&disk.path(), &index);
    assert_eq!(entries(&store), files);
    assert_eq!(bytes, 0, "the index has all files");
    drop(store);
}

#[test]
fn the_index_of_a_disk_is_used_when_it_is_mounted_or_mounted_again_while_a_store_is_open() {
    let Some(mut disk) = Disk::ext4() else {
        return;
    };
    let cache = temp();
    let index = cache.join("index");
    write(&disk.path(), "a.png", b"a");
    settle(&disk.path());
    drop(open_never(&disk.path(), &index));
    // A wrong ID in the index shows that it is used.
    make_index_lie(&index, ImageId(42));
    disk.unmount();
    let store = build(
        DirStore::builder(disk.path())
            .index_file(&index)
            .follow(BY_SCANS),
    );
    for _ in 0..3 {
        wait_for(&store, jtp_core::Catalog::is_empty);
        assert!(disk.mount());
        wait_for(&store, |catalog| catalog.contains(ImageId(42)));
        // The store has the folder open.
        disk.detach();
    }
    drop(store);
}
