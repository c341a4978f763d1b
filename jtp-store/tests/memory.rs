//! The live catalog, the store in memory, and loading several images in one call.

mod common;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use common::*;
#[cfg(feature = "zstd")]
use jtp_core::compress::Threshold;
use jtp_core::{Flags, Image, ImageId};
use jtp_store::{ImageStore, InsertError, LoadError, MemoryStore, OpenError, ReadError, load};

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_watch_wakes_a_task_and_does_not_miss_an_earlier_change() {
    let store = MemoryStore::new();
    let mut watch = store.catalog().watch();
    store.insert("a.png", b"a".as_slice()).unwrap();
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut context = Context::from_waker(&waker);
    {
        let mut changed = pin!(watch.changed());
        let Poll::Ready(catalog) = changed.as_mut().poll(&mut context) else {
            panic!("the change before the wait was missed");
        };
        assert_eq!(catalog.len(), 1);
    }
    {
        // Dropping the future loses no change.
        let mut changed = pin!(watch.changed());
        assert!(changed.as_mut().poll(&mut context).is_pending());
        store.insert("b.png", b"b".as_slice()).unwrap();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }
    let mut changed = pin!(watch.changed());
    assert!(changed.as_mut().poll(&mut context).is_ready());
}

#[test]
fn a_watch_wakes_a_thread() {
    let store = Arc::new(MemoryStore::new());
    let mut watch = store.catalog().watch();
    assert!(watch.wait_timeout(Duration::ZERO).is_none());
    let writer = Arc::clone(&store);
    let thread = thread::spawn(move || writer.insert("a.png", b"a".as_slice()).unwrap());
    assert_eq!(watch.wait_timeout(PATIENCE).unwrap().len(), 1);
    thread.join().unwrap();
    let seen = watch.seen();
    assert!(store.catalog().watch_since(seen).try_changed().is_none());
    assert!(store.catalog().watch_since(0).try_changed().is_some());
}

#[test]
fn s4_equal_bytes_are_one_image_and_a_collision_is_refused() {
    let store = MemoryStore::new();
    let (one, other) = collision();
    let id = store.insert("a.png", one.clone()).unwrap();
    assert_eq!(store.insert("b.png", one.clone()), Ok(id));
    assert_eq!(listed(&store), ["b.png"]);
    assert_eq!(events(&store), 1);
    assert_eq!(
        store.insert("c.png", other),
        Err(InsertError::Collision(id))
    );
    assert_eq!(body(&store, image(&store, id)).unwrap(), one);
    assert!(store.remove(id) && !store.remove(id));
    assert!(matches!(
        body(&store, Image::new(id, Flags::from_bits(0), 16)),
        Err(LoadError::Open(OpenError::Gone(_)))
    ));
}

#[test]
#[cfg(feature = "zstd")]
fn s6_s9_a_compressing_store_lists_the_variant_that_is_sent() {
    let store = MemoryStore::compressing(Threshold::default());
    let raw = vec![7; 50_000];
    let id = store.insert("a.bmp", raw.clone()).unwrap();
    let png = store.insert("b.png", vec![8; 50_000]).unwrap();
    let empty = store.insert("c.tif", Vec::new()).unwrap();
    let compressed = image(&store, id);
    assert!(compressed.flags.is_compressed() && compressed.length < 1000);
    let variant = body(&store, compressed).unwrap();
    assert_eq!(variant.len(), compressed.length as usize);
    assert_eq!(zstd::decode_all(variant.as_slice()).unwrap(), raw);
    assert!(!image(&store, png).flags.is_compressed());
    assert!(!image(&store, empty).flags.is_compressed());
    let as_raw = Image::new(id, Flags::from_bits(3), 50_000);
    assert!(matches!(
        body(&store, as_raw),
        Err(LoadError::Open(OpenError::Changed(_)))
    ));
}

#[test]
fn a_body_is_read_up_to_its_end_and_not_beyond() {
    let store = MemoryStore::new();
    let id = store.insert("a.png", b"0123456789".as_slice()).unwrap();
    let mut body = store.open(&image(&store, id)).unwrap();
    let mut buf = [0; 8];
    assert_eq!(body.read_at(0, &mut buf).unwrap(), 8);
    assert_eq!(body.read_at(8, &mut buf).unwrap(), 2);
    assert_eq!(&buf[..2], b"89");
    assert_eq!(body.read_at(3, &mut []).unwrap(), 0);
    assert!(matches!(
        body.read_at(10, &mut buf),
        Err(ReadError::PastEnd {
            offset: 10,
            length: 10,
            ..
        })
    ));
}

#[test]
fn load_returns_the_first_image_in_part_and_following_ones_only_if_they_fit() {
    let store = MemoryStore::new();
    let images: Vec<Image> = [10, 0, 20, 100, 1]
        .iter()
        .enumerate()
        .map(|(n, &len)| {
            let id = store
                .insert(&format!("{n}.png"), vec![n as u8; len])
                .unwrap();
            image(&store, id)
        })
        .collect();
    let firsts = |images: &[Image], budget| -> Vec<(usize, bool)> {
        load(&store, images, budget)
            .into_iter()
            .map(|loaded| loaded.map(|l| (l.first.len(), l.body.is_none())).unwrap())
            .collect()
    };
    assert_eq!(
        firsts(&images, 1000),
        [(10, true), (0, true), (20, true), (100, true), (1, true)]
    );
    assert_eq!(firsts(&images, 35), [(10, true), (0, true), (20, true)]);
    assert_eq!(firsts(&images, 5), [(5, false)]);
    assert_eq!(firsts(&images, 0), [(0, false)]);
    assert_eq!(firsts(&images[1..], 0), [(0, true)]);
    assert_eq!(firsts(&[], 10), []);
    let lost = Image::new(ImageId(1), images[0].flags, images[0].length);
    let results = load(&store, &[images[0], lost, images[1]], 1000);
    assert_eq!(results.len(), 2, "nothing is loaded after an error");
    assert!(matches!(
        results[1],
        Err(LoadError::Open(OpenError::Gone(ImageId(1))))
    ));
}
