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
        // What lingers holds nothing either. // S11
        self.held = Vec::new();
        self.io.poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::task::Waker;

    /// Takes as many bytes at a call as it is told to, and then none.
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
    fn small_writes_go_out_together_and_long_ones_by_themselves() {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut staged = Staged::new(Wire::default());
        staged.io.room = [usize::MAX; 100].into();
        for n in 0..10 {
            let (head, body) = (bytes(n, 12), bytes(n, 2000));
            let slices = [IoSlice::new(&head), IoSlice::new(&body)];
            let wrote = staged.poll_write_vectored(cx, &slices);
            assert!(matches!(wrote, Poll::Ready(Ok(2012))));
        }
        assert_eq!(staged.io.calls, 0, "held back");
        assert!(staged.poll_flush(cx).is_ready());
        let flushed = (staged.io.calls, staged.io.took.len(), staged.io.flushed);
        assert_eq!(flushed, (1, 20_120, 1));
        assert_eq!(staged.held.capacity(), 0, "no memory is kept at rest");
        let long = bytes(0, SMALL + 1);
        let wrote = staged.poll_write_vectored(cx, &[IoSlice::new(&long)]);
        assert!(matches!(wrote, Poll::Ready(Ok(count)) if count == long.len()));
        assert_eq!((staged.io.calls, staged.held.capacity()), (2, 0));
    }

    #[test]
    fn c6_what_cannot_go_out_is_bounded_and_keeps_its_order() {
        let cx = &mut Context::from_waker(Waker::noop());
        for room in [1, 7, 1000, 31_000, 40_000] {
            let mut staged = Staged::new(Wire::default());
            let mut due = Vec::new();
            for n in 0..400 {
                let length = [0, 1, 500, SMALL, SMALL + 1, 3, 12_345][n % 7];
                let data = bytes(n, length);
                let mut rest = &data[..];
                while !rest.is_empty() {
                    match staged.poll_write_vectored(cx, &[IoSlice::new(rest)]) {
                        Poll::Ready(count) => {
                            let (gone, left) = rest.split_at(count.unwrap());
                            due.extend_from_slice(gone);
                            rest = left;
                        }
                        Poll::Pending => staged.io.room.push_back(room),
                    }
                    assert!(due.len() - staged.io.took.len() <= MOST);
                    assert!(staged.held.capacity() <= MOST);
                }
            }
            while staged.poll_close(cx).is_pending() {
                staged.io.room.push_back(room);
            }
            assert!(staged.io.took == due, "by {room}");
            assert_eq!(staged.held.capacity(), 0, "no memory is kept to linger");
        }
    }
}
