//! Copies of images on disk, so that an image is read from the bucket once.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use jtp_core::ImageId;
use jtp_driver::store::{BoxFuture, ImageBody, OpenImage, ReadPool, StoreError};
use jtp_store::{CachedImage, ImageCache, NewCachedImage};

use crate::located::Located;

/// Threads that read, and one that writes: a disk that is slow to write does not delay reads.
const READERS: NonZeroUsize = NonZeroUsize::new(16).unwrap();
const WRITERS: NonZeroUsize = NonZeroUsize::new(1).unwrap();

/// Bytes that wait to be written. Above it, images are not cached: the disk is slower than the network.
const MAX_WAITING: usize = 64 << 20;

/// An [`ImageCache`] and the threads that use it. A handle.
#[derive(Debug, Clone)]
pub(crate) struct DiskCache {
    images: ImageCache,
    readers: ReadPool,
    writers: ReadPool,
    waiting: Arc<AtomicUsize>,
}

impl DiskCache {
    pub(crate) fn new(images: ImageCache) -> DiskCache {
        DiskCache {
            images,
            readers: ReadPool::new(READERS),
            writers: ReadPool::new(WRITERS),
            waiting: Arc::default(),
        }
    }

    /// Opens an image of the cache with its first bytes. `None` if the cache does not have it.
    pub(crate) async fn open(&self, located: &Arc<Located>, max_first: usize) -> Option<OpenImage> {
        let (images, image, content) = (self.images.clone(), located.image, located.content);
        let length = usize::try_from(image.length).unwrap_or(usize::MAX);
        let read = self.readers.run(move || {
            let cached = images.get(content, image.length)?;
            let first = cached.read(0, length.min(max_first))?;
            Some((cached, Bytes::from(first)))
        });
        let (cached, first) = read.await.ok()??;
        if first.len() == length {
            return Some(OpenImage::whole(image, first));
        }
        let body = CachedBody {
            cached: Arc::new(cached),
            readers: self.readers.clone(),
            located: Arc::clone(located),
        };
        Some(OpenImage::streamed(image, first, Arc::new(body)))
    }

    /// Waits until everything is written that was read before.
    #[cfg(test)]
    pub(crate) async fn flush(&self) {
        self.writers.run(|| ()).await.unwrap();
    }

    /// Writes an image, or a variant of this hash, to the cache as its bytes are read.
    pub(crate) fn fill(&self, content: ImageId, length: u32) -> Fill {
        Fill {
            cache: self.clone(),
            content,
            length,
            state: Arc::new(Mutex::new(FillState::Waiting)),
        }
    }
}

/// An image that is being written. Dropping it gives it up, unless it is complete.
#[derive(Debug)]
pub(crate) struct Fill {
    cache: DiskCache,
    content: ImageId,
    length: u32,
    state: Arc<Mutex<FillState>>,
}

#[derive(Debug)]
enum FillState {
    /// No bytes have come.
    Waiting,
    Writing(NewCachedImage),
    Ended,
}

impl Fill {
    /// Writes bytes of the image, on another thread.
    pub(crate) fn add(&self, offset: u64, bytes: Bytes) {
        let (cache, length) = (&self.cache, bytes.len());
        let waiting = Waiting(Arc::clone(&cache.waiting), length);
        let before = cache.waiting.fetch_add(length, Ordering::Relaxed);
        if before.saturating_add(length) > MAX_WAITING {
            return;
        }
        let (images, state) = (cache.images.clone(), Arc::clone(&self.state));
        let (content, all) = (self.content, self.length);
        cache.writers.spawn(move || {
            let _waiting = waiting;
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            if matches!(*state, FillState::Waiting) {
                let new = images.begin(content, all);
                *state = new.map_or(FillState::Ended, FillState::Writing);
            }
            if let FillState::Writing(new) = &mut *state {
                if !new.write(offset, &bytes) || new.is_kept() {
                    *state = FillState::Ended;
                }
            }
        });
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        // Removes a file, after what waits to be written.
        let state = Arc::clone(&self.state);
        self.cache.writers.spawn(move || drop(state));
    }
}

/// Bytes that wait to be written.
struct Waiting(Arc<AtomicUsize>, usize);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// An image of the cache that is longer than its first bytes.
struct CachedBody {
    cached: Arc<CachedImage>,
    readers: ReadPool,
    located: Arc<Located>,
}

impl ImageBody for CachedBody {
    fn read(self: Arc<Self>, offset: u64, length: usize) -> BoxFuture<Result<Bytes, StoreError>> {
        Box::pin(async move {
            let cached = Arc::clone(&self.cached);
            let read = self.readers.run(move || cached.read(offset, length));
            match read.await {
                Ok(Some(bytes)) => Ok(bytes.into()),
                // It is damaged.
                _ => self.located.read_range(offset, length).await,
            }
        })
    }
}
