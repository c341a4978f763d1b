//! A process that runs out of file descriptors keeps its catalog, and a user that runs out of inotify instances is served by
//! scans. In a program of their own: other tests need both.
#![cfg(target_os = "linux")]

mod common;

use std::fs::{self, File};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use common::*;
use jtp_driver::store::{ImageStore, StoreError};
use jtp_store::{DirStore, Follow};
use rustix::fs::inotify::{CreateFlags, init};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Held by each test.
static ALONE: Mutex<()> = Mutex::new(());

/// Opens no more files until it is dropped.
struct Exhausted(Rlimit);

impl Exhausted {
    fn new() -> Exhausted {
        let before = getrlimit(Resource::Nofile);
        // Standard input, output and error have the descriptors below 3. A limit of the lowest free one would not do:
        // the store's threads may close a lower one at any time.
        let limit = Rlimit {
            current: Some(3),
            ..before
        };
        setrlimit(Resource::Nofile, limit).unwrap();
        assert!(File::open("/dev/null").is_err());
        Exhausted(before)
    }
}

impl Drop for Exhausted {
    fn drop(&mut self) {
        setrlimit(Resource::Nofile, self.0).unwrap();
    }
}

#[test]
fn without_file_descriptors_images_stay_listed_and_new_files_are_listed_later() {
    let _alone = ALONE.lock();
    for follow in [Follow::Events, Follow::Interval(Duration::from_millis(50))] {
        let (folder, outside) = (temp(), temp());
        let a = write(&folder, "a.png", b"a");
        let b = write(&outside, "b.png", b"b");
        let store = build(DirStore::builder(&folder).follow(follow));
        let listed = image(&store, a);
        let exhausted = Exhausted::new();
        let error = open(&store, listed).unwrap_err();
        assert!(
            matches!(error, StoreError::Unavailable { id, .. } if id == a),
            "{error}"
        );
        assert!(error.is_transient());
        fs::rename(outside.join("b.png"), folder.join("b.png")).unwrap();
        // Longer than the store needs to find the file.
        thread::sleep(Duration::from_secs(1));
        assert!(store.catalog().snapshot().contains(a), "{follow:?}");
        drop(exhausted);
        let took = wait_for(&store, |catalog| catalog.contains(b));
        assert!(took < Duration::from_secs(5), "{follow:?}: {took:?}");
        assert_eq!(body(&store, listed).unwrap(), b"a");
    }
}

#[test]
fn without_inotify_instances_the_folder_is_scanned() {
    let _alone = ALONE.lock();
    // Takes all instances of this user; usually there are a few hundred at most.
    let mut instances = Vec::new();
    while let Ok(instance) = init(CreateFlags::CLOEXEC) {
        instances.push(instance);
        if instances.len() > 2000 {
            eprintln!("skipped: no limit of inotify instances here");
            return;
        }
    }
    let folder = temp();
    let store = open_store(&folder);
    let id = write(&folder, "a.png", b"a");
    assert!(wait_for(&store, |catalog| catalog.contains(id)) < Duration::from_secs(3));
    folder.remove("a.png");
    wait_for(&store, jtp_core::Catalog::is_empty);
    // Once there are instances again, one is used.
    drop(instances);
    let id = write(&folder, "b.png", b"b");
    wait_for(&store, |catalog| catalog.contains(id));
}
