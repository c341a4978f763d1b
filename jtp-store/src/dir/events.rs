//! The system's news of a folder: inotify.
//!
//! Straight from the kernel, because a general file watcher also asks for each opening of a file: a server that
//! opens files all day would fill the queue with its own reading, and overflow it.

use std::ffi::{CStr, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::keeper::Message;
use super::schedule::Notice;

/// A thread that passes on a folder's news until it is dropped.
pub(super) struct Events {
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Events {
    pub(super) fn start(folder: &Path, outbox: Sender<Message>) -> io::Result<Events> {
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
        inotify::add_watch(&queue, folder, wanted)?;
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let woken = Arc::clone(&wake);
        let thread = thread::Builder::new()
            .name("jtp-events".to_owned())
            .spawn(move || listen(&queue, &woken, &outbox))?;
        Ok(Events {
            wake,
            thread: Some(thread),
        })
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn listen(queue: &OwnedFd, wake: &OwnedFd, outbox: &Sender<Message>) {
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
            let message = match reader.next() {
                Ok(event) => translate(event.events(), event.file_name().map(CStr::to_bytes)),
                Err(Errno::AGAIN | Errno::INTR) => break,
                Err(e) => {
                    tracing::warn!(error = %e, "no more news of the images folder");
                    let _ = outbox.send(Message::EventsFailed);
                    return;
                }
            };
            if let Some(message) = message {
                if outbox.send(message).is_err() {
                    return;
                }
            }
        }
    }
}

fn translate(flags: ReadFlags, name: Option<&[u8]>) -> Option<Message> {
    let whole = ReadFlags::QUEUE_OVERFLOW
        | ReadFlags::IGNORED
        | ReadFlags::UNMOUNT
        | ReadFlags::DELETE_SELF
        | ReadFlags::MOVE_SELF;
    if flags.intersects(whole) {
        return Some(Message::Rescan);
    }
    if flags.contains(ReadFlags::ISDIR) {
        return None;
    }
    let notice = if flags.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO) {
        Notice::Complete
    } else if flags.contains(ReadFlags::MODIFY) {
        Notice::Written
    } else if flags.contains(ReadFlags::CREATE) {
        Notice::Created
    } else if flags.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) {
        Notice::Gone
    } else if flags.contains(ReadFlags::ATTRIB) {
        Notice::Touched
    } else {
        return None;
    };
    Some(Message::Heard(Arc::from(OsStr::from_bytes(name?)), notice))
}
