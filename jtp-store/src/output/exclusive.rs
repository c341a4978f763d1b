//! The lock of a client that brings the folder in step with a server.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io;
use std::sync::Arc;

use cap_std::fs::{Dir, OpenOptions};

use super::{Inner, OutputFolder};
use crate::lock::open_locked;

/// Not the name of a temporary file: clients that clean up leave it alone.
const NAME: &str = ".jtp-sync.lock";

/// The most lock files that are tried: the holder of the lock removes its file when it ends.
const ATTEMPTS: usize = 8;

/// The lock of [`OutputFolder::try_lock`], until it is dropped.
pub struct FolderLock {
    folder: Arc<Inner>,
    /// `None` where the folder cannot be locked.
    file: Option<File>,
}

impl OutputFolder {
    /// Locks the folder against other clients that bring it in step with a server: each of them would fetch what all
    /// of them lack. `None` if another one has the lock, in this process too. It does not wait. Blocking.
    ///
    /// The lock is advisory: nothing else in this folder asks for it. It is a lock on a hidden file, `.jtp-sync.lock`,
    /// ends with the process, and its file is removed with it. Where that file cannot be made or locked (a read-only
    /// folder, some network file systems, another user's file), each client gets the lock at once.
    #[must_use]
    pub fn try_lock(&self) -> Option<FolderLock> {
        let dir = &self.0.dir;
        let with = |file| {
            let folder = Arc::clone(&self.0);
            Some(FolderLock { folder, file })
        };
        if self.0.read_only {
            return with(None);
        }
        // Where inodes change by themselves, nothing tells a lock file that was replaced. Two clients may work at once then,
        // which costs time only; no client waits for ever.
        let inodes_change = !self.0.file_system.trusts_inodes();
        for attempt in 1..=ATTEMPTS {
            let is_last = attempt == ATTEMPTS;
            let mut options = OpenOptions::new();
            options.write(true).create_new(true);
            match dir.open_with(NAME, &options) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return with(None),
                Ok(_) | Err(_) => {}
            }
            match open_locked(dir, OsStr::new(NAME)) {
                Ok(Some(file)) if is_current(dir, &file) || (is_last && inodes_change) => {
                    return with(Some(file));
                }
                Ok(None) => return None,
                // The client that had it has just removed it.
                Ok(Some(_)) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::debug!(folder = %self.0.path.display(), %error, "cannot lock the folder");
                    return with(None);
                }
            }
        }
        None
    }
}

/// Whether the lock file still has its name.
fn is_current(dir: &Dir, file: &File) -> bool {
    let (Ok(named), Ok(locked)) = (dir.symlink_metadata(NAME), file.metadata()) else {
        return false;
    };
    #[cfg(unix)]
    {
        use cap_std::fs::MetadataExt as _;
        use std::os::unix::fs::MetadataExt as _;
        (named.dev(), named.ino()) == (locked.dev(), locked.ino())
    }
    #[cfg(not(unix))]
    {
        let _ = locked;
        named.is_file()
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        if self.file.is_some() {
            // While it is locked: the next client makes another one. If this fails, that one uses it.
            let _ = self.folder.dir.remove_file(NAME);
        }
    }
}

impl fmt::Debug for FolderLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FolderLock")
            .field("folder", &self.folder.path)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, any(unix, windows)))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::{fs, thread};

    use super::*;

    #[test]
    fn a_folder_has_one_lock_and_no_file_of_it_is_left() {
        let temp = tempfile::tempdir().unwrap();
        let folder = OutputFolder::open(temp.path()).unwrap();
        let other = OutputFolder::open(temp.path()).unwrap();
        let lock = folder.try_lock();
        assert!(lock.is_some() && folder.try_lock().is_none() && other.try_lock().is_none());
        drop(lock);
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
        let lock = other.try_lock();
        assert!(lock.is_some() && folder.try_lock().is_none());
    }

    #[test]
    fn a_lock_file_of_a_client_that_was_killed_locks_nobody_out() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join(NAME), "").unwrap();
        let folder = OutputFolder::open(temp.path()).unwrap();
        assert!(folder.try_lock().is_some());
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_under_the_name_of_the_lock_file_locks_nobody_out_and_stays() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join(NAME)).unwrap();
        let folder = OutputFolder::open(temp.path()).unwrap();
        drop(folder.try_lock());
        assert!(folder.try_lock().is_some());
        assert!(temp.path().join(NAME).is_dir());
    }

    #[test]
    fn several_clients_never_have_the_lock_at_the_same_time() {
        let temp = tempfile::tempdir().unwrap();
        let (holders, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let folder = OutputFolder::open(temp.path()).unwrap();
                    while taken.load(Ordering::SeqCst) < 400 {
                        let Some(lock) = folder.try_lock() else {
                            thread::yield_now();
                            continue;
                        };
                        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                        taken.fetch_add(1, Ordering::SeqCst);
                        holders.fetch_sub(1, Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
    }
}
