//! Events from inotify.
//!
//! A general file watcher also subscribes to open events. A server opens files all day: its own reads would
//! overflow the event queue. This one subscribes to changes only.

use std::ffi::{CStr, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use cap_std::fs::Dir;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::{EventSink, WatchEvent};
use crate::dir::schedule::FileEvent;

/// A thread that forwards the events of a folder until it is dropped.
pub(super) struct Inotify {
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Inotify {
    /// Watches the open folder. `path` leads there, too.
    pub(super) fn start(dir: &Dir, path: &Path, sink: EventSink) -> io::Result<Inotify> {
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
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
        inotify::add_watch(&queue, open, wanted)
            .or_else(|_| inotify::add_watch(&queue, path, wanted))?;
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let woken = Arc::clone(&wake);
        let thread = thread::Builder::new()
            .name("jtp-watcher".to_owned())
            .spawn(move || listen(&queue, &woken, &sink))?;
        Ok(Inotify {
            wake,
            thread: Some(thread),
        })
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

fn listen(queue: &OwnedFd, wake: &OwnedFd, sink: &EventSink) {
    let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
    let mut reader = Reader::new(queue, &mut buffer);
    loop {
        let mut fds = [
            PollFd::new(queue, PollFlags::IN),
            PollFd::new(wake, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
        let [_, woken] = &fds;
        if !woken.revents().is_empty() {
            return;
        }
        loop {
            let event = match reader.next() {
                Ok(event) => translate(event.events(), event.file_name().map(CStr::to_bytes)),
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
