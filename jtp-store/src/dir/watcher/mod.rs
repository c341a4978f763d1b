//! File system events of the folder, where the system offers them.

#[cfg(target_os = "linux")]
mod inotify;
#[cfg(target_os = "linux")]
mod mount_table;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cap_std::fs::Dir;

use super::record::Name;
use super::schedule::FileEvent;
use super::scope::Scope;
use super::select::Naming;
#[cfg(target_os = "linux")]
use crate::lease;
#[cfg(target_os = "linux")]
use inotify::Inotify;
#[cfg(target_os = "linux")]
use rustix::io::Errno;

/// An event of the folder.
#[derive(Debug)]
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
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
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    folder: PathBuf,
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    sink: EventSink,
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    naming: Naming,
    #[cfg(target_os = "linux")]
    inotify: Option<Inotify>,
    /// Whether a sub-folder is not watched. // W9
    incomplete: AtomicBool,
    /// Whether the log says already that a sub-folder is not watched.
    #[cfg(target_os = "linux")]
    incomplete_logged: AtomicBool,
    /// Whether the log says already that the folder is scanned because there are no events.
    #[cfg(target_os = "linux")]
    logged: bool,
}

impl Watcher {
    pub(super) fn new(folder: PathBuf, naming: Naming, sink: EventSink) -> Watcher {
        Watcher {
            folder,
            sink,
            naming,
            #[cfg(target_os = "linux")]
            inotify: None,
            incomplete: AtomicBool::new(false),
            #[cfg(target_os = "linux")]
            incomplete_logged: AtomicBool::new(false),
            #[cfg(target_os = "linux")]
            logged: false,
        }
    }

    /// Whether events arrive.
    #[cfg(target_os = "linux")]
    pub(super) fn is_active(&self) -> bool {
        self.inotify.is_some()
    }

    #[cfg(not(target_os = "linux"))]
    #[allow(clippy::unused_self)]
    pub(super) fn is_active(&self) -> bool {
        false
    }

    /// Starts to watch the open folder, if it is on a file system with complete events.
    #[cfg(target_os = "linux")]
    pub(super) fn start(&mut self, dir: &Dir) {
        let logged = std::mem::replace(&mut self.logged, true);
        if lease::is_remote(rustix::fs::fstatfs(dir)) {
            if !logged {
                tracing::info!(
                    folder = %self.folder.display(),
                    "the images folder is on a file system without complete events; it is scanned every second"
                );
            }
            return;
        }
        match Inotify::start(dir, &self.folder, self.naming, Arc::clone(&self.sink)) {
            Ok(inotify) => {
                self.inotify = Some(inotify);
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

    #[cfg(not(target_os = "linux"))]
    #[allow(clippy::unused_self)]
    pub(super) fn start(&mut self, _: &Dir) {}

    /// Whether events arrive from all folders.
    pub(super) fn is_complete(&self) -> bool {
        self.is_active() && !self.incomplete.load(Ordering::Relaxed)
    }

    /// Watches a sub-folder, or goes on to do so under its present path.
    #[cfg(target_os = "linux")]
    pub(super) fn watch(&self, dir: &Dir, path: &Name) {
        let Some(inotify) = &self.inotify else {
            return;
        };
        let reason = if lease::is_remote(rustix::fs::fstatfs(dir)) {
            "its file system has no complete events".to_owned()
        } else {
            match inotify.watch(dir, &self.folder, path) {
                Ok(()) => return,
                Err(Errno::NOSPC) => {
                    "the limit fs.inotify.max_user_watches is reached; raise it".to_owned()
                }
                Err(error) => error.to_string(),
            }
        };
        self.incomplete.store(true, Ordering::Relaxed);
        if !self.incomplete_logged.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                folder = ?path, reason,
                "cannot watch a sub-folder; the images folder is scanned every second instead, or less often if that \
                 takes long"
            );
        }
    }

    #[cfg(not(target_os = "linux"))]
    #[allow(clippy::unused_self)]
    pub(super) fn watch(&self, _: &Dir, _: &Name) {}

    /// A scan begins, which watches each sub-folder that it covers.
    pub(super) fn begin_scan(&self, scope: &Scope) {
        if scope.is_whole() {
            self.incomplete.store(false, Ordering::Relaxed);
        }
        #[cfg(target_os = "linux")]
        if let Some(inotify) = &self.inotify {
            inotify.begin_scan();
        }
    }

    /// The scan is complete: folders that it covers and did not find are not watched any more.
    #[cfg_attr(not(target_os = "linux"), allow(clippy::unused_self, unused_variables))]
    pub(super) fn end_scan(&self, scope: &Scope) {
        #[cfg(target_os = "linux")]
        {
            if let Some(inotify) = &self.inotify {
                inotify.end_scan(scope);
            }
            if self.is_complete() {
                // If watches are missing one day, the log has to say so.
                self.incomplete_logged.store(false, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn stop(&mut self) {
        #[cfg(target_os = "linux")]
        {
            self.inotify = None;
        }
    }
}
