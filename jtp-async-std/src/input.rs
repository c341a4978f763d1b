//! What was read and not used yet.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::AsyncRead;

/// The least that is read at once: an idle connection holds no more than this.
const LEAST: usize = 512;

/// A buffer that is small for small requests and grows while the peer fills it.
#[derive(Debug)]
pub(crate) struct Input {
    data: Vec<u8>,
    start: usize,
    end: usize,
    most: usize,
}

impl Input {
    /// A buffer of at most `most` bytes. // S1
    pub(crate) fn new(most: usize) -> Input {
        Input {
            data: Vec::new(),
            start: 0,
            end: 0,
            most,
        }
    }

    pub(crate) fn unused(&self) -> &[u8] {
        self.data.get(self.start..self.end).unwrap_or_default()
    }

    pub(crate) fn consume(&mut self, used: usize) {
        self.start = self.end.min(self.start + used);
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
        if self.end == self.data.len() {
            self.make_room();
        }
        let room = self.data.get_mut(self.end..).unwrap_or_default();
        match Pin::new(io).poll_read(cx, room) {
            Poll::Ready(Ok(count)) => {
                self.end += count.min(room.len());
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                if self.start == self.end && self.data.len() > LEAST {
                    // Do not keep what a burst needed.
                    *self = Input::new(self.most);
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
        if self.end == self.data.len() {
            let size = (self.data.len() * 4).clamp(LEAST, self.most);
            self.data.resize(size.max(self.data.len()), 0);
        }
    }
}
