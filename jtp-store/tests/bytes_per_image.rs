//! The memory of a served folder: the catalog and the store's own index.
//!
//! `JTP_IMAGES=1000000 cargo test --release -p jtp-store --test bytes_per_image -- --nocapture` prints the figures for a
//! million files.
#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use common::*;
use jtp_driver::store::ImageStore;
use jtp_kit::Allocations;
use jtp_store::{DirStore, OutputFolder, ScanMode};

#[global_allocator]
static MEMORY: Allocations = Allocations::new();

const NAME_LEN: usize = 20;

/// The only test of this file: it counts all allocations of the process.
#[test]
fn a_store_takes_some_40_bytes_per_image_beside_its_entry_of_the_list() {
    let images: usize = std::env::var("JTP_IMAGES").map_or(20_000, |n| n.parse().unwrap());
    let (folder, cache) = (temp(), temp());
    let sub = "folder";
    folder.make_dir(sub);
    for n in 0..images {
        let name = format!("img_{n:012}.png");
        assert_eq!(name.len(), NAME_LEN);
        fs::write(folder.join(sub).join(name), n.to_be_bytes()).unwrap();
    }
    let small = bytes_of_a_small_store();
    for run in ["first", "with an index"] {
        let read = Arc::new(AtomicU64::new(0));
        let (before, allocated) = (MEMORY.reset_peak(), MEMORY.count());
        let begun = Instant::now();
        let builder = DirStore::builder(&folder).recursive(true);
        let builder = builder.index_file(cache.join("index"));
        let builder = builder.hashing_threads(NonZeroUsize::new(2).unwrap());
        let bytes = Arc::clone(&read);
        let builder =
            builder.progress(move |progress| bytes.store(progress.bytes, Ordering::Relaxed));
        let store = builder.open().unwrap();
        let took = begun.elapsed();
        let snapshot = store.catalog().snapshot();
        assert_eq!(snapshot.len(), images);
        let listed = snapshot.list().map(<[u8]>::len).sum::<usize>() as f64 / images as f64;
        let per_image = |count: usize| count as f64 / images as f64;
        let allocations = per_image(MEMORY.count() - allocated);
        let steady = per_image(MEMORY.live() - before);
        let peak = per_image(MEMORY.peak() - before);
        let read = read.load(Ordering::Relaxed) / 8;
        println!(
            "{images} files, {run}: {took:?}; {steady:.1} bytes per image, at most {peak:.1}, of them {listed:.1} of the LIST; {allocations:.2} allocations, {read} files read"
        );
        // The buffers of the threads that read files do not depend on the number of files.
        let buffers = per_image(if read > 0 { 2_200_000 } else { 0 });
        let fixed = per_image(small) + buffers;
        // The catalog takes 10 more, tables 12, the records and names some 15: those of files that several threads have
        // read are less alike.
        let most = if run == "first" { 50.0 } else { 40.0 };
        assert!(steady <= listed + most + fixed, "{steady}");
        assert!(peak <= 200.0 + fixed, "{peak}");
        // The name for the catalog. On some file systems, and if they have just changed, files are read each time.
        let most = 1.1 + 4.0 * per_image(usize::try_from(read).unwrap());
        assert!(allocations <= most, "{allocations}");
    }
    let folder = folder.join(sub);
    count_allocations_of_opening(&folder, images);
    count_allocations_of_scanning(&folder, images);
}

/// The memory of a store of one image.
fn bytes_of_a_small_store() -> usize {
    let (folder, cache) = (temp(), temp());
    folder.write("a.png", "a");
    let before = MEMORY.live();
    let builder = DirStore::builder(&folder).recursive(true);
    let store = builder.index_file(cache.join("index"));
    let store = store.open().unwrap();
    let bytes = MEMORY.live() - before;
    drop(store);
    println!("a store of one image: {bytes} bytes");
    bytes
}

/// Opens small images as the server does, many in one call, and then again from memory.
fn count_allocations_of_opening(folder: &Path, images: usize) {
    let store = Arc::new(DirStore::builder(folder).open().unwrap());
    let snapshot = store.catalog().snapshot();
    let all: Vec<_> = snapshot.entries().map(|entry| entry.image()).collect();
    let mut each = Vec::new();
    for _ in 0..2 {
        let before = MEMORY.count();
        for group in all.chunks(128) {
            let opening = Arc::clone(&store).open_many(group.to_vec()).unwrap();
            let opened = smol::future::block_on(opening);
            assert!(opened.len() == group.len() && opened.iter().all(Result::is_ok));
        }
        let count = MEMORY.count() - before;
        each.push(count as f64 / images as f64);
    }
    println!("allocations to open a small image: {each:.1?}");
    assert!(each[0] <= 6.0 && each[1] <= 0.5, "{each:?}");
}

/// Scans the folder as a client does that finds nothing to fetch.
fn count_allocations_of_scanning(folder: &Path, images: usize) {
    let scan = |mode| {
        let output = OutputFolder::open(folder).unwrap();
        let before = MEMORY.count();
        let mut found = 0;
        let stop = AtomicBool::new(false);
        let summary = output.scan(mode, &stop, &mut |_| found += 1).unwrap();
        assert_eq!(found, images);
        let count = MEMORY.count() - before;
        (count, usize::try_from(summary.read).unwrap())
    };
    let (names, _) = scan(ScanMode::Names);
    // Reads the files, and enters them in the index.
    scan(ScanMode::Ids);
    let (known, read) = scan(ScanMode::Ids);
    println!(
        "allocations to scan {images} files: {names} by name, {known} with an index, of which {read} were read"
    );
    assert!(names <= images / 100 + 100, "{names}");
    // On some file systems, and if they have just changed, files are read each time.
    assert!(
        known <= images / 100 + 100 + 20 * read,
        "{known}, {read} read"
    );
}
