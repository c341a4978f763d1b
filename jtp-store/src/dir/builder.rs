//! Sets up a store and starts its threads.

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::thread;

use jtp_core::compress::Threshold;

use super::DirStore;
use super::body::BodyContext;
use super::index::Index;
use super::indexer::{Context, Indexer};
use super::initial::{IndexProgress, InitialIndex, ProgressCallback};
use super::non_images::SharedLeftOut;
use super::opener::Opener;
#[cfg(feature = "zstd")]
use super::opener::VariantOpener;
use super::select::Naming;
use super::settings::{Follow, Settings};
use super::shared::{SharedDir, SharedIndex};
use super::small::SmallImages;
use crate::patterns::Patterns;
#[cfg(feature = "zstd")]
use crate::variants::{VariantCache, VariantUser};
use jtp_driver::store::{Blocking, LiveCatalog};

/// Settings of a [`DirStore`].
#[must_use]
pub struct DirStoreBuilder {
    settings: Settings,
    progress: Option<ProgressCallback>,
}

/// Why a [`DirStore`] cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirStoreError {
    /// The folder is missing, is not a folder, or cannot be read.
    #[error("cannot read the images folder {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A thread cannot be started.
    #[error(
        "cannot start a thread for the images folder; use fewer threads or raise the system's limit"
    )]
    Thread(#[source] io::Error),
    /// The initial index ended before it was complete.
    #[error("the initial index of the images folder {} was interrupted; open the store again", .0.display())]
    Interrupted(PathBuf),
}

impl DirStoreBuilder {
    pub(super) fn new(folder: PathBuf) -> DirStoreBuilder {
        DirStoreBuilder {
            settings: Settings::new(folder),
            progress: None,
        }
    }

    /// Lists only the files whose name, or path below the folder, contains this substring, in any case. Default: all
    /// files. An empty substring selects all.
    pub fn only(mut self, substring: &str) -> Self {
        self.settings.selection.set_only(substring);
        self
    }

    /// Lists only the images whose path below the folder these patterns select. Default: all files. With
    /// [`only`](DirStoreBuilder::only), a file must satisfy both.
    pub fn patterns(mut self, patterns: Patterns) -> Self {
        self.settings.selection.set_patterns(patterns);
        self
    }

    /// Also shares the images in sub-folders, each under its path below the folder: its components, joined by U+29F8
    /// ([`join_folders`](jtp_core::join_folders)). Default: `false`.
    ///
    /// Hidden folders, links to folders, folders that this process cannot read, and those at the 32nd level are left out. No
    /// link is followed on the way to a file. With [`Follow::Events`], each folder takes an inotify watch; where the limit
    /// of the system (`fs.inotify.max_user_watches`) is reached, a warning says so and the folders are scanned every
    /// second, or less often if that takes long. A file system that is mounted in a sub-folder belongs to the tree; its
    /// files are known by path, size and mtime. // W9
    pub fn recursive(mut self, recursive: bool) -> Self {
        self.settings.naming = match recursive {
            true => Naming::Tree,
            false => Naming::Flat,
        };
        self
    }

    /// The ratio of compressed to raw length below which an image is sent compressed; 0 disables compression.
    /// Default: [`Threshold::default`]. // S9
    pub fn compression(mut self, threshold: Threshold) -> Self {
        self.settings.threshold = threshold;
        self
    }

    /// The number of threads that compress. Default: 1.
    pub fn compressing_threads(mut self, threads: NonZeroUsize) -> Self {
        self.settings.compressing_threads = threads.get();
        self
    }

    /// Keeps encoded variants in this cache on disk instead of in memory. The cache takes variants of any length
    /// and keeps them for later runs and other stores. Default: none.
    #[cfg(feature = "zstd")]
    pub fn variant_cache(mut self, cache: VariantCache) -> Self {
        self.settings.variant_cache = Some(cache);
        self
    }

    /// The most bytes of encoded variants in memory, where there is no `VariantCache`. Images beyond that are sent
    /// raw, and so are those whose variant is longer than 16 MiB. Default: 256 MiB.
    pub fn variant_memory(mut self, bytes: u64) -> Self {
        self.settings.variant_memory = bytes;
        self
    }

    /// The most bytes of small images (up to 16 KiB each) that are kept in memory once they were sent, so that
    /// their files are not opened each time; 0 keeps none. Default: 32 MiB.
    pub fn small_image_memory(mut self, bytes: u64) -> Self {
        self.settings.small_image_memory = bytes;
        self
    }

    /// How the store learns of changes in the folder. Default: [`Follow::Events`].
    pub fn follow(mut self, follow: Follow) -> Self {
        self.settings.follow = follow;
        self
    }

    /// Goes by names, sizes and mtimes, as on file systems whose inodes and ctimes prove nothing. For tests.
    #[doc(hidden)]
    pub fn distrust_inodes(mut self, distrust: bool) -> Self {
        self.settings.distrust_inodes = distrust;
        self
    }

    /// The number of threads that hash files. Each needs 256 KiB, and twice that while it compares files. Default:
    /// one for each processor.
    pub fn hashing_threads(mut self, threads: NonZeroUsize) -> Self {
        self.settings.hashing_threads = threads.get();
        self
    }

    /// Keeps the IDs of the files in this file, by inode, size, mtime and ctime (by name, size and mtime where inodes
    /// prove nothing), so that the next run does not read unchanged files again. Use one file for each served folder; missing parent folders are created. If
    /// the file is missing, damaged or not writable, all files are read and nothing else is lost. Default: none.
    ///
    /// On Unix, the folder of the file must belong to this user or root, and no one else may be able to write to it, as
    /// after [`create_private_folder`](crate::create_private_folder); otherwise the file is not used, and a warning says
    /// so. A link, a pipe or a file with several names in its place is replaced, and never followed or written.
    pub fn index_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.index_file = Some(path.into());
        self
    }

    /// Reads all files, ignores the index file, and rewrites it. Default: `false`.
    pub fn rehash(mut self, rehash: bool) -> Self {
        self.settings.rehash = rehash;
        self
    }

    /// Calls `callback` on a thread of the store for each file that the initial index has finished.
    pub fn progress(mut self, callback: impl FnMut(IndexProgress) + Send + 'static) -> Self {
        self.progress = Some(Box::new(callback));
        self
    }

    /// Indexes the folder and starts to follow it. Blocks until the initial index is complete: each file in the
    /// folder was read, except those that are being written at that time, which are listed later.
    ///
    /// # Errors
    ///
    /// [`DirStoreError`]: the folder cannot be read, or a thread cannot be started.
    pub fn open(self) -> Result<DirStore, DirStoreError> {
        let DirStoreBuilder { settings, progress } = self;
        let path = settings.folder.clone();
        let folder = |source| DirStoreError::Folder {
            path: path.clone(),
            source,
        };
        std::fs::read_dir(&path).map_err(folder)?;
        let (outbox, inbox) = mpsc::channel();
        let index = Index::new(settings.ten_thousandths(), settings.naming);
        let context = Context {
            index: Arc::new(SharedIndex::new(index)),
            dir: Arc::new(SharedDir::default()),
            live: LiveCatalog::new(),
            stop: Arc::new(AtomicBool::new(false)),
            left_out: Arc::new(SharedLeftOut::default()),
        };
        #[cfg(feature = "zstd")]
        if let Some(cache) = &settings.variant_cache {
            let user: Arc<dyn VariantUser> = Arc::clone(&context.index) as _;
            cache.register(Arc::downgrade(&user));
        }
        let small_images = SmallImages::new(settings.small_image_memory);
        let opener = Opener::new(
            context.live.clone(),
            path.clone(),
            Arc::clone(&context.dir),
            Arc::clone(&context.index),
            BodyContext::new(small_images, outbox.clone()),
            #[cfg(feature = "zstd")]
            VariantOpener::new(
                settings.variant_cache.clone(),
                settings.threshold,
                Arc::clone(&context.stop),
            ),
        );
        let (ready, is_ready) = mpsc::channel();
        let initial = InitialIndex::new(progress, ready);
        let channel = (outbox.clone(), inbox);
        let indexer =
            Indexer::new(settings, &context, channel, initial).map_err(DirStoreError::Thread)?;
        let indexer = thread::Builder::new()
            .name("jtp-indexer".to_owned())
            .spawn(move || indexer.run())
            .map_err(DirStoreError::Thread)?;
        // Made before the wait: if that fails, dropping the store joins the threads.
        let store = DirStore {
            live: context.live,
            opener: Blocking::new(opener),
            stop: context.stop,
            left_out: context.left_out,
            outbox,
            indexer: Some(indexer),
        };
        is_ready
            .recv()
            .map_err(|_| DirStoreError::Interrupted(path))?;
        Ok(store)
    }
}

impl fmt::Debug for DirStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirStoreBuilder")
            .field("folder", &self.settings.folder)
            .field("follow", &self.settings.follow)
            .finish_non_exhaustive()
    }
}
