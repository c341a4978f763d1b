//! A file that a program has open for writing is not read, however long it stays unchanged.
#![cfg(target_os = "linux")]

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::*;
use jtp_core::ImageId;
use jtp_driver::store::{ImageStore, StoreError};
use jtp_store::{DirStore, Follow};

const SOON: Duration = Duration::from_secs(2);

/// Longer than any time after which an unchanged file without writers is listed.
const PAUSE: Duration = Duration::from_secs(2);

fn scanning(folder: &Path) -> Arc<DirStore> {
    let interval = Follow::Interval(Duration::from_millis(100));
    build(DirStore::builder(folder).follow(interval))
}

/// Runs each test twice: with file system events, and with scans alone.
macro_rules! both {
    ($(fn $name:ident($folder:ident, $store:ident) $body:block)*) => {
        $(fn $name($folder: &Path, $store: &Arc<DirStore>) $body)*
        mod by_events {
            $(#[test] fn $name() {
                let folder = super::temp();
                super::$name(&folder, &super::open_store(&folder));
            })*
        }
        mod by_scans {
            $(#[test] fn $name() {
                let folder = super::temp();
                super::$name(&folder, &super::scanning(&folder));
            })*
        }
    };
}

/// Creates a file with half of its bytes, and keeps it open.
fn half(folder: &Path, name: &str) -> File {
    let mut file = File::create(folder.join(name)).unwrap();
    file.write_all(b"first half,").unwrap();
    file
}

fn finish(mut file: File) -> ImageId {
    file.write_all(b" second half").unwrap();
    ImageId::of(b"first half, second half")
}

/// Asserts that the catalog does not change for longer than a pause of a writer.
#[track_caller]
fn assert_nothing_new(store: &DirStore) {
    let mut changes = store.catalog().subscribe();
    if let Some(catalog) = changes.wait_timeout(PAUSE) {
        panic!("the catalog lists {:?}", names(&catalog));
    }
}

/// Waits until exactly this image is listed, and asserts that it was the only one ever.
#[track_caller]
fn assert_listed_once(store: &DirStore, id: ImageId) {
    let took = wait_for(store, |c| c.contains(id));
    assert!(took < SOON, "{took:?}");
    assert_eq!(events(store), 1);
}

#[test]
fn a_file_that_a_writer_has_open_at_the_start_is_not_listed() {
    let folder = temp();
    let other = write(&folder, "other.png", b"other");
    let file = half(&folder, "a.png");
    // As if the writer had begun long ago.
    file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    let store = open_store(&folder);
    wait_for(&store, |c| c.contains(other));
    assert_nothing_new(&store);
    let id = finish(file);
    assert!(wait_for(&store, |c| c.contains(id)) < SOON);
    assert_eq!(events(&store), 2);
}

both! {
fn a_file_whose_writer_pauses_is_listed_once_it_is_closed(folder, store) {
    let file = half(folder, "a.png");
    assert_nothing_new(store);
    let id = finish(file);
    assert_listed_once(store, id);
}

fn the_mtime_of_a_file_says_nothing_about_its_writer(folder, store) {
    let (past, future) = (half(folder, "past.png"), half(folder, "future.png"));
    past.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    future.set_modified(SystemTime::now() + Duration::from_secs(86400)).unwrap();
    assert_nothing_new(store);
    drop((past, future));
    assert!(wait_for(store, |c| !c.is_empty()) < SOON);
}

fn a_file_is_listed_when_the_last_of_two_writers_closes_it(folder, store) {
    let first = half(folder, "a.png");
    let second = File::options().append(true).open(folder.join("a.png")).unwrap();
    drop(first);
    assert_nothing_new(store);
    let id = finish(second);
    assert_listed_once(store, id);
}

fn a_file_that_is_allocated_first_and_filled_later_is_listed_when_it_is_closed(folder, store) {
    let mut file = File::create(folder.join("a.png")).unwrap();
    let bytes = noise(100_000, 3);
    let length = bytes.len() as u64;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, length).unwrap();
    assert_nothing_new(store);
    file.write_all(&bytes).unwrap();
    drop(file);
    assert_listed_once(store, ImageId::of(&bytes));
}

fn a_file_that_is_renamed_while_it_is_written_is_listed_when_it_is_closed(folder, store) {
    let file = half(folder, ".a.part");
    folder.rename(".a.part", "a.png");
    assert_nothing_new(store);
    let id = finish(file);
    assert_listed_once(store, id);
}

fn a_hard_link_to_a_file_that_is_written_is_listed_when_that_is_closed(folder, store) {
    let file = half(folder, ".a.part");
    folder.hard_link(".a.part", "a.png");
    assert_nothing_new(store);
    let id = finish(file);
    assert_listed_once(store, id);
}

fn a_listed_file_that_is_written_again_in_place_is_listed_when_it_is_closed(folder, store) {
    let old = write(folder, "a.png", b"the old picture");
    wait_for(store, |c| c.contains(old));
    let file = half(folder, "a.png");
    assert_nothing_new(store);
    let id = finish(file);
    assert!(wait_for(store, |c| c.contains(id) && !c.contains(old)) < SOON);
    assert_eq!(events(store), 2);
}

fn a_closed_file_that_is_moved_into_place_is_listed_at_once(folder, store) {
    for (n, target) in ["a.png", "a.png", "b.png"].into_iter().enumerate() {
        let id = write(folder, ".a.part", format!("picture {n}"));
        folder.rename(".a.part", target);
        assert!(wait_for(store, |c| c.contains(id)) < SOON);
    }
    let id = write(folder, ".b.part", b"linked picture");
    folder.hard_link(".b.part", "c.png");
    folder.remove(".b.part");
    assert!(wait_for(store, |c| c.contains(id)) < SOON);
    assert_eq!(events(store), 4);
}

fn the_file_of_a_killed_writer_is_listed_as_far_as_it_was_written(folder, store) {
    let mut writer = Command::new("sh");
    let writer = writer.args(["-c", "exec >a.png; printf half; kill -9 $$"]).current_dir(folder);
    assert_eq!(writer.status().unwrap().signal(), Some(9));
    assert_listed_once(store, ImageId::of(b"half"));
}

fn an_empty_placeholder_is_not_listed_before_it_is_filled(folder, store) {
    drop(File::create(folder.join("a.png")).unwrap());
    assert_nothing_new(store);
    // Opened again, as a program that downloads does.
    let id = write(folder, ".part", b"picture");
    folder.rename(".part", "a.png");
    assert_listed_once(store, id);
}

fn a_file_that_stays_empty_is_listed_in_the_end(folder, store) {
    let id = write(folder, "a.png", b"");
    let took = wait_for(store, |c| c.contains(id));
    assert!(took > Duration::from_secs(3), "{took:?}");
}

fn r8_an_image_that_is_truncated_stays_listed_until_it_has_contents(folder, store) {
    let old = write(folder, "a.png", b"picture");
    wait_for(store, |c| c.contains(old));
    File::create(folder.join("a.png")).unwrap();
    // Longer than an empty file takes to be listed.
    let always_empty = write(folder, "b.png", b"");
    wait_for(store, |c| c.contains(always_empty));
    assert_eq!(listed(store), ["a.png", "b.png"]);
    let error = body(store, image(store, old)).unwrap_err();
    assert!(matches!(error, StoreError::Changed(_)), "{error:?}");
    let new = write(folder, "a.png", b"another picture");
    wait_for(store, |c| c.contains(new));
    assert!(!store.catalog().snapshot().contains(old));
}
}

#[test]
fn an_image_that_was_truncated_while_no_store_was_open_is_not_listed_as_an_empty_one() {
    let place = temp();
    let (folder, index) = (place.join("images"), place.join("index"));
    fs::create_dir(&folder).unwrap();
    write(&folder, "a.png", b"picture");
    write(&folder, "b.png", b"other picture");
    settle(&folder);
    drop(build(DirStore::builder(&folder).index_file(&index)));
    File::create(folder.join("a.png")).unwrap();
    write(&folder, "empty.png", b"");
    for _ in 0..2 {
        let store = build(DirStore::builder(&folder).index_file(&index));
        wait_for(&store, |c| c.contains(ImageId::of(b"")));
        assert_eq!(listed(&store), ["b.png", "empty.png"]);
    }
}

/// Runs `work` on a thread that may take leases of its own files only. Threads that it starts inherit this.
fn without_leases<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut sets = capabilities(None).unwrap();
            sets.effective -= CapabilitySet::LEASE;
            sets.permitted -= CapabilitySet::LEASE;
            set_capabilities(None, sets).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

#[test]
fn without_leases_a_file_is_not_listed_before_its_close_event_or_a_minute() {
    let folder = temp();
    let file = half(&folder, "a.png");
    if std::os::unix::fs::fchown(&file, Some(12345), None).is_err() {
        eprintln!("skipped: only root can make another user's file");
        return;
    }
    drop(file);
    let store = without_leases(|| open_store(&folder));
    // The file was unchanged long enough, also at the start.
    let first = ImageId::of(b"first half,");
    assert!(store.catalog().snapshot().contains(first));
    let mut file = File::options()
        .append(true)
        .open(folder.join("a.png"))
        .unwrap();
    file.write_all(b" second").unwrap();
    assert_nothing_new(&store);
    // It stays listed, and is not served. // R8 S13
    let error = body(&store, image(&store, first)).unwrap_err();
    assert!(matches!(error, StoreError::Changed(_)), "{error:?}");
    file.write_all(b" half").unwrap();
    drop(file);
    let id = ImageId::of(b"first half, second half");
    assert!(wait_for(&store, |c| c.contains(id)) < SOON);
    assert_eq!(events(&store), 2);
}
