//! What a catalog costs: bytes an image, and what a change copies.
//!
//! `JTP_IMAGES=1000000 cargo test --release -p jtp-core --test catalog_scale -- --nocapture` prints the figures of a
//! million images.

// It measures; the core itself reads no clock.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jtp_core::{Catalog, CatalogWriter, FileType, Flags, Image, ImageId};

/// Counts the bytes that are allocated, and all that ever were.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static EVER: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        EVER.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const NAME_LEN: usize = 20;

fn name(n: u64) -> String {
    format!("img_{n:012}.png")
}

fn image(n: u64) -> Image {
    Image::new(
        ImageId::of(&n.to_be_bytes()),
        Flags::new(FileType::Png, false),
        300_000,
    )
}

fn live() -> usize {
    LIVE.load(Ordering::Relaxed)
}

/// One test, because it counts all that this process allocates.
#[test]
fn a_catalog_takes_at_most_64_bytes_an_image_and_its_name_and_a_change_copies_little() {
    let images: u64 = std::env::var("JTP_IMAGES").map_or(100_000, |n| n.parse().unwrap());
    let count = usize::try_from(images).unwrap();
    assert_eq!(name(0).len(), NAME_LEN);
    for shuffled in [false, true] {
        let before = live();
        let mut writer = CatalogWriter::new();
        writer.set_history(0);
        for n in 0..images {
            // A prime, so that each comes once.
            let n = if shuffled { n * 7_368_787 % images } else { n };
            writer.insert(&name(n), image(n)).unwrap();
        }
        let catalog = writer.publish();
        writer.set_history(CatalogWriter::HISTORY);
        assert_eq!(catalog.len(), count);
        let each = (live() - before) as f64 / count as f64 - NAME_LEN as f64;
        println!("{count} images, shuffled: {shuffled}: {each:.1} bytes an image and its name");
        assert!(each <= 64.0, "{each} bytes an image");

        // One more, with the snapshot before still held.
        let ever = EVER.load(Ordering::Relaxed);
        const MORE: u64 = 100;
        let mut held: Vec<Arc<Catalog>> = Vec::new();
        let grown = live();
        for n in images..images + MORE {
            writer
                .insert(&name(n * 7919 % images + images), image(n))
                .unwrap();
            held.push(writer.publish());
        }
        let copied = (EVER.load(Ordering::Relaxed) - ever) / usize::try_from(MORE).unwrap();
        let kept = (live() - grown) / usize::try_from(MORE).unwrap();
        println!("one more image: {copied} bytes allocated, {kept} kept by the snapshot before");
        // Two lists of pointers, a chunk and a shard; never the entries, and no LIST is encoded.
        assert!(copied < 128 * 1024 + count / 8, "{copied} bytes");
        assert!(held.last().is_some_and(|last| last.len() == count + 100));

        // LIST costs nothing, whenever it is asked for.
        let ever = EVER.load(Ordering::Relaxed);
        let length: usize = catalog.list().map(<[u8]>::len).sum();
        assert!(length > count * (NAME_LEN + 11));
        assert_eq!(EVER.load(Ordering::Relaxed), ever, "nothing is encoded");
        assert_eq!(catalog.len(), count, "S3");
    }
}
