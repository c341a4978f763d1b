//! The folder in which a client stores images.

mod case;
mod error;
mod exclusive;
mod id_table;
mod index;
mod known_id;
mod listing;
mod moves;
mod path_check;
mod pending;
mod read;
mod remove;
mod run;
mod scan;
mod seal;
mod staged;
mod state;
mod temporary;
mod tree;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use cap_std::fs::Dir;
use jtp_core::{FileType, Image, ImageId};

use crate::FileName;
use crate::file_system::FileSystem;
pub use error::OutputError;
pub use exclusive::FolderLock;
use id_table::IdTable;
use index::Index;
pub use moves::MoveError;
pub use pending::PendingFile;
pub use read::ReadError;
use run::{Run, Stray, is_temporary};
pub use scan::{FileContent, ScanMode, ScanSummary, ScannedFile};
pub use staged::StagedFile;
pub use state::FileState;

/// The names of temporary files: hidden, and distinct from those of other programs.
const TEMPORARY_PREFIX: &str = ".jtp-";
const TEMPORARY_SUFFIX: &str = ".part";

/// A temporary file that nobody can be asked about is stale when it is older than this.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// A folder to which images are written. A handle: clones share the folder.
///
/// An image appears under its name complete and verified, or not at all: it is written to a hidden temporary file, which is
/// renamed when the image is committed. That file is in the folder of the name, or for an image of more than 256 KiB in the
/// root, from which it is copied if the sub-folder is on another file system. Nothing outside the folder is ever written,
/// replaced or removed, whatever the folder contains: the folder is held open, and links are replaced, never followed. // R2 R5
///
/// A name is a path below the folder, joined by `/`: one component, or a file in sub-folders
/// ([`FileName::in_folders`](crate::FileName::in_folders)). Missing sub-folders are created with the mode that the umask
/// leaves. Each step opens the sub-folders again, one below the other: if a link, a file or a device is in place of one,
/// that name cannot be used, also if another program puts it there between two steps. // W9
///
/// [`PendingFile::commit`] replaces what has the name. A program that keeps images calls [`OutputFolder::look`],
/// [`PendingFile::finish`] and [`StagedFile::place`]: an image is then only placed over what was looked at. // R8
///
/// A file that replaces another one keeps its mode (on Unix), but is never executable. A new file has the mode that the
/// umask leaves.
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
    /// That of `dir`.
    file_system: FileSystem,
    path: PathBuf,
    /// Begun with the first temporary file.
    run: Mutex<Option<Run>>,
    counter: AtomicU64,
    /// Set once the system has refused to rename a file without replacing another.
    lacks_noreplace: AtomicBool,
    /// Done once temporary files of crashed clients were removed.
    cleaned: Once,
    /// The index, once it was needed.
    known: Mutex<Option<Arc<IdTable>>>,
    /// Nothing is created, changed or removed.
    read_only: bool,
    index: Mutex<Index>,
    /// Files that are stored are entered in the index.
    indexes_stored: AtomicBool,
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
        OutputFolder::open_with(path.into(), false, false)
    }

    /// The same, but the index and file states go by names, sizes and mtimes, as on file systems whose inodes and ctimes
    /// prove nothing. For tests.
    #[doc(hidden)]
    pub fn open_distrusting_inodes(path: impl Into<PathBuf>) -> Result<OutputFolder, OutputError> {
        OutputFolder::open_with(path.into(), true, false)
    }

    /// Opens an existing folder to look at it: nothing is created, changed or removed, by [`OutputFolder::scan`] either. An
    /// index of an earlier scan is used and not updated. `None` if there is nothing under this path. Blocking.
    ///
    /// Writing an image and [`OutputFolder::rename`] fail with [`OutputError::ReadOnly`].
    ///
    /// # Errors
    ///
    /// [`OutputError`]: the folder cannot be opened, or the path is not a folder.
    pub fn open_read_only(path: impl Into<PathBuf>) -> Result<Option<OutputFolder>, OutputError> {
        let path = path.into();
        match std::fs::symlink_metadata(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            _ => OutputFolder::open_with(path, false, true).map(Some),
        }
    }

    fn open_with(
        path: PathBuf,
        distrust_inodes: bool,
        read_only: bool,
    ) -> Result<OutputFolder, OutputError> {
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
        if !read_only {
            std::fs::create_dir_all(&path).map_err(failed)?;
        }
        let dir = open_dir(&path).map_err(failed)?;
        let file_system = FileSystem::of(&dir, distrust_inodes);
        if file_system.is_notable() {
            tracing::warn!(
                folder = %path.display(),
                "the file system of the output folder has no lasting inodes; files are known by name, size and time"
            );
        }
        let counter = AtomicU64::new(0);
        Ok(OutputFolder(Arc::new(Inner {
            dir,
            file_system,
            path,
            run: Mutex::new(None),
            counter,
            lacks_noreplace: AtomicBool::new(false),
            cleaned: Once::new(),
            known: Mutex::default(),
            read_only,
            index: Mutex::default(),
            indexes_stored: AtomicBool::new(false),
        })))
    }

    /// The folder, as the caller gave it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Passes each entry of the folder that is not hidden to `found`, in no particular order, on one thread for each
    /// processor but never on two at once. Blocking. // R2 R8
    ///
    /// The memory does not depend on the number of files, except for the index: with [`ScanMode::Ids`], files that are
    /// unchanged since an earlier scan (by inode, size, mtime and ctime) are not read again, nor are those that were stored
    /// since ([`OutputFolder::index_stored`]). Their IDs are in the hidden file `.jtp-index`, which is rebuilt if it is lost;
    /// it takes some 51 bytes for each file, and 16 in memory. Files longer than any image are never read
    /// ([`FileContent::TooLong`]).
    ///
    /// On a file system whose inodes and ctimes prove nothing (FAT, exFAT, FUSE, network file systems; all but ext2 to
    /// ext4, xfs, btrfs, bcachefs, f2fs, ZFS and tmpfs, and APFS and HFS+), files go by name, size and mtime, and those
    /// that were changed less than a minute before they were read are read again by the next scan. There a change that
    /// keeps the size and restores the mtime is not noticed, except by [`ScanMode::Rehash`].
    ///
    /// Setting `stop` ends the scan with an error of kind `Interrupted`.
    ///
    /// # Errors
    ///
    /// [`OutputError`] if the folder cannot be listed. A file that cannot be read is no error: see
    /// [`FileContent::Unreadable`].
    pub fn scan(
        &self,
        mode: ScanMode,
        stop: &AtomicBool,
        found: &mut (dyn FnMut(ScannedFile<'_>) + Send),
    ) -> Result<ScanSummary, OutputError> {
        self.scan_with(mode, false, stop, found)
    }

    /// The same for the folder and its sub-folders, under names that are joined by `/`. // W9
    ///
    /// Hidden folders are left out, links are not followed, and mounted file systems are. A name has at most
    /// [`MAX_PATH_COMPONENTS`](jtp_core::MAX_PATH_COMPONENTS) components. In sub-folders, only files with the extension of
    /// an image ([`has_image_extension`](crate::has_image_extension)) are read. A folder that is removed or replaced during
    /// the scan counts as removed. One that cannot be listed is reported ([`FileContent::UnreadableFolder`]).
    ///
    /// The index is the same, in the folder itself. A later scan of the folder alone may drop what it does not see.
    ///
    /// # Errors
    ///
    /// As for [`OutputFolder::scan`].
    pub fn scan_tree(
        &self,
        mode: ScanMode,
        stop: &AtomicBool,
        found: &mut (dyn FnMut(ScannedFile<'_>) + Send),
    ) -> Result<ScanSummary, OutputError> {
        self.scan_with(mode, true, stop, found)
    }

    fn scan_with(
        &self,
        mode: ScanMode,
        in_tree: bool,
        stop: &AtomicBool,
        found: &mut (dyn FnMut(ScannedFile<'_>) + Send),
    ) -> Result<ScanSummary, OutputError> {
        let failed = |e| OutputError::new(&self.0.path, e);
        let begun = SystemTime::now();
        let threads = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        *self.0.known() = None;
        let before = self.0.load_index(mode);
        let scanner = scan::Scanner {
            folder: &self.0,
            mode,
            in_tree,
            before: &before,
            stop,
        };
        let seen = scan::scan(&scanner, threads, found).map_err(failed)?;
        if !seen.incomplete && !self.0.read_only {
            self.0.clean_up(|| Ok(seen.temporaries.clone()));
        }
        if !self.0.read_only {
            if let Err(e) = self.0.save_index(mode, &before, &seen) {
                // A read-only folder can be scanned, too.
                tracing::debug!(folder = %self.0.path.display(), error = %e, "cannot write the index");
            }
        }
        if seen.incomplete {
            return Err(failed(io::ErrorKind::Interrupted.into()));
        }
        Ok(ScanSummary {
            files: seen.files,
            read: seen.read,
            case_sensitive: seen.case.finish(|folder| self.0.names_in(folder)),
            settled_before: self.0.file_system.trusts_inodes().then_some(begun),
        })
    }

    /// What has this name now. Does not follow links, and opens no file. Blocking. // R8
    ///
    /// # Errors
    ///
    /// [`OutputError`]: `name` is not a path below the folder, or the system refuses to look. A missing file or folder, a
    /// link or a file in place of a folder, and a name that is too long for the file system, are no errors but
    /// [`FileState::is_nothing`].
    pub fn look(&self, name: &str) -> Result<FileState, OutputError> {
        let failed = |e| OutputError::new(&self.0.path.join(name), e);
        self.0.look(name).map_err(failed)
    }

    /// Reads the regular file with this name and returns its ID. Blocking. // R2 R8
    ///
    /// `state` comes from [`OutputFolder::look`]: the ID is that of the file in this state. Never follows a link, and
    /// never blocks on a pipe. Setting `stop` ends the reading.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub fn read_id(
        &self,
        name: &str,
        state: &FileState,
        stop: &AtomicBool,
    ) -> Result<ImageId, ReadError> {
        self.0.read_id(name, state, stop)
    }

    /// Whether the file with this name is an image, by its first bytes or its extension. The extension `.img` alone does not
    /// make it one: received images without an extension of an image get it, but it is that of disk images. Reads only
    /// where the extension does not tell. // R5
    ///
    /// # Errors
    ///
    /// [`OutputError`]: the file cannot be read.
    pub fn is_image(&self, name: &str) -> Result<bool, OutputError> {
        let failed = |e| OutputError::new(&self.0.path.join(name), e);
        self.0.is_image(name).map_err(failed)
    }

    /// The type of the file with this name: by its first bytes where they tell, else by its extension. Blocking.
    ///
    /// # Errors
    ///
    /// [`OutputError`]: the file cannot be read.
    pub fn image_type(&self, name: &str) -> Result<FileType, OutputError> {
        let failed = |e| OutputError::new(&self.0.path.join(name), e);
        self.0.image_type(name).map_err(failed)
    }

    /// Gives the regular file `from` the name `to`. Blocking. // R5 R8
    ///
    /// `from_state` and `over` come from [`OutputFolder::look`] for the two names, and are compared with the folder
    /// directly before the file is renamed. If `over` is nothing, nothing is replaced, whatever another program does at
    /// the same time (on Linux and macOS, and on other systems with hard links); if it is a regular file, that is
    /// replaced. Links and folders are never replaced.
    ///
    /// If both names stand for one file ([`FileState::is_same_file`]: the same name in another case, or a hard link),
    /// it has the name `to` alone afterwards. This takes two steps; a crash between them, or an error on the way
    /// there and back, leaves the file under a visible name with the extension of `to`. If both names are the same
    /// text, nothing is done.
    ///
    /// # Errors
    ///
    /// [`MoveError`].
    pub fn rename(
        &self,
        from: &str,
        from_state: &FileState,
        to: &FileName,
        over: &FileState,
    ) -> Result<(), MoveError> {
        if let Err(e) = self.0.check_writable() {
            let path = self.0.path.join(to.as_str());
            return Err(MoveError::Folder(OutputError::new(&path, e)));
        }
        self.0.rename(from, from_state, to, over)
    }

    /// Whether two names may stand for one regular file, to judge by their states: for certain if
    /// [`FileState::is_same_file`], and possibly if inodes prove nothing and the names differ only in case, or the inodes
    /// are equal. Then [`rename`](OutputFolder::rename) treats them as one, and the caller compares the contents first. // R8
    #[must_use]
    pub fn may_be_same_file(&self, one: (&str, &FileState), two: (&str, &FileState)) -> bool {
        one.1.is_file() && two.1.is_file() && self.0.is_one_file(one, two)
    }

    /// Enters a file in the index that [`rename`](OutputFolder::rename) has just given the name `to`, so that the next scan
    /// does not read it: a rename sets its ctime. `from_state` is that which it was renamed with, and `id` what it contains.
    /// Does nothing if the file has changed since, or had changed just before, and unless the folder
    /// [indexes what is stored](OutputFolder::index_stored). Blocking.
    pub fn index_renamed(&self, to: &FileName, from_state: &FileState, id: ImageId) {
        if self.0.indexes_stored.load(Ordering::Relaxed) {
            // An error shows again when the file is read.
            let _ = self.0.enter_renamed(to.as_str(), from_state, id);
        }
    }

    /// From now on, images are entered in the index of [`OutputFolder::scan`] when they are stored, so that the next scan
    /// does not read them: those that are [placed](StagedFile::place) or [committed](PendingFile::commit). Call
    /// [`OutputFolder::close`] at the end: the last of them are written to the index file then, and others now and then.
    ///
    /// An image that was entered has an mtime of the moment at which it was complete, in units of 100 ns. The kernel's own
    /// times are those of its last tick, so another program that changes the file sets another mtime, even directly
    /// afterwards. On a file system that rounds the mtime (FAT, exFAT, ext3), images are not entered. The next scan reads
    /// them.
    pub fn index_stored(&self) {
        self.0.indexes_stored.store(true, Ordering::Relaxed);
    }

    /// Writes the index, and removes the hidden lock file of this client, which is otherwise done when the last handle is dropped: for a
    /// program that exits while other threads still have handles. Call it when no image is being written; another image
    /// makes the lock file again.
    pub fn close(&self) {
        self.0.flush_index();
        *self.0.known() = None;
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
    fn clean_up(&self, temporaries: impl FnOnce() -> io::Result<Vec<Stray>>) {
        self.cleaned.call_once(|| {
            run::remove_stale(self, &temporaries().unwrap_or_default());
        });
    }

    /// The same without a scan before: lists the folder.
    fn clean_up_unscanned(&self) {
        self.clean_up(|| {
            case::names(&self.dir)?
                .filter(|name| name.as_ref().map_or(true, |name| is_temporary(name)))
                .map(|name| {
                    let folder = OsString::new();
                    Ok(Stray {
                        folder,
                        name: name?,
                    })
                })
                .collect()
        });
    }

    fn check_writable(&self) -> io::Result<()> {
        match self.read_only {
            true => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            false => Ok(()),
        }
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
        self.flush_index();
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
