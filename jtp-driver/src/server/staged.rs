//! Small writes put together: packets of small images go out many at a time, which saves a call to the system for
//! each, on both sides, and over TLS a record.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use crate::runtime::Transport;

/// How much is put together at most: what a CANCEL may have to wait for, beside the body in hand. // C6
const MOST: usize = 32 * 1024;

/// A longer write is not copied: what was put together before it goes out first.
const SMALL: usize = 8 * 1024;

/// A transport that holds back small writes until there are enough of them, or it is flushed.
pub(super) struct Staged<T> {
    io: T,
    /// Memory is taken when there is something to hold back, and kept until the next flush.
    held: Vec<u8>,
    /// How much of it was written.
    written: usize,
}

impl<T: Transport> Staged<T> {
    pub(super) fn new(io: T) -> Self {
        Staged {
            io,
            held: Vec::new(),
            written: 0,
        }
    }

    /// Writes what is held back, all of it.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.held.len() {
            let rest = self.held.get(self.written..).unwrap_or_default();
            match ready!(self.io.poll_write_vectored(cx, &[IoSlice::new(rest)]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
        }
        self.held.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

impl<T: Transport> Transport for Staged<T> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.io.poll_read(cx, buf)
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        if length > SMALL && self.held.is_empty() {
            return self.io.poll_write_vectored(cx, bufs);
        }
        if self.held.len() + length > MOST {
            ready!(self.poll_held(cx))?;
        }
        if length > SMALL {
            ready!(self.poll_held(cx))?;
            return self.io.poll_write_vectored(cx, bufs);
        }
        if self.held.capacity() == 0 {
            self.held.reserve_exact(MOST);
        }
        for buf in bufs {
            self.held.extend_from_slice(buf);
        }
        Poll::Ready(Ok(length))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_held(cx))?;
        self.held = Vec::new();
        self.io.poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_held(cx))?;
        self.io.poll_close(cx)
    }
}
