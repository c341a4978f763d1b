//! The folder that a client fills.

mod error;
mod pending;
mod scan;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, BufWriter, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::thread;
use std::time::{Duration, SystemTime};

use cap_std::fs::Dir;
use jtp_core::Image;

use crate::fingerprint::Fingerprint;
use crate::hash::{self, Links};
use crate::known::{self, KnownContents};
pub use error::OutputError;
pub use pending::PendingFile;
use pending::Temporary;
pub use scan::Scan;

/// What temporary files are called: hidden, and ours.
const TEMPORARY_PREFIX: &str = ".jtp-";
const TEMPORARY_SUFFIX: &str = ".part";

/// Where it cannot be told whether another client is at work in the folder, temporaries older than this are
/// stale.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// A folder that images are written to. A handle: clones are the same folder.
///
/// An image appears under its name whole and verified, or not at all: it is written to a hidden
/// temporary file in the same folder, which is renamed when the image is committed. Nothing is ever
/// written, replaced or removed outside the folder, whatever is in it: the folder is held open, names
/// are single components ([`FileName`](crate::FileName)), and links in it are replaced, never followed. // R2 R5
///
/// What was committed is left to the system to write to the disk in its own time, as rsync does it.
///
/// ```no_run
/// use jtp_core::{FileType, Flags, Image, ImageId};
/// use jtp_store::{FileName, OutputFolder};
///
/// let folder = OutputFolder::open("output")?;
/// let image = Image { id: ImageId::of(b"pixels"), flags: Flags::new(FileType::Png, false), length: 6 };
/// let mut file = folder.begin(&image);
/// file.append(b"pixels")?;
/// let name = FileName::new("a.png", image.id, FileType::Png);
/// file.commit(&name, ImageId::of(b"pixels"))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct OutputFolder(Arc<Inner>);

pub(super) struct Inner {
    dir: Dir,
    path: PathBuf,
    /// What tells this client's temporaries from those of others.
    run: u64,
    counter: AtomicU64,
    /// Whether it was seen to what crashed clients left.
    cleaned: Once,
}

impl OutputFolder {
    /// Opens the folder, which is made if it is missing. What crashed clients left in it is removed by the first
    /// scan, or before the first image is written, whichever comes first: so a large folder is listed once.
    /// Temporaries of clients that are at work stay: each holds a shared lock on the folder.
    ///
    /// # Errors
    ///
    /// [`OutputError`]: it cannot be made or opened, or is no folder.
    pub fn open(path: impl Into<PathBuf>) -> Result<OutputFolder, OutputError> {
        let path = path.into();
        let failed = |e: io::Error| match OutputError::new(&path, e) {
            // What was never there has not been taken away.
            OutputError::Vanished { path, source } => OutputError::Io { path, source },
            // What is in the way is no folder, or it would do.
            OutputError::Io { path, source } if source.kind() == io::ErrorKind::AlreadyExists => {
                let source = io::ErrorKind::NotADirectory.into();
                OutputError::Io { path, source }
            }
            other => other,
        };
        std::fs::create_dir_all(&path).map_err(failed)?;
        let dir = open_dir(&path).map_err(failed)?;
        share_lock(&dir);
        let run = std::hash::BuildHasher::hash_one(
            &std::collections::hash_map::RandomState::new(),
            std::process::id(),
        );
        let counter = AtomicU64::new(0);
        Ok(OutputFolder(Arc::new(Inner {
            dir,
            path,
            run,
            counter,
            cleaned: Once::new(),
        })))
    }

    /// The folder, as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The IDs of the regular files in the folder, under whatever name, hidden ones excepted. Blocking.
    ///
    /// Files that an earlier scan read, and that did not change since (by device, inode, size, mtime and
    /// ctime), are not read again: their IDs are in the hidden file `.jtp-index`, which is rebuilt when it is lost.
    /// The others are read on as many threads as there are processors.
    ///
    /// # Errors
    ///
    /// [`OutputError`] if the folder cannot be listed; files that cannot be read are in
    /// [`Scan::unreadable`].
    pub fn scan(&self) -> Result<Scan, OutputError> {
        self.scan_until(false, &AtomicBool::new(false))
    }

    /// The same, with `anew` reading all files whatever the index says; setting `stop` breaks it off with an
    /// error of kind `Interrupted`.
    ///
    /// # Errors
    ///
    /// See [`OutputFolder::scan`].
    pub fn scan_until(&self, anew: bool, stop: &AtomicBool) -> Result<Scan, OutputError> {
        let failed = |e| OutputError::new(&self.0.path, e);
        let threads = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let index = hash::open(&self.0.dir, OsStr::new(scan::INDEX_NAME), Links::Refuse);
        let before = index
            .ok()
            // A pipe or a device would never end.
            .filter(|file| !anew && file.metadata().is_ok_and(|there| there.is_file()))
            .map(KnownContents::read)
            .unwrap_or_default();
        let (scan, seen) = scan::scan(&self.0.dir, threads, &before, stop).map_err(failed)?;
        if !seen.broken_off {
            self.0.clean_up(|| Ok(seen.temporaries.clone()));
        }
        if let Err(e) = self.save_index(&before, &seen) {
            // A read-only folder can be compared all the same.
            tracing::debug!(folder = %self.0.path.display(), error = %e, "no index was written");
        }
        if seen.broken_off {
            return Err(failed(io::ErrorKind::Interrupted.into()));
        }
        Ok(scan)
    }

    fn save_index(&self, before: &KnownContents, seen: &scan::Seen) -> io::Result<()> {
        let files = seen.known.len() + seen.fresh.len();
        let logged = before.record_count() + seen.fresh.len();
        // What was broken off has not seen all files.
        let overgrown = !seen.broken_off && known::is_overgrown(logged, files);
        if let Some(whole) = before.appendable().filter(|_| !overgrown) {
            if seen.fresh.is_empty() {
                return Ok(());
            }
            if self.add_to_index(whole, &seen.fresh)? {
                return Ok(());
            }
        }
        if files == 0 && before.record_count() == 0 {
            return Ok(());
        }
        let mut temporary = Temporary::create(&self.0)?;
        let records = seen.known.iter().chain(&seen.fresh).copied();
        let mut to = BufWriter::new(&mut temporary);
        known::write(records, &mut to)?;
        to.flush()?;
        drop(to);
        temporary.rename(scan::INDEX_NAME)
    }

    /// Adds to the index if it is still the one that was read; whether it was.
    fn add_to_index(&self, whole: u64, fresh: &[known::Record]) -> io::Result<bool> {
        let Ok(file) = hash::open_to_append(&self.0.dir, OsStr::new(scan::INDEX_NAME)) else {
            return Ok(false);
        };
        let there = file.metadata()?;
        if !there.is_file() || there.len() != whole {
            return Ok(false);
        }
        let mut bytes = Vec::new();
        known::append(fresh.iter().copied(), &mut bytes)?;
        (&file).write_all(&bytes)?;
        Ok(true)
    }

    /// Begins an image. Nothing is made on the disk before there is enough to write.
    #[must_use]
    pub fn begin(&self, image: &Image) -> PendingFile {
        PendingFile::new(Arc::clone(&self.0), image.id)
    }
}

impl fmt::Debug for OutputFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutputFolder")
            .field("path", &self.0.path)
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// Removes what crashed clients left, once, and before there is a temporary of this client.
    fn clean_up(&self, temporaries: impl FnOnce() -> io::Result<Vec<OsString>>) {
        self.cleaned.call_once(|| {
            let alone = lock(&self.dir);
            if alone != Some(false) {
                // What could not be listed or removed does no harm, and the next client tries again.
                for name in temporaries().unwrap_or_default() {
                    self.remove_stale(&name, alone.is_some());
                }
            }
            share_lock(&self.dir);
        });
    }

    /// Lists the folder for it, where no scan did.
    fn clean_up_unscanned(&self) {
        self.clean_up(|| {
            let names = self.dir.entries()?.map(|entry| Ok(entry?.file_name()));
            names
                .filter(|name| name.as_ref().map_or(true, |name| is_temporary(name)))
                .collect()
        });
    }

    /// Removes a temporary, if it is stale: of any age where nobody else is at work in the folder.
    fn remove_stale(&self, name: &OsStr, alone: bool) {
        let is_stale = alone
            || self.dir.symlink_metadata(name).is_ok_and(|metadata| {
                Fingerprint::of_cap(&metadata)
                    .age(SystemTime::now())
                    .is_some_and(|age| age > STALE)
            });
        // A link is removed itself; a folder of that name is none of ours, and stays.
        if is_stale {
            let _ = self.dir.remove_file(name);
        }
    }

    fn temporary_name(&self) -> String {
        let n = self.counter.fetch_add(1, Ordering::Relaxed);
        format!("{TEMPORARY_PREFIX}{:016x}-{n}{TEMPORARY_SUFFIX}", self.run)
    }
}

fn is_temporary(name: &OsStr) -> bool {
    let is_it = |name: &str| name.starts_with(TEMPORARY_PREFIX) && name.ends_with(TEMPORARY_SUFFIX);
    name.to_str().is_some_and(is_it)
}

#[cfg(unix)]
fn open_dir(path: &Path) -> io::Result<Dir> {
    use std::os::unix::fs::OpenOptionsExt;
    // Not by cap-std, whose handle is for looking up names only and cannot be locked.
    let flags = i32::try_from(rustix::fs::OFlags::DIRECTORY.bits()).unwrap_or(0);
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    Ok(Dir::from_std_file(file))
}

#[cfg(not(unix))]
fn open_dir(path: &Path) -> io::Result<Dir> {
    Dir::open_ambient_dir(path, cap_std::ambient_authority())
}

/// Whether no other client is at work in the folder; `None` if that cannot be told.
#[cfg(unix)]
fn lock(dir: &Dir) -> Option<bool> {
    use rustix::fs::{FlockOperation, flock};
    match flock(dir, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Some(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Some(false),
        Err(_) => None,
    }
}

/// Tells other clients that this one is at work, until the folder is closed. Another one may have the lock alone
/// for as long as it cleans up.
#[cfg(unix)]
fn share_lock(dir: &Dir) {
    let _ = rustix::fs::flock(dir, rustix::fs::FlockOperation::LockShared);
}

#[cfg(not(unix))]
fn lock(_: &Dir) -> Option<bool> {
    None
}

#[cfg(not(unix))]
fn share_lock(_: &Dir) {}
