//! How the images of a folder are opened and read: errors, raw images, several images at once, and after the store was
//! dropped.
#![cfg(target_os = "linux")]

use std::error::Error;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

use crate::common::*;
use jtp_core::{Image, ImageId};
use jtp_driver::store::{ImageStore, OpenImage, StoreError};
use jtp_store::{DirStore, Follow};

/// A store that lists only the first files.
fn unfollowed(folder: &Path) -> Arc<DirStore> {
    build(DirStore::builder(folder).follow(Follow::Never))
}

fn images(store: &DirStore) -> Vec<Image> {
    let catalog = store.catalog().snapshot();
    catalog.entries().map(|entry| entry.image()).collect()
}

fn open_raw(store: &Arc<DirStore>, id: ImageId, max_first: usize) -> Result<OpenImage, StoreError> {
    smol::future::block_on(Arc::clone(store).open_raw(id, max_first))
}

/// Wakes a thread, and counts how often.
struct Counter(Thread, AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.unpark();
    }
}

/// The output of a future, and how often its task was woken.
fn count_wakes<T>(future: impl Future<Output = T>) -> (T, usize) {
    let counter = Arc::new(Counter(thread::current(), AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&counter));
    let mut future = pin!(future);
    loop {
        let before = counter.1.load(Ordering::SeqCst);
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return (output, before);
        }
        while counter.1.load(Ordering::SeqCst) == before {
            thread::park();
        }
    }
}

#[test]
fn an_unreadable_file_is_unavailable_and_stays_listed() {
    let folder = temp();
    let id = write(&folder, "a.png", b"pixels");
    let store = unfollowed(&folder);
    let listed = image(&store, id);
    folder.set_mode("a.png", 0o000);
    let raw = without_privileges(|| open_raw(&store, id, 0)).unwrap_err();
    let error = without_privileges(|| open(&store, listed)).unwrap_err();
    for error in [raw, error] {
        assert!(
            matches!(error, StoreError::Unavailable { id: failed, .. } if failed == id),
            "{error:?}"
        );
        assert!(error.is_transient());
        let file = error.source().unwrap();
        assert!(file.to_string().contains("a.png"), "{file}");
        let cause = file.source().unwrap().to_string();
        assert!(cause.contains("denied"), "{cause}");
    }
    assert_eq!(images(&store), [listed]);
}

#[test]
fn s13_a_file_replaced_by_something_else_is_changed() {
    let others: [(&str, Obstacle); 2] = [
        ("a link to itself", |_, path| {
            symlink("a.png", path).unwrap();
        }),
        ("a copy", |_, path| fs::write(path, b"pixels").unwrap()),
    ];
    let outside = temp();
    write(&outside, "victim.png", b"of the victim");
    for (what, replace) in OBSTACLES.into_iter().chain(others) {
        let folder = temp();
        let id = write(&folder, "a.png", b"pixels");
        let store = unfollowed(&folder);
        let listed = image(&store, id);
        let path = folder.join("a.png");
        // The old file stays, so that the new one cannot have its inode.
        fs::rename(&path, folder.join("old")).unwrap();
        replace(&outside.join("victim.png"), &path);
        let error = open_raw(&store, id, 10).unwrap_err();
        assert!(
            matches!(error, StoreError::Changed(changed) if changed == id),
            "{what}: {error:?}"
        );
        match what {
            // The same image in another file.
            "a copy" => {
                wait_until(what, || body(&store, listed).is_ok());
                assert_eq!(images(&store), [listed]);
            }
            _ => drop(wait_for(&store, |catalog| !catalog.contains(id))),
        }
    }
}

#[test]
fn images_of_a_removed_folder_are_gone() {
    let parent = temp();
    let folder = parent.join("images");
    fs::create_dir(&folder).unwrap();
    let id = write(&folder, "a.png", b"pixels");
    let store = open_store(&folder);
    let listed = image(&store, id);
    fs::remove_dir_all(&folder).unwrap();
    let is_gone = |result| matches!(result, Err(StoreError::Gone(gone)) if gone == id);
    assert!(is_gone(open(&store, listed)));
    wait_for(&store, jtp_core::Catalog::is_empty);
    assert!(is_gone(open(&store, listed)));
    assert!(is_gone(open_raw(&store, id, 10)));
}

#[test]
fn the_first_bytes_come_with_the_image_and_the_others_from_its_body() {
    let folder = temp();
    let bytes = noise(100_000, 1);
    let id = write(&folder, "a.png", &bytes);
    let store = open_store(&folder);
    let listed = image(&store, id);
    for max_first in [0, 1, 99_999] {
        let open = smol::future::block_on(Arc::clone(&store).open(listed, max_first)).unwrap();
        assert_eq!(open.image(), listed);
        assert_eq!(open.first(), &bytes[..max_first]);
        assert!(open.body().is_some());
        assert_eq!(smol::future::block_on(open.bytes(100_000)).unwrap(), bytes);
    }
    for max_first in [100_000, usize::MAX] {
        let open = smol::future::block_on(Arc::clone(&store).open(listed, max_first)).unwrap();
        assert_eq!(open.first(), &bytes);
        assert!(open.body().is_none());
    }
    let open = open(&store, listed).unwrap();
    let error = smol::future::block_on(open.bytes(99_999)).unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { limit: 99_999, .. }));
}

#[test]
fn a_body_is_read_up_to_its_end_and_not_beyond() {
    let folder = temp();
    let id = write(&folder, "a.png", b"0123456789");
    let store = open_store(&folder);
    let open = open(&store, image(&store, id)).unwrap();
    assert_eq!(read(&open, 0, 8).unwrap(), b"01234567"[..]);
    assert_eq!(read(&open, 8, 2).unwrap(), b"89"[..]);
    assert_eq!(read(&open, 3, 0).unwrap(), b""[..]);
    for (offset, length) in [(10, 1), (8, 3), (20, 1)] {
        let error = read(&open, offset, length).unwrap_err();
        assert!(
            matches!(error, StoreError::OutOfRange { length: 10, .. }),
            "{error}"
        );
    }
    let body = open.body().unwrap();
    assert!(matches!(
        body.try_read(10, &mut [0]),
        Err(StoreError::OutOfRange { offset: 10, .. })
    ));
}

#[test]
fn a_file_in_memory_is_read_in_place() {
    // On tmpfs all files are in memory.
    let folder = Temp::in_folder("/dev/shm");
    let bytes = noise(100_000, 1);
    let id = write(&folder, "a.png", &bytes);
    let store = unfollowed(&folder);
    let open = open(&store, image(&store, id)).unwrap();
    let body = open.body().unwrap();
    let mut buf = vec![0; 60_000];
    for _ in 0..2 {
        assert_eq!(body.try_read(0, &mut buf).unwrap(), Some(60_000));
        assert_eq!(buf, bytes[..60_000]);
        assert_eq!(body.try_read(60_000, &mut buf).unwrap(), Some(40_000));
        assert_eq!(buf[..40_000], bytes[60_000..]);
    }
    // S13: only bytes before the last one are released after a change.
    let file = File::options()
        .append(true)
        .open(folder.join("a.png"))
        .unwrap();
    std::io::Write::write_all(&mut &file, b"!").unwrap();
    assert_eq!(body.try_read(0, &mut buf).unwrap(), Some(60_000));
    let error = body.try_read(60_000, &mut buf).unwrap_err();
    assert!(matches!(error, StoreError::Changed(changed) if changed == id));
}

#[test]
fn small_images_are_opened_in_one_call_in_order_and_the_second_time_from_memory() {
    let folder = temp();
    for n in 0..100 {
        write(&folder, &format!("{n:03}.png"), noise(n, n as u64));
    }
    // The last one is too long to stay in memory.
    write(&folder, "100.png", noise(50_000, 100));
    let store = unfollowed(&folder);
    assert_eq!(store.counters(), Default::default());
    let images: Vec<Image> = images(&store)
        .into_iter()
        .filter(|i| i.length > 0)
        .collect();
    let open_many = |images: &[Image]| {
        let opening = Arc::clone(&store).open_many(images.to_vec()).unwrap();
        let (results, wakes) = count_wakes(opening);
        let bytes: Vec<_> = results
            .into_iter()
            .zip(images)
            .map(|(open, image)| {
                let open = open.unwrap();
                assert_eq!(open.image(), *image);
                assert!(open.body().is_none());
                open.first().clone()
            })
            .collect();
        assert_eq!(bytes.len(), images.len());
        (bytes, wakes)
    };
    let (bytes, wakes) = open_many(&images);
    assert!(wakes <= 1, "{wakes} jobs of the pool");
    for (bytes, image) in bytes.iter().zip(&images) {
        assert_eq!(ImageId::of(bytes), image.id);
    }
    let (again, wakes) = open_many(&images);
    assert!(wakes <= 1, "{wakes} jobs of the pool");
    assert_eq!(again, bytes);
    // Their files are not opened again.
    for n in 0..100 {
        folder.remove(format!("{n:03}.png"));
    }
    let (small, wakes) = open_many(&images[..99]);
    assert_eq!(wakes, 0, "all of them are in memory");
    assert_eq!(small, bytes[..99]);
    let (one, wakes) = count_wakes(Arc::clone(&store).open(images[7], 0));
    assert_eq!((one.unwrap().first(), wakes), (&bytes[7], 0));
    // An image over 16 KiB is not looked for.
    let counters = store.counters();
    assert_eq!(counters.small_image_misses, 99);
    assert_eq!(counters.small_image_hits, 99 + 99 + 1);
}

#[test]
fn open_many_ends_with_the_first_error() {
    let folder = temp();
    for n in 0..5 {
        write(&folder, &format!("{n}.png"), noise(100, n));
    }
    let store = unfollowed(&folder);
    let images = images(&store);
    folder.remove("2.png");
    let opening = Arc::clone(&store).open_many(images.clone()).unwrap();
    let results = smol::future::block_on(opening);
    assert_eq!(results.len(), 3);
    assert!(results[0].is_ok() && results[1].is_ok());
    assert!(matches!(results[2], Err(StoreError::Gone(id)) if id == images[2].id));
    let none = Arc::clone(&store).open_many(Vec::new()).unwrap();
    assert!(smol::future::block_on(none).is_empty());
}

#[test]
fn reads_under_way_complete_after_the_store_is_dropped() {
    let folder = temp();
    let contents: Vec<Vec<u8>> = (0..100).map(|n| noise(20_000, n)).collect();
    for (n, bytes) in contents.iter().enumerate() {
        write(&folder, &format!("{n:03}.png"), bytes);
    }
    let store = open_store(&folder);
    let images = images(&store);
    let opened: Vec<_> = images.iter().map(|i| open(&store, *i).unwrap()).collect();
    // Each call queues its work at once.
    let opening: Vec<_> = images
        .iter()
        .map(|image| Arc::clone(&store).open(*image, 10))
        .collect();
    let many = Arc::clone(&store).open_many(images.clone()).unwrap();
    let reading: Vec<_> = opened
        .iter()
        .map(|open| Arc::clone(open.body().unwrap()).read(0, 20_000))
        .collect();
    drop(store);
    for (bytes, result) in contents.iter().zip(smol::future::block_on(many)) {
        assert_eq!(result.unwrap().first(), bytes);
    }
    for (bytes, opening) in contents.iter().zip(opening) {
        let open = smol::future::block_on(opening).unwrap();
        assert_eq!(smol::future::block_on(open.bytes(20_000)).unwrap(), bytes);
    }
    for (bytes, reading) in contents.iter().zip(reading) {
        assert_eq!(smol::future::block_on(reading).unwrap(), bytes);
    }
}

#[test]
fn a_change_found_after_the_store_is_dropped_is_an_error_only() {
    let folder = temp();
    let bytes = noise(100_000, 1);
    let id = write(&folder, "a.png", &bytes);
    let store = open_store(&folder);
    let open = open(&store, image(&store, id)).unwrap();
    drop(store);
    assert_eq!(read(&open, 0, 50_000).unwrap(), bytes[..50_000]);
    write(&folder, "a.png", b"other");
    let error = read(&open, 50_000, 50_000).unwrap_err();
    assert!(matches!(error, StoreError::Changed(changed) if changed == id));
}

#[cfg(feature = "zstd")]
mod variants {
    use super::*;
    use jtp_core::{FileType, Flags};
    use jtp_store::VariantCache;

    /// A store that lists `bytes` compressed, with the variant on disk or in memory.
    fn store(folder: &Path, cache: Option<&Path>, bytes: &[u8]) -> (Arc<DirStore>, Image) {
        let id = write(folder, "a.bmp", bytes);
        let mut builder = DirStore::builder(folder);
        if let Some(cache) = cache {
            builder = builder.variant_cache(VariantCache::open(cache, 10 << 20).unwrap());
        }
        let store = build(builder);
        let is_compressed = |image: Image| image.flags.is_compressed();
        wait_for(&store, |catalog| catalog.get(id).is_some_and(is_compressed));
        let listed = image(&store, id);
        (store, listed)
    }

    fn bytes() -> Vec<u8> {
        [noise(200_000, 5), vec![1; 200_000]].concat()
    }

    #[test]
    fn open_raw_of_a_compressed_image_opens_its_file() {
        let (folder, cache) = (temp(), temp());
        let bytes = bytes();
        for cache in [None, Some(&*cache)] {
            let (store, listed) = store(&folder, cache, &bytes);
            assert!(listed.length < 300_000);
            let flags = Flags::new(FileType::Bmp, false);
            let raw = Image::new(listed.id, flags, 400_000);
            for max_first in [0, 10, 400_000] {
                let open = open_raw(&store, listed.id, max_first).unwrap();
                assert_eq!(open.image(), raw);
                assert_eq!(open.first(), &bytes[..max_first]);
                if max_first == 0 {
                    assert_eq!(read(&open, 350_000, 50_000).unwrap(), bytes[350_000..]);
                }
                assert_eq!(smol::future::block_on(open.bytes(400_000)).unwrap(), bytes);
            }
            // The raw variant of an older snapshot is opened too.
            assert_eq!(sent(&store, raw).unwrap(), (raw, bytes.clone().into()));
            let missing = open_raw(&store, ImageId(1), 0);
            assert!(matches!(missing, Err(StoreError::Gone(ImageId(1)))));
        }
    }

    #[test]
    fn s13_open_raw_of_a_changed_file_fails() {
        let folder = temp();
        let id = write(&folder, "a.bmp", vec![1; 100_000]);
        let store = unfollowed(&folder);
        let open = open_raw(&store, id, 0).unwrap();
        write(&folder, "a.bmp", vec![2; 100_000]);
        let error = smol::future::block_on(open.bytes(100_000)).unwrap_err();
        assert!(matches!(error, StoreError::Changed(_)), "{error}");
        let error = open_raw(&store, id, 0).unwrap_err();
        assert!(
            matches!(error, StoreError::Changed(_) | StoreError::Gone(_)),
            "{error}"
        );
    }

    #[test]
    fn a_variant_in_memory_is_opened_in_place() {
        let folder = temp();
        let (store, listed) = store(&folder, None, &bytes());
        let begun = Instant::now();
        let open = loop {
            let opening = pin!(Arc::clone(&store).open(listed, 0));
            match opening.poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(open) if open.as_ref().unwrap().body().is_none() => {
                    break open.unwrap();
                }
                // The store was changing its index.
                _ => assert!(begun.elapsed() < PATIENCE),
            }
        };
        assert_eq!(open.image(), listed);
        assert_eq!(zstd::decode_all(&open.first()[..]).unwrap(), bytes());
    }

    #[test]
    fn a_variant_of_another_length_than_listed_is_answered_with_the_existing_one() {
        let (folder, cache) = (temp(), temp());
        for cache in [None, Some(&*cache)] {
            let (store, listed) = store(&folder, cache, &bytes());
            let mut older = listed;
            older.length += 7;
            let (image, variant) = sent(&store, older).unwrap();
            assert_eq!(image, listed);
            assert_eq!(zstd::decode_all(&variant[..]).unwrap(), bytes());
        }
    }

    #[test]
    fn open_many_reads_no_more_of_a_replaced_variant_than_was_listed() {
        let (folder, parent) = (temp(), temp());
        let cache = parent.join("variants");
        let (store, listed) = store(&folder, Some(&*cache), &bytes());
        fs::remove_dir_all(&cache).unwrap();
        let opening = Arc::clone(&store).open_many(vec![listed]).unwrap();
        let open = smol::future::block_on(opening).remove(0).unwrap();
        assert_eq!(open.image().length, 400_000, "the raw file");
        assert_eq!(open.first().len(), listed.length as usize);
        assert_eq!(
            smol::future::block_on(open.bytes(400_000)).unwrap(),
            bytes()
        );
    }

    #[test]
    fn a_variant_in_the_page_cache_is_read_in_place_from_its_beginning_on() {
        let folder = temp();
        let cache = Temp::in_folder("/dev/shm");
        let (store, listed) = store(&folder, Some(&*cache), &bytes());
        let open = open(&store, listed).unwrap();
        drop(store);
        let body = open.body().unwrap();
        let mut variant = vec![0; listed.length as usize];
        // It is hashed in order, and the bytes that a reader skips may be on disk.
        assert_eq!(body.try_read(100_000, &mut variant).unwrap(), None);
        let (first, last) = variant.split_at_mut(100_000);
        assert_eq!(body.try_read(0, first).unwrap(), Some(100_000));
        assert_eq!(body.try_read(100_000, last).unwrap(), Some(last.len()));
        assert_eq!(zstd::decode_all(&variant[..]).unwrap(), bytes());
        // Skipped bytes are hashed by a read.
        assert_eq!(read(&open, 0, 10).unwrap(), variant[..10]);
        assert_eq!(body.try_read(0, &mut [0; 10]).unwrap(), None);
    }
}

#[test]
fn s13_a_report_of_wrong_bytes_makes_the_file_be_read_again() {
    let folder = temp();
    folder.write("a.png", b"pixels");
    let store = Arc::new(DirStore::open_folder(&folder).unwrap());
    let image = store.catalog().snapshot().entries().next().unwrap().image();
    store.report_mismatch(&image);
    // The file is the image after all: it stays listed and can be opened.
    let opened = smol::block_on(Arc::clone(&store).open(image, 100)).unwrap();
    assert_eq!(opened.first(), &b"pixels"[..]);
    assert_eq!(store.catalog().snapshot().len(), 1);
}
