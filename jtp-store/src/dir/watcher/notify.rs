//! Events from the crate notify: FSEvents on macOS. Tests run this module on Linux, too.

use std::io;
use std::path::Path;
use std::sync::Arc;

use ::notify::event::{EventKind, ModifyKind};
use ::notify::{Event, RecommendedWatcher, RecursiveMode, Watcher as _};
use cap_std::fs::Dir;

use super::hints::{Change, Hints};
use super::{EventSink, WatchEvent};
use crate::dir::record::Name;
use crate::dir::scope::Scope;
use crate::dir::select::Naming;

/// Forwards the events of a folder until it is dropped.
pub(super) struct Notify {
    hints: Arc<Hints>,
    _watcher: RecommendedWatcher,
}

impl Notify {
    #[cfg(target_os = "macos")]
    pub(super) const IS_SUPPORTED: bool = true;

    /// Whether the open folder can change without events: FSEvents does not report what other machines change.
    #[cfg(target_os = "macos")]
    pub(super) fn is_remote(dir: &Dir, _: &Path) -> bool {
        /// From sys/mount.h.
        const MNT_LOCAL: u32 = 0x1000;
        rustix::fs::fstatfs(dir).is_ok_and(|found| found.f_flags & MNT_LOCAL == 0)
    }

    #[cfg(not(target_os = "macos"))]
    fn is_remote(_: &Dir, _: &Path) -> bool {
        false
    }

    /// Watches the folder to which `path` leads. The system compares no handles: if another folder takes its place, the
    /// events of that one lead to checks in the open folder, until its path is checked.
    pub(super) fn start(
        _: &Dir,
        path: &Path,
        naming: Naming,
        sink: EventSink,
    ) -> io::Result<Notify> {
        // FSEvents reports paths without links.
        let root = path.canonicalize()?;
        if root.to_str().is_none() {
            // The crate accepts no such path.
            return Err(io::Error::other("its path is not valid UTF-8"));
        }
        let hints = Arc::new(Hints::new(root.clone(), naming));
        let handler = {
            let (root, hints) = (root.clone(), Arc::clone(&hints));
            move |event| {
                for event in translate(&root, &hints, event) {
                    // When the receiver is gone, the watcher is about to be dropped.
                    let _ = sink(event);
                }
            }
        };
        let mode = match naming {
            Naming::Flat => RecursiveMode::NonRecursive,
            Naming::Tree => RecursiveMode::Recursive,
        };
        let mut watcher = ::notify::recommended_watcher(handler).map_err(io::Error::other)?;
        watcher.watch(&root, mode).map_err(io::Error::other)?;
        Ok(Notify {
            hints,
            _watcher: watcher,
        })
    }

    /// Notes a sub-folder, which is watched already.
    pub(super) fn watch(&self, dir: &Dir, root: &Path, path: &Name) -> io::Result<()> {
        self.hints.add_folder(path);
        match Notify::is_remote(dir, root) {
            true => Err(io::Error::other("its file system has no complete events")),
            false => Ok(()),
        }
    }

    pub(super) fn begin_scan(&self) {
        self.hints.begin_scan();
    }

    pub(super) fn end_scan(&self, scope: &Scope) {
        self.hints.end_scan(scope);
    }
}

/// What an event of the crate means.
fn translate(root: &Path, hints: &Hints, event: ::notify::Result<Event>) -> Vec<WatchEvent> {
    let event = match event {
        Ok(event) if event.need_rescan() => return vec![WatchEvent::Rescan],
        Ok(event) => event,
        Err(error) => {
            tracing::warn!(%error, "cannot read events of the images folder; it is scanned instead");
            return vec![WatchEvent::Failed];
        }
    };
    let change = match event.kind {
        // Also this process's own reads.
        EventKind::Access(_) => return Vec::new(),
        EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_)) => Change::Contents,
        _ => Change::Name,
    };
    let below = |path: &std::path::PathBuf| match path.strip_prefix(root) {
        Ok(below) => hints.translate(below, change),
        Err(_) => Some(WatchEvent::Rescan),
    };
    event.paths.iter().filter_map(below).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::mpsc::{self, Receiver};
    use std::time::Duration;

    use ::notify::event::Flag;

    use super::*;
    use crate::dir::schedule::FileEvent;

    fn until(events: &Receiver<WatchEvent>, due: impl Fn(&WatchEvent) -> bool) {
        let limit = Duration::from_secs(20);
        while !due(&events.recv_timeout(limit).expect("the event within 20 s")) {}
    }

    #[test]
    fn w9_changes_of_files_and_folders_arrive_with_their_paths_below_the_folder() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("images");
        fs::create_dir_all(root.join("sub")).unwrap();
        let dir = Dir::open_ambient_dir(&root, cap_std::ambient_authority()).unwrap();
        let (sender, events) = mpsc::channel();
        let sink: EventSink = Arc::new(move |event| sender.send(event).is_ok());
        let source = Notify::start(&dir, &root, Naming::Tree, sink).unwrap();
        source.begin_scan();
        let sub = Name::from(std::ffi::OsStr::new("sub"));
        source.watch(&dir, &root, &sub).unwrap();
        source.end_scan(&Scope::Whole);

        let is_file = |event: &WatchEvent, path: &str, due: &[FileEvent]| match event {
            WatchEvent::File(name, event) => &**name == path && due.contains(event),
            _ => false,
        };
        let is_folder = |event: &WatchEvent, path: &str| match event {
            WatchEvent::Folder(name) => &**name == path,
            _ => false,
        };
        let appeared = [FileEvent::Created, FileEvent::Changed];
        fs::write(root.join("sub/x.png"), "x").unwrap();
        until(&events, |event| is_file(event, "sub/x.png", &appeared));
        fs::rename(root.join("sub/x.png"), root.join("y.png")).unwrap();
        until(&events, |event| {
            is_file(event, "sub/x.png", &[FileEvent::Removed])
        });
        until(&events, |event| is_file(event, "y.png", &appeared));
        fs::remove_file(root.join("y.png")).unwrap();
        until(&events, |event| {
            is_file(event, "y.png", &[FileEvent::Removed])
        });
        fs::rename(root.join("sub"), root.join("moved")).unwrap();
        until(&events, |event| is_folder(event, "sub"));
        until(&events, |event| is_folder(event, "moved"));
        drop(source);
        assert!(
            events
                .iter()
                .all(|event| !matches!(event, WatchEvent::Failed))
        );
    }

    #[test]
    fn lost_events_lead_to_a_scan_and_an_error_ends_the_events() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path();
        let hints = Hints::new(root.to_owned(), Naming::Tree);
        let translate = |event| translate(root, &hints, event);
        let lost = Event::new(EventKind::Other).set_flag(Flag::Rescan);
        assert!(matches!(translate(Ok(lost))[..], [WatchEvent::Rescan]));
        let error = ::notify::Error::generic("broken");
        assert!(matches!(translate(Err(error))[..], [WatchEvent::Failed]));
        let outside = Event::new(EventKind::Any).add_path("/elsewhere".into());
        assert!(matches!(translate(Ok(outside))[..], [WatchEvent::Rescan]));
        let gone = Event::new(EventKind::Any).add_path(root.to_owned());
        assert!(matches!(translate(Ok(gone))[..], [WatchEvent::Rescan]));
    }
}
