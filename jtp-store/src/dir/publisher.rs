//! Publishes the changes of the index as snapshots of the catalog.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jtp_core::CatalogWriter;

use super::shared::SharedIndex;
use super::table::Slot;
use jtp_driver::store::LiveCatalog;

/// The longest time that changes are collected before they are published.
const COLLECT: Duration = Duration::from_millis(250);

/// Collects changes, and publishes them together.
pub(super) struct Publisher {
    index: Arc<SharedIndex>,
    live: LiveCatalog,
    /// The time of the first change that is not published yet.
    unpublished_since: Option<Instant>,
}

impl Publisher {
    pub(super) fn new(index: Arc<SharedIndex>, live: LiveCatalog) -> Publisher {
        Publisher {
            index,
            live,
            unpublished_since: None,
        }
    }

    /// When [`Publisher::update`] has something to publish at the latest.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.unpublished_since.map(|since| since + COLLECT)
    }

    /// Publishes what has changed, if no more changes are expected soon (`idle`) or they have been collected for
    /// long enough.
    pub(super) fn update(&mut self, now: Instant, idle: bool) {
        if !self.index.read().is_dirty() {
            self.unpublished_since = None;
            return;
        }
        let since = *self.unpublished_since.get_or_insert(now);
        if idle || now >= since + COLLECT {
            self.publish(&[]);
        }
    }

    /// Publishes the initial index. Nobody can have watched before, so no history is kept of it.
    pub(super) fn publish_initial(&mut self) {
        let claimed = self.index.write().take_claimed();
        self.live.edit(|writer| writer.set_history(0));
        self.publish(&claimed);
        self.live
            .edit(|writer| writer.set_history(CatalogWriter::HISTORY));
    }

    /// Publishes files that hold their IDs, in the order of names, and then what has changed.
    fn publish(&mut self, claimed: &[Slot]) {
        self.unpublished_since = None;
        let dirty = self.index.write().take_dirty();
        if dirty.is_empty() && claimed.is_empty() {
            return;
        }
        // The index has each image before a snapshot lists it, so that it can be opened.
        let index = self.index.read();
        let refused = |listed: &str, error| self.index.log().not_published(listed, &error);
        let mut path = OsString::new();
        self.live.edit(|writer| {
            let images = claimed.iter();
            let images = images.filter_map(|slot| index.listing_at(*slot, &mut path));
            writer.fill(images, refused);
            // An image that changed several times is the same each time.
            for id in &dirty {
                match index.listing(*id, &mut path) {
                    Some((listed, image)) => {
                        if let Err(error) = writer.insert(&listed, image) {
                            refused(&listed, error);
                        }
                    }
                    None => {
                        writer.remove(*id);
                    }
                }
            }
        });
        drop(index);
        let images = self.live.snapshot().len();
        let changes = claimed.len() + dirty.len();
        tracing::debug!(changes, images, "published a catalog");
    }
}
