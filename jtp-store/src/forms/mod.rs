//! Compressed forms on disk: a folder of files that servers of one user share.
//!
//! A form is a file named by the image's ID and the level, and ends in a trailer with its length and a checksum
//! over it. It is written under another name, decompressed and compared with the ID, and only then renamed. It
//! never changes after that, so whoever has it open keeps it although it is evicted. How much room all forms
//! take is in a file that is locked while it changes; how long ago each was used is its mtime.

mod form;

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use jtp_core::ImageId;

use crate::private::make_private;
pub(crate) use form::{FormKey, NewForm, Whole};
use form::{TRAILER_LEN, check};

/// A form's name ends so; the format's version is in it, so that two programs of different ones can share a
/// folder.
const SUFFIX: &str = ".form1";
const TEMPORARY_SUFFIX: &str = ".part";

/// The file with the bytes that are taken.
const USED: &str = "used1";

/// A form that was used longer ago than this is noted to be used again. The order of eviction is as fine as that.
const STAMP_EVERY: Duration = Duration::from_secs(60 * 60);

/// What is left of a form that nobody finished in that time is nobody's.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a cache that is full of forms in use is not asked for room again.
const FULL_FOR: Duration = Duration::from_secs(60);

/// Compressed forms on disk, for [`DirStoreBuilder::forms`](crate::DirStoreBuilder::forms). A handle: clones are
/// the same cache.
///
/// Several stores, in one program or in several of one user, can share a folder. Together they keep within the
/// size: the forms used least recently go first, but never one that a store of this program lists. A form that
/// is missing when it is needed, since another program let it go, is made again; a damaged one is thrown away.
///
/// Who can write to the folder can make a server send wrong bytes under an ID, which every client refuses. It is
/// made for its user alone.
#[derive(Clone)]
pub struct FormCache(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    size: u64,
    used: Mutex<File>,
    counter: AtomicU64,
    /// Whether something failed: no more forms are made.
    is_off: AtomicBool,
    full_since: Mutex<Option<Instant>>,
    said_full: AtomicBool,
    listing: Mutex<Vec<Weak<dyn Lists>>>,
}

/// A store that may list a form.
pub(crate) trait Lists: Send + Sync {
    fn lists(&self, id: ImageId) -> bool;
}

impl FormCache {
    /// Opens a cache of at most so many bytes in `folder`, which is made if it is missing.
    ///
    /// # Errors
    ///
    /// What the system says: the folder cannot be made, or cannot be written to.
    pub fn open(folder: impl Into<PathBuf>, size: u64) -> io::Result<FormCache> {
        let folder = folder.into();
        make_private(&folder)?;
        let used = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(folder.join(USED))?;
        let cache = FormCache(Arc::new(Inner {
            folder,
            size,
            used: Mutex::new(used),
            counter: AtomicU64::new(0),
            is_off: AtomicBool::new(false),
            full_since: Mutex::new(None),
            said_full: AtomicBool::new(false),
            listing: Mutex::new(Vec::new()),
        }));
        // What it holds may be more than it may hold now, and nobody may have counted it.
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

    /// How many bytes all forms take, those of other programs included.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn used(&self) -> io::Result<u64> {
        self.with_used(|used| Ok(used.unwrap_or(0)))
    }

    /// Whether forms can be made: not after an error, and not just after there was no room.
    pub(crate) fn has_hope(&self) -> bool {
        let full = self.0.full_since.lock();
        let full = *full.unwrap_or_else(PoisonError::into_inner);
        !self.is_off() && full.is_none_or(|since| since.elapsed() >= FULL_FOR)
    }

    pub(crate) fn is_off(&self) -> bool {
        self.0.is_off.load(Ordering::Relaxed)
    }

    /// Goes on without the cache, and says so once.
    pub(crate) fn fail(&self, error: &io::Error) {
        if !self.0.is_off.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                folder = %self.0.folder.display(), %error,
                "compressed images cannot be kept there: more are kept in memory alone"
            );
        }
    }

    fn is_full(&self) {
        let mut since = self.0.full_since.lock();
        if let Ok(since) = &mut since {
            **since = Some(Instant::now());
        }
        if !self.0.said_full.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                folder = %self.0.folder.display(), bytes = self.0.size,
                "the cache is full of compressed images that are listed: others travel as they are"
            );
        }
    }

    /// Has a store asked whether it lists a form that is to go.
    pub(crate) fn ask(&self, store: Weak<dyn Lists>) {
        let mut listing = self
            .0
            .listing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        listing.retain(|store| store.strong_count() > 0);
        listing.push(store);
    }

    /// Looks for a form, reads all of it, and says whether it was made from this very file: another one of its ID
    /// may have other bytes. One that is not as it was made is thrown away. // S4
    pub(crate) fn find(&self, key: FormKey, stop: &AtomicBool) -> Option<(Whole, bool)> {
        let mut file = self.open_file(key).ok()?;
        match check(&mut file, key, stop) {
            Ok(Some(found)) => {
                stamp(&file);
                Some(found)
            }
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(id = %key.id, %error, "a damaged compressed form is thrown away");
                self.discard(key);
                None
            }
        }
    }

    /// Opens a form that is known to be whole, as far as its length tells.
    pub(crate) fn open_form(&self, key: FormKey, whole: Whole) -> io::Result<File> {
        let file = self.open_file(key)?;
        let length = u64::from(whole.length) + u64::try_from(TRAILER_LEN).unwrap_or(0);
        if file.metadata()?.len() != length {
            self.discard(key);
            return Err(io::ErrorKind::InvalidData.into());
        }
        stamp(&file);
        Ok(file)
    }

    fn open_file(&self, key: FormKey) -> io::Result<File> {
        File::open(self.0.folder.join(key.name()))
    }

    pub(crate) fn holds(&self, key: FormKey) -> bool {
        self.0.folder.join(key.name()).exists()
    }

    /// Throws a form away.
    pub(crate) fn discard(&self, key: FormKey) {
        let path = self.0.folder.join(key.name());
        let _ = self.with_used(|used| {
            let length = fs::metadata(&path)?.len();
            fs::remove_file(&path)?;
            *used = used.map(|used| used.saturating_sub(length));
            Ok(())
        });
    }

    /// Begins a form.
    pub(crate) fn begin(&self) -> io::Result<NewForm> {
        let n = self.0.counter.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{n}{TEMPORARY_SUFFIX}", std::process::id());
        NewForm::create(self, self.0.folder.join(name))
    }

    /// Takes room for so many bytes, which others lose if need be. `false` if there is none.
    fn reserve(&self, bytes: u64) -> io::Result<bool> {
        let size = self.0.size;
        let fits = |used: &Option<u64>| used.is_some_and(|used| used.saturating_add(bytes) <= size);
        let reserved = self.with_used(|used| {
            if !fits(used) {
                // A little more than is needed, so that not each form has all others looked at.
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
            self.is_full();
        }
        Ok(reserved)
    }

    /// Looks at all forms, and removes those used least recently until at most `goal` bytes are left. How many
    /// there are then.
    fn evict(&self, goal: u64) -> io::Result<u64> {
        let now = SystemTime::now();
        let mut forms = Vec::new();
        let mut total: u64 = 0;
        for entry in fs::read_dir(&self.0.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                continue;
            };
            let (is_form, is_temporary) =
                (name.ends_with(SUFFIX), name.ends_with(TEMPORARY_SUFFIX));
            // Another program may just have removed it.
            let (true, Ok(metadata)) = (is_form || is_temporary, entry.metadata()) else {
                continue;
            };
            let last_used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let age = now.duration_since(last_used).unwrap_or_default();
            if is_temporary && age > STALE && fs::remove_file(entry.path()).is_ok() {
                continue;
            }
            total += metadata.len();
            let id = name.split('-').next().and_then(|id| id.parse().ok());
            if let Some(id) = id.filter(|_| is_form) {
                forms.push((last_used, metadata.len(), id, entry.file_name()));
            }
        }
        if total <= goal {
            return Ok(total);
        }
        forms.sort_by_key(|(last_used, ..)| *last_used);
        let stores: Vec<Arc<dyn Lists>> = {
            let listing = self
                .0
                .listing
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            listing.iter().filter_map(Weak::upgrade).collect()
        };
        let mut evicted = 0u64;
        for (_, length, id, name) in forms {
            if total <= goal {
                break;
            }
            if !stores.iter().any(|store| store.lists(id))
                && fs::remove_file(self.0.folder.join(name)).is_ok()
            {
                total -= length;
                evicted += 1;
            }
        }
        tracing::debug!(evicted, left = total, "compressed forms made room");
        Ok(total)
    }

    /// Reads how much is used, and writes what becomes of it; `None` if that is not known. One after another,
    /// whichever program.
    fn with_used<T>(
        &self,
        change: impl FnOnce(&mut Option<u64>) -> io::Result<T>,
    ) -> io::Result<T> {
        let file = self.0.used.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file: &File = &file;
        let _lock = Lock::take(file)?;
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

/// Notes that a form is used, if that was not noted for a while.
fn stamp(file: &File) {
    let old = file
        .metadata()
        .and_then(|metadata| metadata.modified())
        .is_ok_and(|used| used.elapsed().is_ok_and(|age| age > STAMP_EVERY));
    if old {
        // If not, it goes earlier than it should.
        let _ = file.set_modified(SystemTime::now());
    }
}

/// A lock among programs, until it is dropped.
struct Lock<'a>(&'a File);

impl<'a> Lock<'a> {
    #[cfg(unix)]
    fn take(file: &'a File) -> io::Result<Lock<'a>> {
        use rustix::fs::{FlockOperation, flock};
        use rustix::io::Errno;
        loop {
            match flock(file, FlockOperation::LockExclusive) {
                Err(Errno::INTR) => {}
                // A file system without locks: the count may be off until it is made anew.
                Ok(()) | Err(Errno::NOTSUP | Errno::NOSYS | Errno::NOLCK) => return Ok(Lock(file)),
                Err(e) => return Err(e.into()),
            }
        }
    }

    #[cfg(not(unix))]
    fn take(file: &'a File) -> io::Result<Lock<'a>> {
        Ok(Lock(file))
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        #[cfg(unix)]
        let _ = rustix::fs::flock(self.0, rustix::fs::FlockOperation::Unlock);
        #[cfg(not(unix))]
        let _ = self.0;
    }
}

impl std::fmt::Debug for FormCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FormCache")
            .field("folder", &self.0.folder)
            .field("size", &self.0.size)
            .finish_non_exhaustive()
    }
}
