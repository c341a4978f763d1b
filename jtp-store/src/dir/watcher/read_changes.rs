//! Events from ReadDirectoryChangesW.
//!
//! The crate notify is not used here: until its version 8.2 it drops a notice that the buffer was too small, or ends the
//! watch, and says neither (<https://github.com/notify-rs/notify/issues/963>).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

use cap_std::fs::Dir;

use super::hints::Hints;
use super::{EventSink, WatchEvent, records};
use crate::dir::record::Name;
use crate::dir::scope::Scope;
use crate::dir::select::Naming;
use system::{Completed, Signal, Watch};

/// A thread that forwards the events of a folder until it is dropped.
pub(super) struct ReadChanges {
    hints: Arc<Hints>,
    stop: Arc<Signal>,
    thread: Option<JoinHandle<()>>,
}

impl ReadChanges {
    pub(super) const IS_SUPPORTED: bool = true;

    /// Whether the folder is on another machine: not all servers report changes.
    pub(super) fn is_remote(_: &Dir, path: &Path) -> bool {
        use std::path::{Component, Prefix};
        // Also a drive letter that stands for a share is such a path then.
        let path = path.canonicalize();
        let path = path.as_ref().map(|path| path.components().next());
        match path {
            Ok(Some(Component::Prefix(prefix))) => {
                matches!(prefix.kind(), Prefix::UNC(..) | Prefix::VerbatimUNC(..))
            }
            _ => false,
        }
    }

    /// Watches the folder to which `path` leads. If another one takes its place, the events of that one lead to checks
    /// in the open folder, until its path is checked.
    pub(super) fn start(
        _: &Dir,
        path: &Path,
        naming: Naming,
        sink: EventSink,
    ) -> io::Result<ReadChanges> {
        let hints = Arc::new(Hints::new(path.to_owned(), naming));
        let stop = Arc::new(Signal::new()?);
        let (started, is_started) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("jtp-watcher".to_owned())
            .spawn({
                let (hints, stop, path) = (Arc::clone(&hints), Arc::clone(&stop), path.to_owned());
                move || {
                    let opened = Watch::open(&path, naming == Naming::Tree);
                    listen(opened, &started, &hints, &stop, &sink);
                }
            })?;
        let source = ReadChanges {
            hints,
            stop,
            thread: Some(thread),
        };
        // The system collects changes from the first request on.
        match is_started.recv() {
            Ok(Some(error)) => Err(error),
            Ok(None) => Ok(source),
            Err(_) => Err(io::Error::other("the thread has ended")),
        }
    }

    /// Notes a sub-folder, which is watched already.
    pub(super) fn watch(&self, _: &Dir, _: &Path, path: &Name) -> io::Result<()> {
        self.hints.add_folder(path);
        Ok(())
    }

    pub(super) fn begin_scan(&self) {
        self.hints.begin_scan();
    }

    pub(super) fn end_scan(&self, scope: &Scope) {
        self.hints.end_scan(scope);
    }
}

impl Drop for ReadChanges {
    fn drop(&mut self) {
        self.stop.set();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Reports whether the first request succeeded, then forwards events.
fn listen(
    opened: io::Result<Watch>,
    started: &Sender<Option<io::Error>>,
    hints: &Hints,
    stop: &Signal,
    sink: &EventSink,
) {
    let first = opened.and_then(|mut watch| watch.request().map(|()| watch));
    let mut watch = match first {
        Ok(watch) => watch,
        Err(error) => {
            let _ = started.send(Some(error));
            return;
        }
    };
    let _ = started.send(None);
    loop {
        let next = watch.wait(stop).map(|completed| match completed {
            Completed::Stopped => None,
            Completed::Lost => Some(vec![WatchEvent::Rescan]),
            Completed::Changes(buffer) => {
                let changes = records::changes(buffer);
                let Some(changes) = changes else {
                    return Some(vec![WatchEvent::Rescan]);
                };
                let translate = |(path, change): (PathBuf, _)| match records::may_be_short(&path) {
                    true => Some(WatchEvent::Rescan),
                    false => hints.translate(&path, change),
                };
                Some(changes.into_iter().filter_map(translate).collect())
            }
        });
        let events = match next {
            Ok(Some(events)) => events,
            Ok(None) => return,
            Err(error) => return fail(&error, sink),
        };
        // Until the next request, the system collects changes.
        if !events.into_iter().all(|event| sink(event)) {
            return;
        }
        if let Err(error) = watch.request() {
            return fail(&error, sink);
        }
    }
}

fn fail(error: &io::Error, sink: &EventSink) {
    tracing::warn!(%error, "cannot read events of the images folder; it is scanned instead");
    let _ = sink(WatchEvent::Failed);
}

/// The calls of the system.
#[allow(unsafe_code)]
mod system {
    use std::fs::{File, OpenOptions};
    use std::io;
    use std::os::windows::fs::OpenOptionsExt;
    use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
    use std::path::Path;
    use std::ptr;

    use windows_sys::Win32::Foundation::{
        ERROR_NOTIFY_ENUM_DIR, ERROR_OPERATION_ABORTED, HANDLE, WAIT_OBJECT_0,
    };
    use windows_sys::Win32::Storage::FileSystem::{
        FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_OVERLAPPED, FILE_LIST_DIRECTORY,
        FILE_NOTIFY_CHANGE_CREATION, FILE_NOTIFY_CHANGE_DIR_NAME, FILE_NOTIFY_CHANGE_FILE_NAME,
        FILE_NOTIFY_CHANGE_LAST_WRITE, FILE_NOTIFY_CHANGE_SIZE, FILE_SHARE_DELETE, FILE_SHARE_READ,
        FILE_SHARE_WRITE, ReadDirectoryChangesW,
    };
    use windows_sys::Win32::System::IO::{CancelIoEx, GetOverlappedResult, OVERLAPPED};
    use windows_sys::Win32::System::Threading::{
        CreateEventW, INFINITE, SetEvent, WaitForMultipleObjects,
    };

    /// The most that servers of files accept. One event takes some 12 bytes and two for each character.
    const BUFFER_LEN: usize = 64 * 1024;

    /// The changes that count. The times of a file are not among them but for the last write: reading it is no change.
    const WANTED: u32 = FILE_NOTIFY_CHANGE_FILE_NAME
        | FILE_NOTIFY_CHANGE_DIR_NAME
        | FILE_NOTIFY_CHANGE_SIZE
        | FILE_NOTIFY_CHANGE_LAST_WRITE
        | FILE_NOTIFY_CHANGE_CREATION;

    /// A manual-reset event of the system.
    pub(super) struct Signal(OwnedHandle);

    impl Signal {
        pub(super) fn new() -> io::Result<Signal> {
            // SAFETY: all pointers may be null; the handle is valid if it is not null, and nobody else has it.
            unsafe {
                let handle = CreateEventW(ptr::null(), 1, 0, ptr::null());
                match handle.is_null() {
                    true => Err(io::Error::last_os_error()),
                    false => Ok(Signal(OwnedHandle::from_raw_handle(handle))),
                }
            }
        }

        pub(super) fn set(&self) {
            // SAFETY: the handle is open and that of an event.
            unsafe { SetEvent(self.handle()) };
        }

        fn handle(&self) -> HANDLE {
            self.0.as_raw_handle()
        }
    }

    /// What became of a request.
    pub(super) enum Completed<'a> {
        /// The records of changes.
        Changes(&'a [u8]),
        /// There were more changes than the buffer holds.
        Lost,
        Stopped,
    }

    /// A watched folder, with at most one request that the system has not completed.
    pub(super) struct Watch {
        folder: File,
        done: Signal,
        is_tree: bool,
        /// The system writes to both while `is_pending`. `u32` for their alignment.
        buffer: Box<[u32]>,
        overlapped: Box<OVERLAPPED>,
        is_pending: bool,
    }

    impl Watch {
        pub(super) fn open(path: &Path, is_tree: bool) -> io::Result<Watch> {
            let folder = OpenOptions::new()
                .access_mode(FILE_LIST_DIRECTORY)
                .share_mode(FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE)
                .custom_flags(FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OVERLAPPED)
                .open(path)?;
            Ok(Watch {
                folder,
                done: Signal::new()?,
                is_tree,
                buffer: vec![0; BUFFER_LEN / 4].into(),
                overlapped: Box::default(),
                is_pending: false,
            })
        }

        /// Asks for the next changes. The thread that asks must also wait: its requests end with it.
        pub(super) fn request(&mut self) -> io::Result<()> {
            if self.is_pending {
                return Ok(());
            }
            *self.overlapped = OVERLAPPED {
                hEvent: self.done.handle(),
                ..OVERLAPPED::default()
            };
            // SAFETY: the folder was opened for this call. Buffer and OVERLAPPED are on the heap, nothing accesses them
            // until the request is completed, and `drop` waits for that before it frees them.
            let accepted = unsafe {
                ReadDirectoryChangesW(
                    self.folder.as_raw_handle(),
                    self.buffer.as_mut_ptr().cast(),
                    BUFFER_LEN as u32,
                    i32::from(self.is_tree),
                    WANTED,
                    ptr::null_mut(),
                    &raw mut *self.overlapped,
                    None,
                )
            };
            match accepted {
                0 => Err(io::Error::last_os_error()),
                _ => {
                    self.is_pending = true;
                    Ok(())
                }
            }
        }

        /// Waits until the request is completed, or until the signal is set.
        pub(super) fn wait(&mut self, stop: &Signal) -> io::Result<Completed<'_>> {
            let handles = [stop.handle(), self.done.handle()];
            // SAFETY: two open handles of events.
            let ready = unsafe { WaitForMultipleObjects(2, handles.as_ptr(), 0, INFINITE) };
            if ready == WAIT_OBJECT_0 {
                return Ok(Completed::Stopped);
            }
            if ready != WAIT_OBJECT_0 + 1 {
                return Err(io::Error::last_os_error());
            }
            let is_code = |error: &io::Error, code: u32| error.raw_os_error() == Some(code as i32);
            match self.complete() {
                // A buffer that was too small is reported as an error, or as success without a byte.
                Ok(0) => Ok(Completed::Lost),
                Ok(length) => Ok(Completed::Changes(self.bytes(length))),
                Err(error) if is_code(&error, ERROR_NOTIFY_ENUM_DIR) => Ok(Completed::Lost),
                Err(error) if is_code(&error, ERROR_OPERATION_ABORTED) => Ok(Completed::Stopped),
                Err(error) => Err(error),
            }
        }

        /// Waits for the completion of the pending request. The number of bytes that were written.
        fn complete(&mut self) -> io::Result<usize> {
            let mut length = 0;
            // SAFETY: the OVERLAPPED is that of the pending request, which belongs to the folder.
            let succeeded = unsafe {
                GetOverlappedResult(
                    self.folder.as_raw_handle(),
                    &raw const *self.overlapped,
                    &raw mut length,
                    1,
                )
            };
            self.is_pending = false;
            match succeeded {
                0 => Err(io::Error::last_os_error()),
                _ => Ok((length as usize).min(BUFFER_LEN)),
            }
        }

        fn bytes(&self, length: usize) -> &[u8] {
            debug_assert!(!self.is_pending && length <= BUFFER_LEN);
            // SAFETY: the buffer has that many bytes, all initialized, and no request writes to it now.
            unsafe { std::slice::from_raw_parts(self.buffer.as_ptr().cast(), length) }
        }
    }

    impl Drop for Watch {
        fn drop(&mut self) {
            if self.is_pending {
                // SAFETY: as in `complete`, which then waits until the system does not write any more.
                unsafe {
                    CancelIoEx(self.folder.as_raw_handle(), &raw const *self.overlapped);
                }
                let _ = self.complete();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::mpsc::Receiver;
    use std::time::Duration;

    use super::*;
    use crate::dir::schedule::FileEvent;

    fn start(root: &Path, sink: EventSink) -> ReadChanges {
        let dir = Dir::open_ambient_dir(root, cap_std::ambient_authority()).unwrap();
        ReadChanges::start(&dir, root, Naming::Tree, sink).unwrap()
    }

    fn until(events: &Receiver<WatchEvent>, due: impl Fn(&WatchEvent) -> bool) {
        let limit = Duration::from_secs(20);
        while !due(&events.recv_timeout(limit).expect("the event within 20 s")) {}
    }

    #[test]
    fn w9_changes_of_files_and_folders_arrive_with_their_paths_below_the_folder() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path();
        let (sender, events) = mpsc::channel();
        let source = start(root, Arc::new(move |event| sender.send(event).is_ok()));
        // Wine reports no changes in a sub-folder that existed before.
        fs::create_dir(root.join("sub")).unwrap();
        until(&events, |event| match event {
            WatchEvent::Folder(name) => &**name == "sub",
            _ => false,
        });
        source.begin_scan();
        source
            .hints
            .add_folder(&Name::from(std::ffi::OsStr::new("sub")));
        source.end_scan(&Scope::Whole);
        let is_file = |event: &WatchEvent, path: &str, is_gone: bool| match event {
            WatchEvent::File(name, event) => {
                &**name == path && (*event == FileEvent::Removed) == is_gone
            }
            _ => false,
        };
        let is_folder = |event: &WatchEvent, path: &str| match event {
            WatchEvent::Folder(name) => &**name == path,
            _ => false,
        };
        fs::write(root.join("sub/x.png"), "x").unwrap();
        until(&events, |event| is_file(event, "sub/x.png", false));
        fs::rename(root.join("sub/x.png"), root.join("ä.png")).unwrap();
        until(&events, |event| is_file(event, "sub/x.png", true));
        until(&events, |event| is_file(event, "ä.png", false));
        fs::remove_file(root.join("ä.png")).unwrap();
        until(&events, |event| is_file(event, "ä.png", true));
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
    fn more_changes_than_the_buffer_holds_lead_to_a_scan() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path();
        let (sender, events) = mpsc::channel();
        let (go_on, wait) = mpsc::channel::<()>();
        let wait = std::sync::Mutex::new(wait);
        // The thread is busy with the first event until all changes are made.
        let sink: EventSink = Arc::new(move |event| {
            let _ = wait.lock().unwrap().recv();
            sender.send(event).is_ok()
        });
        let source = start(root, sink);
        let name = "n".repeat(100);
        for n in 0..2_000 {
            fs::write(root.join(format!("{name}{n}")), "").unwrap();
        }
        drop(go_on);
        until(&events, |event| matches!(event, WatchEvent::Rescan));
        // Events go on afterwards.
        fs::write(root.join("last.png"), "").unwrap();
        until(&events, |event| match event {
            WatchEvent::File(name, _) => &**name == "last.png",
            _ => false,
        });
        drop(source);
    }

    #[test]
    fn a_folder_that_does_not_exist_cannot_be_watched_and_a_watched_one_can_be_removed() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("images");
        fs::create_dir(&root).unwrap();
        let (sender, events) = mpsc::channel();
        let source = start(&root, Arc::new(move |event| sender.send(event).is_ok()));
        fs::remove_dir(&root).unwrap();
        drop(source);
        drop(events);
        let dir = Dir::open_ambient_dir(place.path(), cap_std::ambient_authority()).unwrap();
        let sink: EventSink = Arc::new(|_| true);
        assert!(ReadChanges::start(&dir, &root, Naming::Tree, sink).is_err());
    }
}
