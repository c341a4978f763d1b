//! The live catalog, and the store in memory.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
#[cfg(feature = "zstd")]
use jtp_core::compress::Threshold;
use jtp_core::{FileType, Flags, Image, ImageId};
use jtp_driver::store::{ImageStore, InsertError, MemoryStore, OpenImage, StoreError};

/// Far longer than any step takes: only a failing test waits this long.
const PATIENCE: Duration = Duration::from_secs(20);

fn store() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new())
}

fn image(store: &MemoryStore, id: ImageId) -> Image {
    let listed = store.catalog().snapshot().get(id);
    listed.expect("the image is listed")
}

/// Opens an image; all of its bytes come with it.
fn open(store: &Arc<MemoryStore>, image: Image) -> Result<(Image, Bytes), StoreError> {
    let open = smol::block_on(Arc::clone(store).open(image, 0));
    open.map(|open| {
        assert!(open.body().is_none());
        (open.image(), open.first().clone())
    })
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_subscription_wakes_a_task_and_does_not_miss_an_earlier_change() {
    let store = store();
    let mut changes = store.catalog().subscribe();
    store.insert("a.png", b"a".as_slice()).unwrap();
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut context = Context::from_waker(&waker);
    {
        let mut changed = pin!(changes.changed());
        let Poll::Ready(catalog) = changed.as_mut().poll(&mut context) else {
            panic!("the change before the wait was missed");
        };
        assert_eq!(catalog.len(), 1);
    }
    {
        // Dropping the future loses no change.
        let mut changed = pin!(changes.changed());
        assert!(changed.as_mut().poll(&mut context).is_pending());
        store.insert("b.png", b"b".as_slice()).unwrap();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }
    let mut changed = pin!(changes.changed());
    assert!(changed.as_mut().poll(&mut context).is_ready());
}

#[test]
fn a_subscription_wakes_a_thread() {
    let store = store();
    let mut changes = store.catalog().subscribe();
    assert!(changes.wait_timeout(Duration::ZERO).is_none());
    let writer = Arc::clone(&store);
    let thread = thread::spawn(move || writer.insert("a.png", b"a".as_slice()).unwrap());
    assert_eq!(changes.wait_timeout(PATIENCE).unwrap().len(), 1);
    thread.join().unwrap();
    let seen = changes.seen();
    assert!(
        store
            .catalog()
            .subscribe_since(seen)
            .try_changed()
            .is_none()
    );
    assert!(store.catalog().subscribe_since(0).try_changed().is_some());
}

#[test]
fn s4_equal_bytes_are_one_image_and_a_collision_is_refused() {
    let store = store();
    let (one, other) = jtp_kit::collision();
    let id = store.insert("a.png", one.clone()).unwrap();
    assert_eq!(store.insert("b.png", one.clone()), Ok(id));
    let catalog = store.catalog().snapshot();
    let names: Vec<_> = catalog.entries().map(|entry| entry.name).collect();
    assert_eq!(names, ["b.png"]);
    assert_eq!(catalog.latest().events(), 1);
    assert_eq!(
        store.insert("c.png", other),
        Err(InsertError::Collision(id))
    );
    let listed = image(&store, id);
    assert_eq!(open(&store, listed).unwrap(), (listed, one.into()));
    assert!(store.remove(id) && !store.remove(id));
    assert!(matches!(open(&store, listed), Err(StoreError::Gone(gone)) if gone == id));
}

#[test]
fn an_open_image_stays_valid_after_it_is_removed() {
    let store = store();
    let id = store.insert("a.png", b"pixels".as_slice()).unwrap();
    let open = smol::block_on(Arc::clone(&store).open(image(&store, id), 0)).unwrap();
    store.remove(id);
    drop(store);
    assert_eq!(smol::block_on(open.bytes(6)).unwrap(), b"pixels"[..]);
}

#[test]
#[cfg(feature = "zstd")]
fn s6_s9_a_compressing_store_lists_the_variant_that_is_sent() {
    let store = Arc::new(MemoryStore::compressing(Threshold::default()));
    let raw = vec![7; 50_000];
    let id = store.insert("a.bmp", raw.clone()).unwrap();
    let png = store.insert("b.png", vec![8; 50_000]).unwrap();
    let empty = store.insert("c.tif", Vec::new()).unwrap();
    let compressed = image(&store, id);
    assert!(compressed.flags.is_compressed() && compressed.length < 1000);
    let (sent, variant) = open(&store, compressed).unwrap();
    assert_eq!(sent, compressed);
    assert_eq!(variant.len(), compressed.length as usize);
    assert_eq!(zstd::decode_all(&variant[..]).unwrap(), raw);
    // Its raw bytes are kept.
    let uncompressed = Image::new(id, Flags::new(FileType::Bmp, false), 50_000);
    let expected = (uncompressed, raw.clone().into());
    assert_eq!(open(&store, uncompressed).unwrap(), expected);
    let opened = smol::block_on(Arc::clone(&store).open_raw(id, 0)).unwrap();
    assert_eq!(
        (opened.image(), opened.first()),
        (uncompressed, &expected.1)
    );
    assert!(!image(&store, png).flags.is_compressed());
    assert!(!image(&store, empty).flags.is_compressed());
}

#[test]
fn a_variant_that_does_not_exist_is_replaced_by_the_listed_one() {
    let store = store();
    let id = store.insert("a.bmp", vec![7; 50_000]).unwrap();
    let listed = image(&store, id);
    assert!(!listed.flags.is_compressed());
    let compressed = Image::new(id, Flags::new(FileType::Bmp, true), 100);
    let (sent, bytes) = open(&store, compressed).unwrap();
    assert_eq!(sent, listed);
    assert_eq!(bytes, vec![7; 50_000]);
}

#[test]
fn open_raw_of_an_image_that_is_not_in_the_store_is_gone() {
    let open = smol::block_on(store().open_raw(ImageId(1), 0));
    assert!(matches!(open, Err(StoreError::Gone(ImageId(1)))));
}

#[test]
fn bytes_fails_over_its_limit() {
    let store = store();
    let id = store.insert("a.png", b"0123456789".as_slice()).unwrap();
    let bytes = |limit| {
        let open = smol::block_on(Arc::clone(&store).open(image(&store, id), 4)).unwrap();
        smol::block_on(open.bytes(limit))
    };
    assert_eq!(bytes(10).unwrap(), b"0123456789"[..]);
    assert!(matches!(
        bytes(9),
        Err(StoreError::TooLarge { limit: 9, .. })
    ));
}

#[test]
fn open_many_opens_images_in_order_and_ends_with_the_first_error() {
    let store = store();
    let images: Vec<Image> = [10, 0, 20]
        .into_iter()
        .enumerate()
        .map(|(n, len)| {
            let id = store
                .insert(&format!("{n}.png"), vec![n as u8; len])
                .unwrap();
            image(&store, id)
        })
        .collect();
    let open_many = |images: &[Image]| -> Vec<Result<OpenImage, StoreError>> {
        let opening = Arc::clone(&store).open_many(images.to_vec());
        smol::block_on(opening.expect("one call opens several images"))
    };
    let opened = open_many(&images);
    assert_eq!(opened.len(), 3);
    for (n, (image, opened)) in images.iter().zip(opened).enumerate() {
        let opened = opened.unwrap();
        assert_eq!(opened.image(), *image);
        assert_eq!(opened.first(), &vec![n as u8; image.length as usize]);
        assert!(opened.body().is_none());
    }
    assert!(open_many(&[]).is_empty());
    let lost = Image::new(ImageId(1), images[0].flags, images[0].length);
    let results = open_many(&[images[0], lost, images[1]]);
    assert_eq!(results.len(), 2, "nothing is opened after an error");
    assert!(matches!(results[1], Err(StoreError::Gone(ImageId(1)))));
}
