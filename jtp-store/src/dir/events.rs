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

/// Whether the folder is on a file system that others can write to without this system's knowing: network file
/// systems, and those that a program makes.
pub(super) fn is_remote(folder: &Path) -> bool {
    // From linux/magic.h and the file systems' own headers.
    const NFS: i64 = 0x6969;
    const SMB: i64 = 0x517b;
    const CIFS: i64 = 0xff53_4d42;
    const SMB2: i64 = 0xfe53_4d42;
    const FUSE: i64 = 0x6573_5546;
    const CEPH: i64 = 0x00c3_6400;
    const AFS: i64 = 0x5346_414f;
    const V9FS: i64 = 0x0102_1997;
    const GFS2: i64 = 0x0116_1970;
    const LUSTRE: i64 = 0x0bd0_0bd0;
    const REMOTE: [i64; 10] = [NFS, SMB, CIFS, SMB2, FUSE, CEPH, AFS, V9FS, GFS2, LUSTRE];
    // The type is signed, unsigned, or 32 bits wide, by architecture.
    #[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions)]
    let kind = rustix::fs::statfs(folder)
        .ok()
        .and_then(|fs| i64::try_from(fs.f_type).ok());
    kind.is_some_and(|kind| REMOTE.contains(&(kind & 0xffff_ffff)))
}

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
