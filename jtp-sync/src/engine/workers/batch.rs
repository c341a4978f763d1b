//! Received data on its way from a connection to a worker thread.

use std::ops::Range;

use jtp_core::Image;

use crate::engine::flight::Flight;

/// A batch with this many bytes is full.
const MAX_BYTES: usize = 256 * 1024;

/// A batch with this many steps is full: begin, bytes and end of 100 images.
const MAX_STEPS: usize = 300;

pub(super) enum Step {
    /// An image begins. An image that has begun and not ended is discarded.
    Begin(Image),
    /// This number of bytes of its packet.
    Bytes(usize),
    /// The packet is complete.
    End(Flight),
    /// The image is discarded.
    Discard,
}

/// Chunks of this many bytes are not copied.
pub(in crate::engine) const MIN_MOVED: usize = 64 * 1024;

/// Steps, and the bytes that they refer to.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) steps: Vec<Step>,
    /// It keeps its length, so that it is not filled with zeros again and again.
    memory: Vec<u8>,
    /// The place of the bytes in it.
    used: Range<usize>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The bytes, and the steps that are to be done with them.
    pub(super) fn parts(&mut self) -> (&[u8], &mut Vec<Step>) {
        let bytes = self.memory.get(self.used.clone()).unwrap_or_default();
        (bytes, &mut self.steps)
    }

    /// Whether the batch has no bytes.
    pub(super) fn has_no_bytes(&self) -> bool {
        self.used.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.steps.clear();
        self.used = 0..0;
    }

    /// Whether the batch has no room for `more` additional bytes.
    pub(super) fn is_full(&self, more: u32) -> bool {
        let more = usize::try_from(more).unwrap_or(usize::MAX);
        self.used.len().saturating_add(more) >= MAX_BYTES || self.steps.len() >= MAX_STEPS
    }

    /// Takes over bytes: `moved` exchanges the memory, and returns where in it they are. The batch has no others.
    pub(super) fn take(&mut self, moved: impl FnOnce(&mut Vec<u8>) -> Range<usize>) {
        debug_assert!(self.has_no_bytes());
        self.used = moved(&mut self.memory);
        self.steps.push(Step::Bytes(self.used.len()));
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        let at = self.used.end;
        self.used.end += bytes.len();
        if self.memory.len() < self.used.end {
            let length = self.used.end.max(2 * self.memory.len());
            self.memory.resize(length, 0);
        }
        self.memory[at..self.used.end].copy_from_slice(bytes);
        match self.steps.last_mut() {
            // Merged, because few long writes are faster than many short ones.
            Some(Step::Bytes(count)) => *count += bytes.len(),
            _ => self.steps.push(Step::Bytes(bytes.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_follow_each_other_are_one_step_and_earlier_bytes_stay() {
        let mut batch = Batch::default();
        for piece in [&[1; 10][..], &[2; 5], &[], &[3; 100]] {
            batch.append(piece);
        }
        batch.steps.push(Step::Discard);
        batch.append(&[4]);
        let (bytes, steps) = batch.parts();
        let expected = [&[1; 10][..], &[2; 5], &[3; 100], &[4]].concat();
        assert_eq!(bytes, expected);
        let [Step::Bytes(115), Step::Discard, Step::Bytes(1)] = steps[..] else {
            panic!("{} steps", steps.len());
        };
        batch.clear();
        assert!(batch.is_empty() && batch.has_no_bytes());
    }

    #[test]
    fn r3_a_batch_is_full_with_256_kib_or_300_steps() {
        let mut batch = Batch::default();
        batch.append(&[0; 1000]);
        let room = u32::try_from(MAX_BYTES - 1000).unwrap();
        assert!(!batch.is_full(room - 1));
        assert!(batch.is_full(room));
        let mut batch = Batch::default();
        batch.steps.extend((1..MAX_STEPS).map(|_| Step::Discard));
        assert!(!batch.is_full(0));
        batch.steps.push(Step::Discard);
        assert!(batch.is_full(0));
    }
}
