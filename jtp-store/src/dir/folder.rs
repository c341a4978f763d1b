//! The folder itself: opens it, notices that it is missing or replaced, and plans its scans.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cap_std::ambient_authority;
use cap_std::fs::Dir;

use super::settings::Follow;
use super::shared::SharedDir;
use super::watcher::{EventSink, Watcher};
use crate::fingerprint::Fingerprint;

/// The interval of scans while events arrive, in case one was missed.
const SCAN_INTERVAL: Duration = Duration::from_secs(60);

/// The interval of scans without events. With events it is the interval of the check that the path still leads to
/// this folder: while the folder is open here, no event says that it was removed. The check is one system call.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// The folder, and when it is to be checked and scanned.
pub(super) struct Folder {
    path: PathBuf,
    follow: Follow,
    watcher: Watcher,
    dir: Option<Arc<Dir>>,
    /// The open folder, for the threads that open images.
    shared: Arc<SharedDir>,
    check_at: Option<Instant>,
    /// The earliest time of the next scan; `None` means that the next check is a scan.
    scan_at: Option<Instant>,
}

impl Folder {
    pub(super) fn new(
        path: PathBuf,
        follow: Follow,
        shared: Arc<SharedDir>,
        events: EventSink,
    ) -> Folder {
        Folder {
            watcher: Watcher::new(path.clone(), events),
            path,
            follow,
            dir: None,
            shared,
            check_at: Some(Instant::now()),
            scan_at: None,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The open folder; `None` while it is missing.
    pub(super) fn dir(&self) -> Option<&Arc<Dir>> {
        self.dir.as_ref()
    }

    /// When [`Folder::open`] is to be called next.
    pub(super) fn next_check(&self) -> Option<Instant> {
        self.check_at
    }

    /// Opens the folder, or opens it again if the path leads to another one now. Returns the open folder if it
    /// is to be scanned.
    pub(super) fn open(&mut self, now: Instant) -> io::Result<Option<Arc<Dir>>> {
        self.reopen()?;
        let scan = self.scan_at.is_none_or(|at| at <= now);
        Ok(self.dir.clone().filter(|_| scan))
    }

    fn reopen(&mut self) -> io::Result<()> {
        let found = Fingerprint::of(&std::fs::metadata(&self.path)?);
        if let Some(dir) = &self.dir {
            if is_folder(dir, &found)? {
                if self.follow == Follow::Events && !self.watcher.is_active() {
                    self.watcher.start();
                }
                return Ok(());
            }
            tracing::info!(folder = %self.path.display(), "the images folder was replaced by another one");
        }
        // Watched before it is scanned, so that no change is missed.
        self.watcher.stop();
        if self.follow == Follow::Events {
            self.watcher.start();
        }
        let dir = Arc::new(Dir::open_ambient_dir(&self.path, ambient_authority())?);
        self.shared.set(Some(Arc::clone(&dir)));
        self.dir = Some(dir);
        self.scan_at = None;
        Ok(())
    }

    /// Whether the folder is followed by events, and seldom scanned.
    pub(super) fn has_events(&self) -> bool {
        self.watcher.is_active()
    }

    /// Plans the next scan after a complete one.
    pub(super) fn scanned(&mut self, now: Instant) {
        let next = now.checked_add(SCAN_INTERVAL);
        self.scan_at = next.filter(|_| self.watcher.is_active());
    }

    /// The folder is missing or cannot be read.
    pub(super) fn close(&mut self) {
        self.watcher.stop();
        self.shared.set(None);
        self.dir = None;
    }

    /// Plans the next check after one that began at `begun`.
    pub(super) fn plan_check(&mut self, begun: Instant) {
        let interval = match self.follow {
            Follow::Never => None,
            Follow::Interval(interval) if self.dir.is_some() => Some(interval.max(MIN_INTERVAL)),
            // A large or slow folder is scanned at most a quarter of the time.
            Follow::Events | Follow::Interval(_) => Some(CHECK_INTERVAL.max(begun.elapsed() * 3)),
        };
        self.check_at = interval.and_then(|interval| Instant::now().checked_add(interval));
    }

    /// Events were lost.
    pub(super) fn scan_now(&mut self, now: Instant) {
        (self.check_at, self.scan_at) = (Some(now), None);
    }

    /// There are no more events: the folder is scanned until the watcher starts again.
    pub(super) fn events_ended(&mut self) {
        self.watcher.stop();
        self.scan_at = None;
    }
}

fn is_folder(dir: &Dir, found: &Fingerprint) -> io::Result<bool> {
    let open = Fingerprint::of_cap(&dir.dir_metadata()?);
    // Without inodes a folder is known by its path alone.
    Ok(cfg!(not(unix)) || open.is_same_file(found))
}
