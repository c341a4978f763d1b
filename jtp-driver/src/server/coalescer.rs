//! Joins small writes: packets of small images go out many at a time, which saves system calls on both sides, and TLS
//! records.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use crate::runtime::{SockRef, Transport};

/// The most bytes that are held back. A CANCEL may have to wait for them, beside the body in hand. // C6
const MAX_BUFFERED: usize = 32 * 1024;

/// Longer writes are not copied; buffered bytes go out before them.
const MAX_SMALL: usize = 8 * 1024;

/// A transport that buffers small writes until there are enough of them, or it is flushed.
pub(super) struct WriteCoalescer<T> {
    io: T,
    /// Allocated for the first small write, released by the next flush.
    buffer: Vec<u8>,
    /// The number of bytes of `buffer` that were written.
    written: usize,
}

impl<T: Transport> WriteCoalescer<T> {
    pub(super) fn new(io: T) -> Self {
        WriteCoalescer {
            io,
            buffer: Vec::new(),
            written: 0,
        }
    }

    /// Writes the whole buffer.
    fn poll_buffer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.buffer.len() {
            let rest = self.buffer.get(self.written..).unwrap_or_default();
            match ready!(self.io.poll_write_vectored(cx, &[IoSlice::new(rest)]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
        }
        self.buffer.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

impl<T: Transport> Transport for WriteCoalescer<T> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.io.poll_read(cx, buf)
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        if length > MAX_SMALL && self.buffer.is_empty() {
            return self.io.poll_write_vectored(cx, bufs);
        }
        if self.buffer.len() + length > MAX_BUFFERED {
            ready!(self.poll_buffer(cx))?;
        }
        if length > MAX_SMALL {
            ready!(self.poll_buffer(cx))?;
            return self.io.poll_write_vectored(cx, bufs);
        }
        if self.buffer.capacity() == 0 {
            self.buffer.reserve_exact(MAX_BUFFERED);
        }
        for buf in bufs {
            self.buffer.extend_from_slice(buf);
        }
        Poll::Ready(Ok(length))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_buffer(cx))?;
        self.buffer = Vec::new();
        self.io.poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_buffer(cx))?;
        // A lingering connection keeps no memory. // S11
        self.buffer = Vec::new();
        self.io.poll_close(cx)
    }

    fn socket(&self) -> Option<SockRef<'_>> {
        self.io.socket()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::task::Waker;

    /// Takes the next number of `room` bytes at each call, then returns `Pending`.
    #[derive(Default)]
    struct Wire {
        took: Vec<u8>,
        calls: usize,
        room: VecDeque<usize>,
        flushed: usize,
    }

    impl Transport for Wire {
        fn poll_read(&mut self, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_write_vectored(
            &mut self,
            _: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let Some(room) = self.room.pop_front() else {
                return Poll::Pending;
            };
            self.calls += 1;
            let before = self.took.len();
            for buf in bufs {
                let left = room - (self.took.len() - before);
                self.took.extend(buf.iter().take(left));
            }
            Poll::Ready(Ok(self.took.len() - before))
        }

        fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushed += 1;
            Poll::Ready(Ok(()))
        }

        fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn bytes(n: usize, length: usize) -> Vec<u8> {
        (0..length).map(|at| (n * 7 + at) as u8).collect()
    }

    #[test]
    fn small_writes_are_joined_and_long_ones_are_not_copied() {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut coalescer = WriteCoalescer::new(Wire::default());
        coalescer.io.room = [usize::MAX; 100].into();
        for n in 0..10 {
            let (head, body) = (bytes(n, 12), bytes(n, 2000));
            let slices = [IoSlice::new(&head), IoSlice::new(&body)];
            let wrote = coalescer.poll_write_vectored(cx, &slices);
            assert!(matches!(wrote, Poll::Ready(Ok(2012))));
        }
        assert_eq!(coalescer.io.calls, 0, "buffered");
        assert!(coalescer.poll_flush(cx).is_ready());
        let flushed = (
            coalescer.io.calls,
            coalescer.io.took.len(),
            coalescer.io.flushed,
        );
        assert_eq!(flushed, (1, 20_120, 1));
        assert_eq!(
            coalescer.buffer.capacity(),
            0,
            "no memory is kept while idle"
        );
        let long = bytes(0, MAX_SMALL + 1);
        let wrote = coalescer.poll_write_vectored(cx, &[IoSlice::new(&long)]);
        assert!(matches!(wrote, Poll::Ready(Ok(count)) if count == long.len()));
        assert_eq!((coalescer.io.calls, coalescer.buffer.capacity()), (2, 0));
    }

    #[test]
    fn c6_the_buffer_is_bounded_and_keeps_the_order() {
        let cx = &mut Context::from_waker(Waker::noop());
        for room in [1, 7, 1000, 31_000, 40_000] {
            let mut coalescer = WriteCoalescer::new(Wire::default());
            let mut expected = Vec::new();
            for n in 0..400 {
                let length = [0, 1, 500, MAX_SMALL, MAX_SMALL + 1, 3, 12_345][n % 7];
                let data = bytes(n, length);
                let mut rest = &data[..];
                while !rest.is_empty() {
                    match coalescer.poll_write_vectored(cx, &[IoSlice::new(rest)]) {
                        Poll::Ready(count) => {
                            let (gone, left) = rest.split_at(count.unwrap());
                            expected.extend_from_slice(gone);
                            rest = left;
                        }
                        Poll::Pending => coalescer.io.room.push_back(room),
                    }
                    assert!(expected.len() - coalescer.io.took.len() <= MAX_BUFFERED);
                    assert!(coalescer.buffer.capacity() <= MAX_BUFFERED);
                }
            }
            while coalescer.poll_close(cx).is_pending() {
                coalescer.io.room.push_back(room);
            }
            assert!(coalescer.io.took == expected, "by {room}");
            assert_eq!(
                coalescer.buffer.capacity(),
                0,
                "no memory is kept while lingering"
            );
        }
    }
}
