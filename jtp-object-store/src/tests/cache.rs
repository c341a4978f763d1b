//! Images on disk, in front of a backend in memory.

use std::fs;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use jtp_core::{Image, ImageId};
use jtp_driver::store::{BoxFuture, ImageStore, OpenImage, StoreError};
use jtp_store::ImageCache;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::clock::Clock;
use crate::{Bucket, IndexerConfig, ObjectImages, StoreConfig};

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

const RANGE: usize = 256 * 1024;
const SIZE: u64 = 16 << 20;

struct Setup {
    folder: tempfile::TempDir,
    backend: Arc<InMemory>,
    images: Vec<(ImageId, Vec<u8>)>,
}

impl Setup {
    /// A bucket with a small image and one of several ranges, which were indexed.
    async fn new() -> Setup {
        let backend = Arc::new(InMemory::new());
        let small = b"GIF89a small".to_vec();
        let large: Vec<u8> = b"GIF89a"
            .iter()
            .copied()
            .chain((0..1_000_000).map(|n: u32| (n % 253) as u8))
            .collect();
        for (name, bytes) in [("small.gif", &small), ("large.gif", &large)] {
            let path = Path::from(name);
            backend.put(&path, bytes.clone().into()).await.unwrap();
        }
        let setup = Setup {
            folder: tempfile::tempdir().unwrap(),
            backend,
            images: [small, large]
                .map(|bytes| (ImageId::of(&bytes), bytes))
                .into(),
        };
        let images = setup.server(None).await;
        images
            .indexer(IndexerConfig::default())
            .run_once()
            .await
            .unwrap();
        setup
    }

    async fn server(&self, cache: Option<ImageCache>) -> Arc<ObjectImages> {
        let backend = Arc::clone(&self.backend) as Arc<dyn ObjectStore>;
        let mut bucket = Bucket::new(backend, Path::default(), Arc::new(SmolClock));
        if let Some(cache) = cache {
            bucket = bucket.with_cache(cache);
        }
        ObjectImages::open(bucket, StoreConfig::default())
            .await
            .unwrap()
    }

    fn cache(&self) -> ImageCache {
        ImageCache::open(self.path(), SIZE).unwrap()
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("images")
    }

    /// What a started server with the cache of the folder sends.
    async fn cached_server(&self) -> Arc<ObjectImages> {
        self.server(Some(self.cache())).await
    }

    async fn fetch_all(&self, server: &Arc<ObjectImages>) {
        for (id, bytes) in &self.images {
            assert!(fetch(server, *id).await.unwrap() == *bytes, "other bytes");
        }
        let cache = server.bucket().cache();
        cache.expect("it has one").flush().await;
    }

    /// Removes the images from the bucket; the catalog still lists them.
    async fn empty_bucket(&self) {
        for name in ["small.gif", "large.gif"] {
            self.backend.delete(&Path::from(name)).await.unwrap();
        }
    }
}

/// Reads an image as a server does: the first bytes, then ranges of which several are read at once.
async fn fetch(server: &Arc<ObjectImages>, id: ImageId) -> Result<Vec<u8>, StoreError> {
    let image: Image = server.catalog().snapshot().get(id).unwrap();
    let opened: OpenImage = Arc::clone(server).open(image, RANGE).await?;
    let length = usize::try_from(image.length).unwrap();
    let mut bytes = opened.first().to_vec();
    if let Some(body) = opened.body() {
        let ranges = (bytes.len()..length).step_by(RANGE);
        let mut reads = futures_util::stream::iter(ranges)
            .map(|at| Arc::clone(body).read(at as u64, RANGE.min(length - at)))
            .buffered(4);
        while let Some(range) = reads.next().await {
            bytes.extend_from_slice(&range?);
        }
    }
    Ok(bytes)
}

/// Runs a test with a server that has a cache.
fn test(body: impl AsyncFnOnce(Setup, Arc<ObjectImages>)) {
    smol::block_on(async {
        let setup = Setup::new().await;
        let server = setup.cached_server().await;
        body(setup, server).await;
    });
}

fn files(folder: &FilePath) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    files
}

#[test]
fn s12_cached_images_are_served_without_the_bucket_also_after_a_restart() {
    test(async |setup, server| {
        setup.fetch_all(&server).await;
        assert_eq!(files(&setup.path()).len(), 2);
        setup.empty_bucket().await;
        setup.fetch_all(&server).await;
        setup.fetch_all(&setup.cached_server().await).await;
        // Without the cache they are gone.
        let other = setup.server(None).await;
        assert!(fetch(&other, setup.images[0].0).await.is_err());
    });
}

#[test]
fn s13_a_damaged_copy_is_read_from_the_bucket_and_replaced() {
    test(async |setup, server| {
        setup.fetch_all(&server).await;
        for from_end in [1, 50, 300_000, 900_000] {
            for path in files(&setup.path()) {
                let mut bytes = fs::read(&path).unwrap();
                let at = bytes.len().saturating_sub(from_end);
                bytes[at] ^= 1;
                fs::write(&path, bytes).unwrap();
            }
            // The first time a range may come from the bucket, which does not fill the cache.
            for _ in 0..2 {
                setup.fetch_all(&server).await;
            }
            assert_eq!(files(&setup.path()).len(), 2, "{from_end}");
        }
        setup.empty_bucket().await;
        setup.fetch_all(&server).await;
    });
}

#[test]
fn a_copy_that_is_evicted_while_it_is_sent_is_sent_to_its_end() {
    test(async |setup, server| {
        setup.fetch_all(&server).await;
        let (id, bytes) = &setup.images[1];
        let image = server.catalog().snapshot().get(*id).unwrap();
        let opened = Arc::clone(&server).open(image, RANGE).await.unwrap();
        setup.empty_bucket().await;
        files(&setup.path())
            .into_iter()
            .for_each(|file| fs::remove_file(file).unwrap());
        let rest = Arc::clone(opened.body().unwrap()).read(RANGE as u64, 1000);
        assert_eq!(rest.await.unwrap(), bytes[RANGE..RANGE + 1000]);
    });
}

#[test]
fn an_image_that_was_not_read_to_its_end_leaves_nothing() {
    test(async |setup, server| {
        let image = server.catalog().snapshot().get(setup.images[1].0).unwrap();
        let opened = Arc::clone(&server).open(image, RANGE).await.unwrap();
        let cache = server.bucket().cache().unwrap();
        cache.flush().await;
        assert_eq!(files(&setup.path()).len(), 1, "it is being written");
        drop(opened);
        cache.flush().await;
        assert_eq!(files(&setup.path()).len(), 0);
    });
}

#[test]
fn without_a_usable_folder_images_are_read_from_the_bucket() {
    test(async |setup, server| {
        setup.fetch_all(&server).await;
        fs::remove_dir_all(setup.path()).unwrap();
        fs::write(setup.path(), b"a file has its name").unwrap();
        for _ in 0..2 {
            setup.fetch_all(&server).await;
        }
    });
}

#[test]
fn two_servers_share_a_folder() {
    test(async |setup, server| {
        let servers = [server, setup.cached_server().await];
        futures_util::future::join(setup.fetch_all(&servers[0]), setup.fetch_all(&servers[1]))
            .await;
        setup.empty_bucket().await;
        for server in &servers {
            setup.fetch_all(server).await;
        }
    });
}
