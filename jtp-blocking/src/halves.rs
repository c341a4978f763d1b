//! A stream that the caller provides as two blocking halves. Each half has a thread.

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;

use jtp_driver::{Transport, WrapStream};

use crate::STACK_SIZE;
#[cfg(feature = "client")]
use crate::cancel::Abort;
use crate::runtime::Threads;

/// The most bytes of one read or write of a half. The reader's come on top of the input buffer of S1.
const CHUNK: usize = 16 * 1024;

/// Ends a stream whose halves are in use on other threads.
///
/// It is implemented for [`TcpStream`] and for Unix sockets: pass clones of the socket as reader, writer and closer.
pub trait Close: Send {
    /// Closes the write side, so that the peer sees the end of the stream. The writer is dropped after that, which is
    /// enough for some streams. // S11
    ///
    /// # Errors
    ///
    /// Errors of the stream. They end the connection.
    fn finish(&mut self) -> io::Result<()>;

    /// Closes the stream. A read or write that blocks on another thread must return: its thread ends only then.
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

/// Two halves and their threads as a [`Transport`].
///
/// Bytes count as written when the half has taken them: so a peer that takes no output is noticed (T4), and no data
/// is queued ahead of the response to a CANCEL (C6).
pub(crate) struct Halves {
    reader: Arc<Half>,
    writer: Arc<Half>,
    closer: Arc<Closer>,
    /// Bytes that were read; those before `position` are consumed.
    input: Vec<u8>,
    position: usize,
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
        closer: impl Close + 'static,
    ) -> io::Result<Halves> {
        let mut chunk = vec![0; CHUNK];
        let read = move |buffer: &mut Vec<u8>| {
            let count = reader.read(&mut chunk)?.min(CHUNK);
            buffer.clear();
            buffer.extend_from_slice(&chunk[..count]);
            Ok(count)
        };
        let write = move |buffer: &mut Vec<u8>| match writer.write(buffer)? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            count => writer.flush().map(|()| count),
        };
        let halves = Halves {
            reader: Arc::new(Half::new()),
            writer: Arc::new(Half::new()),
            closer: Arc::new(Closer(Mutex::new(Box::new(closer)))),
            input: Vec::new(),
            position: 0,
            ended: false,
        };
        Half::start(&halves.reader, "jtp reader", read)?;
        Half::start(&halves.writer, "jtp writer", write)?;
        Ok(halves)
    }

    #[cfg(feature = "client")]
    pub(crate) fn closer(&self) -> &Arc<Closer> {
        &self.closer
    }
}

/// The caller's closer, for the connection's thread and for a cancellation.
pub(crate) struct Closer(Mutex<Box<dyn Close>>);

impl fmt::Debug for Closer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closer").finish_non_exhaustive()
    }
}

impl Closer {
    fn lock(&self) -> MutexGuard<'_, Box<dyn Close>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(feature = "client")]
impl Abort for Closer {
    fn abort(&self) {
        // Otherwise the connection's thread is about to finish or to close the stream.
        if let Ok(mut closer) = self.0.try_lock() {
            closer.close();
        }
    }
}

impl WrapStream<Halves> for Threads {
    type Transport = Halves;

    fn wrap(stream: Halves) -> Halves {
        stream
    }
}

impl Transport for Halves {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.position == self.input.len() {
            if self.ended {
                return Poll::Ready(Ok(0));
            }
            let (buffer, read) = std::task::ready!(self.reader.poll(cx, |_| {}));
            self.ended = read? == 0;
            self.input = buffer;
            self.position = 0;
        }
        let mut rest = self.input.get(self.position..).unwrap_or_default();
        let count = rest.read(buf)?;
        self.position += count;
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let fill = |buffer: &mut Vec<u8>| {
            buffer.clear();
            for buf in bufs {
                let count = CHUNK.saturating_sub(buffer.len()).min(buf.len());
                buffer.extend_from_slice(buf.get(..count).unwrap_or_default());
            }
        };
        self.writer.poll(cx, fill).map(|(_, written)| written)
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.close();
        Poll::Ready(self.closer.lock().finish())
    }
}

impl Drop for Halves {
    fn drop(&mut self) {
        self.reader.close();
        self.writer.close();
        self.closer.lock().close();
    }
}

/// Shared by the connection's thread and the thread of one half.
struct Half {
    state: Mutex<State>,
    requested: Condvar,
}

enum State {
    /// The buffer is kept for the next operation.
    Idle(Vec<u8>),
    /// The connection's thread has started an operation.
    Requested(Vec<u8>, Waker),
    /// The half's thread performs it.
    Running(Waker),
    Done(Vec<u8>, io::Result<usize>),
    Closed,
}

impl Half {
    fn new() -> Half {
        Half {
            state: Mutex::new(State::Idle(Vec::new())),
            requested: Condvar::new(),
        }
    }

    fn start(
        half: &Arc<Half>,
        name: &str,
        operation: impl FnMut(&mut Vec<u8>) -> io::Result<usize> + Send + 'static,
    ) -> io::Result<()> {
        let half = Arc::clone(half);
        let thread = thread::Builder::new().name(name.to_owned());
        thread
            .stack_size(STACK_SIZE)
            .spawn(move || half.run(operation))?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts an operation, or returns the result of the one that was started before.
    fn poll(
        &self,
        cx: &mut Context<'_>,
        prepare: impl FnOnce(&mut Vec<u8>),
    ) -> Poll<(Vec<u8>, io::Result<usize>)> {
        let mut state = self.lock();
        match &mut *state {
            State::Idle(buffer) => {
                let mut buffer = std::mem::take(buffer);
                prepare(&mut buffer);
                *state = State::Requested(buffer, cx.waker().clone());
                self.requested.notify_one();
                Poll::Pending
            }
            State::Requested(_, waker) | State::Running(waker) => {
                waker.clone_from(cx.waker());
                Poll::Pending
            }
            State::Done(buffer, result) => {
                let buffer = std::mem::take(buffer);
                let result = std::mem::replace(result, Ok(0));
                *state = State::Idle(Vec::new());
                Poll::Ready((buffer, result))
            }
            State::Closed => Poll::Ready((Vec::new(), Err(io::ErrorKind::BrokenPipe.into()))),
        }
    }

    /// The half's thread.
    fn run(&self, mut operation: impl FnMut(&mut Vec<u8>) -> io::Result<usize>) {
        while let Some(mut buffer) = self.next() {
            let result = loop {
                match operation(&mut buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    result => break result,
                }
            };
            let mut state = self.lock();
            if let State::Running(_) = *state {
                let running = std::mem::replace(&mut *state, State::Done(buffer, result));
                drop(state);
                if let State::Running(waker) = running {
                    waker.wake();
                }
            }
        }
    }

    /// Waits for the next operation. `None` after [`close`](Half::close).
    fn next(&self) -> Option<Vec<u8>> {
        let mut state = self.lock();
        loop {
            state = match std::mem::replace(&mut *state, State::Closed) {
                State::Requested(buffer, waker) => {
                    *state = State::Running(waker);
                    return Some(buffer);
                }
                State::Closed => return None,
                other => {
                    *state = other;
                    let waited = self.requested.wait(state);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }

    fn close(&self) {
        let before = std::mem::replace(&mut *self.lock(), State::Closed);
        self.requested.notify_one();
        drop(before); // Dropping a waker may run any code, so the state is unlocked.
    }
}
