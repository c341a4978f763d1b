//! Memory cost of a catalog: bytes per image, and bytes copied per change.
//!
//! `JTP_IMAGES=1000000 cargo test --release -p jtp-core --test catalog_scale -- --nocapture` prints the figures for
//! one million images.

#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

use std::sync::Arc;

use jtp_core::{Catalog, CatalogWriter, FileType, Flags, Image, ImageId};
use jtp_kit::Allocations;

#[global_allocator]
static MEMORY: Allocations = Allocations::new();

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

/// A single test, because it counts all allocations of the process.
#[test]
fn a_catalog_takes_10_bytes_per_image_beside_its_entry_and_a_change_copies_little() {
    let images: u64 = std::env::var("JTP_IMAGES").map_or(100_000, |n| n.parse().unwrap());
    let count = usize::try_from(images).unwrap();
    assert_eq!(name(0).len(), NAME_LEN);
    for shuffled in [false, true] {
        let before = MEMORY.live();
        let mut writer = CatalogWriter::new();
        writer.set_history(0);
        for n in 0..images {
            // Multiplying by a prime permutes the numbers.
            let n = if shuffled { n * 7_368_787 % images } else { n };
            writer.insert(&name(n), image(n)).unwrap();
        }
        let catalog = writer.publish();
        writer.set_history(CatalogWriter::HISTORY);
        assert_eq!(catalog.len(), count);
        let live = MEMORY.live() - before;
        let listed: usize = catalog.list().map(<[u8]>::len).sum();
        let each = (live - listed) as f64 / count as f64;
        println!("{count} images, shuffled: {shuffled}: {each:.1} bytes per image beside the LIST");
        // 8 of the index, 1.5 of the chunks. Chunks of images that were inserted in any order have unused capacity.
        let most = if shuffled { 14.0 } else { 11.0 };
        assert!(each <= most, "{each} bytes per image");

        // Add images one by one while all earlier snapshots are held.
        let total = MEMORY.total();
        const MORE: u64 = 100;
        let mut held: Vec<Arc<Catalog>> = Vec::new();
        let grown = MEMORY.live();
        for n in images..images + MORE {
            writer
                .insert(&name(n * 7919 % images + images), image(n))
                .unwrap();
            held.push(writer.publish());
        }
        let copied = (MEMORY.total() - total) / usize::try_from(MORE).unwrap();
        let kept = (MEMORY.live() - grown) / usize::try_from(MORE).unwrap();
        println!("one more image: {copied} bytes allocated, {kept} held by the previous snapshot");
        // A change copies two lists of pointers, a chunk and a shard; no entries, and no LIST is encoded.
        assert!(copied < 128 * 1024 + count / 8, "{copied} bytes");
        assert!(held.last().is_some_and(|last| last.len() == count + 100));

        // LIST is encoded already.
        let total = MEMORY.total();
        let length: usize = catalog.list().map(<[u8]>::len).sum();
        assert!(length > count * (NAME_LEN + 11));
        assert_eq!(MEMORY.total(), total, "list() must not allocate");
        assert_eq!(catalog.len(), count, "S3");
    }
}
