//! File system events of the folder, where the system offers them.

#[cfg(any(windows, target_os = "macos", test))]
mod hints;
#[cfg(target_os = "linux")]
mod inotify;
#[cfg(target_os = "linux")]
mod mount_table;
#[cfg(not(any(windows, target_os = "linux", target_os = "macos")))]
mod none;
#[cfg(any(target_os = "macos", all(test, target_os = "linux")))]
mod notify;
#[cfg(windows)]
mod read_changes;
#[cfg(any(windows, test))]
mod records;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cap_std::fs::Dir;

use super::record::Name;
use super::schedule::FileEvent;
use super::scope::Scope;
use super::select::Naming;
#[cfg(target_os = "linux")]
use inotify::Inotify as Source;
#[cfg(not(any(windows, target_os = "linux", target_os = "macos")))]
use none::NoEvents as Source;
#[cfg(target_os = "macos")]
use notify::Notify as Source;
#[cfg(windows)]
use read_changes::ReadChanges as Source;

/// An event of the folder.
#[derive(Debug)]
#[cfg_attr(
    not(any(windows, target_os = "linux", target_os = "macos")),
    allow(dead_code)
)]
pub(super) enum WatchEvent {
    File(Name, FileEvent),
    /// The sub-folder of that path was created, moved, removed or changed. // W9
    Folder(Name),
    /// Events were lost, or concern the folder itself.
    Rescan,
    /// There will be no more events.
    Failed,
}

/// Receives events on a thread of the watcher, and returns `false` to end it.
pub(super) type EventSink = Arc<dyn Fn(WatchEvent) -> bool + Send + Sync>;

/// Watches the folder between [`Watcher::start`] and [`Watcher::stop`].
pub(super) struct Watcher {
    folder: PathBuf,
    sink: EventSink,
    naming: Naming,
    source: Option<Source>,
    /// Whether a sub-folder is not watched. // W9
    incomplete: AtomicBool,
    /// Whether the log says already that a sub-folder is not watched.
    incomplete_logged: AtomicBool,
    /// Whether the log says already that the folder is scanned because there are no events.
    logged: bool,
}

impl Watcher {
    pub(super) fn new(folder: PathBuf, naming: Naming, sink: EventSink) -> Watcher {
        Watcher {
            folder,
            sink,
            naming,
            source: None,
            incomplete: AtomicBool::new(false),
            incomplete_logged: AtomicBool::new(false),
            // A system without events needs no line for each folder.
            logged: !Source::IS_SUPPORTED,
        }
    }

    /// Whether events arrive.
    pub(super) fn is_active(&self) -> bool {
        self.source.is_some()
    }

    /// Starts to watch the open folder, if it is on a file system with complete events.
    pub(super) fn start(&mut self, dir: &Dir) {
        let logged = std::mem::replace(&mut self.logged, true);
        if Source::is_remote(dir, &self.folder) {
            if !logged {
                tracing::info!(
                    folder = %self.folder.display(),
                    "the images folder is on a file system without complete events; it is scanned every second"
                );
            }
            return;
        }
        match Source::start(dir, &self.folder, self.naming, Arc::clone(&self.sink)) {
            Ok(source) => {
                self.source = Some(source);
                // If events end one day, the log has to say so.
                self.logged = false;
            }
            Err(e) if !logged => tracing::warn!(
                folder = %self.folder.display(), error = %e,
                "cannot watch the images folder; it is scanned every second instead"
            ),
            Err(_) => {}
        }
    }

    /// Whether events arrive from all folders.
    pub(super) fn is_complete(&self) -> bool {
        self.is_active() && !self.incomplete.load(Ordering::Relaxed)
    }

    /// Watches a sub-folder, or goes on to do so under its present path.
    pub(super) fn watch(&self, dir: &Dir, path: &Name) {
        let Some(source) = &self.source else {
            return;
        };
        let Err(error) = source.watch(dir, &self.folder, path) else {
            return;
        };
        self.incomplete.store(true, Ordering::Relaxed);
        if !self.incomplete_logged.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                folder = ?path, reason = %error,
                "cannot watch a sub-folder; the images folder is scanned every second instead, or less often if that \
                 takes long"
            );
        }
    }

    /// A scan begins, which watches each sub-folder that it covers.
    pub(super) fn begin_scan(&self, scope: &Scope) {
        if scope.is_whole() {
            self.incomplete.store(false, Ordering::Relaxed);
        }
        if let Some(source) = &self.source {
            source.begin_scan();
        }
    }

    /// The scan is complete: folders that it covers and did not find are not watched any more.
    pub(super) fn end_scan(&self, scope: &Scope) {
        if let Some(source) = &self.source {
            source.end_scan(scope);
        }
        if self.is_complete() {
            // If watches are missing one day, the log has to say so.
            self.incomplete_logged.store(false, Ordering::Relaxed);
        }
    }

    pub(super) fn stop(&mut self) {
        self.source = None;
    }
}
