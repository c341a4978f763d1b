//! What a served folder costs in memory: the catalog, and all that the store keeps of its files.
//!
//! `JTP_IMAGES=1000000 cargo test --release -p jtp-store --test bytes_per_image -- --nocapture` prints the figures of a
//! million files.
#![cfg(target_os = "linux")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use common::*;
use jtp_store::{DirStore, ImageStore};

/// Counts the bytes that are allocated, and the most that ever were.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let now = LIVE.fetch_add(size, Ordering::Relaxed) + size - layout.size();
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const NAME_LEN: usize = 20;

/// One test, because it counts all that this process allocates.
#[test]
fn a_store_takes_a_hundred_and_thirty_bytes_an_image_and_its_names_in_all() {
    let images: usize = std::env::var("JTP_IMAGES").map_or(10_000, |n| n.parse().unwrap());
    let (folder, cache) = (temp(), temp());
    for n in 0..images {
        let name = format!("img_{n:012}.png");
        assert_eq!(name.len(), NAME_LEN);
        fs::write(folder.path().join(name), n.to_be_bytes()).unwrap();
    }
    for run in ["first", "with an index"] {
        let before = LIVE.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let begun = Instant::now();
        let builder = DirStore::builder(folder.path()).index_file(cache.path().join("index"));
        let store = builder.open().unwrap();
        let took = begun.elapsed();
        assert_eq!(store.catalog().snapshot().len(), images);
        let each = |bytes: usize| (bytes - before) as f64 / images as f64;
        let (steady, peak) = (
            each(LIVE.load(Ordering::Relaxed)),
            each(PEAK.load(Ordering::Relaxed)),
        );
        println!(
            "{images} files, {run}: {took:?}; {steady:.1} bytes each, at the most {peak:.1}, names of {NAME_LEN} in it twice"
        );
        // The catalog and the store's own table, each with the name; and what does not depend on the number.
        let fixed = 2_000_000.0 / images as f64;
        assert!(steady <= 130.0 + 2.0 * NAME_LEN as f64 + fixed, "{steady}");
        assert!(peak <= 450.0 + fixed, "{peak}");
    }
}
