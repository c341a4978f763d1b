//! What cannot be read at the moment stays listed: only what is known to be gone is unlisted.
#![cfg(target_os = "linux")]

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jtp_core::ImageId;
use jtp_driver::store::{ImageStore, StoreError};
use jtp_store::{DirStore, DirStoreBuilder, Follow, LeftOutReason};

use super::{builder, paths, put, wait_for_paths};
use crate::common::*;

/// With threads that obey the modes of files. Images are not kept in memory.
fn each_way(test: impl Fn(DirStoreBuilder, &Path) + Sync + Send) {
    without_privileges(|| {
        by_events_and_by_scans(&[false], |builder, root| {
            test(builder.recursive(true).small_image_memory(0), root);
        });
    });
}

fn unreadable(store: &DirStore) -> u64 {
    store.left_out().count(LeftOutReason::Unreadable)
}

fn error_of(store: &Arc<DirStore>, id: ImageId) -> StoreError {
    open(store, image(store, id)).map(|_| ()).unwrap_err()
}

#[track_caller]
fn assert_unavailable(store: &Arc<DirStore>, id: ImageId) {
    let error = error_of(store, id);
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
}

#[test]
fn w9_a_folder_that_cannot_be_read_leaves_the_others_listed() {
    each_way(|builder, root| {
        put(root, "a/1.png", "1");
        put(root, "b/c/2.png", "2");
        root.set_mode("b", 0o000);
        let store = build(builder);
        assert_eq!(paths(&store), ["a/1.png"]);
        assert_eq!(unreadable(&store), 1);
        root.set_mode("b", 0o700);
        wait_for_paths(&store, &["a/1.png", "b/c/2.png"]);
        wait_until("all images can be read", || unreadable(&store) == 0);
    });
}

#[test]
fn w9_images_of_a_folder_that_becomes_unreadable_stay_listed_until_it_is_removed() {
    each_way(|builder, root| {
        put(root, "a/1.png", "1");
        let below = put(root, "b/c/2.png", "2");
        put(root, "b/3.png", "3");
        put(root, "b/text", "text");
        let store = build(builder);
        let all = ["a/1.png", "b/3.png", "b/c/2.png"];
        root.set_mode("b", 0o000);
        wait_until("an image is unreadable", || unreadable(&store) == 1);
        put(root, "a/4.png", "4");
        wait_for_paths(&store, &["a/1.png", "a/4.png", "b/3.png", "b/c/2.png"]);
        assert_unavailable(&store, below);
        root.remove("a/4.png");
        wait_for_paths(&store, &all);
        // Readable again, with a change that no event announced.
        root.set_mode("b", 0o700);
        root.remove("b/3.png");
        wait_for_paths(&store, &["a/1.png", "b/c/2.png"]);
        assert_eq!(body(&store, image(&store, below)).unwrap(), b"2");
        wait_until("all images can be read", || unreadable(&store) == 0);
        root.set_mode("b", 0o000);
        wait_until("an image is unreadable", || unreadable(&store) == 1);
        assert_eq!(paths(&store), ["a/1.png", "b/c/2.png"]);
        root.rename("b", ".b");
        wait_for_paths(&store, &["a/1.png"]);
        root.set_mode(".b", 0o700);
    });
}

/// Its names can be read, but nothing else.
#[test]
fn w9_images_of_a_folder_that_can_be_read_but_not_searched_stay_listed() {
    each_way(|builder, root| {
        put(root, "a/1.png", "1");
        let inside = put(root, "b/2.png", "2");
        put(root, "b/c/3.png", "3");
        let store = build(builder);
        root.set_mode("b", 0o400);
        wait_until("the image is unavailable", || {
            matches!(error_of(&store, inside), StoreError::Unavailable { .. })
        });
        for n in 4..8 {
            let new = put(root, &format!("a/{n}.png"), format!("{n}"));
            wait_for(&store, |catalog| catalog.contains(new));
        }
        assert_eq!(store.catalog().snapshot().len(), 7);
        root.set_mode("b", 0o700);
        root.remove("b/c");
        wait_for(&store, |catalog| catalog.len() == 6);
        assert_eq!(body(&store, image(&store, inside)).unwrap(), b"2");
    });
}

#[test]
fn files_that_become_unreadable_stay_listed_until_they_are_removed_or_replaced() {
    each_way(|builder, root| {
        let ids: Vec<_> = (0..4)
            .map(|n| put(root, &format!("{n}.png"), format!("image {n}")))
            .collect();
        let store = build(builder.recursive(false));
        for n in 0..4 {
            root.set_mode(format!("{n}.png"), 0o000);
        }
        // The file is checked in this order.
        let new = put(root, "new.png", "new");
        wait_for(&store, |catalog| catalog.contains(new));
        for id in &ids {
            assert_unavailable(&store, *id);
        }
        root.remove("0.png");
        wait_for(&store, |catalog| !catalog.contains(ids[0]));
        // Another file, which cannot be read either.
        root.write(".1", "another image");
        root.set_mode(".1", 0o000);
        root.rename(".1", "1.png");
        wait_for(&store, |catalog| !catalog.contains(ids[1]));
        assert_eq!(listed(&store), ["2.png", "3.png", "new.png"]);
        root.set_mode("2.png", 0o600);
        root.set_mode("1.png", 0o600);
        wait_for_names(&store, &["1.png", "2.png", "3.png", "new.png"]);
        wait_until("the image can be read", || {
            body(&store, image(&store, ids[2])).is_ok_and(|read| read == b"image 2")
        });
    });
}

#[test]
fn r8_files_that_become_unreadable_while_no_store_is_open_stay_listed() {
    each_way(|later, root| {
        let index = root.with_file_name("index");
        let ids: Vec<_> = ["1.png", "2.png", "a/3.png", "a/noextension", "b/4.png"]
            .iter()
            .map(|name| put(root, name, format!("GIF89a {name}")))
            .collect();
        settle(root);
        drop(build(builder(root).index_file(&index)));
        for name in ["1.png", "a/3.png", "a/noextension", "b/4.png"] {
            root.set_mode(name, 0o000);
        }
        // Another file, and a file that was changed: neither was an image of an earlier run.
        root.rename("2.png", "moved.png");
        root.write("new.png", "new");
        root.set_mode("new.png", 0o000);
        root.set_mode("b/4.png", 0o600);
        root.write("b/4.png", "GIF89a changed");
        root.set_mode("b/4.png", 0o000);
        let store = build(later.index_file(&index));
        let names = ["1.png", "a/3.png", "a/noextension", "moved.png"];
        assert_eq!(paths(&store), names);
        for id in [ids[0], ids[2], ids[3]] {
            assert_unavailable(&store, id);
        }
        root.set_mode("1.png", 0o600);
        wait_until("the image can be read", || {
            body(&store, image(&store, ids[0])).is_ok_and(|read| read == b"GIF89a 1.png")
        });
        root.remove("a/3.png");
        wait_for_paths(&store, &["1.png", "a/noextension", "moved.png"]);
    });
}

#[test]
fn of_two_files_with_the_same_bytes_the_readable_one_is_served() {
    each_way(|builder, root| {
        let id = put(root, "a/1.png", "same");
        put(root, "b/1.png", "same");
        put(root, "c/1.png", "same");
        let store = build(builder);
        assert_eq!(paths(&store), ["a/1.png"]);
        root.set_mode("a", 0o000);
        wait_for_paths(&store, &["b/1.png"]);
        root.set_mode("b/1.png", 0o000);
        wait_for_paths(&store, &["c/1.png"]);
        assert_eq!(body(&store, image(&store, id)).unwrap(), b"same");
        root.set_mode("c/1.png", 0o000);
        wait_until("the image is unavailable", || {
            matches!(error_of(&store, id), StoreError::Unavailable { .. })
        });
        root.set_mode("a", 0o700);
        wait_for_paths(&store, &["a/1.png"]);
    });
}

#[test]
fn images_of_a_folder_whose_root_becomes_unreadable_stay_listed() {
    for recursive in [false, true] {
        let place = temp();
        let root = place.join("images");
        let id = put(&root, "1.png", "1");
        without_privileges(|| {
            let builder = builder(&root).recursive(recursive).follow(BY_SCANS);
            let store = build(builder.small_image_memory(0));
            // In the last case what is above it cannot be searched either.
            for (folder, mode) in [
                (&*root, 0o000),
                (&root, 0o600),
                (&root, 0o100),
                (&place, 0o000),
            ] {
                folder.set_mode("", mode);
                // Several checks of the folder.
                let mut changes = store.catalog().subscribe();
                assert!(changes.wait_timeout(Duration::from_millis(200)).is_none());
                assert!(store.catalog().snapshot().contains(id), "{mode:o}");
                folder.set_mode("", 0o700);
                assert_eq!(body(&store, image(&store, id)).unwrap(), b"1");
            }
            put(&root, "2.png", "2");
            wait_for(&store, |catalog| catalog.len() == 2);
            place.rename("images", "away");
            wait_for(&store, jtp_core::Catalog::is_empty);
        });
    }
}

/// Mounts a file system whose server has gone: each access fails with `ENOTCONN`.
fn mount_disconnected(place: &Path) -> Option<Mounted> {
    let options = OpenOptions::new().read(true).write(true).open("/dev/fuse");
    let skipped = |error| eprintln!("skipped: {error}");
    let fuse: File = options.map_err(skipped).ok()?;
    let fd = fuse.as_raw_fd();
    let options = format!("fd={fd},rootmode=40000,user_id=0,group_id=0");
    Mounted::new("fuse", place, &CString::new(options).unwrap())
}

#[test]
fn w9_images_below_a_broken_mount_stay_listed() {
    for follow in [Follow::Events, BY_SCANS] {
        let folder = temp();
        let root = &*folder;
        put(root, "a/1.png", "1");
        let below = put(root, "b/c/2.png", "2");
        let store = build(builder(root).follow(follow).small_image_memory(0));
        let Some(broken) = mount_disconnected(&root.join("b")) else {
            return;
        };
        assert_unavailable(&store, below);
        // A scan, because of a change in the root.
        put(root, "d/3.png", "3");
        wait_for_paths(&store, &["a/1.png", "b/c/2.png", "d/3.png"]);
        wait_until("an image is unreadable", || unreadable(&store) == 1);
        assert_unavailable(&store, below);
        drop(broken);
        root.remove("b/c/2.png");
        wait_for_paths(&store, &["a/1.png", "d/3.png"]);
    }
}
