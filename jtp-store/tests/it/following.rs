//! The catalog follows the folder: within 2 s after a file was completely written. `life.rs` changes folders at random.
#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::time::Duration;

use crate::common::*;
use jtp_driver::store::ImageStore;
use jtp_store::{DirStore, Follow};

#[test]
fn n1_changes_are_reflected_within_2_s_and_a_rename_or_a_touch_is_no_event() {
    by_events_and_by_scans(&[false], |builder, folder| {
        let store = build(builder);
        let first = write(folder, "a.png", b"one");
        assert!(wait_for(&store, |c| c.contains(first)) < SOON);
        let second = write(folder, "a.png", b"another");
        assert!(wait_for(&store, |c| c.contains(second) && c.len() == 1) < SOON);
        assert_eq!(body(&store, image(&store, second)).unwrap(), b"another");
        folder.rename("a.png", "b.png");
        assert!(wait_for_names(&store, &["b.png"]) < SOON);
        let file = File::options().write(true).open(folder.join("b.png"));
        file.unwrap()
            .set_modified(std::time::SystemTime::UNIX_EPOCH)
            .unwrap();
        // The same bytes under the same name, through a temporary file.
        write(folder, ".tmp", b"another");
        folder.rename(".tmp", "b.png");
        let marker = write(folder, "marker.png", b"marker");
        wait_for(&store, |c| c.contains(marker) && c.contains(second));
        folder.remove("b.png");
        assert!(wait_for_names(&store, &["marker.png"]) < SOON);
        assert_eq!(events(&store), 3);
    });
}

#[test]
fn another_folder_in_the_place_of_a_folder_is_followed() {
    each_way_to_follow(|builder, here| {
        let away = here.with_file_name("away");
        let id = write(here, "a.png", b"a");
        let store = build(builder);
        fs::rename(here, &away).unwrap();
        fs::create_dir(here).unwrap();
        let other = write(here, "b.png", b"b");
        wait_for(&store, |c| c.contains(other) && !c.contains(id));
        let later = write(here, "c.png", b"c");
        wait_for(&store, |c| c.contains(later));
        fs::remove_dir_all(here).unwrap();
        wait_for(&store, jtp_core::Catalog::is_empty);
        fs::rename(&away, here).unwrap();
        wait_for(&store, |c| c.contains(id));
    });
}

#[test]
fn a_file_renamed_over_another_replaces_it_in_one_snapshot() {
    let folder = temp();
    let old = write(&folder, "a.png", b"old");
    let store = open_store(&folder);
    let new = write(&folder, ".a.png.tmp", b"new");
    let mut changes = store.catalog().subscribe();
    folder.rename(".a.png.tmp", "a.png");
    let next = changes.wait_timeout(PATIENCE).unwrap();
    assert!(next.contains(new) && !next.contains(old));
}

#[test]
fn with_one_thread_and_follow_never_only_the_initial_files_are_listed() {
    let folder = temp();
    write(&folder, "a.png", b"a");
    let store = DirStore::builder(&folder)
        .hashing_threads(NonZeroUsize::MIN)
        .follow(Follow::Never)
        .open()
        .unwrap();
    write(&folder, "b.png", b"b");
    let mut changes = store.catalog().subscribe();
    assert!(changes.wait_timeout(Duration::from_millis(300)).is_none());
    assert_eq!(listed(&store), ["a.png"]);
}
