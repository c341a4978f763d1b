//! Encoded variants: made once, found by others, never sent if they are not the image. // S9

use std::sync::Arc;

use jtp_core::{Image, ImageId};
use jtp_driver::store::{ImageStore, StoreError};
use jtp_kit::{bmp, noise};

use super::world::{Faults, World, fetch};
use crate::format::Variant;
use crate::{IndexerConfig, StoreConfig, Threshold};

const FOLDER: &str = ".jtp/v1/variant";
const RANGE: usize = 32 * 1024;

/// A bucket with this image, and two servers of it.
fn with_image(bytes: &[u8]) -> (World, ImageId) {
    let mut world = World::new(9);
    world.put("a.bmp", bytes);
    world.start(0, Some(IndexerConfig::default()));
    world.start(1, None);
    world.run(30);
    (world, ImageId::of(bytes))
}

/// The same when the variant was made.
fn with_variant(bytes: &[u8]) -> (World, ImageId) {
    let (mut world, id) = with_image(bytes);
    assert!(!get(&mut world, 0, id).unwrap());
    world.settle();
    (world, id)
}

fn listed(world: &World, process: usize, id: ImageId) -> Image {
    let catalog = ImageStore::catalog(&*world.images[&process]);
    catalog.snapshot().get(id).unwrap()
}

/// What a client gets from a server: whether it is compressed. It is the image.
fn get(world: &mut World, process: usize, id: ImageId) -> Result<bool, StoreError> {
    let server = Arc::clone(&world.images[&process]);
    let (image, verdict) = world.executor.block_on(fetch(server, id, RANGE))?;
    verdict.expect("a packet that is complete is the image"); // S13
    Ok(image.flags.is_compressed())
}

#[test]
fn s9_the_first_server_that_sends_an_image_makes_its_variant_and_others_find_it() {
    // Compressed at once, on a thread, and after a sample.
    for length in [300, 100_000, 3_000_000] {
        let bytes = bmp(length, 1);
        let (mut world, id) = with_variant(&bytes);
        let image = listed(&world, 1, id);
        assert!(image.flags.is_compressed() && (image.length as usize) < length);
        assert!(get(&mut world, 1, id).unwrap() && get(&mut world, 0, id).unwrap());
        assert_eq!(world.keys(FOLDER).len(), 1);
        // A server that starts, another name.
        world.start(2, None);
        world.put("B.bmp", &bytes);
        world.run(15);
        assert_eq!(
            (listed(&world, 2, id), listed(&world, 1, id)),
            (image, image)
        );
        // The catalog is lost: the variant is found and not made again.
        (0..3).for_each(|process| world.kill(process));
        let keys = world.keys(".jtp/v1").into_iter();
        keys.filter(|key| !key.starts_with(FOLDER))
            .for_each(|key| world.delete(&key));
        world.start(0, Some(IndexerConfig::default()));
        world.run(30);
        assert!(!get(&mut world, 0, id).unwrap());
        world.settle();
        assert_eq!(listed(&world, 0, id), image);
    }
}

#[test]
fn s9_an_image_that_does_not_shrink_is_recorded_and_has_no_object() {
    let mut bytes = noise(2_000_000, 5);
    for length in [2_000_000, 1000] {
        bytes.truncate(length);
        let (mut world, id) = with_image(&bytes);
        for _ in 0..2 {
            assert!(!get(&mut world, 0, id).unwrap());
            world.settle();
        }
        let (_, record) = world.images[&1].shared().state().source(id).unwrap();
        assert_eq!(record.variant, Some(Variant::TooLong { threshold: 9500 }));
        let reads = world.store.requests("range");
        assert!(world.keys(FOLDER).is_empty() && !get(&mut world, 1, id).unwrap());
        world.settle();
        assert!(world.store.requests("range") - reads <= 1 + length as u64 / RANGE as u64);
    }
}

#[test]
fn s13_a_lost_or_damaged_variant_is_made_again_and_never_sent() {
    // As a whole, and after its first bytes.
    for length in [300, 400_000] {
        let bytes = [bmp(length, 1), noise(RANGE * 2, 7), bmp(length, 2)].concat();
        let bytes = if length == 300 { bmp(length, 1) } else { bytes };
        let (mut world, id) = with_variant(&bytes);
        let key = world.keys(FOLDER).remove(0);
        let good = world.read(&key);
        for damage in [
            World::delete as fn(&World, &str),
            World::damage,
            |world, key| {
                world.replace(key, b"short");
            },
        ] {
            damage(&world, &key);
            // A packet that was begun ends short.
            let first = get(&mut world, 1, id);
            assert!(matches!(first, Ok(false) | Err(StoreError::Changed(_))));
            assert!(!get(&mut world, 1, id).unwrap());
            world.settle();
            assert!(world.read(&key) == good);
            assert!(get(&mut world, 1, id).unwrap() && get(&mut world, 0, id).unwrap());
        }
    }
}

#[test]
fn a_server_that_must_not_write_sends_variants_of_others_and_everything_else_raw() {
    let (mut world, id) = with_variant(&bmp(300, 1));
    let other = bmp(300, 2);
    world.put("b.bmp", &other);
    world.run(15);
    world.store.shared().faults.is_read_only = true;
    for _ in 0..3 {
        assert!(get(&mut world, 1, id).unwrap());
        assert!(!get(&mut world, 1, ImageId::of(&other)).unwrap());
        world.settle();
    }
    world.delete(&world.keys(FOLDER)[0]);
    for _ in 0..2 {
        assert!(!get(&mut world, 1, id).unwrap());
        world.settle();
    }
    world.store.shared().faults = Faults::default();
    world.run(60);
    assert!(!get(&mut world, 1, id).unwrap());
    world.settle();
    assert!(get(&mut world, 1, id).unwrap());
}

#[test]
fn a_threshold_decides_what_a_server_sends_and_not_what_others_do() {
    let (mut world, id) = with_variant(&bmp(300, 1));
    for (threshold, is_compressed) in [(0.0, false), (0.01, false), (1.0, true)] {
        let threshold = Threshold::new(threshold).unwrap();
        let server = world.open_with(StoreConfig::default().with_compression(threshold));
        world.images.insert(3, server);
        assert_eq!(listed(&world, 3, id).flags.is_compressed(), is_compressed);
        assert_eq!(get(&mut world, 3, id).unwrap(), is_compressed);
        assert!(world.images[&3].variants().is_idle());
    }
}

#[test]
fn the_variant_of_an_image_that_is_gone_is_deleted_an_hour_later() {
    let (mut world, id) = with_variant(&bmp(300, 1));
    world.delete("a.bmp");
    world.run(59 * 60);
    // Back in time: it has its variant at once when it is requested.
    assert_eq!(world.keys(FOLDER).len(), 1);
    world.put("b.bmp", &bmp(300, 1));
    world.run(15);
    assert!(!get(&mut world, 0, id).unwrap());
    world.settle();
    assert!(listed(&world, 1, id).flags.is_compressed());
    world.delete("b.bmp");
    world.run(59 * 60);
    assert_eq!(world.keys(FOLDER).len(), 1);
    world.run(3 * 60);
    assert!(world.keys(FOLDER).is_empty());
}
