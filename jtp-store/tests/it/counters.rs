//! The counters of a store: whether its caches had what was opened.
#![cfg(target_os = "linux")]

use std::sync::Arc;

use crate::common::*;
use jtp_store::DirStore;

#[test]
fn small_images_are_hits_once_they_were_read() {
    let folder = temp();
    let small = write(&folder, "a.png", noise(100, 1));
    let large = write(&folder, "b.png", noise(20_000, 2));
    let store = open_store(&folder);
    assert_eq!(store.counters(), Default::default());
    for round in 0..3 {
        for id in [small, large] {
            body(&store, image(&store, id)).unwrap();
        }
        let counters = store.counters();
        assert_eq!(
            (counters.small_image_hits, counters.small_image_misses),
            (round, 1),
            "an image over 16 KiB is not looked for"
        );
    }
    let images = [small, small, large].map(|id| image(&store, id)).to_vec();
    let many = jtp_driver::store::ImageStore::open_many(Arc::clone(&store), images).unwrap();
    assert!(smol::block_on(many).iter().all(Result::is_ok));
    assert_eq!(store.counters().small_image_hits, 4);
    assert_eq!(store.counters().small_image_misses, 1);

    let none = build(DirStore::builder(&folder).small_image_memory(0));
    body(&none, image(&none, small)).unwrap();
    assert_eq!(
        none.counters(),
        Default::default(),
        "there is no such cache"
    );
}

#[cfg(feature = "zstd")]
#[test]
fn a_variant_that_vanished_from_the_cache_is_a_miss() {
    use jtp_store::VariantCache;

    let (folder, cached) = (temp(), temp());
    let cache = VariantCache::open(&cached, 1 << 20).unwrap();
    let id = write(&folder, "a.bmp", vec![7; 100_000]);
    let store = build(
        DirStore::builder(&folder)
            .variant_cache(cache)
            .small_image_memory(0),
    );
    wait_for(&store, |catalog| {
        let image = catalog.get(id);
        image.is_some_and(|image| image.flags.is_compressed())
    });
    let listed = image(&store, id);
    body(&store, listed).unwrap();
    let counters = store.counters();
    let variants = (counters.variant_cache_hits, counters.variant_cache_misses);
    assert_eq!(variants, (1, 0));

    let variant = std::fs::read_dir(&cached)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().contains(&id.to_string()))
        .expect("the variant's file has the image's ID in its name");
    std::fs::remove_file(variant).unwrap();
    body(&store, listed).unwrap();
    let counters = store.counters();
    let variants = (counters.variant_cache_hits, counters.variant_cache_misses);
    assert_eq!(variants, (1, 1));
}
