//! Events from inotify.
//!
//! A general file watcher also subscribes to open events. A server opens files all day: its own reads would
//! overflow the event queue. This one subscribes to changes only.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use cap_std::fs::Dir;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::mount_table::MountTable;
use super::{EventSink, WatchEvent};
use crate::dir::record::Name;
use crate::dir::schedule::FileEvent;
use crate::dir::scope::Scope;
use crate::dir::select::Naming;
use crate::dir::tree::join;
use crate::lease;

/// A thread that forwards the events of a folder until it is dropped.
pub(super) struct Inotify {
    queue: Arc<OwnedFd>,
    /// With sub-folders. // W9
    tree: Option<Arc<Mutex<Watches>>>,
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Inotify {
    pub(super) const IS_SUPPORTED: bool = true;

    /// Whether the open folder can change without events.
    pub(super) fn is_remote(dir: &Dir, _: &Path) -> bool {
        lease::is_remote(rustix::fs::fstatfs(dir))
    }

    /// Watches the open folder. `path` leads there, too.
    pub(super) fn start(
        dir: &Dir,
        path: &Path,
        naming: Naming,
        sink: EventSink,
    ) -> io::Result<Inotify> {
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let root = add_watch(&queue, dir, path, WatchFlags::empty())?;
        let queue = Arc::new(queue);
        let tree = (naming == Naming::Tree).then(|| Arc::new(Mutex::new(Watches::new(root))));
        let mounts = tree.is_some().then(|| MountTable::open(dir));
        let mounts = mounts.and_then(Result::ok);
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let thread = thread::Builder::new()
            .name("jtp-watcher".to_owned())
            .spawn({
                let (queue, tree, woken) = (Arc::clone(&queue), tree.clone(), Arc::clone(&wake));
                move || listen(&queue, tree.as_deref(), mounts, &woken, &sink)
            })?;
        Ok(Inotify {
            queue,
            tree,
            wake,
            thread: Some(thread),
        })
    }

    /// Watches a sub-folder. `root` leads to the folder.
    pub(super) fn watch(&self, dir: &Dir, root: &Path, path: &Name) -> io::Result<()> {
        let Some(tree) = &self.tree else {
            return Ok(());
        };
        let place = root.join(Path::new(&**path));
        if Inotify::is_remote(dir, &place) {
            return Err(io::Error::other("its file system has no complete events"));
        }
        // Until the path is known, the thread waits with an event of this folder.
        let mut watches = lock(tree);
        let watch = add_watch(&self.queue, dir, &place, WatchFlags::DONT_FOLLOW);
        let watch = watch.map_err(|errno| match errno {
            Errno::NOSPC => {
                io::Error::other("the limit fs.inotify.max_user_watches is reached; raise it")
            }
            errno => errno.into(),
        })?;
        watches.put(watch, Name::clone(path));
        Ok(())
    }

    pub(super) fn begin_scan(&self) {
        if let Some(tree) = &self.tree {
            lock(tree).scan += 1;
        }
    }

    pub(super) fn end_scan(&self, scope: &Scope) {
        if let Some(tree) = &self.tree {
            for watch in lock(tree).take_stale(scope) {
                let _ = inotify::remove_watch(&self.queue, watch);
            }
        }
    }
}

fn lock(tree: &Mutex<Watches>) -> MutexGuard<'_, Watches> {
    tree.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Watches an open folder. `path` leads there, too.
fn add_watch(queue: &OwnedFd, dir: &Dir, path: &Path, more: WatchFlags) -> Result<i32, Errno> {
    let wanted = WatchFlags::CREATE
        | WatchFlags::MODIFY
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::MOVED_TO
        | WatchFlags::MOVED_FROM
        | WatchFlags::DELETE
        | WatchFlags::ATTRIB
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF
        | WatchFlags::ONLYDIR
        | WatchFlags::EXCL_UNLINK;
    // By the handle, so that no other folder is watched. Without /proc by the path: the events are only hints to look
    // at names in the open folder.
    let open = format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd());
    match inotify::add_watch(queue, open, wanted) {
        Err(Errno::NOSPC) => Err(Errno::NOSPC),
        Err(_) => inotify::add_watch(queue, path, wanted | more),
        watch => watch,
    }
}

/// The watched folders of a tree. // W9
struct Watches {
    root: i32,
    /// The path of each sub-folder, and the last scan that found it.
    folders: HashMap<i32, (Name, u64)>,
    /// The number of the current scan.
    scan: u64,
}

impl Watches {
    fn new(root: i32) -> Watches {
        Watches {
            root,
            folders: HashMap::new(),
            scan: 0,
        }
    }

    fn put(&mut self, watch: i32, path: Name) {
        self.folders.insert(watch, (path, self.scan));
    }

    /// Removes the folders that the current scan covers and did not find, and returns their watches.
    fn take_stale(&mut self, scope: &Scope) -> Vec<i32> {
        let scan = self.scan;
        let is_stale = |(watch, (path, found)): (&i32, &(Name, u64))| {
            (*found < scan && scope.has_folder(path)).then_some(*watch)
        };
        let stale: Vec<i32> = self.folders.iter().filter_map(is_stale).collect();
        for watch in &stale {
            self.folders.remove(watch);
        }
        stale
    }

    /// What an event means.
    fn translate(
        &mut self,
        watch: i32,
        flags: ReadFlags,
        name: Option<&[u8]>,
    ) -> Option<WatchEvent> {
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            return Some(WatchEvent::Rescan);
        }
        let is_hidden = || name.is_some_and(|name| name.first() == Some(&b'.'));
        if watch == self.root {
            // What concerns the folder itself has no name.
            return match name.filter(|_| flags.contains(ReadFlags::ISDIR)) {
                Some(_) if is_hidden() => None,
                Some(name) => Some(WatchEvent::Folder(Name::from(OsStr::from_bytes(name)))),
                None => translate(flags, name),
            };
        }
        // Of a watch that was removed, events may still be in the queue.
        let (folder, _) = self.folders.get(&watch)?;
        if flags.contains(ReadFlags::ISDIR) && is_hidden() {
            return None;
        }
        let of_folder = ReadFlags::UNMOUNT | ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF;
        if flags.intersects(of_folder | ReadFlags::ISDIR | ReadFlags::IGNORED) {
            let path = match name.filter(|_| !flags.intersects(of_folder)) {
                Some(name) => Name::from(join(folder, OsStr::from_bytes(name))),
                None => Name::clone(folder),
            };
            if flags.contains(ReadFlags::IGNORED) {
                self.folders.remove(&watch);
            }
            return Some(WatchEvent::Folder(path));
        }
        match translate(flags, name)? {
            WatchEvent::File(name, event) => {
                Some(WatchEvent::File(Name::from(join(folder, &name)), event))
            }
            other => Some(other),
        }
    }
}

impl Drop for Inotify {
    fn drop(&mut self) {
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn listen(
    queue: &OwnedFd,
    tree: Option<&Mutex<Watches>>,
    mut mounts: Option<MountTable>,
    wake: &OwnedFd,
    sink: &EventSink,
) {
    let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
    let mut reader = Reader::new(queue, &mut buffer);
    loop {
        let mut fds = vec![
            PollFd::new(wake, PollFlags::IN),
            PollFd::new(queue, PollFlags::IN),
        ];
        let table = mounts.as_ref();
        fds.extend(table.map(|table| PollFd::new(table, PollFlags::PRI)));
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
        let is_ready = |at: usize| fds.get(at).is_some_and(|fd| !fd.revents().is_empty());
        if is_ready(0) {
            return;
        }
        let have_mounts_changed = is_ready(2);
        let changed = mounts.as_mut().filter(|_| have_mounts_changed);
        for path in changed.map(MountTable::changes).unwrap_or_default() {
            if !sink(WatchEvent::Folder(path)) {
                return;
            }
        }
        loop {
            let event = match reader.next() {
                Ok(event) => {
                    let (flags, name) = (event.events(), event.file_name().map(CStr::to_bytes));
                    match tree {
                        None => translate(flags, name),
                        Some(tree) => lock(tree).translate(event.wd(), flags, name),
                    }
                }
                Err(Errno::AGAIN | Errno::INTR) => break,
                Err(e) => {
                    tracing::warn!(error = %e, "cannot read events of the images folder; it is scanned instead");
                    let _ = sink(WatchEvent::Failed);
                    return;
                }
            };
            if event.is_some_and(|event| !sink(event)) {
                return;
            }
        }
    }
}

fn translate(flags: ReadFlags, name: Option<&[u8]>) -> Option<WatchEvent> {
    let folder = ReadFlags::QUEUE_OVERFLOW
        | ReadFlags::IGNORED
        | ReadFlags::UNMOUNT
        | ReadFlags::DELETE_SELF
        | ReadFlags::MOVE_SELF;
    if flags.intersects(folder) {
        return Some(WatchEvent::Rescan);
    }
    if flags.contains(ReadFlags::ISDIR) {
        return None;
    }
    let event = if flags.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO) {
        FileEvent::Completed
    } else if flags.contains(ReadFlags::MODIFY) {
        FileEvent::Written
    } else if flags.contains(ReadFlags::CREATE) {
        FileEvent::Created
    } else if flags.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) {
        FileEvent::Removed
    } else if flags.contains(ReadFlags::ATTRIB) {
        FileEvent::Touched
    } else {
        return None;
    };
    let name = Arc::from(OsStr::from_bytes(name?));
    Some(WatchEvent::File(name, event))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dir::scope::Folders;

    const ROOT: i32 = 1;
    const SUB: i32 = 2;

    fn watches() -> Watches {
        let mut watches = Watches::new(ROOT);
        watches.scan = 1;
        watches.put(SUB, Name::from(OsStr::new("a/b")));
        watches
    }

    fn path(event: Option<WatchEvent>) -> Option<String> {
        match event {
            Some(WatchEvent::File(name, _)) => name.to_str().map(str::to_owned),
            _ => None,
        }
    }

    #[test]
    fn w9_the_events_of_files_have_the_present_path_of_their_folder() {
        let mut watches = watches();
        let closed = |watches: &mut Watches, watch| {
            path(watches.translate(watch, ReadFlags::CLOSE_WRITE, Some(b"x.png")))
        };
        assert_eq!(closed(&mut watches, ROOT).unwrap(), "x.png");
        assert_eq!(closed(&mut watches, SUB).unwrap(), "a/b/x.png");
        // The folder was moved; the kernel keeps the watch.
        watches.scan += 1;
        watches.put(SUB, Name::from(OsStr::new("c")));
        assert!(watches.take_stale(&Scope::Whole).is_empty());
        assert_eq!(closed(&mut watches, SUB).unwrap(), "c/x.png");
        // A scan of another folder did not find it, then one of its own.
        let scope =
            |path: &str| Scope::Below(Folders::new([Name::from(OsStr::new(path))].into_iter()));
        watches.scan += 1;
        assert!(watches.take_stale(&scope("b")).is_empty());
        assert_eq!(watches.take_stale(&scope("c")), [SUB]);
        assert_eq!(closed(&mut watches, SUB), None);
    }

    #[test]
    fn w9_changes_of_folders_that_are_not_hidden_lead_to_a_scan_of_them() {
        let folder = |event: Option<WatchEvent>| match event {
            Some(WatchEvent::Folder(path)) => path.to_str().map(str::to_owned),
            _ => None,
        };
        for (watch, path) in [(ROOT, "new"), (SUB, "a/b/new")] {
            for change in [
                ReadFlags::CREATE,
                ReadFlags::MOVED_FROM,
                ReadFlags::MOVED_TO,
                ReadFlags::DELETE,
                ReadFlags::ATTRIB,
            ] {
                let flags = change | ReadFlags::ISDIR;
                let event = watches().translate(watch, flags, Some(b"new"));
                assert_eq!(folder(event).as_deref(), Some(path));
                assert!(watches().translate(watch, flags, Some(b".new")).is_none());
            }
        }
        for flags in [
            ReadFlags::MOVE_SELF,
            ReadFlags::DELETE_SELF,
            ReadFlags::UNMOUNT,
        ] {
            let event = watches().translate(SUB, flags, None);
            assert_eq!(folder(event).as_deref(), Some("a/b"));
        }
        let mut watches = watches();
        let event = watches.translate(SUB, ReadFlags::IGNORED, None);
        assert_eq!(folder(event).as_deref(), Some("a/b"));
        assert!(watches.translate(SUB, ReadFlags::IGNORED, None).is_none());
    }

    #[test]
    fn w9_lost_events_and_events_of_the_root_itself_are_those_of_a_single_folder() {
        for (watch, flags) in [
            (-1, ReadFlags::QUEUE_OVERFLOW),
            (ROOT, ReadFlags::DELETE_SELF),
            (ROOT, ReadFlags::MOVE_SELF),
            (ROOT, ReadFlags::IGNORED),
        ] {
            let event = watches().translate(watch, flags, None);
            assert!(matches!(event, Some(WatchEvent::Rescan)), "{flags:?}");
        }
        let own_mode = ReadFlags::ATTRIB | ReadFlags::ISDIR;
        assert!(watches().translate(ROOT, own_mode, None).is_none());
    }
}
