//! Stores whose calls block.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use jtp_core::{Image, ImageId};

use super::{ImageBody, ImageStore, LiveCatalog, OpenImage, ReadAhead, ReadPool, StoreError};
use crate::BoxFuture;

/// A collection of images whose calls block: a folder, a database driver. [`Blocking`] makes an [`ImageStore`] of it.
pub trait BlockingStore: Send + Sync + 'static {
    /// See [`ImageStore::catalog`]. Does not block for long.
    fn catalog(&self) -> &LiveCatalog;

    /// Opens an image in the variant that a snapshot named. Blocking. See [`ImageStore::open`].
    ///
    /// # Errors
    ///
    /// As for [`ImageStore::open`].
    fn open(&self, image: &Image) -> Result<(Image, Arc<dyn BlockingBody>), StoreError>;

    /// The bytes of an image that are in memory as a whole; does not block. The default has none.
    fn in_memory(&self, image: &Image) -> Option<Bytes> {
        let _ = image;
        None
    }

    /// See [`ImageStore::report_mismatch`]. Must not block.
    fn report_mismatch(&self, image: &Image) {
        let _ = image;
    }

    /// Opens the raw image. Blocking. See [`ImageStore::open_raw`].
    ///
    /// # Errors
    ///
    /// As for [`ImageStore::open_raw`].
    fn open_raw(&self, id: ImageId) -> Result<(Image, Arc<dyn BlockingBody>), StoreError> {
        match self.catalog().snapshot().get(id) {
            Some(image) if !image.flags.is_compressed() => self.open(&image),
            Some(_) => Err(StoreError::NoRawVariant(id)),
            None => Err(StoreError::Gone(id)),
        }
    }
}

/// An open image of a [`BlockingStore`].
pub trait BlockingBody: Send + Sync + 'static {
    /// Reads bytes from `offset` on into `buf`, at least one unless `buf` is empty. Blocking. `buf` ends within the
    /// image. See [`ImageBody::read`] for what bytes with the image's last one need. // S13
    ///
    /// # Errors
    ///
    /// As for [`ImageBody::read`].
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, StoreError>;

    /// The bytes of the whole image, if they are in memory: they are sent without being copied. Does not block. The
    /// default has none.
    fn in_memory(&self) -> Option<Bytes> {
        None
    }

    /// Reads bytes that are in memory. Does not block. See [`ImageBody::try_read`].
    ///
    /// # Errors
    ///
    /// As for [`ImageBody::read`].
    fn try_read_at(&self, offset: u64, buf: &mut [u8]) -> Result<Option<usize>, StoreError> {
        let _ = (offset, buf);
        Ok(None)
    }
}

/// An [`ImageStore`] that calls a [`BlockingStore`] on the threads of a [`ReadPool`].
///
/// Many small images are opened and read in one call to the pool. Bytes that the store says are in memory are read in
/// place, without another thread.
pub struct Blocking<S: ?Sized> {
    store: Arc<S>,
    pool: ReadPool,
}

impl<S: BlockingStore> Blocking<S> {
    /// Wraps a store, with a pool of its own of [`ReadPool::DEFAULT_THREADS`] threads.
    pub fn new(store: impl Into<Arc<S>>) -> Blocking<S> {
        Blocking::with_pool(store, ReadPool::default())
    }

    /// Wraps a store, with a pool that may be shared.
    pub fn with_pool(store: impl Into<Arc<S>>, pool: ReadPool) -> Blocking<S> {
        Blocking {
            store: store.into(),
            pool,
        }
    }

    /// The wrapped store.
    #[must_use]
    pub fn get_ref(&self) -> &Arc<S> {
        &self.store
    }

    /// As [`ImageStore::open`], for a store that has a `Blocking` inside.
    #[must_use]
    pub fn open(&self, image: Image, max_first: usize) -> BoxFuture<Result<OpenImage, StoreError>> {
        if let Some(bytes) = self.store.in_memory(&image) {
            return Box::pin(std::future::ready(Ok(OpenImage::whole(image, bytes))));
        }
        let (store, pool) = (Arc::clone(&self.store), self.pool.clone());
        let work = move || open_one(store.open(&image)?, max_first, pool);
        self.run(image.id, work)
    }

    /// As [`ImageStore::open_raw`].
    #[must_use]
    pub fn open_raw(
        &self,
        id: ImageId,
        max_first: usize,
    ) -> BoxFuture<Result<OpenImage, StoreError>> {
        let (store, pool) = (Arc::clone(&self.store), self.pool.clone());
        let work = move || open_one(store.open_raw(id)?, max_first, pool);
        self.run(id, work)
    }

    fn run(
        &self,
        id: ImageId,
        work: impl FnOnce() -> Result<OpenImage, StoreError> + Send + 'static,
    ) -> BoxFuture<Result<OpenImage, StoreError>> {
        let job = self.pool.run(work);
        Box::pin(async move {
            job.await
                .map_err(|error| StoreError::unavailable(id, error))?
        })
    }

    /// As [`ImageStore::open_many`].
    #[must_use]
    pub fn open_many(&self, images: Vec<Image>) -> BoxFuture<Vec<Result<OpenImage, StoreError>>> {
        let first = images.first().map_or(ImageId(0), |image| image.id);
        let mut opened = Vec::with_capacity(images.len());
        // Images that are in memory need no thread, if all of them are.
        let mut images = images.into_iter();
        while let Some(image) = images.as_slice().first() {
            let Some(bytes) = self.store.in_memory(image) else {
                break;
            };
            opened.push(Ok(OpenImage::whole(*image, bytes)));
            images.next();
        }
        if images.as_slice().is_empty() {
            return Box::pin(std::future::ready(opened));
        }
        let (store, pool) = (Arc::clone(&self.store), self.pool.clone());
        let job = self.pool.run(move || {
            for image in images {
                let result = match store.in_memory(&image) {
                    Some(bytes) => Ok(OpenImage::whole(image, bytes)),
                    None => store.open(&image).and_then(|body| {
                        // The raw file in place of an encoded variant may be far longer.
                        let listed = usize::try_from(image.length).unwrap_or(usize::MAX);
                        open_one(body, listed, pool.clone())
                    }),
                };
                let failed = result.is_err();
                opened.push(result);
                if failed {
                    break;
                }
            }
            opened
        });
        Box::pin(async move {
            job.await
                .unwrap_or_else(|error| vec![Err(StoreError::unavailable(first, error))])
        })
    }
}

/// Reads the first bytes of an image that was opened. Blocking.
fn open_one(
    (image, body): (Image, Arc<dyn BlockingBody>),
    max_first: usize,
    pool: ReadPool,
) -> Result<OpenImage, StoreError> {
    let length = usize::try_from(image.length).unwrap_or(usize::MAX);
    let id = image.id;
    if length <= max_first {
        if let Some(bytes) = body.in_memory().filter(|bytes| bytes.len() == length) {
            return Ok(OpenImage::whole(image, bytes));
        }
    }
    let first = read_exact(&*body, id, 0, length.min(max_first))?;
    if first.len() == length {
        return Ok(OpenImage::whole(image, first));
    }
    let body = Arc::new(PooledBody { id, body, pool });
    Ok(OpenImage::streamed(image, first, body))
}

fn read_exact(
    body: &dyn BlockingBody,
    id: ImageId,
    offset: u64,
    length: usize,
) -> Result<Bytes, StoreError> {
    let mut bytes = vec![0; length];
    let mut at = 0;
    while let Some(rest) = bytes.get_mut(at..).filter(|rest| !rest.is_empty()) {
        // A usize is at most 64 bits wide, and an image is far shorter.
        let from = offset.saturating_add(u64::try_from(at).unwrap_or(u64::MAX));
        match body.read_at(from, rest)? {
            0 => return Err(StoreError::Changed(id)), // It became shorter. // S13
            count => at += count,
        }
    }
    Ok(bytes.into())
}

/// A blocking body that is read on the pool.
struct PooledBody {
    id: ImageId,
    body: Arc<dyn BlockingBody>,
    pool: ReadPool,
}

impl ImageBody for PooledBody {
    fn read(self: Arc<Self>, offset: u64, length: usize) -> BoxFuture<Result<Bytes, StoreError>> {
        let (id, body) = (self.id, Arc::clone(&self.body));
        let job = self
            .pool
            .run(move || read_exact(&*body, id, offset, length));
        Box::pin(async move {
            job.await
                .map_err(|error| StoreError::unavailable(id, error))?
        })
    }

    fn try_read(&self, offset: u64, buf: &mut [u8]) -> Result<Option<usize>, StoreError> {
        self.body.try_read_at(offset, buf)
    }
}

impl<S: BlockingStore> ImageStore for Blocking<S> {
    fn catalog(&self) -> &LiveCatalog {
        self.store.catalog()
    }

    fn open(
        self: Arc<Self>,
        image: Image,
        max_first: usize,
    ) -> BoxFuture<Result<OpenImage, StoreError>> {
        Blocking::open(&self, image, max_first)
    }

    fn open_many(
        self: Arc<Self>,
        images: Vec<Image>,
    ) -> Option<BoxFuture<Vec<Result<OpenImage, StoreError>>>> {
        Some(Blocking::open_many(&self, images))
    }

    fn open_raw(
        self: Arc<Self>,
        id: ImageId,
        max_first: usize,
    ) -> BoxFuture<Result<OpenImage, StoreError>> {
        Blocking::open_raw(&self, id, max_first)
    }

    fn report_mismatch(&self, image: &Image) {
        self.store.report_mismatch(image);
    }

    fn read_ahead(&self) -> ReadAhead {
        ReadAhead::local()
    }
}

impl<S: ?Sized> fmt::Debug for Blocking<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocking")
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}
