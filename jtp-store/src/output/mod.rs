//! The folder in which a client stores images.

mod error;
mod pending;
mod run;
mod scan;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, BufWriter, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::thread;
use std::time::Duration;

use cap_std::fs::Dir;
use jtp_core::Image;

use crate::hash::{self, Links};
use crate::known::{self, KnownContents};
pub use error::OutputError;
pub use pending::PendingFile;
use pending::Temporary;
use run::{Run, is_temporary};
pub use scan::Scan;

/// The names of temporary files: hidden, and distinct from those of other programs.
const TEMPORARY_PREFIX: &str = ".jtp-";
const TEMPORARY_SUFFIX: &str = ".part";

/// A temporary file that nobody can be asked about is stale when it is older than this.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// A folder to which images are written. A handle: clones share the folder.
///
/// An image appears under its name complete and verified, or not at all: it is written to a hidden temporary file in
/// the same folder, which is renamed when the image is committed. Nothing outside the folder is ever written,
/// replaced or removed, whatever the folder contains: the folder is held open, names are single components
/// ([`FileName`](crate::FileName)), and links are replaced, never followed. // R2 R5
///
/// A committed image is not synced to the disk; the system writes it when it sees fit.
///
/// ```no_run
/// use jtp_core::{BodyReceiver, FileType, Flags, Image, ImageId};
/// use jtp_store::{FileName, OutputFolder};
///
/// let folder = OutputFolder::open("output")?;
/// let image = Image::new(ImageId::of(b"pixels"), Flags::new(FileType::Png, false), 6);
/// let mut receiver = BodyReceiver::new(1 << 30, 8 << 20);
/// receiver.begin(image);
/// let mut file = folder.begin(&image);
/// file.append(receiver.receive(b"pixels").data)?;
/// let verified = receiver.verdict().expect("all bytes were received")?;
/// let name = FileName::new("a.png", image.id, FileType::Png);
/// file.commit(&name, verified)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct OutputFolder(Arc<Inner>);

pub(super) struct Inner {
    dir: Dir,
    path: PathBuf,
    /// Begun with the first temporary file.
    run: Mutex<Option<Run>>,
    counter: AtomicU64,
    /// Done once temporary files of crashed clients were removed.
    cleaned: Once,
}

impl OutputFolder {
    /// Opens the folder, which is created if it is missing. Blocking.
    ///
    /// Temporary files of crashed clients are removed by the first scan or before the first image is written,
    /// whichever comes first, so that a large folder is listed only once. Those of running clients stay: each client
    /// that writes holds a lock on a hidden file of its own, `.jtp-<number>.lock`. It never waits for a lock.
    ///
    /// # Errors
    ///
    /// [`OutputError`]: the folder cannot be created or opened, or the path is not a folder.
    pub fn open(path: impl Into<PathBuf>) -> Result<OutputFolder, OutputError> {
        let path = path.into();
        let failed = |e: io::Error| match OutputError::new(&path, e) {
            // The folder cannot have been removed before it was opened.
            OutputError::Vanished { path, source } => OutputError::Io { path, source },
            // A file that is not a folder is in the way.
            OutputError::Io { path, source } if source.kind() == io::ErrorKind::AlreadyExists => {
                let source = io::ErrorKind::NotADirectory.into();
                OutputError::Io { path, source }
            }
            other => other,
        };
        std::fs::create_dir_all(&path).map_err(failed)?;
        let dir = open_dir(&path).map_err(failed)?;
        let counter = AtomicU64::new(0);
        Ok(OutputFolder(Arc::new(Inner {
            dir,
            path,
            run: Mutex::new(None),
            counter,
            cleaned: Once::new(),
        })))
    }

    /// The folder, as the caller gave it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Finds the IDs of all regular files in the folder, except hidden ones. Blocking.
    ///
    /// Files that are unchanged since an earlier scan (by device, inode, size, mtime and ctime) are not read again:
    /// their IDs are in the hidden file `.jtp-index`, which is rebuilt if it is lost. The others are read on one
    /// thread for each processor.
    ///
    /// # Errors
    ///
    /// [`OutputError`] if the folder cannot be listed; files that cannot be read are in
    /// [`Scan::unreadable`].
    pub fn scan(&self) -> Result<Scan, OutputError> {
        self.scan_until(false, &AtomicBool::new(false))
    }

    /// The same with two options: `rehash` reads all files and ignores the index; setting `stop` ends the scan with
    /// an error of kind `Interrupted`.
    ///
    /// # Errors
    ///
    /// See [`OutputFolder::scan`].
    pub fn scan_until(&self, rehash: bool, stop: &AtomicBool) -> Result<Scan, OutputError> {
        let failed = |e| OutputError::new(&self.0.path, e);
        let threads = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let index = hash::open(&self.0.dir, OsStr::new(scan::INDEX_NAME), Links::Refuse);
        let before = index
            .ok()
            // Reading a pipe or a device might never end.
            .filter(|file| !rehash && file.metadata().is_ok_and(|m| m.is_file()))
            .map(KnownContents::read)
            .unwrap_or_default();
        let (scan, seen) = scan::scan(&self.0.dir, threads, &before, stop).map_err(failed)?;
        if !seen.incomplete {
            self.0.clean_up(|| Ok(seen.temporaries.clone()));
        }
        if let Err(e) = self.save_index(&before, &seen) {
            // A read-only folder can be scanned, too.
            tracing::debug!(folder = %self.0.path.display(), error = %e, "cannot write the index");
        }
        if seen.incomplete {
            return Err(failed(io::ErrorKind::Interrupted.into()));
        }
        Ok(scan)
    }

    fn save_index(&self, before: &KnownContents, seen: &scan::Seen) -> io::Result<()> {
        let files = seen.known.len() + seen.fresh.len();
        let logged = before.record_count() + seen.fresh.len();
        // An incomplete scan does not know all files, so it must not drop records.
        let overgrown = !seen.incomplete && known::is_overgrown(logged, files);
        if let Some(length) = before.appendable().filter(|_| !overgrown) {
            if seen.fresh.is_empty() {
                return Ok(());
            }
            if self.append_to_index(length, &seen.fresh)? {
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

    /// Appends to the index. `false` if it is not the one that was read any more.
    fn append_to_index(&self, length: u64, fresh: &[known::Record]) -> io::Result<bool> {
        let Ok(file) = hash::open_to_append(&self.0.dir, OsStr::new(scan::INDEX_NAME)) else {
            return Ok(false);
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() != length {
            return Ok(false);
        }
        let mut bytes = Vec::new();
        known::append(fresh.iter().copied(), &mut bytes)?;
        (&file).write_all(&bytes)?;
        Ok(true)
    }

    /// Removes the hidden lock file of this client, which is otherwise done when the last handle is dropped: for a
    /// program that exits while other threads still have handles. Call it when no image is being written; another image
    /// makes the lock file again.
    pub fn close(&self) {
        self.0.end_run();
    }

    /// Begins to write an image. Creates no file before there are bytes to write.
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
    /// Removes temporary files of crashed clients, once, and before this client creates one.
    fn clean_up(&self, temporaries: impl FnOnce() -> io::Result<Vec<OsString>>) {
        self.cleaned.call_once(|| {
            run::remove_stale(&self.dir, &temporaries().unwrap_or_default());
        });
    }

    /// The same without a scan before: lists the folder.
    fn clean_up_unscanned(&self) {
        self.clean_up(|| {
            let names = self.dir.entries()?.map(|entry| Ok(entry?.file_name()));
            names
                .filter(|name| name.as_ref().map_or(true, |name| is_temporary(name)))
                .collect()
        });
    }

    fn temporary_name(&self) -> String {
        let n = self.counter.fetch_add(1, Ordering::Relaxed);
        let mut run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        run.get_or_insert_with(|| Run::begin(&self.dir))
            .temporary_name(n)
    }

    fn end_run(&self) {
        let run = self
            .run
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(run) = run {
            run.end(&self.dir);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.end_run();
    }
}

#[cfg(unix)]
fn open_dir(path: &Path) -> io::Result<Dir> {
    use std::os::unix::fs::OpenOptionsExt;
    // Not opened by cap-std: its handles are for looking up names only, and a lock of the folder cannot be tried.
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
