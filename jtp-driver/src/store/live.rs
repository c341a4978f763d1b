//! The catalog of a store that changes: one writer, many readers, and notification of changes.

use std::collections::HashSet;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use event_listener::{Event, EventListener, Listener};
use jtp_core::{Catalog, CatalogError, CatalogWriter, Image};

/// A catalog that changes while it is served. A handle: clones are the same catalog.
///
/// ```
/// use jtp_core::{FileType, Flags, Image, ImageId};
/// use jtp_driver::store::LiveCatalog;
///
/// let live = LiveCatalog::new();
/// let mut changes = live.subscribe();
/// assert!(changes.try_changed().is_none());
/// let image = Image::new(ImageId(7), Flags::new(FileType::Gif, false), 1);
/// live.edit(|writer| writer.insert("a.gif", image))?;
/// assert_eq!(changes.try_changed().unwrap().len(), 1);
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

    /// The current snapshot. Cheap; does not wait for an edit. // S3
    #[must_use]
    pub fn snapshot(&self) -> Arc<Catalog> {
        // Only a panic while an Arc is stored poisons the lock: the value is always whole.
        let published = self.0.published.read();
        Arc::clone(&published.unwrap_or_else(PoisonError::into_inner))
    }

    /// Edits the catalog, publishes the result as one snapshot, and notifies all subscriptions. An edit without effect
    /// publishes nothing. If `change` returns an error, what it changed before is published.
    ///
    /// Edits run one after another: `change` must neither edit the same catalog again, which deadlocks, nor block for
    /// long. It may take snapshots.
    ///
    /// ```
    /// use jtp_core::{CatalogError, FileType, Flags, Image, ImageId};
    /// use jtp_driver::store::LiveCatalog;
    ///
    /// let live = LiveCatalog::new();
    /// live.edit(|writer| {
    ///     for (n, name) in [(1, "a.png"), (2, "b.png")] {
    ///         let image = Image::new(ImageId(n), Flags::new(FileType::Png, false), 100);
    ///         writer.insert(name, image)?;
    ///     }
    ///     Ok::<(), CatalogError>(())
    /// })?;
    /// assert_eq!((live.snapshot().len(), live.snapshot().generation()), (2, 1));
    /// # Ok::<(), CatalogError>(())
    /// ```
    pub fn edit<T>(&self, change: impl FnOnce(&mut CatalogWriter) -> T) -> T {
        let mut writer = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut writer);
        let before = writer.snapshot().generation();
        let snapshot = writer.publish();
        if snapshot.generation() != before {
            // Under the writer's lock, so that an older snapshot never replaces a newer one.
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

    /// Replaces the whole catalog by these names and images, as one snapshot: for a source that only lists everything.
    /// Images that stay keep their place in the history, so that watchers are notified of new ones alone. // N1
    ///
    /// # Errors
    ///
    /// [`CatalogError`] of the first entry that the catalog refuses. The others are in it, and so is the entry that an
    /// image with a refused name had before.
    pub fn replace<'a>(
        &self,
        entries: impl IntoIterator<Item = (&'a str, Image)>,
    ) -> Result<(), CatalogError> {
        self.edit(|writer| {
            let mut listed = HashSet::new();
            let mut result = Ok(());
            let mut insert = |(name, image): (&str, Image)| {
                listed.insert(image.id);
                let inserted = writer.insert(name, image);
                result = std::mem::replace(&mut result, Ok(())).and(inserted);
            };
            entries.into_iter().for_each(&mut insert);
            writer.retain(|entry| listed.contains(&entry.id));
            result
        })
    }

    /// A subscription to snapshots newer than the current one.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        self.subscribe_since(self.snapshot().generation())
    }

    /// A subscription to snapshots newer than that of `generation`, which the caller has seen.
    #[must_use]
    pub fn subscribe_since(&self, generation: u64) -> Subscription {
        Subscription {
            live: self.clone(),
            seen: generation,
            listener: None,
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
/// It knows the generation it has seen, so it never misses a change between two waits. Several changes between two
/// waits are reported as one, with the last snapshot.
#[derive(Debug)]
pub struct Subscription {
    live: LiveCatalog,
    seen: u64,
    listener: Option<EventListener>,
}

impl Clone for Subscription {
    fn clone(&self) -> Self {
        self.live.subscribe_since(self.seen)
    }
}

impl Subscription {
    /// The generation of the last snapshot that this subscription returned.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The current snapshot if it is newer than the last one seen. Does not wait.
    pub fn try_changed(&mut self) -> Option<Arc<Catalog>> {
        let snapshot = self.live.snapshot();
        (snapshot.generation() > self.seen).then(|| {
            self.seen = snapshot.generation();
            snapshot
        })
    }

    /// Waits for a newer snapshot. Cancel safe: dropping the future loses nothing.
    pub async fn changed(&mut self) -> Arc<Catalog> {
        poll_fn(|cx| self.poll_changed(cx)).await
    }

    /// [`changed`](Self::changed), to be polled.
    pub fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<Arc<Catalog>> {
        loop {
            // Listen first, then look: a change in between wakes the listener.
            let changed = &self.live.0.changed;
            let mut listener = match self.listener.take() {
                Some(listener) => listener,
                None => {
                    let listener = changed.listen();
                    if let Some(snapshot) = self.try_changed() {
                        return Poll::Ready(snapshot);
                    }
                    listener
                }
            };
            if Pin::new(&mut listener).poll(cx).is_pending() {
                self.listener = Some(listener);
                return Poll::Pending;
            }
        }
    }

    /// Blocks the thread for a newer snapshot, at most for `timeout`; `None` if there was none.
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

#[cfg(test)]
mod tests {
    use jtp_core::{FileType, Flags, ImageId};

    use super::*;

    fn image(id: u64) -> Image {
        Image::new(ImageId(id), Flags::new(FileType::Png, false), 1)
    }

    #[test]
    fn n1_replacing_the_catalog_is_one_snapshot_and_reports_new_images_alone() {
        let live = LiveCatalog::new();
        live.replace([("a.png", image(1)), ("b.png", image(2))])
            .unwrap();
        let before = live.snapshot();
        live.replace([("c.png", image(2)), ("d.png", image(3))])
            .unwrap();
        let after = live.snapshot();
        assert_eq!(after.generation(), before.generation() + 1);
        let names: Vec<_> = after.entries().map(|entry| entry.name.to_owned()).collect();
        assert_eq!(names, ["c.png", "d.png"]);
        assert_eq!(after.latest().events() - before.latest().events(), 1);
        let changes = after.changes_since(&before);
        let (added, removed) = (changes.added.len(), changes.removed.len());
        assert_eq!((added, removed, changes.renamed.len()), (1, 1, 1));
    }

    #[test]
    fn replacing_the_catalog_by_itself_publishes_nothing() {
        let live = LiveCatalog::new();
        live.replace([("a.png", image(1))]).unwrap();
        let before = live.snapshot().generation();
        live.replace([("a.png", image(1))]).unwrap();
        assert_eq!(live.snapshot().generation(), before);
    }
}
