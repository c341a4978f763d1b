//! The catalog as it lives: one writer, many readers, and news for those who wait.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use event_listener::{Event, Listener};
use jtp_core::{Catalog, CatalogWriter};

/// A catalog that changes while it is served. A handle: clones are the same catalog.
///
/// ```
/// use jtp_core::{FileType, Flags, Image, ImageId};
/// use jtp_store::LiveCatalog;
///
/// let live = LiveCatalog::new();
/// let mut watch = live.watch();
/// assert!(watch.try_changed().is_none());
/// let image = Image::new(ImageId(7), Flags::new(FileType::Gif, false), 1);
/// live.edit(|writer| writer.insert("a.gif", image))?;
/// assert_eq!(watch.try_changed().unwrap().len(), 1);
/// # Ok::<(), jtp_core::CatalogError>(())
/// ```
#[derive(Clone)]
pub struct LiveCatalog(Arc<Inner>);

struct Inner {
    writer: Mutex<CatalogWriter>,
    published: RwLock<Arc<Catalog>>,
    changed: Event,
}

impl LiveCatalog {
    /// A catalog without images.
    #[must_use]
    pub fn new() -> LiveCatalog {
        let writer = CatalogWriter::new();
        LiveCatalog(Arc::new(Inner {
            published: RwLock::new(Arc::clone(writer.snapshot())),
            writer: Mutex::new(writer),
            changed: Event::new(),
        }))
    }

    /// The catalog as it is now. Cheap; never waits for an edit. // S3
    #[must_use]
    pub fn snapshot(&self) -> Arc<Catalog> {
        // A lock is only poisoned by a panic while an Arc was stored: what is there is whole.
        let published = self.0.published.read();
        Arc::clone(&published.unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes changes, publishes them as one snapshot, and tells everyone who waits. Changes that change
    /// nothing publish nothing. Edits are made one after another.
    pub fn edit<T>(&self, change: impl FnOnce(&mut CatalogWriter) -> T) -> T {
        let mut writer = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut writer);
        let before = writer.snapshot().generation();
        let snapshot = writer.publish();
        if snapshot.generation() != before {
            // Under the writer's lock, so that a later snapshot is never replaced by an earlier one.
            *self
                .0
                .published
                .write()
                .unwrap_or_else(PoisonError::into_inner) = snapshot;
            drop(writer);
            self.0.changed.notify(usize::MAX);
        }
        result
    }

    /// Waits for snapshots later than the one now.
    #[must_use]
    pub fn watch(&self) -> Watch {
        self.watch_since(self.snapshot().generation())
    }

    /// Waits for snapshots later than the one of `generation`, which the caller has seen.
    #[must_use]
    pub fn watch_since(&self, generation: u64) -> Watch {
        Watch {
            live: self.clone(),
            seen: generation,
        }
    }
}

impl Default for LiveCatalog {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for LiveCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LiveCatalog")
            .field(&self.snapshot())
            .finish()
    }
}

/// Waits for the next snapshot of a [`LiveCatalog`], in async code or on a thread.
///
/// It knows the generation it has seen, so a change between two waits is never missed; several changes
/// between two waits are told as one, by the last snapshot.
#[derive(Debug, Clone)]
pub struct Watch {
    live: LiveCatalog,
    seen: u64,
}

impl Watch {
    /// The generation of the last snapshot that this has given.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The snapshot, if it is a later one than was seen. Does not wait.
    pub fn try_changed(&mut self) -> Option<Arc<Catalog>> {
        let snapshot = self.live.snapshot();
        (snapshot.generation() > self.seen).then(|| {
            self.seen = snapshot.generation();
            snapshot
        })
    }

    /// Waits for a later snapshot. A future dropped before it is ready loses nothing.
    pub async fn changed(&mut self) -> Arc<Catalog> {
        loop {
            // The listener first, then the look: what comes between the two wakes the listener.
            let listener = self.live.0.changed.listen();
            if let Some(snapshot) = self.try_changed() {
                return snapshot;
            }
            listener.await;
        }
    }

    /// Blocks for a later snapshot, at most for `timeout`; `None` if none came.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Option<Arc<Catalog>> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            let listener = self.live.0.changed.listen();
            if let Some(snapshot) = self.try_changed() {
                return Some(snapshot);
            }
            match deadline {
                Some(deadline) => {
                    listener.wait_deadline(deadline)?;
                }
                None => listener.wait(),
            }
        }
    }
}
