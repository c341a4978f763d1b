//! The memory and the time of loading a catalog.
//!
//! `JTP_IMAGES=1000000 cargo test --release -p jtp-object-store --test bytes_per_image -- --nocapture` prints the figures
//! for a million images.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jtp_driver::store::{BoxFuture, ImageStore};
use jtp_kit::Allocations;
use jtp_object_store::object_store::memory::InMemory;
use jtp_object_store::object_store::path::Path;
use jtp_object_store::object_store::{ObjectStore, ObjectStoreExt};
use jtp_object_store::{Bucket, Clock, IndexerConfig, ObjectImages, StoreConfig};

#[global_allocator]
static MEMORY: Allocations = Allocations::new();

#[derive(Debug)]
struct SmolClock;

impl Clock for SmolClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<()> {
        Box::pin(async move { _ = smol::Timer::after(duration).await })
    }
}

/// The bytes of a name: `2024/album-0012/img_00001234.gif`.
const NAME_LEN: usize = 32;

/// The only test of this file: it counts all allocations of the process.
#[test]
fn a_loaded_catalog_takes_at_most_64_bytes_per_image_plus_its_name() {
    let images: usize = std::env::var("JTP_IMAGES").map_or(10_000, |n| n.parse().unwrap());
    smol::block_on(async {
        let backend: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        for n in 0..images {
            let name = format!("2024/album-{:04}/img_{n:08}.gif", n / 500);
            assert_eq!(name.len(), NAME_LEN);
            let bytes = format!("GIF89a{n}");
            backend.put(&Path::from(name), bytes.into()).await.unwrap();
        }
        let bucket = Bucket::new(backend, Path::default(), Arc::new(SmolClock));
        let indexing = ObjectImages::open(bucket.clone(), StoreConfig::default());
        let indexing = indexing.await.unwrap();
        indexing
            .indexer(IndexerConfig::default())
            .run_once()
            .await
            .unwrap();
        drop(indexing);

        let before = MEMORY.reset_peak();
        let begun = Instant::now();
        let store = ObjectImages::open(bucket.clone(), StoreConfig::default())
            .await
            .unwrap();
        let took = begun.elapsed();
        let each = |bytes: usize| (bytes - before) as f64 / images as f64;
        let (steady, peak) = (each(MEMORY.live()), each(MEMORY.peak()));
        let snapshot = store.catalog().snapshot();
        assert_eq!(snapshot.len(), images);
        drop(store);
        let listed = each(MEMORY.live());
        println!(
            "{images} images: {took:?}; {steady:.1} bytes per image, at most {peak:.1}, of them {listed:.1} of the list that is served, including a name of {NAME_LEN}"
        );
        let fixed = 200_000.0 / images as f64;
        assert!(steady <= 64.0 + NAME_LEN as f64 + fixed, "{steady}");
        assert!(steady - listed <= 38.0 + fixed, "{steady} {listed}");
    });
}
