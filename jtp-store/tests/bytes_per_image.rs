//! The memory of a served folder: the catalog and the store's own index.
//!
//! `JTP_IMAGES=1000000 cargo test --release -p jtp-store --test bytes_per_image -- --nocapture` prints the figures for a
//! million files.
#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
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
fn a_store_takes_130_bytes_per_image_and_twice_the_name() {
    let images: usize = std::env::var("JTP_IMAGES").map_or(10_000, |n| n.parse().unwrap());
    let (folder, cache) = (temp(), temp());
    for n in 0..images {
        let name = format!("img_{n:012}.png");
        assert_eq!(name.len(), NAME_LEN);
        fs::write(folder.path().join(name), n.to_be_bytes()).unwrap();
    }
    for run in ["first", "with an index"] {
        let before = MEMORY.reset_peak();
        let begun = Instant::now();
        let builder = DirStore::builder(folder.path()).index_file(cache.path().join("index"));
        let store = builder.open().unwrap();
        let took = begun.elapsed();
        assert_eq!(store.catalog().snapshot().len(), images);
        let each = |bytes: usize| (bytes - before) as f64 / images as f64;
        let (steady, peak) = (each(MEMORY.live()), each(MEMORY.peak()));
        println!(
            "{images} files, {run}: {took:?}; {steady:.1} bytes per image, at most {peak:.1}, including two names of {NAME_LEN}"
        );
        // The catalog and the index both have the name. Buffers do not depend on the number of files.
        let fixed = 2_000_000.0 / images as f64;
        assert!(steady <= 130.0 + 2.0 * NAME_LEN as f64 + fixed, "{steady}");
        assert!(peak <= 450.0 + fixed, "{peak}");
    }
    count_allocations_of_opening(&folder, images);
    count_allocations_of_scanning(&folder, images);
}

/// Opens small images as the server does, many in one call, and then again from memory.
fn count_allocations_of_opening(folder: &tempfile::TempDir, images: usize) {
    let store = Arc::new(DirStore::builder(folder.path()).open().unwrap());
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
fn count_allocations_of_scanning(folder: &tempfile::TempDir, images: usize) {
    let scan = |mode| {
        let output = OutputFolder::open(folder.path()).unwrap();
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
