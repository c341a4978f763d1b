//! A stream that others bring: two halves that can only block, each on a thread of its own.

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread;

use jtp_driver::{Bell as _, Transport};
use rustix::fd::BorrowedFd;

use crate::STACK;
use crate::bell::Bell;
use crate::wait::{PollFlags, Source, wait_for};

/// How much goes to a half at once. It comes on top of what is read ahead (S1).
const PIECE: usize = 16 * 1024;

/// Ends a stream whose halves are in use on other threads.
///
/// It is implemented for [`TcpStream`] (and for Unix sockets): give a clone of the socket as each half, and
/// one as this.
pub trait Close: Send {
    /// Nothing more will be written: the peer is to see the end of the stream. The half that is written to
    /// is dropped as well, where that is enough. // S11
    ///
    /// # Errors
    ///
    /// Those of the stream; the connection then just ends.
    fn finish(&mut self) -> io::Result<()>;

    /// The connection is over. A read or write that blocks on another thread must return; until it does its
    /// thread is left behind.
    fn close(&mut self);
}

impl Close for TcpStream {
    fn finish(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn close(&mut self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

#[cfg(unix)]
impl Close for std::os::unix::net::UnixStream {
    fn finish(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn close(&mut self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

/// Two halves and their threads, as a stream that never waits.
///
/// Bytes count as written when the half has taken them, not before: a peer that takes no output is noticed
/// (T4), and nothing is queued that CANCEL could not overtake (C6).
pub(crate) struct Halves {
    bell: Arc<Knock>,
    reader: Arc<Half>,
    writer: Arc<Half>,
    closer: Box<dyn Close>,
    /// What was read, and used up to `at`.
    read: Vec<u8>,
    at: usize,
    ended: bool,
}

impl fmt::Debug for Halves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Halves").finish_non_exhaustive()
    }
}

impl Halves {
    pub(crate) fn new(
        mut reader: impl Read + Send + 'static,
        mut writer: impl Write + Send + 'static,
        closer: Box<dyn Close>,
    ) -> io::Result<Halves> {
        let bell = Arc::new(Knock(Bell::new()?));
        let read = move |buffer: &mut Vec<u8>| {
            buffer.resize(PIECE, 0);
            let count = reader.read(buffer)?;
            buffer.truncate(count);
            Ok(count)
        };
        let write = move |buffer: &mut Vec<u8>| match writer.write(buffer)? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            count => writer.flush().map(|()| count),
        };
        let halves = Halves {
            reader: Arc::new(Half::new(&bell)),
            writer: Arc::new(Half::new(&bell)),
            bell,
            closer,
            read: Vec::new(),
            at: 0,
            ended: false,
        };
        Half::start(&halves.reader, "jtp reader", read)?;
        Half::start(&halves.writer, "jtp writer", write)?;
        Ok(halves)
    }
}

impl Halves {
    fn wait<T>(&self) -> Poll<T> {
        wait_for(Arc::clone(&self.bell) as Arc<dyn Source>, PollFlags::IN)
    }
}

impl Transport for Halves {
    fn poll_read(&mut self, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.at == self.read.len() {
            if self.ended {
                return Poll::Ready(Ok(0));
            }
            let Some((buffer, read)) = self.reader.done() else {
                self.reader.ask(|_| {});
                return self.wait();
            };
            self.ended = read? == 0;
            self.read = buffer;
            self.at = 0;
        }
        let mut rest = self.read.get(self.at..).unwrap_or_default();
        let count = rest.read(buf)?;
        self.at += count;
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        &mut self,
        _: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some((_, written)) = self.writer.done() {
            return Poll::Ready(written);
        }
        self.writer.ask(|buffer| {
            buffer.clear();
            for buf in bufs {
                let room = PIECE.saturating_sub(buffer.len()).min(buf.len());
                buffer.extend_from_slice(buf.get(..room).unwrap_or_default());
            }
        });
        self.wait()
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.close();
        Poll::Ready(self.closer.finish())
    }
}

/// The halves' bell: they ring again and again, and one thread hears them.
struct Knock(Bell);

impl Source for Knock {
    fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd()
    }

    fn woken(&self) {
        self.0.clear();
    }
}

impl Drop for Halves {
    fn drop(&mut self) {
        self.reader.close();
        self.writer.close();
        self.closer.close();
    }
}

/// What the connection's thread and the thread of one half share.
struct Half {
    state: Mutex<State>,
    asked: Condvar,
    bell: Arc<Knock>,
}

enum State {
    /// Nothing is asked for. The buffer waits for the next use.
    Idle(Vec<u8>),
    Asked(Vec<u8>),
    Busy,
    Done(Vec<u8>, io::Result<usize>),
    Closed,
}

impl Half {
    fn new(bell: &Arc<Knock>) -> Half {
        Half {
            state: Mutex::new(State::Idle(Vec::new())),
            asked: Condvar::new(),
            bell: Arc::clone(bell),
        }
    }

    fn start(
        half: &Arc<Half>,
        name: &str,
        work: impl FnMut(&mut Vec<u8>) -> io::Result<usize> + Send + 'static,
    ) -> io::Result<()> {
        let half = Arc::clone(half);
        let thread = thread::Builder::new().name(name.to_owned());
        thread.stack_size(STACK).spawn(move || half.run(work))?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread of the half.
    fn run(&self, mut work: impl FnMut(&mut Vec<u8>) -> io::Result<usize>) {
        while let Some(mut buffer) = self.next() {
            let result = loop {
                match work(&mut buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    result => break result,
                }
            };
            let mut state = self.lock();
            if let State::Busy = *state {
                *state = State::Done(buffer, result);
                self.bell.0.ring();
            }
        }
    }

    fn next(&self) -> Option<Vec<u8>> {
        let mut state = self.lock();
        loop {
            match &mut *state {
                State::Asked(buffer) => {
                    let buffer = std::mem::take(buffer);
                    *state = State::Busy;
                    return Some(buffer);
                }
                State::Closed => return None,
                _ => {}
            }
            state = self
                .asked
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Has the half do its work, unless that is under way.
    fn ask(&self, prepare: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.lock();
        if let State::Idle(buffer) = &mut *state {
            let mut buffer = std::mem::take(buffer);
            prepare(&mut buffer);
            *state = State::Asked(buffer);
            self.asked.notify_one();
        }
    }

    /// What came of it, once.
    fn done(&self) -> Option<(Vec<u8>, io::Result<usize>)> {
        let mut state = self.lock();
        if !matches!(*state, State::Done(..)) {
            return None;
        }
        match std::mem::replace(&mut *state, State::Idle(Vec::new())) {
            State::Done(buffer, result) => Some((buffer, result)),
            _ => None,
        }
    }

    fn close(&self) {
        *self.lock() = State::Closed;
        self.asked.notify_one();
    }
}
