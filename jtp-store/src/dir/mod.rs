//! A folder of images that is served.
//!
//! One thread, the [`indexer`], owns the state. The other parts have private state and know nothing of it:
//!
//! - [`watcher`], [`folder`], [`tree`], [`scan`] and [`links`] find out what changed in the folder;
//! - [`tracker`] decides which files are checked, listed and refused;
//! - [`pool`] reads files, [`compressor`] makes encoded variants;
//! - [`publisher`] turns the [`index`] into snapshots of the catalog;
//! - [`opener`] opens images on the threads of a server.

mod body;
mod builder;
#[cfg(feature = "zstd")]
mod compressor;
mod counters;
mod earlier;
mod emptied;
#[cfg(feature = "zstd")]
mod encode;
mod failure;
mod file_log;
mod folder;
mod folders;
mod index;
mod index_file;
mod index_log;
mod indexer;
mod initial;
mod initial_scan;
mod left_out;
mod links;
mod message;
mod mounts;
mod non_images;
mod opener;
mod order;
mod packed;
mod page;
mod place;
mod pool;
mod publisher;
mod quiet;
mod record;
mod refusals;
mod retained;
mod scan;
mod schedule;
mod scope;
mod select;
mod settings;
mod shared;
mod slot_table;
mod small;
mod table;
mod tracker;
mod tree;
mod unreadable;
mod visit;
mod watcher;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use jtp_core::{Image, ImageId};
use jtp_driver::BoxFuture;
use jtp_driver::store::{
    Blocking, BlockingStore, ImageStore, LiveCatalog, OpenImage, ReadAhead, StoreError,
};

pub use builder::{DirStoreBuilder, DirStoreError};
pub use counters::StoreCounters;
pub use initial::IndexProgress;
pub use left_out::{LeftOut, LeftOutReason};
use message::Message;
use non_images::SharedLeftOut;
use opener::Opener;
pub use settings::Follow;

#[cfg(feature = "zstd")]
use crate::variants::VariantCache;

/// A folder of images that is followed as it changes: the files directly in it that have an image extension, or whose
/// first bytes are those of a PNG, JPEG, WebP, BMP or GIF. With [`DirStoreBuilder::recursive`], also those in its
/// sub-folders. // W9
///
/// - Of a file without an image extension, 12 bytes are read. A file that is no image is not opened again while its
///   fingerprint is unchanged, and takes some 65 bytes of memory. Without an image extension, a BMP must have the four
///   reserved bytes of its header, 0: other files begin with `BM`, too.
/// - A bounded number of threads hashes each file in constant memory, and again when its inode, size, mtime or ctime
///   changes. A file that a program has open for writing is not read. Where the system does not say whether one has
///   (files of other users without `CAP_LEASE`, network file systems, systems other than Linux), the file must be
///   unchanged for 0.7 s (1.2 s at the start), or for 60 s if it was written to and no event said that it was closed.
///   An empty file is listed once it has stayed empty for 5 s, but not if it was an image, which an index file shows
///   also after a restart. A file that appears, changes or is removed is reflected in the catalog within 2 s.
/// - An image whose file is being changed, was emptied, or cannot be read stays listed until the file has other
///   contents or is gone; it cannot be opened meanwhile. // R8 S13
/// - A change of a linked file under another name (the target of a symbolic link, another hard link) is found by its
///   metadata, which is read every second, or less often if that takes more than a tenth of the time.
/// - Files with the same bytes are one image under the first name that has an image extension, else under the first
///   name. Of two files with one ID and different
///   bytes the later one is refused and logged. // S4
/// - BMP and other images are compressed once, in the background. The encoded variants are kept in memory up to a
///   limit, or in a `VariantCache` on disk. // S9
/// - On a file system whose inodes and ctimes prove nothing (FAT, exFAT, FUSE, network file systems; all but ext2 to
///   ext4, xfs, btrfs, bcachefs, f2fs, ZFS and tmpfs, and APFS and HFS+), files are known by name, size and mtime. A
///   file that was changed less than a minute before it was read is read a second time after 2 s. A change that keeps the size and
///   restores the mtime is noticed only when the image is sent; it is then not sent, and the catalog is corrected.
///   // S13
/// - Before the first and before the last byte of an image is sent, its file is verified to be the indexed one.
///   // S13
/// - Hidden files, folders (with `recursive`: hidden ones, and links to folders), links that lead out of the folder or to a file that would not be listed itself (a hidden
///   one, one in a hidden sub-folder, or one that is no image by its own extension or bytes), temporary files and backups
///   (`a.png.part`, `a.png~`), files longer than 4,294,967,295 bytes and unreadable files are left out, and counted
///   ([`DirStore::left_out`]). They are tried again when they change. A hard link is an ordinary file: it is
///   listed whatever its other names are. // S14
/// - If the folder is removed or its disk unmounted, the catalog is empty until the folder is back. Unchanged files
///   are then not read again, if they come back within a day.
/// - The path is followed wherever it leads when the store is opened. On Unix, another folder is served there later only
///   if no one but root, this process's user or the owner of the first folder can have put it there, and if it has the
///   same owner (or is one of root or this user that the owner cannot have put there), or if it is a file system that was
///   mounted there. Symbolic links in the path are followed later if these users alone can have made them, so that a
///   link can be switched from one release to the next. Any other folder counts as missing.
///
/// Dropping the store joins the threads that follow the folder; they stop at the next buffer. Reads under way are
/// completed, and open bodies stay valid.
///
/// ```no_run
/// use jtp_driver::store::ImageStore;
/// use jtp_store::DirStore;
///
/// let store = DirStore::builder("images").only("holiday").open()?;
/// println!("{} images", store.catalog().snapshot().len());
/// # Ok::<(), jtp_store::DirStoreError>(())
/// ```
pub struct DirStore {
    live: LiveCatalog,
    opener: Blocking<Opener>,
    stop: Arc<AtomicBool>,
    left_out: Arc<SharedLeftOut>,
    outbox: Sender<Message>,
    indexer: Option<JoinHandle<()>>,
}

impl DirStore {
    /// A builder for a store of the images in `folder`.
    pub fn builder(folder: impl Into<PathBuf>) -> DirStoreBuilder {
        DirStoreBuilder::new(folder.into())
    }

    /// Opens a store of the images in `folder` with the default settings. Blocks like
    /// [`DirStoreBuilder::open`].
    ///
    /// # Errors
    ///
    /// See [`DirStoreBuilder::open`].
    pub fn open_folder(folder: impl Into<PathBuf>) -> Result<DirStore, DirStoreError> {
        DirStore::builder(folder).open()
    }

    /// The folder, as the caller gave it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.opener.get_ref().folder()
    }

    /// The store's counters: how often its caches had what was opened.
    ///
    /// ```no_run
    /// # let store = jtp_store::DirStore::open_folder("images")?;
    /// let counters = store.counters();
    /// println!("{} hits, {} misses", counters.small_image_hits, counters.small_image_misses);
    /// # Ok::<(), jtp_store::DirStoreError>(())
    /// ```
    #[must_use]
    pub fn counters(&self) -> StoreCounters {
        let counters = self.opener.get_ref().counters();
        StoreCounters {
            first_bytes_read: self.left_out.first_bytes_read(),
            ..counters
        }
    }

    /// What is left out of the catalog, and why. Files that are left out by their names are counted as of the last scan of
    /// the folder, which takes place at least every minute, others as of some seconds ago. Nothing while the folder is
    /// missing.
    ///
    /// ```no_run
    /// # let store = jtp_store::DirStore::open_folder("images")?;
    /// let left_out = store.left_out();
    /// for reason in left_out.reasons() {
    ///     println!("{}: {}", reason.as_str(), left_out.count(reason));
    /// }
    /// # Ok::<(), jtp_store::DirStoreError>(())
    /// ```
    #[must_use]
    pub fn left_out(&self) -> LeftOut {
        self.left_out.summary()
    }

    /// The cache on disk that keeps encoded variants, if the builder got one.
    #[cfg(feature = "zstd")]
    #[must_use]
    pub fn variant_cache(&self) -> Option<&VariantCache> {
        self.opener.get_ref().variant_cache()
    }
}

impl ImageStore for DirStore {
    fn catalog(&self) -> &LiveCatalog {
        &self.live
    }

    fn open(
        self: Arc<Self>,
        image: Image,
        max_first: usize,
    ) -> BoxFuture<Result<OpenImage, StoreError>> {
        self.opener.open(image, max_first)
    }

    fn open_many(
        self: Arc<Self>,
        images: Vec<Image>,
    ) -> Option<BoxFuture<Vec<Result<OpenImage, StoreError>>>> {
        Some(self.opener.open_many(images))
    }

    fn open_raw(
        self: Arc<Self>,
        id: ImageId,
        max_first: usize,
    ) -> BoxFuture<Result<OpenImage, StoreError>> {
        self.opener.open_raw(id, max_first)
    }

    fn report_mismatch(&self, image: &Image) {
        BlockingStore::report_mismatch(&**self.opener.get_ref(), image);
    }

    fn read_ahead(&self) -> ReadAhead {
        ReadAhead::local()
    }
}

impl Drop for DirStore {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.outbox.send(Message::Stop);
        if let Some(indexer) = self.indexer.take() {
            let _ = indexer.join();
        }
    }
}

impl fmt::Debug for DirStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirStore")
            .field("folder", &self.folder())
            .field("catalog", &self.live.snapshot())
            .finish_non_exhaustive()
    }
}
