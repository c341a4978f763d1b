//! File systems that are mounted in sub-folders and unmounted, by bind mounts. Skipped where mounting is not allowed.
#![cfg(target_os = "linux")]

use jtp_driver::store::{ImageStore, StoreError};
use jtp_store::{Follow, LeftOutReason};

use super::{builder, put, wait_for_paths};
use crate::common::*;

#[test]
fn w9_images_of_a_disk_that_is_unmounted_from_a_sub_folder_stay_listed_until_it_is_removed() {
    for follow in [Follow::Events, BY_SCANS] {
        let place = temp();
        let (root, contents) = (place.join("images"), place.join("contents"));
        put(&root, "a.png", "a");
        root.make_dir("disks/one");
        let top = put(&contents, "1.png", "1");
        put(&contents, "deep/2.png", "2");
        root.write("disks/one/.not-mounted", "");
        let Some(disk) = Mounted::bind(&contents, &root.join("disks/one")) else {
            return;
        };
        let store = build(builder(&root).follow(follow).small_image_memory(0));
        let listed = ["a.png", "disks/one/1.png", "disks/one/deep/2.png"];
        wait_for_paths(&store, &listed);
        let mut disk = Some(disk);
        for round in 0..2 {
            drop(disk.take());
            // Whether the store has noticed it or not.
            for _ in 0..20 {
                let error = open(&store, image(&store, top)).map(|_| ()).unwrap_err();
                assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
            }
            wait_until("an image is unreadable", || {
                store.left_out().count(LeftOutReason::Unreadable) == 1
            });
            let new = put(&root, &format!("b/{round}.png"), format!("new {round}"));
            wait_for(&store, |catalog| catalog.contains(new));
            assert_eq!(store.catalog().snapshot().len(), 4 + round);
            disk = Mounted::bind(&contents, &root.join("disks/one"));
            wait_until("the image can be read", || {
                body(&store, image(&store, top)).is_ok_and(|read| read == b"1")
            });
            wait_until("all images can be read", || {
                store.left_out().count(LeftOutReason::Unreadable) == 0
            });
        }
        // A file that is removed from the disk is gone.
        contents.remove("deep/2.png");
        wait_for_paths(&store, &["a.png", "b/0.png", "b/1.png", "disks/one/1.png"]);
        drop(disk);
        wait_until("an image is unreadable", || {
            store.left_out().count(LeftOutReason::Unreadable) == 1
        });
        // The folder has other files now, or is removed.
        if follow == Follow::Events {
            put(&root, "disks/one/other.png", "other");
            root.make_dir("disks/one/sub");
            root.rename("disks", "d");
            wait_for_paths(&store, &["a.png", "b/0.png", "b/1.png", "d/one/other.png"]);
        } else {
            root.remove("disks");
            wait_for_paths(&store, &["a.png", "b/0.png", "b/1.png"]);
        }
    }
}

#[test]
fn w9_images_of_a_disk_that_is_mounted_in_a_sub_folder_are_listed_within_two_seconds() {
    let place = temp();
    let (root, contents) = (place.join("images"), place.join("contents"));
    put(&root, "a.png", "a");
    root.make_dir("new disk");
    put(&contents, "1.png", "1");
    settle(&contents);
    let store = build(builder(&root));
    let Some(disk) = Mounted::bind(&contents, &root.join("new disk")) else {
        return;
    };
    assert!(wait_for_paths(&store, &["a.png", "new disk/1.png"]) < SOON);
    put(&contents, "2.png", "2");
    assert!(wait_for_paths(&store, &["a.png", "new disk/1.png", "new disk/2.png"]) < SOON);
    // Another one over it, which hides it.
    let other = place.join("other");
    put(&other, "3.png", "3");
    let over = Mounted::bind(&other, &root.join("new disk"));
    wait_for_paths(&store, &["a.png", "new disk/3.png"]);
    drop((over, disk));
}
