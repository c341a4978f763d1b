//! The image cache: copies of images that are slow to read elsewhere, in a folder that programs of one user share.
//!
//! Each image is a file, named after its ID. It is written under a temporary name, read back and compared with the ID,
//! and then renamed. It never changes after that, so a reader that has it open can finish when it is evicted. A trailer
//! has a checksum for each block of 32 KiB, and each block is verified when it is read, so that nothing damaged is
//! returned and no sync to the disk is needed. The mtime of a file is the time of its last use; on Windows it stays that of
//! the writing.

mod entry;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::hash::BuildHasher;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use cap_std::fs::{Dir, OpenOptions};
use jtp_core::ImageId;
use jtp_driver::LogThrottle;

use crate::private;
pub use entry::{CachedImage, NewCachedImage};

/// The suffix of a name. It includes the version of the format, so that programs of different versions can share a
/// folder.
const SUFFIX: &str = ".image1";
const TEMPORARY_SUFFIX: &str = ".part";

/// The mtime of a file is updated if it is older than this. The order of eviction is no more precise.
const STAMP_EVERY: Duration = Duration::from_secs(1);

/// A temporary file that is older than this was left by a crash.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// How long nothing is written after an error.
const PAUSE: Duration = Duration::from_secs(60);

/// Files take whole blocks of a disk.
const DISK_BLOCK: u64 = 4096;

/// A cache of images on disk. A handle: clones share the cache.
///
/// Several programs of one user can share a folder. Each keeps it within the size, evicting the images used least
/// recently; it learns of what others have written after a sixteenth of the size of its own writes, so `n` programs that
/// write at once can exceed the size by `n - 1` sixteenths. A damaged file is removed. After an error of writing, such as
/// that of a full disk, nothing is written for a minute, and the error is logged once.
///
/// The folder is created with access for its owner alone, and is refused if it is another user's or others can write to
/// it. Links, pipes and files with several names in it are neither followed nor written. All calls block.
///
/// ```
/// use jtp_core::ImageId;
/// use jtp_store::ImageCache;
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let cache = ImageCache::open(folder.join("images"), 10 << 30)?;
/// let (image, id) = (b"GIF89a", ImageId::of(b"GIF89a"));
/// assert!(cache.insert(id, image));
/// let cached = cache.get(id, 6).expect("it was inserted");
/// assert_eq!(cached.read(0, 6).as_deref(), Some(&image[..]));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct ImageCache(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    /// Opened again if the folder was deleted.
    dir: Mutex<Arc<Dir>>,
    size: u64,
    usage: Mutex<Usage>,
    /// Images that are being written.
    writing: Mutex<HashSet<ImageId>>,
    /// A random part of the names of temporary files, different for each `ImageCache` that is opened: programs in two
    /// containers may have one process ID.
    run: u64,
    counter: AtomicU64,
    failed: Mutex<Option<Instant>>,
    was_logged: AtomicBool,
    damaged: Mutex<LogThrottle>,
}

/// Bytes of the folder, as far as they are known.
struct Usage {
    used: u64,
    /// Bytes that may be written until the folder is listed again: other programs write, too.
    until_scan: u64,
    /// Bytes of temporary files of this cache, which are reserved before they are written.
    reserved: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The bytes that a file takes on a disk.
fn on_disk(length: u64) -> u64 {
    length
        .checked_next_multiple_of(DISK_BLOCK)
        .unwrap_or(u64::MAX)
}

fn name(id: ImageId) -> String {
    format!("{id}{SUFFIX}")
}

impl ImageCache {
    /// Opens a cache of at most `size` bytes in `folder`, which is created if it is missing. Evicts what exceeds the size.
    ///
    /// # Errors
    ///
    /// The system's error: the folder cannot be created or listed. On Unix also `PermissionDenied`: the folder is not
    /// private, see [`create_private_folder`](crate::create_private_folder).
    pub fn open(folder: impl Into<PathBuf>, size: u64) -> io::Result<ImageCache> {
        let folder = folder.into();
        let dir = private::create_and_open(&folder)?;
        let cache = ImageCache(Arc::new(Inner {
            folder,
            dir: Mutex::new(Arc::new(dir)),
            size,
            usage: Mutex::new(Usage {
                used: 0,
                until_scan: 0,
                reserved: 0,
            }),
            writing: Mutex::default(),
            run: RandomState::new().hash_one(std::process::id()),
            counter: AtomicU64::new(0),
            failed: Mutex::default(),
            was_logged: AtomicBool::new(false),
            damaged: Mutex::default(),
        }));
        cache.evict(&mut lock(&cache.0.usage), 0)?;
        Ok(cache)
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// The bytes that the images take on disk, as far as this program knows.
    #[must_use]
    pub fn used(&self) -> u64 {
        lock(&self.0.usage).used
    }

    /// The image of this ID and length, if there is one. Its blocks are verified when they are read.
    #[must_use]
    pub fn get(&self, id: ImageId, length: u32) -> Option<CachedImage> {
        let mut options = OpenOptions::new();
        let dir = self.dir();
        let name = name(id);
        let file = private::open_file(&dir, OsStr::new(&name), options.read(true));
        let file = match file {
            Ok(file) => file,
            Err(error) => {
                if error.kind() == io::ErrorKind::InvalidInput {
                    // Something else has the name: a link, for example.
                    _ = dir.remove_file(&name);
                }
                return None;
            }
        };
        match CachedImage::open(self, file, id, length) {
            Ok(image) => Some(image),
            Err(error) => {
                self.discard(id, &error);
                None
            }
        }
    }

    /// Writes an image that is in memory. `false` if it was not written: it is larger than the cache, another thread writes
    /// it, an error was met within the last minute, or the bytes are not those of the image.
    #[must_use]
    pub fn insert(&self, id: ImageId, image: &[u8]) -> bool {
        let length = u32::try_from(image.len()).ok();
        let new = length.and_then(|length| self.begin(id, length));
        new.is_some_and(|mut new| new.write(0, image) && new.is_kept())
    }

    /// Begins to write an image. `None` for the reasons that [`insert`](Self::insert) returns `false`.
    #[must_use]
    pub fn begin(&self, id: ImageId, length: u32) -> Option<NewCachedImage> {
        if length == 0 || lock(&self.0.failed).is_some_and(|at| at.elapsed() < PAUSE) {
            return None;
        }
        if !lock(&self.0.writing).insert(id) {
            return None;
        }
        let bytes = on_disk(entry::file_len(length));
        let reserved = self.reserve(bytes);
        let is_reserved = matches!(reserved, Ok(true));
        let created = match reserved {
            Ok(true) => self.create(),
            Ok(false) => {
                lock(&self.0.writing).remove(&id);
                return None;
            }
            Err(error) => Err(error),
        };
        match created {
            Ok((dir, name, file)) => {
                let cache = self.clone();
                Some(NewCachedImage::new(cache, dir, name, file, id, length))
            }
            Err(error) => {
                self.end(id, if is_reserved { bytes } else { 0 }, false);
                self.note_failure(&error);
                None
            }
        }
    }

    fn dir(&self) -> Arc<Dir> {
        Arc::clone(&lock(&self.0.dir))
    }

    /// A new temporary file, also if the folder was deleted.
    fn create(&self) -> io::Result<(Arc<Dir>, String, File)> {
        let n = self.0.counter.fetch_add(1, Ordering::Relaxed);
        let name = format!("{:016x}-{n}{TEMPORARY_SUFFIX}", self.0.run);
        let create = |dir: &Dir| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create_new(true);
            private::open_file(dir, OsStr::new(&name), &mut options)
        };
        let mut dir = self.dir();
        let file = match create(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                dir = Arc::new(private::create_and_open(&self.0.folder)?);
                *lock(&self.0.dir) = Arc::clone(&dir);
                create(&dir)?
            }
            result => result?,
        };
        Ok((dir, name, file))
    }

    /// Reserves bytes, and evicts images if needed. `false` if there is no room.
    fn reserve(&self, bytes: u64) -> io::Result<bool> {
        let size = self.0.size;
        if bytes > size {
            return Ok(false);
        }
        let mut usage = lock(&self.0.usage);
        if usage.used.saturating_add(bytes) > size || bytes > usage.until_scan {
            self.evict(&mut usage, bytes)?;
        }
        let fits = usage.used.saturating_add(bytes) <= size;
        if fits {
            usage.used += bytes;
            usage.reserved += bytes;
            usage.until_scan = usage.until_scan.saturating_sub(bytes);
        }
        Ok(fits)
    }

    /// Lists the folder, and removes the images used least recently if there is no room for `bytes` more.
    fn evict(&self, usage: &mut Usage, bytes: u64) -> io::Result<()> {
        let size = self.0.size;
        let now = SystemTime::now();
        let own = format!("{:016x}-", self.0.run);
        let mut images = Vec::new();
        let mut total = usage.reserved;
        let dir = self.dir();
        for entry in dir.entries()? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                continue;
            };
            let is_temporary = name.ends_with(TEMPORARY_SUFFIX);
            if !(name.ends_with(SUFFIX) || is_temporary && !name.starts_with(&own)) {
                continue;
            }
            // Another program may just have removed it.
            let Some(metadata) = entry.metadata().ok().filter(cap_std::fs::Metadata::is_file)
            else {
                continue;
            };
            let used = metadata.modified().map(cap_std::time::SystemTime::into_std);
            let used = used.unwrap_or(SystemTime::UNIX_EPOCH);
            // A time in the future is that of a clock that was wrong: it says nothing.
            let age = now.duration_since(used).unwrap_or(Duration::MAX);
            if is_temporary && age > STALE && age < Duration::MAX && entry.remove_file().is_ok() {
                continue;
            }
            let length = on_disk(metadata.len());
            total += length;
            if !is_temporary {
                images.push((age, length, entry.file_name()));
            }
        }
        if total.saturating_add(bytes) > size {
            // A sixteenth more than needed, so that not each new image lists the folder.
            let goal = size.saturating_sub(bytes);
            let goal = goal - goal.min(size / 16);
            images.sort_by_key(|(age, ..)| std::cmp::Reverse(*age));
            let mut evicted = 0_u64;
            for (_, length, name) in images {
                if total <= goal {
                    break;
                }
                if dir.remove_file(name).is_ok() {
                    total -= length;
                    evicted += 1;
                }
            }
            tracing::debug!(evicted, left = total, "evicted images from the cache");
        }
        usage.used = total;
        usage.until_scan = bytes.saturating_add(size / 16);
        Ok(())
    }

    /// An image was written, or is given up: its bytes are reserved no longer.
    fn end(&self, id: ImageId, bytes: u64, is_kept: bool) {
        lock(&self.0.writing).remove(&id);
        let mut usage = lock(&self.0.usage);
        usage.reserved = usage.reserved.saturating_sub(bytes);
        if !is_kept {
            usage.used = usage.used.saturating_sub(bytes);
        }
    }

    /// Removes a damaged image.
    fn discard(&self, id: ImageId, error: &io::Error) {
        if let Some(count) = lock(&self.0.damaged).record(Instant::now()) {
            tracing::warn!(%id, %error, count, "discarded a damaged image from the cache");
        }
        _ = self.dir().remove_file(name(id));
    }

    /// Nothing is written for a while.
    fn note_failure(&self, error: &io::Error) {
        *lock(&self.0.failed) = Some(Instant::now());
        if !self.0.was_logged.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                folder = %self.0.folder.display(), %error,
                "cannot write to the image cache; images are read from their store"
            );
        }
    }
}

/// Updates the time of the last use, if it is old.
fn stamp(file: &File, modified: io::Result<SystemTime>) {
    let is_recent = modified.is_ok_and(|used| used.elapsed().is_ok_and(|age| age < STAMP_EVERY));
    if !is_recent {
        // If this fails, the image is evicted earlier than it should be.
        _ = file.set_modified(SystemTime::now());
    }
}

impl fmt::Debug for ImageCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageCache")
            .field("folder", &self.0.folder)
            .field("size", &self.0.size)
            .finish_non_exhaustive()
    }
}
