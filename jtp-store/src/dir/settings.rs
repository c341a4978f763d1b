//! The settings of a store.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use jtp_core::compress::Threshold;

use super::select::{Naming, Selection};
#[cfg(feature = "zstd")]
use crate::variants::VariantCache;

/// How a [`DirStore`](crate::DirStore) learns of changes in its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Follow {
    /// By file system events (of Linux, Windows or macOS), and by a scan of names and times every minute in case an event
    /// was missed. Where events are incomplete or unavailable (network file systems, other systems, the inotify limit is
    /// reached): by a scan every second, or less often if a scan takes long.
    #[default]
    Events,
    /// By a scan of names and times at this interval alone, at least 10 ms.
    Interval(Duration),
    /// Not at all, except for files that are found to be changed when they are opened.
    Never,
}

/// All settings, with their defaults in [`Settings::new`].
pub(super) struct Settings {
    pub(super) folder: PathBuf,
    pub(super) selection: Selection,
    pub(super) naming: Naming,
    pub(super) follow: Follow,
    /// Go by names, sizes and mtimes on all file systems.
    pub(super) distrust_inodes: bool,
    pub(super) hashing_threads: usize,
    #[cfg_attr(not(feature = "zstd"), allow(dead_code))]
    pub(super) threshold: Threshold,
    #[cfg_attr(not(feature = "zstd"), allow(dead_code))]
    pub(super) compressing_threads: usize,
    /// In bytes, for encoded variants.
    #[cfg_attr(not(feature = "zstd"), allow(dead_code))]
    pub(super) variant_memory: u64,
    #[cfg(feature = "zstd")]
    pub(super) variant_cache: Option<VariantCache>,
    /// In bytes, for images of up to 16 KiB.
    pub(super) small_image_memory: u64,
    pub(super) index_file: Option<PathBuf>,
    pub(super) rehash: bool,
}

impl Settings {
    pub(super) fn new(folder: PathBuf) -> Settings {
        Settings {
            folder,
            selection: Selection::default(),
            naming: Naming::default(),
            follow: Follow::default(),
            distrust_inodes: false,
            hashing_threads: thread::available_parallelism().map_or(1, NonZeroUsize::get),
            threshold: Threshold::default(),
            compressing_threads: 1,
            variant_memory: 256 * 1024 * 1024,
            #[cfg(feature = "zstd")]
            variant_cache: None,
            small_image_memory: 32 * 1024 * 1024,
            index_file: None,
            rehash: false,
        }
    }

    /// The compression threshold in ten-thousandths, as the index keeps it; 0 if nothing is compressed.
    pub(super) fn ten_thousandths(&self) -> u16 {
        #[cfg(feature = "zstd")]
        if self.variant_memory > 0 || self.variant_cache.is_some() {
            return self.threshold.ten_thousandths();
        }
        0
    }
}
