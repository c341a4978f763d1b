//! Neither a lock of another program nor a pipe in place of a file makes a store wait.
#![cfg(all(target_os = "linux", feature = "zstd"))]

use std::fs::{self, File};
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use crate::common::*;
use jtp_driver::store::ImageStore;
use jtp_store::{DirStore, VariantCache};
use rustix::fs::{FileType, FlockOperation, Mode, flock, mknodat};

/// Fails if `work` does not end.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, result) = mpsc::channel();
    thread::spawn(move || sender.send(work()));
    result.recv_timeout(PATIENCE).expect("it does not wait")
}

fn pipe(path: &Path) {
    mknodat(rustix::fs::CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap();
}

#[test]
fn a_variant_cache_that_another_program_has_locked_is_used_without_a_lock() {
    let (folder, cache) = (temp(), temp());
    let id = write(&folder, "a.bmp", vec![1; 100_000]);
    let path = cache.to_owned();
    drop(VariantCache::open(&path, 1 << 20).unwrap());
    let used = File::open(path.join("used1")).unwrap();
    flock(&used, FlockOperation::NonBlockingLockExclusive).unwrap();
    let images = folder.to_owned();
    let cached = in_time(move || {
        let cache = VariantCache::open(path, 1 << 20).unwrap();
        let store = build(DirStore::builder(images).variant_cache(cache.clone()));
        wait_for(&store, |c| {
            c.get(id).is_some_and(|i| i.flags.is_compressed())
        });
        cache.used().unwrap()
    });
    let sizes = fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap());
    let variants = sizes.filter(|entry| entry.file_name().to_string_lossy().contains(".form"));
    assert_eq!(
        variants
            .map(|entry| entry.metadata().unwrap().len())
            .sum::<u64>(),
        cached
    );
}

#[test]
fn a_pipe_in_place_of_the_index_file_is_ignored() {
    for suffix in ["", ".part"] {
        let (folder, index) = (temp(), temp());
        let id = write(&folder, "a.png", b"a");
        pipe(&index.join(format!("index{suffix}")));
        let (images, index) = (folder.to_owned(), index.join("index"));
        in_time(move || {
            let store = build(DirStore::builder(images).index_file(index));
            assert!(store.catalog().snapshot().contains(id));
            drop(store);
        });
    }
}

#[test]
fn a_pipe_in_place_of_a_variant_is_ignored() {
    let (folder, cache) = (temp(), temp());
    let id = write(&folder, "a.bmp", vec![1; 100_000]);
    let open = {
        let (images, path) = (folder.to_owned(), cache.to_owned());
        move || {
            let cache = VariantCache::open(&path, 1 << 20).unwrap();
            build(DirStore::builder(&images).variant_cache(cache))
        }
    };
    let is_compressed = move |c: &jtp_core::Catalog| c.get(id).unwrap().flags.is_compressed();
    let store = open();
    wait_for(&store, is_compressed);
    drop(store);
    let entries = fs::read_dir(&cache)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let variants = entries.filter(|path| path.extension().is_some_and(|end| end != "part"));
    let variants: Vec<_> = variants.collect();
    assert_eq!(variants.len(), 1);
    fs::remove_file(&variants[0]).unwrap();
    pipe(&variants[0]);
    in_time(move || {
        let store = open();
        wait_for(&store, is_compressed);
        let listed = image(&store, id);
        assert!(!body(&store, listed).unwrap().is_empty());
        drop(store);
    });
}
