//! Encoded variants on disk. // S9 S13
#![cfg(all(target_os = "linux", feature = "zstd"))]

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::common::*;
use jtp_core::{Catalog, ImageId};
use jtp_driver::store::StoreError;
use jtp_store::{DirStore, VariantCache};
use rustix::fs::FlockOperation;

const MIB: u64 = 1024 * 1024;

fn cached(folder: &Path, cache: &VariantCache) -> Arc<DirStore> {
    // Small images are not kept in memory: these tests are about the files.
    build(
        DirStore::builder(folder)
            .variant_cache(cache.clone())
            .small_image_memory(0),
    )
}

/// An image that compresses well.
fn plain(seed: u8) -> Vec<u8> {
    (0..100_000u32).map(|n| (n / 1000) as u8 ^ seed).collect()
}

fn compressed(catalog: &Catalog, id: ImageId) -> bool {
    catalog
        .get(id)
        .is_some_and(|image| image.flags.is_compressed())
}

fn wait_compressed(store: &DirStore, id: ImageId) {
    wait_for(store, |catalog| compressed(catalog, id));
}

fn decoded(store: &Arc<DirStore>, id: ImageId) -> Vec<u8> {
    let image = image(store, id);
    assert!(image.flags.is_compressed());
    let variant = body(store, image).unwrap();
    zstd::decode_all(&variant[..]).unwrap()
}

fn variant_files(cache: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(cache)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut variants: Vec<_> = entries
        .filter(|path| {
            path.extension()
                .is_some_and(|e| e == "form1" || e == "part")
        })
        .collect();
    variants.sort();
    variants
}

fn bytes_in(cache: &Path) -> u64 {
    variant_files(cache)
        .iter()
        .map(|path| fs::metadata(path).unwrap().len())
        .sum()
}

fn variant_of(cache: &Path, id: ImageId) -> PathBuf {
    let variants = variant_files(cache);
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let of_id = |path: &&PathBuf| name(path).starts_with(&id.to_string());
    variants
        .iter()
        .find(of_id)
        .expect("the variant is in the cache")
        .clone()
}

#[test]
fn a_variant_is_made_once_and_used_by_later_runs_and_other_stores() {
    let (folder, other_folder, cache) = (temp(), temp(), temp());
    let variants = VariantCache::open(cache.join("new/variants"), MIB).unwrap();
    let id = write(&folder, "a.bmp", plain(1));
    write(&other_folder, "b.bmp", plain(1));
    let store = cached(&folder, &variants);
    wait_compressed(&store, id);
    assert_eq!(decoded(&store, id), plain(1));
    let file = variant_of(variants.folder(), id);
    let made = fs::metadata(&file).unwrap();
    assert_eq!(made.len(), variants.used().unwrap());
    drop(store);
    for folder in [&*folder, &*other_folder] {
        // Another program's view of the same folder.
        let variants = VariantCache::open(variants.folder(), MIB).unwrap();
        let store = cached(folder, &variants);
        wait_compressed(&store, id);
        assert_eq!(decoded(&store, id), plain(1));
    }
    let now = fs::metadata(&file).unwrap();
    assert_eq!(
        (now.ino(), now.mtime_nsec()),
        (made.ino(), made.mtime_nsec())
    );
}

#[test]
fn a_variant_damaged_between_two_runs_is_made_again() {
    let (folder, cache) = (temp(), temp());
    let id = write(&folder, "a.bmp", plain(1));
    let variants = VariantCache::open(&cache, MIB).unwrap();
    drop({
        let store = cached(&folder, &variants);
        wait_compressed(&store, id);
        store
    });
    let whole = fs::read(variant_of(&cache, id)).unwrap();
    for at in (0..whole.len()).step_by(whole.len() / 12) {
        let mut bad = whole.clone();
        bad[at] ^= 4;
        fs::write(variant_of(&cache, id), &bad).unwrap();
        let store = cached(&folder, &variants);
        wait_compressed(&store, id);
        assert_eq!(decoded(&store, id), plain(1), "byte {at}");
    }
    for length in [0, 10, whole.len() - 1] {
        fs::write(variant_of(&cache, id), &whole[..length]).unwrap();
        let store = cached(&folder, &variants);
        wait_compressed(&store, id);
        assert_eq!(decoded(&store, id), plain(1), "cut to {length}");
    }
    assert_eq!(bytes_in(&cache), whole.len() as u64);
}

#[test]
fn s13_a_variant_damaged_while_listed_is_never_completed_and_made_again() {
    let (folder, cache) = (temp(), temp());
    let variants = VariantCache::open(&cache, 10 * MIB).unwrap();
    // Half of it is noise, so that the variant is longer than one read.
    let bytes = [noise(200_000, 5), vec![1; 200_000]].concat();
    let id = write(&folder, "a.bmp", &bytes);
    let store = cached(&folder, &variants);
    wait_compressed(&store, id);
    let listed = image(&store, id);
    let open_image = open(&store, listed).unwrap();
    assert_eq!(read(&open_image, 0, 50_000).unwrap().len(), 50_000);
    let path = variant_of(&cache, id);
    let file = File::options().write(true).open(&path).unwrap();
    // Before and after the read position.
    file.write_all_at(b"!?", 10).unwrap();
    file.write_all_at(b"!?", 100_000).unwrap();
    let error = read_rest(&open_image, 50_000, 50_000).unwrap_err();
    assert!(matches!(error, StoreError::Changed(_)), "{error}");
    // It may be listed raw until it is made again, but only for a moment.
    wait_until("the variant is made again", || {
        fs::read(&path).is_ok_and(|variant| variant[10..12] != *b"!?")
    });
    wait_compressed(&store, id);
    assert_eq!(decoded(&store, id), bytes);
    assert_eq!(events(&store), 1, "S9: a change of variant is no event");
}

#[test]
fn a_variant_that_another_program_evicted_is_made_again_when_needed() {
    let (folder, cache) = (temp(), temp());
    let variants = VariantCache::open(&cache, MIB).unwrap();
    let ids: Vec<_> = (0..3)
        .map(|n| write(&folder, &format!("{n}.bmp"), plain(n)))
        .collect();
    let store = cached(&folder, &variants);
    for id in &ids {
        wait_compressed(&store, *id);
    }
    let held = open(&store, image(&store, ids[0])).unwrap();
    let hits = |store: &DirStore| {
        let counters = store.counters();
        (counters.variant_cache_hits, counters.variant_cache_misses)
    };
    assert_eq!(hits(&store), (1, 0));
    for path in variant_files(&cache) {
        fs::remove_file(path).unwrap();
    }
    // A reader that has it open can finish.
    let variant = read_rest(&held, 0, 1 << 20).unwrap();
    assert_eq!(zstd::decode_all(&variant[..]).unwrap(), plain(0));
    // The image is still sent as the snapshot lists it.
    assert_eq!(decoded(&store, ids[0]), plain(0));
    assert_eq!(hits(&store), (1, 1));
    // The others are found to be missing too, and made again, perhaps before the next snapshot.
    wait_until("all variants are made again", || {
        variant_files(&cache).len() == 3
    });
    for id in &ids {
        wait_compressed(&store, *id);
    }
    // Without the image its variant cannot be made again.
    let lost = image(&store, ids[1]);
    fs::remove_file(variant_of(&cache, ids[1])).unwrap();
    folder.remove("1.bmp");
    let error = open(&store, lost).unwrap_err();
    assert!(
        matches!(error, StoreError::Changed(_) | StoreError::Gone(_)),
        "{error}"
    );
}

#[test]
fn a_cache_deleted_while_in_use_is_replaced_by_memory() {
    let (folder, parent) = (temp(), temp());
    let cache = parent.join("variants");
    let variants = VariantCache::open(&cache, MIB).unwrap();
    let ids: Vec<_> = (0..3)
        .map(|n| write(&folder, &format!("{n}.bmp"), plain(n)))
        .collect();
    let store = cached(&folder, &variants);
    for id in &ids {
        wait_compressed(&store, *id);
    }
    let listed = image(&store, ids[0]);
    fs::remove_dir_all(&cache).unwrap();
    // The listed variant cannot be stored again, so the raw file is sent; later ones are made in memory.
    let (image_sent, bytes) = sent(&store, listed).unwrap();
    assert!(listed.flags.is_compressed() && !image_sent.flags.is_compressed());
    assert_eq!(bytes, plain(0));
    for (n, id) in (0..).zip(&ids) {
        wait_until("the image is sent compressed", || {
            let listed = image(&store, *id);
            let (sent, _) = sent(&store, listed).unwrap();
            sent == listed && sent.flags.is_compressed()
        });
        assert_eq!(decoded(&store, *id), plain(n));
    }
    assert_eq!(events(&store), 3);
}

#[test]
fn the_least_recently_used_variants_are_evicted_first_and_listed_ones_never() {
    let (folder, listed_folder, cache) = (temp(), temp(), temp());
    let old: Vec<_> = (0..6)
        .map(|n| write(&folder, &format!("{n}.bmp"), plain(n)))
        .collect();
    {
        let store = cached(&folder, &VariantCache::open(&cache, MIB).unwrap());
        for id in &old {
            wait_compressed(&store, *id);
        }
    }
    // Used in the order 3, 4, 5, 0, 1, 2, an hour apart.
    for (hours, n) in [3, 4, 5, 0, 1, 2].into_iter().enumerate() {
        let used = SystemTime::now() - Duration::from_secs(3600 * (20 - hours as u64));
        let file = File::open(variant_of(&cache, old[n])).unwrap();
        file.set_modified(used).unwrap();
    }
    // There is room for one more. Two of the old ones are listed, which counts as a use.
    let size = bytes_in(&cache) * 8 / 6;
    let variants = VariantCache::open(&cache, size).unwrap();
    write(&listed_folder, "3.bmp", plain(3));
    write(&listed_folder, "0.bmp", plain(0));
    let store = cached(&listed_folder, &variants);
    wait_compressed(&store, old[0]);
    wait_compressed(&store, old[3]);
    let is_cached = |n: usize| {
        let files = variant_files(&cache);
        let mut names = files.iter().map(|path| path.to_str().unwrap());
        names.any(|name| name.contains(&old[n].to_string()))
    };
    for n in 10..22 {
        let id = write(&listed_folder, "next.bmp", plain(n));
        wait_compressed(&store, id);
        assert!(bytes_in(&cache) <= size);
        assert_eq!(bytes_in(&cache), variants.used().unwrap());
        let left: Vec<_> = (0..6).filter(|n| is_cached(*n)).collect();
        assert!(left.contains(&0) && left.contains(&3), "listed: {left:?}");
        let is_newer_left = left.contains(&1) && left.contains(&2);
        assert!(
            is_newer_left || !(left.contains(&4) || left.contains(&5)),
            "{left:?}"
        );
    }
    assert!([1, 2, 4, 5].into_iter().all(|n| !is_cached(n)));
    assert_eq!(decoded(&store, old[0]), plain(0));
    assert_eq!(decoded(&store, old[3]), plain(3));
}

#[test]
fn an_image_is_sent_raw_if_its_variant_does_not_fit_beside_listed_ones() {
    let (folder, cache) = (temp(), temp());
    let variants = VariantCache::open(&cache, 1000).unwrap();
    let first = write(&folder, "a.bmp", plain(1));
    let large = write(&folder, "b.bmp", [noise(5000, 1), plain(2)].concat());
    let store = cached(&folder, &variants);
    wait_compressed(&store, first);
    let marker = write(&folder, "m.png", b"marker");
    wait_for(&store, |catalog| catalog.contains(marker));
    assert!(!image(&store, large).flags.is_compressed());
    assert_eq!(bytes_in(&cache), variants.used().unwrap());
    assert_eq!(variant_files(&cache).len(), 1, "no temporary file is left");
}

#[test]
fn a_variant_longer_than_16_mib_is_made_and_served() {
    let (folder, cache) = (temp(), temp());
    let variants = VariantCache::open(&cache, 100 * MIB).unwrap();
    let bytes = [noise(17 << 20, 1), vec![0; 30 << 20], noise(1 << 20, 2)].concat();
    let id = write(&folder, "large.tif", &bytes);
    let store = cached(&folder, &variants);
    wait_compressed(&store, id);
    assert!(u64::from(image(&store, id).length) > 18 * MIB);
    assert!(decoded(&store, id) == bytes);
    assert_eq!(bytes_in(&cache), variants.used().unwrap());
}

#[test]
fn a_lost_total_is_counted_again_and_stale_temporary_files_are_removed() {
    let (folder, cache) = (temp(), temp());
    let id = write(&folder, "a.bmp", plain(1));
    let variants = VariantCache::open(&cache, MIB).unwrap();
    wait_compressed(&cached(&folder, &variants), id);
    let used = variants.used().unwrap();
    let leftover = File::create(cache.join("1-2.part")).unwrap();
    leftover
        .set_modified(SystemTime::now() - Duration::from_secs(100_000))
        .unwrap();
    for broken in [&b""[..], b"garbage", &[0xff; 100]] {
        cache.write("used1", broken);
        assert_eq!(
            VariantCache::open(&cache, MIB).unwrap().used().unwrap(),
            used
        );
    }
    assert_eq!(variant_files(&cache).len(), 1);
    // A cache that is opened with a smaller size evicts at once.
    assert_eq!(VariantCache::open(&cache, 10).unwrap().used().unwrap(), 0);
    assert!(variant_files(&cache).is_empty());
    cache.write("file", "");
    assert!(VariantCache::open(cache.join("file"), MIB).is_err());
}

#[test]
fn variants_are_kept_in_memory_if_the_disk_is_full() {
    let (folder, disk) = (temp(), temp());
    let Some(_disk) = Mounted::new("tmpfs", &disk, c"size=64k") else {
        return;
    };
    // The root of the file system itself is writable by all users.
    let forms = disk.join("forms");
    let variants = VariantCache::open(&forms, 100 * MIB).unwrap();
    // The first one does not fit, and shows that the cache fails.
    let images = [[noise(200_000, 1), plain(2)].concat(), plain(1)];
    let ids = [("a.bmp", 0), ("b.bmp", 1)].map(|(name, n)| write(&folder, name, &images[n]));
    let store = cached(&folder, &variants);
    for (id, bytes) in ids.into_iter().zip(images) {
        wait_compressed(&store, id);
        assert_eq!(decoded(&store, id), bytes);
    }
    assert!(variant_files(&forms).is_empty());
}

#[test]
fn stores_that_evict_each_others_variants_from_a_shared_cache_keep_serving() {
    let (one, other, cache) = (temp(), temp(), temp());
    for n in 0..20 {
        write(&one, &format!("{n}.bmp"), plain(n));
        write(&other, &format!("{n}.bmp"), plain(100 + n));
    }
    // There is room for some 15 of 40 variants, and each program protects only those that it lists itself.
    let stores = [(&one, 0), (&other, 100)].map(|(folder, base)| {
        let variants = VariantCache::open(&cache, 6000).unwrap();
        (cached(folder, &variants), base)
    });
    std::thread::scope(|scope| {
        for (store, base) in &stores {
            scope.spawn(move || {
                for _ in 0..20 {
                    for n in 0..20u8 {
                        let bytes = plain(base + n);
                        let image = image(store, ImageId::of(&bytes));
                        // If the listed variant does not fit any more, the raw file is sent.
                        let (image, sent) = sent(store, image).unwrap();
                        let raw = match image.flags.is_compressed() {
                            true => zstd::decode_all(&sent[..]).unwrap(),
                            false => sent.to_vec(),
                        };
                        assert!(raw == bytes);
                    }
                }
            });
        }
    });
    assert!(bytes_in(&cache) <= 6000);
}

#[test]
fn s4_the_variant_of_another_file_with_the_same_id_is_not_used() {
    let (one, other, cache) = (temp(), temp(), temp());
    let (left, right) = jtp_kit::long_collision(&plain(1));
    let variants = VariantCache::open(&cache, MIB).unwrap();
    let id = write(&one, "a.bmp", &left);
    write(&other, "b.bmp", &right);
    let store = cached(&one, &variants);
    wait_compressed(&store, id);
    let store = cached(&other, &variants);
    // The queue is in order, so the image was tried before this one.
    let marker = write(&other, "z.bmp", plain(9));
    wait_compressed(&store, marker);
    assert_eq!(body(&store, image(&store, id)).unwrap(), right);
}

#[test]
fn a_variant_cache_that_another_program_has_locked_is_used_without_a_lock() {
    let (folder, cache) = (temp(), temp());
    let id = write(&folder, "a.bmp", vec![1; 100_000]);
    let path = cache.to_owned();
    drop(VariantCache::open(&path, 1 << 20).unwrap());
    let used = File::open(path.join("used1")).unwrap();
    rustix::fs::flock(&used, FlockOperation::NonBlockingLockExclusive).unwrap();
    let images = folder.to_owned();
    let used = in_time(move || {
        let cache = VariantCache::open(path, 1 << 20).unwrap();
        let store = build(DirStore::builder(images).variant_cache(cache.clone()));
        wait_compressed(&store, id);
        cache.used().unwrap()
    });
    assert_eq!(bytes_in(&cache), used);
}
