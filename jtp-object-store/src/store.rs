//! The store that a server takes its images from.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join;
use jtp_core::compress::Threshold;
use jtp_core::{Image, ImageId};
use jtp_driver::store::{BoxFuture, ImageStore, LiveCatalog, OpenImage, ReadAhead, StoreError};
use object_store::path::Path;

use crate::bucket::Bucket;
use crate::catalog::SharedCatalog;
use crate::error::Error;
use crate::follower::{Corrections, Follower};
use crate::format::{Identity, Object};
use crate::indexer::{Indexer, IndexerConfig};
use crate::located::Located;
use crate::permits::Permits;
use crate::variants::Variants;
use crate::verified::verified;

/// How an [`ObjectImages`] works.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct StoreConfig {
    /// A change of the log is published within this time: the log is read after three quarters of it, and a quarter is left
    /// for the requests. Default: 2 s.
    pub poll: Duration,
    /// Images that are read at once, for all connections. One that waits for its peer does not count. Default: 256.
    pub reads: usize,
    /// Compressed variants are made and sent if they are shorter than this part of the image. 0 sends all images raw.
    /// Default: 0.95. // S9
    pub compression: Threshold,
    /// A number that differs from that of each other process with the same bucket. Default: a random one.
    pub writer: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        StoreConfig {
            poll: Duration::from_secs(2),
            reads: 256,
            compression: Threshold::default(),
            writer: RandomState::new().hash_one("writer"),
        }
    }
}

impl StoreConfig {
    /// Another [`poll`](Self::poll).
    #[must_use]
    pub fn with_poll(mut self, poll: Duration) -> StoreConfig {
        self.poll = poll;
        self
    }

    /// Another number of [`reads`](Self::reads); at least 1.
    #[must_use]
    pub fn with_reads(mut self, reads: usize) -> StoreConfig {
        self.reads = reads.max(1);
        self
    }

    /// Another threshold for [`compression`](Self::compression).
    #[must_use]
    pub fn with_compression(mut self, threshold: Threshold) -> StoreConfig {
        self.compression = threshold;
        self
    }

    /// Another [`writer`](Self::writer): tests that repeat a run give it.
    #[must_use]
    pub fn with_writer(mut self, writer: u64) -> StoreConfig {
        self.writer = writer;
        self
    }
}

/// The images of a bucket, with the catalog that is kept beside them.
///
/// [`follow`](Self::follow) has to be polled, in a task of its own, for the catalog to change. It is changed by an
/// [`Indexer`], here or in another process.
pub struct ObjectImages {
    catalog: Arc<SharedCatalog>,
    corrections: Arc<Corrections>,
    variants: Arc<Variants>,
    reads: Arc<Permits>,
    config: StoreConfig,
}

impl ObjectImages {
    /// Loads the catalog. It is empty if the bucket has none yet.
    ///
    /// # Errors
    ///
    /// [`Error`]: the store cannot be reached, or refuses access. A damaged catalog is no error: it is empty until an
    /// indexer has made it again.
    pub async fn open(bucket: Bucket, config: StoreConfig) -> Result<Arc<ObjectImages>, Error> {
        let images = ObjectImages::unloaded(bucket, config);
        match images.catalog.reload().await {
            Ok(_) => {}
            Err(error) if error.is_damage() => {
                tracing::warn!(%error, "the catalog in the store is damaged");
            }
            Err(error) => return Err(error),
        }
        Ok(images)
    }

    /// An empty store. [`follow`](Self::follow) loads the catalog as soon as the store answers: for a server that listens
    /// although it cannot reach the store.
    #[must_use]
    pub fn unloaded(bucket: Bucket, config: StoreConfig) -> Arc<ObjectImages> {
        let catalog = SharedCatalog::new(bucket, config.writer, config.compression);
        let catalog = Arc::new(catalog);
        Arc::new(ObjectImages {
            variants: Arc::new(Variants::new(Arc::clone(&catalog), config.compression)),
            catalog,
            corrections: Arc::default(),
            reads: Arc::new(Permits::new(config.reads)),
            config,
        })
    }

    /// Follows the catalog, corrects it, and makes the compressed variants that clients need, until the future is dropped.
    /// Errors are logged, and the work is tried again.
    pub async fn follow(self: Arc<Self>) {
        let follower = self.follower();
        join(follower.run(), self.variants.run()).await;
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &SharedCatalog {
        &self.catalog
    }

    #[cfg(test)]
    pub(crate) fn variants(&self) -> &Variants {
        &self.variants
    }

    pub(crate) fn follower(&self) -> Follower {
        Follower {
            catalog: Arc::clone(&self.catalog),
            corrections: Arc::clone(&self.corrections),
            poll: self.config.poll,
        }
    }

    /// An indexer for the same bucket. Its changes are published here at once.
    #[must_use]
    pub fn indexer(&self, config: IndexerConfig) -> Indexer {
        Indexer::new(Arc::clone(&self.catalog), config)
    }

    /// The bucket.
    #[must_use]
    pub fn bucket(&self) -> &Bucket {
        self.catalog.bucket()
    }

    /// Whether all objects of the bucket were read once since its catalog was begun.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.catalog.state().complete
    }

    fn source(&self, id: ImageId) -> Result<(String, Object), StoreError> {
        let source = self.catalog.state().source(id);
        source.ok_or(StoreError::Gone(id))
    }

    /// Where an image is.
    fn locate(&self, id: ImageId) -> Result<Located, StoreError> {
        let (key, object) = self.source(id)?;
        let image = object.image().ok_or(StoreError::Gone(id))?;
        let path = self.catalog.bucket().path(&key);
        let path = path.ok_or(StoreError::Gone(id))?;
        Ok(Located {
            key: Some(key.into()),
            identity: object.identity,
            ..self.at(image, id, path)
        })
    }

    /// Where the variant of an image is, and its checksum. If it is missing, it is made.
    fn locate_variant(&self, id: ImageId) -> Option<(Located, u64)> {
        let (_, object) = self.source(id).ok()?;
        let threshold = self.config.compression;
        let Some((image, checksum)) = object.encoded(threshold) else {
            if object.lacks_variant(threshold) {
                self.variants.request(id);
            }
            return None;
        };
        if self.variants.is_lost(id) {
            self.variants.report_lost(id);
            return None;
        }
        let path = self.catalog.bucket().variant_path(id);
        Some((self.at(image, ImageId(checksum), path), checksum))
    }

    fn spawned(
        &self,
        id: ImageId,
        opening: impl Future<Output = Result<OpenImage, StoreError>> + Send + 'static,
    ) -> BoxFuture<Result<OpenImage, StoreError>> {
        let task = self.bucket().spawner().run(Box::pin(opening));
        Box::pin(async move {
            let stopped = || StoreError::unavailable(id, "the runtime stops");
            task.await.unwrap_or_else(|| Err(stopped()))
        })
    }

    fn at(&self, image: Image, content: ImageId, path: Path) -> Located {
        Located {
            image,
            content,
            path,
            key: None,
            identity: Identity::new(None, None, image.length.into()),
            catalog: Arc::clone(&self.catalog),
            corrections: Arc::clone(&self.corrections),
            reads: Arc::clone(&self.reads),
            fill: None,
            sequence: Mutex::default(),
        }
    }
}

/// Opens an image or a variant, in the cache or in the bucket.
async fn open_located(located: Located, max_first: usize) -> Result<OpenImage, StoreError> {
    let image = located.image;
    let cache = located.catalog.bucket().cache().cloned();
    let mut located = Arc::new(located);
    if let Some(cache) = cache {
        if let Some(cached) = cache.open(&located, max_first).await {
            return Ok(cached);
        }
        if let Some(located) = Arc::get_mut(&mut located) {
            located.fill = Some(cache.fill(located.content, image.length));
        }
    }
    let length = usize::try_from(image.length).unwrap_or(usize::MAX);
    let first = located.read_range(0, length.min(max_first)).await?;
    Ok(match first.len() == length {
        true => OpenImage::whole(image, first),
        false => OpenImage::streamed(image, first, located),
    })
}

impl ImageStore for ObjectImages {
    fn catalog(&self) -> &LiveCatalog {
        self.catalog.live()
    }

    fn open(
        self: Arc<Self>,
        image: Image,
        max_first: usize,
    ) -> BoxFuture<Result<OpenImage, StoreError>> {
        let Some((located, checksum)) = self.locate_variant(image.id) else {
            return self.open_raw(image.id, max_first);
        };
        let store = Arc::clone(&self);
        store.spawned(image.id, async move {
            let opened = open_located(located, max_first).await;
            match opened.and_then(|opened| verified(opened, checksum, &self.variants)) {
                Err(StoreError::Changed(id)) => {
                    self.variants.report_lost(id);
                    self.open_raw(id, max_first).await
                }
                result => result,
            }
        })
    }

    fn open_raw(
        self: Arc<Self>,
        id: ImageId,
        max_first: usize,
    ) -> BoxFuture<Result<OpenImage, StoreError>> {
        match self.locate(id) {
            Ok(located) => self.spawned(id, open_located(located, max_first)),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    /// One range at a time: each continues the request of the one before.
    fn read_ahead(&self) -> ReadAhead {
        ReadAhead::remote().with_reads(1)
    }

    fn report_mismatch(&self, image: &Image) {
        if let Ok((key, _)) = self.source(image.id) {
            self.corrections.add(&key, true);
        }
    }
}

impl fmt::Debug for ObjectImages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectImages")
            .field("catalog", &self.catalog)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
