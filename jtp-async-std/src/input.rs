//! What was read and not used yet.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::AsyncRead;

/// A buffer that is small for small requests and grows while the peer fills it.
#[derive(Debug)]
pub(crate) struct Input {
    data: Vec<u8>,
    start: usize,
    end: usize,
    /// The least that is read at once: an idle connection holds no more than this.
    least: usize,
    most: usize,
    /// Whether the last read filled all the room there was.
    filled: bool,
}

impl Input {
    /// A buffer of at least `least` bytes once something is read, and at most `most`. // S1
    pub(crate) fn new(least: usize, most: usize) -> Input {
        Input {
            data: Vec::new(),
            start: 0,
            end: 0,
            least,
            most,
            filled: false,
        }
    }

    pub(crate) fn unused(&self) -> &[u8] {
        self.data.get(self.start..self.end).unwrap_or_default()
    }

    pub(crate) fn consume(&mut self, used: usize) {
        self.start = self.end.min(self.start.saturating_add(used));
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.end - self.start >= self.most
    }

    /// Reads what is there. `Ready(0)` is the end.
    pub(crate) fn poll_fill<T: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut T,
    ) -> Poll<io::Result<usize>> {
        // What was filled and used at once leaves an empty buffer that is too small all the same.
        if self.end == self.data.len() || self.filled {
            self.make_room();
        }
        let room = self.data.get_mut(self.end..).unwrap_or_default();
        match Pin::new(io).poll_read(cx, room) {
            Poll::Ready(Ok(count)) => {
                let count = count.min(room.len());
                self.filled = count == room.len();
                self.end += count;
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                if self.start == self.end && self.data.len() > self.least {
                    // Do not keep what a burst needed.
                    *self = Input::new(self.least, self.most);
                }
                Poll::Pending
            }
        }
    }

    fn make_room(&mut self) {
        if self.start > 0 {
            self.data.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.data.len() || self.filled {
            let size = (self.data.len() * 4).clamp(self.least, self.most);
            self.data.resize(size.max(self.data.len()), 0);
            self.filled = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives as much as there is room for, and notes how much that was.
    struct Greedy(Vec<usize>);

    impl AsyncRead for Greedy {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            self.0.push(buf.len());
            buf.fill(1);
            Poll::Ready(Ok(buf.len()))
        }
    }

    #[test]
    fn reads_grow_while_the_peer_fills_them_though_all_is_used_at_once() {
        let mut input = Input::new(512, 65_536);
        let mut peer = Greedy(Vec::new());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        for _ in 0..6 {
            assert!(input.poll_fill(&mut cx, &mut peer).is_ready());
            input.consume(usize::MAX);
        }
        assert_eq!(peer.0, [512, 2048, 8192, 32_768, 65_536, 65_536]);
    }
}
