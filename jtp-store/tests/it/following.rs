//! The catalog follows the folder: within 2 s after a file was completely written.
#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::*;
use jtp_driver::store::{ImageStore, StoreError};
use jtp_store::{DirStore, Follow};

const SOON: Duration = Duration::from_secs(2);

/// Runs each test twice: with file system events, and with scans alone.
macro_rules! both {
    ($(fn $name:ident($folder:ident, $store:ident) $body:block)*) => {
        $(fn $name($folder: &Path, $store: &Arc<DirStore>) $body)*
        mod by_events {
            $(#[test] fn $name() {
                let folder = super::images();
                super::$name(&folder.join("images"), &super::open_store(&folder.join("images")));
            })*
        }
        mod by_scans {
            $(#[test] fn $name() {
                let folder = super::images();
                super::$name(&folder.join("images"), &super::scanning(&folder.join("images")));
            })*
        }
    };
}

fn images() -> Temp {
    let parent = temp();
    parent.make_dir("images");
    parent
}

fn scanning(folder: &Path) -> Arc<DirStore> {
    let interval = Follow::Interval(Duration::from_millis(100));
    build(DirStore::builder(folder).follow(interval))
}

both! {
fn added_changed_and_removed_files_are_reflected_within_2_s(folder, store) {
    assert!(store.catalog().snapshot().is_empty());
    let first = write(folder, "a.png", b"one");
    assert!(wait_for(store, |c| c.contains(first)) < SOON);
    let second = write(folder, "a.png", b"another");
    assert!(wait_for(store, |c| c.contains(second) && c.len() == 1) < SOON);
    assert_eq!(body(store, image(store, second)).unwrap(), b"another");
    folder.remove("a.png");
    assert!(wait_for(store, jtp_core::Catalog::is_empty) < SOON);
    assert_eq!(events(store), 2);
}

fn n1_a_rename_or_a_touch_is_no_event_and_a_changed_file_is(folder, store) {
    let id = write(folder, "a.png", b"same");
    wait_for(store, |c| c.contains(id));
    folder.rename("a.png", "b.png");
    assert!(wait_for_names(store, &["b.png"]) < SOON);
    let file = File::options().write(true).open(folder.join("b.png")).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    drop(file);
    // The same bytes under the same name, through a temporary file.
    write(folder, ".tmp", b"same");
    folder.rename(".tmp", "b.png");
    let marker = write(folder, "marker.png", b"marker");
    wait_for(store, |c| c.contains(marker) && c.contains(id));
    assert_eq!(events(store), 2);
}

fn a_slowly_written_file_is_listed_once_with_its_final_contents(folder, store) {
    let mut file = File::create(folder.join("slow.png")).unwrap();
    let bytes = noise(40_000, 5);
    for piece in bytes.chunks(1000) {
        file.write_all(piece).unwrap();
        // The pace of a slow writer, not a wait for a condition.
        thread::sleep(Duration::from_millis(20));
    }
    assert!(store.catalog().snapshot().is_empty());
    drop(file);
    assert!(wait_for(store, |c| !c.is_empty()) < SOON);
    assert_eq!(events(store), 1);
    assert!(store.catalog().snapshot().contains(jtp_core::ImageId::of(&bytes)));
}

fn the_images_of_a_removed_folder_are_unlisted_until_it_is_back(here, store) {
    let away = here.with_file_name("away");
    let id = write(here, "a.png", b"a");
    wait_for(store, |c| c.contains(id));
    fs::rename(here, &away).unwrap();
    wait_for(store, jtp_core::Catalog::is_empty);
    fs::rename(&away, here).unwrap();
    wait_for(store, |c| c.contains(id));
    assert_eq!(body(store, image(store, id)).unwrap(), b"a");
    // Another folder in its place.
    fs::rename(here, &away).unwrap();
    fs::create_dir(here).unwrap();
    let other = write(here, "b.png", b"b");
    wait_for(store, |c| c.contains(other) && !c.contains(id));
    let later = write(here, "c.png", b"c");
    wait_for(store, |c| c.contains(later));
    fs::remove_dir_all(here).unwrap();
    wait_for(store, jtp_core::Catalog::is_empty);
    fs::rename(&away, here).unwrap();
    wait_for(store, |c| c.contains(id));
}
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
fn a_burst_of_files_is_published_in_a_few_snapshots() {
    let folder = temp();
    let store = open_store(&folder);
    let before = store.catalog().snapshot().generation();
    let begun = Instant::now();
    for n in 0..500 {
        write(&folder, &format!("{n:03}.png"), format!("image {n}"));
    }
    assert!(wait_for(&store, |c| c.len() == 500) < SOON);
    let snapshots = store.catalog().snapshot().generation() - before;
    // One for each 250 ms in which files were written, however slow the machine is.
    let allowed = 4 + begun.elapsed().as_millis() as u64 / 250;
    assert!(snapshots <= allowed, "{snapshots} snapshots");
    assert_eq!(events(&store), 500);
    for n in 0..500 {
        folder.remove(format!("{n:03}.png"));
    }
    assert!(wait_for(&store, jtp_core::Catalog::is_empty) < SOON);
}

#[test]
fn r8_s13_an_image_that_is_being_overwritten_stays_listed_and_is_not_served() {
    let folder = temp();
    let old = write(&folder, "a.png", b"the old picture");
    let store = open_store(&folder);
    let mut changes = store.catalog().subscribe();
    let mut file = File::create(folder.join("a.png")).unwrap();
    file.write_all(b"the new").unwrap();
    let error = body(&store, image(&store, old)).unwrap_err();
    assert!(matches!(error, StoreError::Changed(_)), "{error:?}");
    assert!(changes.wait_timeout(Duration::from_secs(2)).is_none());
    assert!(store.catalog().snapshot().contains(old));
    file.write_all(b" picture").unwrap();
    drop(file);
    wait_for(&store, |c| {
        c.contains(jtp_core::ImageId::of(b"the new picture")) && !c.contains(old)
    });
}

#[test]
fn new_links_are_listed() {
    let folder = temp();
    folder.make_dir("sub");
    write(&folder, "sub/x.png", b"x");
    let store = open_store(&folder);
    folder.link("sub/x.png", "a.png");
    wait_for_names(&store, &["a.png"]);
    folder.hard_link("sub/x.png", "0.png");
    assert!(wait_for_names(&store, &["0.png"]) < SOON);
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
