//! What a caller has read and not used yet.

use alloc::vec::Vec;

/// How much larger the buffer becomes when the peer fills it.
const GROWTH: usize = 16;

/// The bytes that a caller has read and a connection has not used, in a buffer that is small for small
/// requests, grows while the peer fills it, and never beyond its limit. // S1 R3
///
/// ```
/// use jtp_core::InputBuffer;
///
/// let mut input = InputBuffer::new(512, 64 * 1024);
/// let room = input.room();
/// room[..3].copy_from_slice(&[1, 0, 7]); // what `read(room)` would do
/// input.filled(3);
/// assert_eq!(input.unused(), [1, 0, 7]);
/// input.consume(2);
/// assert_eq!(input.unused(), [7]);
/// ```
#[derive(Debug)]
pub struct InputBuffer {
    data: Vec<u8>,
    start: usize,
    end: usize,
    least: usize,
    most: usize,
    /// Whether the last read took all the room that there was: there may be more.
    was_full: bool,
}

impl InputBuffer {
    /// A buffer of at most `most` bytes. It holds nothing until it is used, and at rest no more than `least`,
    /// which is also the least that is read at once.
    #[must_use]
    pub const fn new(least: usize, most: usize) -> InputBuffer {
        InputBuffer {
            data: Vec::new(),
            start: 0,
            end: 0,
            least,
            most,
            was_full: false,
        }
    }

    /// What was read and not used.
    #[must_use]
    pub fn unused(&self) -> &[u8] {
        self.data.get(self.start..self.end).unwrap_or_default()
    }

    /// So many bytes of [`unused`](Self::unused) were used; more than there are count as all.
    pub fn consume(&mut self, used: usize) {
        self.start = self.end.min(self.start.saturating_add(used));
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Whether there is no room left.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.end - self.start >= self.most
    }

    /// Where to read to: empty only if the buffer [is full](Self::is_full).
    pub fn room(&mut self) -> &mut [u8] {
        if self.start > 0 && self.end == self.data.len() {
            self.data.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.was_full || self.end == self.data.len() {
            let least = self.least.min(self.most);
            let size = (self.data.len().saturating_mul(GROWTH)).clamp(least, self.most);
            self.data.resize(size.max(self.data.len()), 0);
            self.was_full = false;
        }
        self.data.get_mut(self.end..).unwrap_or_default()
    }

    /// So many bytes were read into [`room`](Self::room); more than it had count as all.
    pub fn filled(&mut self, count: usize) {
        self.end = self.data.len().min(self.end.saturating_add(count));
        self.was_full = self.end == self.data.len();
    }

    /// Nothing comes for now: gives back what a burst needed, unless something is unused.
    pub fn rest(&mut self) {
        if self.start == self.end && self.data.len() > self.least {
            *self = InputBuffer::new(self.least, self.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads like a socket that always has more; how much.
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
    fn it_grows_to_its_limit_while_the_peer_fills_it_though_all_is_used() {
        let mut input = InputBuffer::new(512, 64 * 1024);
        let mut next = 0;
        let mut sizes = Vec::new();
        for _ in 0..5 {
            sizes.push(read(&mut input, &mut next));
            input.consume(usize::MAX);
            assert!(input.unused().is_empty());
        }
        assert_eq!(sizes, [512, 8192, 65536, 65536, 65536]);
        input.rest();
        assert_eq!(input.room().len(), 512, "what a burst needed is given back");
    }

    #[test]
    fn s1_what_is_unused_stays_in_order_and_within_the_limit() {
        let mut input = InputBuffer::new(512, 2000);
        let (mut next, mut expected) = (0, 0u8);
        for turn in 0..2000 {
            if input.is_full() {
                assert!(input.room().is_empty());
            } else {
                assert!(read(&mut input, &mut next) > 0);
            }
            assert!(input.unused().len() <= 2000);
            input.rest();
            let used = (turn * 7) % 900;
            for byte in input.unused().iter().take(used) {
                assert_eq!(*byte, expected);
                expected = expected.wrapping_add(1);
            }
            input.consume(used);
        }
    }

    #[test]
    fn a_reader_that_fills_little_keeps_the_buffer_small() {
        let mut input = InputBuffer::new(512, 64 * 1024);
        for _ in 0..1000 {
            assert!(input.room().len() <= 512);
            input.filled(10);
            input.consume(10);
        }
    }
}
