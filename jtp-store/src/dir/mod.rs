//! A folder of images that is served.

mod body;
mod claims;
#[cfg(target_os = "linux")]
mod events;
mod first;
mod folder;
#[cfg(feature = "zstd")]
mod form_body;
mod index;
mod index_file;
mod keeper;
#[cfg(feature = "zstd")]
mod press;
mod publish;
mod schedule;
mod select;
mod shared;
mod small;
mod table;
mod work;

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use jtp_core::Image;
use jtp_core::compress::Threshold;

use crate::fingerprint::Fingerprint;
#[cfg(feature = "zstd")]
use crate::forms::{FormCache, Lists};
use crate::hash::{self, Links};
use crate::memory::MemoryBody;
use crate::ready::Ready;
use crate::{ImageBody, ImageStore, LiveCatalog, OpenError};
use body::FileBody;
use first::FirstIndex;
pub use first::Progress;
use first::Report;
use index::Index;
use index_file::IndexFile;
use keeper::{Keeper, Message};
use select::Selection;
use shared::Shared;
use small::SmallImages;

/// How a [`DirStore`] learns of changes in its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Follow {
    /// From the system (inotify), and by a scan of names and times every minute in case something was
    /// missed. Where the system does not tell all (network file systems, not Linux, its limit is reached): by a
    /// scan each second, or less often if the scans take long.
    #[default]
    Events,
    /// By a scan of names and times at this interval alone, at least 10 ms.
    Interval(Duration),
    /// Not at all, except for files that turn out to be changed when they are opened.
    Never,
}

/// A folder of images, followed as it changes: the files right in it with a known image extension.
///
/// - Each file is hashed by a bounded number of threads in constant memory, and again whenever its
///   device, inode, size, mtime or ctime is another. A file that is being written is not listed before it is
///   closed or has been quiet for a while; one that appears, changes or goes is reflected within 2 s of that.
/// - Two files of the same bytes are one image under the first name; of two files with one ID and different
///   bytes the later one is refused and logged. // S4
/// - BMP and other images are compressed once, in the background, and kept in memory up to a bound, or in a
///   `FormCache` on disk. // S9
/// - An opened image is proved to be the indexed file, before its first and before its last byte. // S13
/// - Hidden files, folders, links that lead out of the folder, files over 4,294,967,295 bytes and unreadable
///   ones are left out; what was left out is tried again when it changes. // S14
/// - When the folder goes, its images go; when it is back, they are.
///
/// Dropping it ends its threads, which takes as long as they need for the buffer in hand. Bodies that are
/// open stay good.
///
/// ```no_run
/// use jtp_store::{DirStore, ImageStore};
///
/// let store = DirStore::builder("images").only("holiday").open()?;
/// println!("{} images", store.catalog().snapshot().len());
/// # Ok::<(), jtp_store::DirStoreError>(())
/// ```
pub struct DirStore {
    shared: Arc<Shared>,
    outbox: Sender<Message>,
    keeper: Option<JoinHandle<()>>,
}

/// Settings of a [`DirStore`].
#[must_use]
pub struct DirStoreBuilder {
    settings: Settings,
    report: Option<Report>,
}

struct Settings {
    folder: PathBuf,
    selection: Selection,
    follow: Follow,
    hashing_threads: usize,
    #[cfg_attr(not(feature = "zstd"), allow(dead_code))]
    threshold: Threshold,
    #[cfg_attr(not(feature = "zstd"), allow(dead_code))]
    compressing_threads: usize,
    #[cfg_attr(not(feature = "zstd"), allow(dead_code))]
    room_for_forms: u64,
    #[cfg(feature = "zstd")]
    forms: Option<FormCache>,
    room_for_small: u64,
    index_file: Option<PathBuf>,
    read_anew: bool,
}

/// Why a [`DirStore`] cannot begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirStoreError {
    /// The folder is missing, is none, or cannot be read.
    #[error("cannot read the images folder {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// The first index ended before it was complete.
    #[error("the first index of {} was broken off", .0.display())]
    BrokenOff(PathBuf),
}

impl DirStoreBuilder {
    /// Only files whose name contains this, in any case. Default: all; an empty text is that too.
    pub fn only(mut self, substring: &str) -> Self {
        self.settings.selection = Selection::only(substring);
        self
    }

    /// How much smaller a compressed form has to be to be used; 0 switches compression off. Default:
    /// [`Threshold::default`]. // S9
    pub fn compression(mut self, threshold: Threshold) -> Self {
        self.settings.threshold = threshold;
        self
    }

    /// How many threads compress. Default: 1.
    pub fn compressing_threads(mut self, threads: NonZeroUsize) -> Self {
        self.settings.compressing_threads = threads.get();
        self
    }

    /// Keeps compressed forms in this cache on disk, rather than in memory: of any length, and for other runs and
    /// other stores too. Default: none.
    #[cfg(feature = "zstd")]
    pub fn forms(mut self, cache: FormCache) -> Self {
        self.settings.forms = Some(cache);
        self
    }

    /// How many bytes of compressed forms are kept in memory where there is no `FormCache`; images beyond that
    /// travel raw, and so do those whose form is over 16 MiB. Default: 256 MiB.
    pub fn room_for_compressed(mut self, bytes: u64) -> Self {
        self.settings.room_for_forms = bytes;
        self
    }

    /// How many bytes of images of up to 16 KiB are kept in memory once they were sent, so that their files need
    /// not be opened each time; 0 keeps none. Default: 32 MiB.
    pub fn room_for_small_images(mut self, bytes: u64) -> Self {
        self.settings.room_for_small = bytes;
        self
    }

    /// How changes in the folder are noticed. Default: [`Follow::Events`].
    pub fn follow(mut self, follow: Follow) -> Self {
        self.settings.follow = follow;
        self
    }

    /// How many threads hash files; each needs about 256 KiB, twice that while it compares. Default: one for
    /// each processor.
    pub fn hashing_threads(mut self, threads: NonZeroUsize) -> Self {
        self.settings.hashing_threads = threads.get();
        self
    }

    /// Keeps the IDs of the files in this file, by device, inode, size, mtime and ctime, so that files that did
    /// not change are not read again by the next run. One file for each folder that is served; what
    /// leads to it is made. If it is missing, broken or cannot be written, all files are read, and no more
    /// than that is lost. Default: none.
    ///
    /// Who can write this file can make the server offer wrong bytes under an ID, which every client refuses.
    pub fn index_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.index_file = Some(path.into());
        self
    }

    /// Reads all files, whatever the index file says; it is written anew. Default: no.
    pub fn read_anew(mut self, anew: bool) -> Self {
        self.settings.read_anew = anew;
        self
    }

    /// Calls `report` from a thread of the store for each file of the first index that is done.
    pub fn progress(mut self, report: impl FnMut(Progress) + Send + 'static) -> Self {
        self.report = Some(Box::new(report));
        self
    }

    /// Indexes the folder and begins to follow it. Blocks until the first index is complete: every file
    /// that was there is read, but those that someone is just writing to, which come later.
    ///
    /// # Errors
    ///
    /// [`DirStoreError`]: the folder cannot be read, or the system gives no threads.
    pub fn open(self) -> Result<DirStore, DirStoreError> {
        let path = self.settings.folder.clone();
        let folder = |source| DirStoreError::Folder {
            path: path.clone(),
            source,
        };
        std::fs::read_dir(&path).map_err(folder)?;
        let (outbox, inbox) = mpsc::channel();
        let kept = self
            .settings
            .index_file
            .clone()
            .map(|path| IndexFile::open(path, self.settings.read_anew));
        let (index_file, known) = kept.unzip();
        let shared = Arc::new(Shared {
            known: RwLock::new(known.unwrap_or_default()),
            live: LiveCatalog::new(),
            folder: path.clone(),
            dir: RwLock::new(None),
            small: SmallImages::new(self.settings.room_for_small),
            index: RwLock::new(Index::new(self.settings.ten_thousandths())),
            #[cfg(feature = "zstd")]
            forms: self.settings.forms.clone(),
            #[cfg(feature = "zstd")]
            threshold: self.settings.threshold,
            #[cfg(feature = "zstd")]
            making: std::sync::Mutex::new(()),
            keeper: outbox.clone(),
            stop: AtomicBool::new(false),
        });
        #[cfg(feature = "zstd")]
        if let Some(forms) = &shared.forms {
            let lists: Arc<dyn Lists> = Arc::clone(&shared) as _;
            forms.ask(Arc::downgrade(&lists));
        }
        let (ready, is_ready) = mpsc::channel();
        let first = FirstIndex::new(self.report, ready);
        let channel = (outbox.clone(), inbox);
        let keeper = Keeper::new(
            self.settings,
            Arc::clone(&shared),
            channel,
            first,
            index_file,
        )
        .map_err(DirStoreError::Thread)?;
        let keeper = thread::Builder::new()
            .name("jtp-keeper".to_owned())
            .spawn(move || keeper.run())
            .map_err(DirStoreError::Thread)?;
        let store = DirStore {
            shared,
            outbox,
            keeper: Some(keeper),
        };
        is_ready
            .recv()
            .map_err(|_| DirStoreError::BrokenOff(path))?;
        Ok(store)
    }
}

impl DirStore {
    /// A store of the images in `folder`, to be set up and opened.
    pub fn builder(folder: impl Into<PathBuf>) -> DirStoreBuilder {
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        DirStoreBuilder {
            settings: Settings {
                folder: folder.into(),
                selection: Selection::default(),
                follow: Follow::default(),
                hashing_threads: processors,
                threshold: Threshold::default(),
                compressing_threads: 1,
                room_for_forms: 256 * 1024 * 1024,
                #[cfg(feature = "zstd")]
                forms: None,
                room_for_small: 32 * 1024 * 1024,
                index_file: None,
                read_anew: false,
            },
            report: None,
        }
    }

    /// A store of the images in `folder` with the default settings.
    ///
    /// # Errors
    ///
    /// See [`DirStoreBuilder::open`].
    pub fn open_folder(folder: impl Into<PathBuf>) -> Result<DirStore, DirStoreError> {
        DirStore::builder(folder).open()
    }

    /// The folder, as it was given.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.shared.folder
    }
}

impl ImageStore for DirStore {
    fn catalog(&self) -> &LiveCatalog {
        &self.shared.live
    }

    fn open(&self, image: &Image) -> Result<Box<dyn ImageBody>, OpenError> {
        let id = image.id;
        let Some(located) = self.shared.located(id) else {
            return Err(OpenError::Gone(id));
        };
        if let Some(bytes) = self.shared.small.get(image, &located.record.fingerprint) {
            // They were proved to be the image's, whatever became of its file.
            return Ok(Box::new(MemoryBody { id, bytes }));
        }
        if image.flags.is_compressed() {
            // A form is the image's, whatever became of its file: it was decompressed and hashed.
            return match &located.form {
                Some(form) if form.length() == Some(image.length) => {
                    self.shared.open_form(form, &located)
                }
                _ => Err(OpenError::Changed(id)),
            };
        }
        let record = located.record;
        if image.length != record.length {
            return Err(OpenError::Changed(id));
        }
        let failed = |source| {
            self.shared.suspect(&located.name);
            let path = self.shared.folder.join(&*located.name);
            OpenError::Io { id, path, source }
        };
        let dir = self.shared.dir().ok_or(OpenError::Gone(id))?;
        let file = hash::open(&dir, &located.name, Links::Follow).map_err(failed)?;
        if Fingerprint::of_file(&file).map_err(failed)? != record.fingerprint {
            self.shared.suspect(&located.name);
            return Err(OpenError::Changed(id));
        }
        Ok(Box::new(FileBody {
            id,
            file,
            fingerprint: record.fingerprint,
            name: located.name,
            shared: Arc::clone(&self.shared),
            ready: Ready::default(),
        }))
    }
}

impl Drop for DirStore {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let _ = self.outbox.send(Message::Stop);
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

impl fmt::Debug for DirStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirStore")
            .field("folder", &self.shared.folder)
            .field("catalog", &self.shared.live.snapshot())
            .finish_non_exhaustive()
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

impl Settings {
    /// The threshold as it is kept in the index; 0 if nothing is compressed.
    fn ten_thousandths(&self) -> u16 {
        #[cfg(feature = "zstd")]
        if self.room_for_forms > 0 || self.forms.is_some() {
            return self.threshold.ten_thousandths();
        }
        0
    }
}
