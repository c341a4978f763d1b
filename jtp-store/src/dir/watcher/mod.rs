//! File system events of the folder, where the system offers them.

#[cfg(target_os = "linux")]
mod inotify;

use std::path::PathBuf;
use std::sync::Arc;

use cap_std::fs::Dir;

use super::record::Name;
use super::schedule::FileEvent;
#[cfg(target_os = "linux")]
use crate::lease;
#[cfg(target_os = "linux")]
use inotify::Inotify;

/// An event of the folder.
#[derive(Debug)]
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
pub(super) enum WatchEvent {
    File(Name, FileEvent),
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
    #[cfg(target_os = "linux")]
    inotify: Option<Inotify>,
    /// Whether the log says already that the folder is scanned because there are no events.
    #[cfg(target_os = "linux")]
    logged: bool,
}

impl Watcher {
    pub(super) fn new(folder: PathBuf, sink: EventSink) -> Watcher {
        Watcher {
            folder,
            sink,
            #[cfg(target_os = "linux")]
            inotify: None,
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
        match Inotify::start(dir, &self.folder, Arc::clone(&self.sink)) {
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

    pub(super) fn stop(&mut self) {
        #[cfg(target_os = "linux")]
        {
            self.inotify = None;
        }
    }
}
