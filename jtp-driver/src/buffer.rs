//! Bytes that were read from a stream and not used yet.

use std::io;
#[cfg(feature = "client")]
use std::ops::Range;
use std::task::{Context, Poll};

use crate::runtime::Transport;

/// The factor by which the buffer grows when the peer fills it.
const GROWTH: usize = 16;

/// Bytes that were read from a stream and that a connection has not used yet. The buffer starts small, grows while
/// the peer fills it, and never beyond its limit. // S1 R3
#[derive(Debug)]
pub(crate) struct InputBuffer {
    data: Vec<u8>,
    start: usize,
    end: usize,
    min: usize,
    max: usize,
    /// Whether the last read filled the buffer: more may be available.
    was_full: bool,
}

impl InputBuffer {
    /// A buffer of at most `max` bytes. It allocates nothing until it is used, keeps at most `min` bytes while idle,
    /// and reads at least `min` bytes at once.
    pub(crate) const fn new(min: usize, max: usize) -> InputBuffer {
        InputBuffer {
            data: Vec::new(),
            start: 0,
            end: 0,
            min,
            max,
            was_full: false,
        }
    }

    /// The bytes that were read and not used.
    pub(crate) fn unused(&self) -> &[u8] {
        self.data.get(self.start..self.end).unwrap_or_default()
    }

    /// [`unused`](Self::unused), to decrypt in place.
    #[cfg(feature = "tls")]
    pub(crate) fn unused_mut(&mut self) -> &mut [u8] {
        self.data.get_mut(self.start..self.end).unwrap_or_default()
    }

    /// Marks `count` bytes of [`unused`](Self::unused) as used, or all if there are fewer.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = self.end.min(self.start.saturating_add(count));
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Marks the first `count` bytes as used and moves them to `memory`, whose contents are lost. Returns where they are.
    ///
    /// If they are most of the unused bytes, they stay where they are, and `memory` is what is read into from now on.
    #[cfg(feature = "client")]
    pub(crate) fn move_to(&mut self, count: usize, memory: &mut Vec<u8>) -> Range<usize> {
        let middle = self.end.min(self.start + count);
        let (moved, rest) = (self.start..middle, middle..self.end);
        if moved.len() < rest.len() {
            memory.clear();
            memory.extend_from_slice(&self.data[moved.clone()]);
            self.start = middle;
            return 0..moved.len();
        }
        // Longer memory would exceed the limit.
        memory.resize(self.data.len(), 0);
        memory[..rest.len()].copy_from_slice(&self.data[rest.clone()]);
        std::mem::swap(&mut self.data, memory);
        (self.start, self.end) = (0, rest.len());
        moved
    }

    /// Whether there is no room left.
    #[cfg(any(feature = "server", feature = "tls", test))]
    pub(crate) fn is_full(&self) -> bool {
        self.end - self.start >= self.max
    }

    /// Reads available bytes from `io`. `Ready(0)` is the end of the stream.
    pub(crate) fn poll_fill<T: Transport + ?Sized>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut T,
    ) -> Poll<io::Result<usize>> {
        let read = io.poll_read(cx, self.room());
        match &read {
            Poll::Ready(Ok(count)) => self.filled(*count),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.shrink(),
        }
        read
    }

    /// The space to read into: empty only if the buffer is full.
    fn room(&mut self) -> &mut [u8] {
        if self.start > 0 && self.end == self.data.len() {
            self.data.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.was_full || self.end == self.data.len() {
            let min = self.min.min(self.max);
            let size = (self.data.len().saturating_mul(GROWTH)).clamp(min, self.max);
            self.data.resize(size.max(self.data.len()), 0);
            self.was_full = false;
        }
        self.data.get_mut(self.end..).unwrap_or_default()
    }

    /// Marks `count` bytes of [`room`](Self::room) as read.
    fn filled(&mut self, count: usize) {
        self.end = self.data.len().min(self.end.saturating_add(count));
        self.was_full = self.end == self.data.len();
    }

    /// Releases the memory of a burst, unless something is unused.
    fn shrink(&mut self) {
        if self.start == self.end && self.data.len() > self.min {
            *self = InputBuffer::new(self.min, self.max);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads like a socket that always has more bytes; returns the number read.
    fn read(input: &mut InputBuffer, next: &mut u8) -> usize {
        let room = input.room();
        let count = room.len();
        for byte in room {
            *byte = *next;
            *next = next.wrapping_add(1);
        }
        input.filled(count);
        count
    }

    #[test]
    fn grows_to_its_limit_while_the_peer_fills_it() {
        let mut input = InputBuffer::new(512, 64 * 1024);
        let mut next = 0;
        let mut sizes = Vec::new();
        for _ in 0..5 {
            sizes.push(read(&mut input, &mut next));
            input.consume(usize::MAX);
            assert!(input.unused().is_empty());
        }
        assert_eq!(sizes, [512, 8192, 65536, 65536, 65536]);
        input.shrink();
        assert_eq!(input.room().len(), 512, "the memory of a burst is released");
    }

    #[test]
    fn s1_unused_bytes_stay_in_order_and_within_the_limit() {
        let mut input = InputBuffer::new(512, 2000);
        let (mut next, mut expected) = (0, 0u8);
        for round in 0..2000 {
            if input.is_full() {
                assert!(input.room().is_empty());
            } else {
                assert!(read(&mut input, &mut next) > 0);
            }
            assert!(input.unused().len() <= 2000);
            input.shrink();
            let used = (round * 7) % 900;
            for byte in input.unused().iter().take(used) {
                assert_eq!(*byte, expected);
                expected = expected.wrapping_add(1);
            }
            input.consume(used);
        }
    }

    #[cfg(feature = "client")]
    #[test]
    fn moved_bytes_and_the_rest_are_the_ones_that_were_read() {
        let mut input = InputBuffer::new(2000, 2000);
        let mut memory = Vec::new();
        let (mut next, mut expected) = (0, 0u8);
        for round in 0..2000 {
            read(&mut input, &mut next);
            let unused = input.unused().len();
            // All of them, some, and more than there are.
            let count = (round * 7) % 2300;
            let moved = input.move_to(count, &mut memory);
            assert_eq!(moved.len(), count.min(unused));
            assert_eq!(input.unused().len(), unused - moved.len());
            for byte in &memory[moved] {
                assert_eq!(*byte, expected);
                expected = expected.wrapping_add(1);
            }
            assert!(memory.len() <= 2000 && input.data.len() <= 2000);
        }
    }

    #[test]
    fn small_reads_keep_the_buffer_small() {
        let mut input = InputBuffer::new(512, 64 * 1024);
        for _ in 0..1000 {
            assert!(input.room().len() <= 512);
            input.filled(10);
            input.consume(10);
        }
    }
}
