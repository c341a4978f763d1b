//! The folder itself: opens it, notices that it is missing or replaced, and plans its scans.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cap_std::fs::Dir;

use super::place::Place;
use super::record::Name;
use super::scope::{Changed, Scope};
use super::select::Naming;
use super::settings::Follow;
use super::shared::SharedDir;
use super::watcher::{EventSink, Watcher};
use crate::file_system::FileSystem;
use crate::hash;

/// The interval of scans while events arrive, in case one was missed.
const SCAN_INTERVAL: Duration = Duration::from_secs(60);

/// The interval of scans without events. With events it is the interval of the check that the path still leads to
/// this folder: while the folder is open here, no event says that it was removed. The check is one system call.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How long events of sub-folders are collected before they are scanned.
const COLLECT: Duration = Duration::from_millis(50);

const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// The folder, and when it is to be checked and scanned.
pub(super) struct Folder {
    /// As the caller gave it.
    path: PathBuf,
    place: Place,
    follow: Follow,
    watcher: Watcher,
    dir: Option<Arc<Dir>>,
    /// That of the open folder.
    file_system: Option<FileSystem>,
    distrust_inodes: bool,
    /// Whether the log says already that inodes are not trusted.
    distrust_logged: bool,
    /// Whether another folder was opened in place of an open one.
    replaced: bool,
    /// The open folder, for the threads that open images.
    shared: Arc<SharedDir>,
    check_at: Option<Instant>,
    /// The earliest time of the next scan; `None` means that the next check is a scan.
    scan_at: Option<Instant>,
    /// The sub-folders that changed, and the time of their scan. // W9
    changed: Changed,
    scan_soon_at: Option<Instant>,
    /// Whether the open folder was scanned.
    is_scanned: bool,
    /// When the last complete scan of changed sub-folders, or of the whole folder, began.
    scanned_at: Option<Instant>,
    /// Until then there is no further one, so that a tree that changes all the time is scanned a quarter of the time.
    rest_until: Instant,
}

impl Folder {
    pub(super) fn new(
        path: PathBuf,
        follow: Follow,
        naming: Naming,
        distrust_inodes: bool,
        shared: Arc<SharedDir>,
        events: EventSink,
    ) -> Folder {
        Folder {
            watcher: Watcher::new(path.clone(), naming, events),
            place: Place::new(path.clone()),
            path,
            follow,
            dir: None,
            file_system: None,
            distrust_inodes,
            distrust_logged: false,
            replaced: false,
            shared,
            check_at: Some(Instant::now()),
            scan_at: None,
            changed: Changed::default(),
            scan_soon_at: None,
            is_scanned: false,
            scanned_at: None,
            rest_until: Instant::now(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The open folder; `None` while it is missing.
    pub(super) fn dir(&self) -> Option<&Arc<Dir>> {
        self.dir.as_ref()
    }

    /// The file system of the open folder.
    pub(super) fn file_system(&self) -> Option<FileSystem> {
        self.file_system
    }

    /// Whether another folder has taken the place of the open one since the last call.
    pub(super) fn take_replaced(&mut self) -> bool {
        std::mem::take(&mut self.replaced)
    }

    /// When [`Folder::open`] is to be called next.
    pub(super) fn next_check(&self) -> Option<Instant> {
        self.check_at.into_iter().chain(self.scan_soon_at).min()
    }

    /// Opens the folder, or opens it again if the path leads to another one now. Returns the open folder and
    /// what is to be scanned, if anything is.
    pub(super) fn open(&mut self, now: Instant) -> io::Result<Option<(Arc<Dir>, Scope)>> {
        self.reopen()?;
        let is_whole = self.scan_at.is_none_or(|at| at <= now);
        let is_soon = self.scan_soon_at.is_some_and(|at| at <= now);
        let Some(dir) = self.dir.clone().filter(|_| is_whole || is_soon) else {
            return Ok(None);
        };
        self.scan_soon_at = None;
        let changed = self.changed.take();
        let scope = match is_whole {
            true => Scope::Whole,
            false => changed,
        };
        Ok(Some((dir, scope)))
    }

    fn reopen(&mut self) -> io::Result<()> {
        if let Some(dir) = &self.dir {
            if self.place.leads_to(dir)? {
                if self.follow == Follow::Events && !self.watcher.is_active() {
                    self.watcher.start(dir);
                }
                return Ok(());
            }
        }
        let is_open = self.dir.is_some();
        let dir = Arc::new(self.place.open().map_err(|error| match is_open {
            // The images are not there, whatever the reason.
            true if hash::is_inconclusive(&error) && !hash::is_shortage(&error) => io::Error::new(
                error.kind(),
                format!("another folder has taken its place: {error}"),
            ),
            _ => error,
        })?);
        if self.dir.is_some() {
            tracing::info!(folder = %self.path.display(), "the images folder was replaced by another one");
            self.replaced = true;
        }
        // Watched before it is scanned, so that no change is missed.
        self.watcher.stop();
        if self.follow == Follow::Events {
            self.watcher.start(&dir);
        }
        let file_system = FileSystem::of(&dir, self.distrust_inodes);
        if file_system.is_notable() && !std::mem::replace(&mut self.distrust_logged, true) {
            tracing::warn!(
                folder = %self.path.display(),
                "the file system of the images folder has no lasting inodes; files are known by name, size and time, \
                 and new ones are read twice"
            );
        }
        self.file_system = Some(file_system);
        self.shared.set(Some(Arc::clone(&dir)));
        self.dir = Some(dir);
        (self.is_scanned, self.scan_at) = (false, None);
        Ok(())
    }

    /// Whether the folder is followed by events, and seldom scanned.
    pub(super) fn has_events(&self) -> bool {
        self.watcher.is_complete()
    }

    /// Watches the sub-folders that a scan finds.
    pub(super) fn watcher(&self) -> &Watcher {
        &self.watcher
    }

    /// Plans the next scan after a complete one that began at `begun`.
    pub(super) fn scanned(&mut self, scope: &Scope, begun: Instant) {
        self.watcher.end_scan(scope);
        (self.is_scanned, self.scanned_at) = (true, Some(begun));
        if !self.watcher.is_complete() {
            self.scan_at = None;
        } else if scope.is_whole() {
            self.scan_at = begun.checked_add(SCAN_INTERVAL);
        }
        if !scope.is_whole() {
            let now = Instant::now();
            self.rest_until = now + now.saturating_duration_since(begun) * 3;
        }
    }

    /// Whether the open folder was scanned, so that it is the one whose images are listed.
    pub(super) fn is_scanned(&self) -> bool {
        self.dir.is_some() && self.is_scanned
    }

    /// A scan was not completed: the next check is a scan of the whole folder.
    pub(super) fn scan_failed(&mut self) {
        self.scan_at = None;
    }

    /// Plans a scan of a sub-folder that changed.
    pub(super) fn scan_soon(&mut self, path: Name, now: Instant) {
        self.changed.add(path);
        let at = self.rest_until.max(now + COLLECT);
        self.scan_soon_at.get_or_insert(at);
    }

    /// While a scan of changed sub-folders is planned: when the last scan began. What is missing since then may have been
    /// moved to one of them.
    pub(super) fn not_scanned_since(&self) -> Option<Instant> {
        self.scanned_at.filter(|_| self.scan_soon_at.is_some())
    }

    /// The folder is missing or cannot be read.
    pub(super) fn close(&mut self) {
        self.watcher.stop();
        self.shared.set(None);
        (self.dir, self.file_system) = (None, None);
        (self.changed, self.scan_soon_at) = (Changed::default(), None);
    }

    /// Plans the next check after one that began at `begun`.
    pub(super) fn plan_check(&mut self, begun: Instant) {
        let interval = match self.follow {
            Follow::Never => None,
            Follow::Interval(interval) if self.dir.is_some() => Some(interval.max(MIN_INTERVAL)),
            // A missing folder is looked for at least as often as with events.
            Follow::Interval(interval) => {
                let interval = interval.clamp(MIN_INTERVAL, CHECK_INTERVAL);
                Some(interval.max(begun.elapsed() * 3))
            }
            // A large or slow folder is scanned at most a quarter of the time.
            Follow::Events => Some(CHECK_INTERVAL.max(begun.elapsed() * 3)),
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use jtp_kit::logged_by;

    fn open(path: &Path, follow: Follow) -> Folder {
        let (shared, events): (_, EventSink) = (Arc::default(), Arc::new(|_| true));
        Folder::new(path.to_owned(), follow, Naming::Tree, true, shared, events)
    }

    #[test]
    fn w9_lost_events_and_failed_scans_lead_to_a_scan_of_the_whole_folder() {
        let place = tempfile::tempdir().unwrap();
        let mut folder = open(place.path(), Follow::Events);
        let now = Instant::now();
        let scope = |folder: &mut Folder, at| folder.open(at).unwrap().map(|(_, scope)| scope);
        let is_whole = |folder: &mut Folder| scope(folder, now).map(|scope| scope.is_whole());
        assert_eq!(is_whole(&mut folder), Some(true));
        assert!(!folder.is_scanned());
        folder.scanned(&Scope::Whole, now);
        folder.plan_check(now);
        assert!(folder.is_scanned() && folder.next_check().unwrap() > now);
        assert_eq!(is_whole(&mut folder), None, "there are events");
        let due: [fn(&mut Folder, Instant); 3] = [
            Folder::scan_now,
            |folder, _| folder.scan_failed(),
            |folder, _| folder.events_ended(),
        ];
        for due in due {
            due(&mut folder, now);
            assert_eq!(is_whole(&mut folder), Some(true));
            folder.scanned(&Scope::Whole, now);
        }
        assert_eq!(folder.next_check(), Some(now), "events were lost");
        // Changed sub-folders are scanned soon, and then a quarter of the time.
        let name = || Name::from(std::ffi::OsStr::new("a"));
        folder.scan_soon(name(), now);
        assert_eq!(folder.scan_soon_at, Some(now + COLLECT));
        let below = scope(&mut folder, now + COLLECT).unwrap();
        assert!(!below.is_whole());
        let begun = now.checked_sub(Duration::from_secs(1)).unwrap();
        folder.scanned(&below, begun);
        folder.scan_soon(name(), now);
        assert!(folder.scan_soon_at.unwrap() >= now + Duration::from_secs(3));
        folder.close();
        assert!(!folder.is_scanned() && folder.scan_soon_at.is_none());
    }

    #[test]
    fn the_log_says_once_for_each_folder_that_inodes_are_not_trusted() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("images");
        let logged = logged_by(|| {
            let mut folder = open(&path, Follow::Never);
            for _ in 0..3 {
                std::fs::create_dir(&path).unwrap();
                assert!(folder.open(Instant::now()).unwrap().is_some());
                assert!(!folder.file_system().unwrap().trusts_inodes());
                std::fs::remove_dir(&path).unwrap();
                folder.close();
            }
        });
        let warnings = logged
            .iter()
            .filter(|(_, text)| text.contains("no lasting inodes"));
        assert_eq!(warnings.count(), 1);
    }
}
