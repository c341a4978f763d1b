//! The variant cache: encoded variants on disk, in a folder that the servers of one user share.
//!
//! A variant is a file. Its name has the image's ID and the compression level; a trailer has its length and
//! checksum. It is written under a temporary name, decompressed and compared with the ID, and then renamed. It
//! never changes after that, so a reader that has it open can finish when it is evicted. The total size of the
//! variants is in a separate file, which is locked for each change. The mtime of a variant is the time of its last
//! use.

mod lock;
mod variant;

use std::collections::hash_map::RandomState;
use std::ffi::OsStr;
use std::fs::File;
use std::hash::BuildHasher;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use cap_std::fs::{Dir, OpenOptions};
use jtp_core::ImageId;
use jtp_driver::LogThrottle;

use crate::private;
pub(crate) use variant::{NewVariant, VariantDigest, VariantKey};
use variant::{TRAILER_LEN, check};

/// The suffix of a variant's name. It includes the version of the format, so that programs of different versions
/// can share a folder.
const SUFFIX: &str = ".form1";
const TEMPORARY_SUFFIX: &str = ".part";

/// The file with the total size of the variants.
const USED: &str = "used1";

/// The mtime of a variant is updated if it is older than this. The order of eviction is no more precise.
const STAMP_EVERY: Duration = Duration::from_secs(60 * 60);

/// A temporary file that is older than this was left by a crash.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// How long no variants are made after the cache was found to be full of variants in use.
const FULL_FOR: Duration = Duration::from_secs(60);

/// A cache of encoded variants on disk, for
/// [`DirStoreBuilder::variant_cache`](crate::DirStoreBuilder::variant_cache). A handle: clones share the cache.
///
/// Several stores, in one program or in several programs of one user, can share a folder. Together they keep within
/// the size: the variants used least recently are evicted first, but never one that a store of this program
/// lists. A variant that another program evicted is made again when it is needed; a damaged one is discarded.
///
/// The folder is created with access for its owner alone, and is refused if it is another user's or others can write to
/// it. Links, pipes and files with several names in it are neither followed nor written.
#[derive(Clone)]
pub struct VariantCache(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    dir: Dir,
    size: u64,
    used: Mutex<File>,
    /// Whether the last attempt to lock that file ended without a lock.
    is_lock_held: AtomicBool,
    /// A random part of the names of temporary files, different for each `VariantCache` that is opened: programs in
    /// two containers may have one process ID.
    run: u64,
    counter: AtomicU64,
    /// Set after an error: no more variants are made.
    is_disabled: AtomicBool,
    full_since: Mutex<Option<Instant>>,
    logged_full: AtomicBool,
    /// Damaged variants.
    damaged: Mutex<LogThrottle>,
    users: Mutex<Vec<Weak<dyn VariantUser>>>,
}

/// A store that may list variants of the cache.
pub(crate) trait VariantUser: Send + Sync {
    /// Whether the store lists a variant of that image, which must then not be evicted.
    fn uses(&self, id: ImageId) -> bool;
}

impl VariantCache {
    /// Opens a cache of at most `size` bytes in `folder`, which is created if it is missing.
    ///
    /// # Errors
    ///
    /// The system's error: the folder cannot be created, or is not writable. On Unix also `PermissionDenied`: the folder
    /// is not private, see [`create_private_folder`](crate::create_private_folder).
    pub fn open(folder: impl Into<PathBuf>, size: u64) -> io::Result<VariantCache> {
        let folder = folder.into();
        let dir = private::create_and_open(&folder)?;
        let used = private::open_or_replace(&dir, OsStr::new(USED))?;
        let cache = VariantCache(Arc::new(Inner {
            folder,
            dir,
            size,
            used: Mutex::new(used),
            is_lock_held: AtomicBool::new(false),
            run: RandomState::new().hash_one(std::process::id()),
            counter: AtomicU64::new(0),
            is_disabled: AtomicBool::new(false),
            full_since: Mutex::new(None),
            logged_full: AtomicBool::new(false),
            damaged: Mutex::default(),
            users: Mutex::new(Vec::new()),
        }));
        // The cache may be larger than `size` from earlier runs, and the file with the total may be missing.
        cache.with_used(|used| match used {
            Some(bytes) if *bytes <= size => Ok(()),
            _ => {
                *used = Some(cache.evict(size)?);
                Ok(())
            }
        })?;
        Ok(cache)
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// The bytes of all variants, including those of other programs.
    ///
    /// # Errors
    ///
    /// The system's error.
    pub fn used(&self) -> io::Result<u64> {
        self.with_used(|used| Ok(used.unwrap_or(0)))
    }

    /// Whether variants can be added: not after an error, and not for a while after the cache was full.
    pub(crate) fn accepts_new(&self) -> bool {
        let full = self.0.full_since.lock();
        let full = *full.unwrap_or_else(PoisonError::into_inner);
        !self.is_disabled() && full.is_none_or(|since| since.elapsed() >= FULL_FOR)
    }

    pub(crate) fn is_disabled(&self) -> bool {
        self.0.is_disabled.load(Ordering::Relaxed)
    }

    /// Disables the cache after an error, and logs it once.
    pub(crate) fn disable(&self, error: &io::Error) {
        if !self.0.is_disabled.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                folder = %self.0.folder.display(), %error,
                "cannot write to the variant cache; new compressed images are kept in memory only"
            );
        }
    }

    fn note_full(&self) {
        let mut since = self.0.full_since.lock();
        if let Ok(since) = &mut since {
            **since = Some(Instant::now());
        }
        if !self.0.logged_full.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                folder = %self.0.folder.display(), bytes = self.0.size,
                "the variant cache is full of images in use; others are sent uncompressed. A larger cache size avoids that"
            );
        }
    }

    /// Registers a store whose variants are not evicted while it uses them.
    pub(crate) fn register(&self, user: Weak<dyn VariantUser>) {
        let mut users = self.0.users.lock().unwrap_or_else(PoisonError::into_inner);
        users.retain(|user| user.strong_count() > 0);
        users.push(user);
    }

    /// Reads and verifies a variant. Also returns whether it was made from the file of `key.source`: another file
    /// with the same ID may have other bytes. A damaged variant is discarded. // S4
    pub(crate) fn find(&self, key: VariantKey, stop: &AtomicBool) -> Option<(VariantDigest, bool)> {
        let mut file = self.open_file(key).ok()?;
        match check(&mut file, key, stop) {
            Ok(Some(found)) => {
                stamp(&file);
                Some(found)
            }
            Ok(None) => None,
            Err(error) => {
                let damaged = self.0.damaged.lock();
                let mut damaged = damaged.unwrap_or_else(PoisonError::into_inner);
                if let Some(count) = damaged.record(Instant::now()) {
                    tracing::warn!(
                        id = %key.id, %error, count,
                        "discarded a damaged compressed variant from the cache"
                    );
                }
                drop(damaged);
                self.discard(key);
                None
            }
        }
    }

    /// Opens a variant that was verified earlier. Checks its length again, but not its checksum.
    pub(crate) fn open_variant(&self, key: VariantKey, digest: VariantDigest) -> io::Result<File> {
        let file = self.open_file(key)?;
        let length = u64::from(digest.length) + u64::try_from(TRAILER_LEN).unwrap_or(0);
        if file.metadata()?.len() != length {
            self.discard(key);
            return Err(io::ErrorKind::InvalidData.into());
        }
        stamp(&file);
        Ok(file)
    }

    fn open_file(&self, key: VariantKey) -> io::Result<File> {
        let (name, mut options) = (key.name(), OpenOptions::new());
        private::open_file(&self.0.dir, OsStr::new(&name), options.read(true))
    }

    pub(crate) fn contains(&self, key: VariantKey) -> bool {
        let found = self.0.dir.symlink_metadata(key.name());
        found.is_ok_and(|found| found.is_file())
    }

    /// Removes a variant.
    pub(crate) fn discard(&self, key: VariantKey) {
        let (dir, name) = (&self.0.dir, key.name());
        let _ = self.with_used(|used| {
            let length = dir.symlink_metadata(&name)?.len();
            dir.remove_file(&name)?;
            *used = used.map(|used| used.saturating_sub(length));
            Ok(())
        });
    }

    /// Begins a new variant.
    pub(crate) fn create(&self) -> io::Result<NewVariant> {
        let n = self.0.counter.fetch_add(1, Ordering::Relaxed);
        let name = format!("{:016x}-{n}{TEMPORARY_SUFFIX}", self.0.run);
        NewVariant::create(self, name)
    }

    /// Reserves bytes of the cache's size, and evicts other variants if needed. `false` if the cache is full.
    fn reserve(&self, bytes: u64) -> io::Result<bool> {
        let size = self.0.size;
        let fits = |used: &Option<u64>| used.is_some_and(|used| used.saturating_add(bytes) <= size);
        let reserved = self.with_used(|used| {
            if !fits(used) {
                // Evicts a sixteenth more than needed, so that not each new variant lists the folder.
                let goal = size.saturating_sub(bytes);
                *used = Some(self.evict(goal - goal.min(size / 16))?);
            }
            let fits = fits(used);
            if fits {
                *used = used.map(|used| used + bytes);
            }
            Ok(fits)
        })?;
        if !reserved {
            self.note_full();
        }
        Ok(reserved)
    }

    /// Removes the variants used least recently until at most `goal` bytes are left. Returns the bytes left.
    fn evict(&self, goal: u64) -> io::Result<u64> {
        let now = SystemTime::now();
        let mut variants = Vec::new();
        let mut total: u64 = 0;
        for entry in self.0.dir.entries()? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                continue;
            };
            let (is_variant, is_temporary) =
                (name.ends_with(SUFFIX), name.ends_with(TEMPORARY_SUFFIX));
            // Another program may just have removed it.
            let (true, Ok(metadata)) = (is_variant || is_temporary, entry.metadata()) else {
                continue;
            };
            if !metadata.is_file() {
                continue; // No program of ours has made that.
            }
            let last_used = metadata.modified();
            let last_used =
                last_used.map_or(SystemTime::UNIX_EPOCH, cap_std::time::SystemTime::into_std);
            let age = now.duration_since(last_used).unwrap_or_default();
            if is_temporary && age > STALE && entry.remove_file().is_ok() {
                continue;
            }
            total += metadata.len();
            let id = name.split('-').next().and_then(|id| id.parse().ok());
            if let Some(id) = id.filter(|_| is_variant) {
                variants.push((last_used, metadata.len(), id, entry.file_name()));
            }
        }
        if total <= goal {
            return Ok(total);
        }
        variants.sort_by_key(|(last_used, ..)| *last_used);
        let users: Vec<Arc<dyn VariantUser>> = {
            let users = self.0.users.lock().unwrap_or_else(PoisonError::into_inner);
            users.iter().filter_map(Weak::upgrade).collect()
        };
        let mut evicted = 0u64;
        for (_, length, id, name) in variants {
            if total <= goal {
                break;
            }
            if !users.iter().any(|user| user.uses(id)) && self.0.dir.remove_file(name).is_ok() {
                total -= length;
                evicted += 1;
            }
        }
        tracing::debug!(
            evicted,
            left = total,
            "evicted compressed variants from the cache"
        );
        Ok(total)
    }

    /// Changes the total size (`None` if it is unknown) under a lock that all programs respect.
    fn with_used<T>(
        &self,
        change: impl FnOnce(&mut Option<u64>) -> io::Result<T>,
    ) -> io::Result<T> {
        let file = self.0.used.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file: &File = &file;
        let _lock = lock::take(&self.0.dir, file, &self.0.is_lock_held)?;
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        file.take(17).read_to_end(&mut bytes)?;
        let before = decode_used(&bytes);
        let mut used = before;
        let result = change(&mut used);
        if used != before {
            if let Some(used) = used {
                let [number, check] = [used, !used].map(u64::to_be_bytes);
                file.seek(SeekFrom::Start(0))?;
                file.write_all(&[number, check].concat())?;
                file.set_len(16)?;
            }
        }
        result
    }
}

fn decode_used(bytes: &[u8]) -> Option<u64> {
    let (number, check) = bytes.split_first_chunk::<8>()?;
    let used = u64::from_be_bytes(*number);
    (check == (!used).to_be_bytes()).then_some(used)
}

/// Updates the time of the last use, if it is old.
fn stamp(file: &File) {
    let old = file
        .metadata()
        .and_then(|metadata| metadata.modified())
        .is_ok_and(|used| used.elapsed().is_ok_and(|age| age > STAMP_EVERY));
    if old {
        // If this fails, the variant is evicted earlier than it should be.
        let _ = file.set_modified(SystemTime::now());
    }
}

impl std::fmt::Debug for VariantCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VariantCache")
            .field("folder", &self.0.folder)
            .field("size", &self.0.size)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint::Fingerprint;

    #[test]
    fn caches_of_one_folder_write_different_temporary_files() {
        let folder = tempfile::tempdir().unwrap();
        let caches = [(); 2].map(|()| VariantCache::open(folder.path(), 1 << 20).unwrap());
        let key = |n| VariantKey {
            id: ImageId(n),
            level: 3,
            raw_length: 10,
            source: Fingerprint::sample(n),
        };
        let mut new = caches.each_ref().map(|cache| cache.create().unwrap());
        for (new, bytes) in new.iter_mut().zip([b"one", b"two"]) {
            assert!(new.append(bytes).unwrap());
        }
        for ((new, cache), n) in new.into_iter().zip(&caches).zip(1..) {
            let digest = new.keep(key(n)).unwrap().unwrap();
            let found = cache.find(key(n), &AtomicBool::new(false));
            assert_eq!(found, Some((digest, true)));
        }
    }
}
