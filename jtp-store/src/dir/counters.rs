//! What a store counts while it is served.

use std::sync::atomic::{AtomicU64, Ordering};

/// The counters of a [`DirStore`](crate::DirStore) at one moment: see
/// [`DirStore::counters`](crate::DirStore::counters). Numbers are since the store was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreCounters {
    /// Images of up to 16 KiB that were opened, and were in memory.
    pub small_image_hits: u64,
    /// Images of up to 16 KiB that were opened, and had to be read from a file. Not counted if
    /// [`small_image_memory`](crate::DirStoreBuilder::small_image_memory) is 0, nor if the image's compressed variant is
    /// kept in memory.
    pub small_image_misses: u64,
    /// Compressed variants that were opened, and were in the variant cache on disk.
    pub variant_cache_hits: u64,
    /// Compressed variants that were opened, and were missing from the variant cache or damaged: another program evicted
    /// them, for example. Each was made again while the response waited, or the raw image was sent.
    pub variant_cache_misses: u64,
    /// Files without an image extension whose first bytes were read, to find out whether they are images. Such a file is
    /// not read again while it is unchanged.
    pub first_bytes_read: u64,
}

/// The counters, while they count.
#[derive(Debug, Default)]
pub(super) struct OpenCounters {
    small_image_hits: AtomicU64,
    small_image_misses: AtomicU64,
    variant_cache_hits: AtomicU64,
    variant_cache_misses: AtomicU64,
}

impl OpenCounters {
    pub(super) fn small_image(&self, is_hit: bool) {
        count(is_hit, &self.small_image_hits, &self.small_image_misses);
    }

    #[cfg(feature = "zstd")]
    pub(super) fn cached_variant(&self, is_hit: bool) {
        count(is_hit, &self.variant_cache_hits, &self.variant_cache_misses);
    }

    pub(super) fn read(&self) -> StoreCounters {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StoreCounters {
            small_image_hits: count(&self.small_image_hits),
            small_image_misses: count(&self.small_image_misses),
            variant_cache_hits: count(&self.variant_cache_hits),
            variant_cache_misses: count(&self.variant_cache_misses),
            first_bytes_read: 0,
        }
    }
}

fn count(is_hit: bool, hits: &AtomicU64, misses: &AtomicU64) {
    let counter = if is_hit { hits } else { misses };
    counter.fetch_add(1, Ordering::Relaxed);
}
