//! Received data on its way from a connection to a worker thread.

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

/// Steps, and the bytes that they refer to.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) steps: Vec<Step>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether the batch has no room for `more` additional bytes.
    pub(super) fn is_full(&self, more: u32) -> bool {
        let more = usize::try_from(more).unwrap_or(usize::MAX);
        self.bytes.len().saturating_add(more) > MAX_BYTES || self.steps.len() >= MAX_STEPS
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        match self.steps.last_mut() {
            // Merged, because few long writes are faster than many short ones.
            Some(Step::Bytes(count)) => *count += bytes.len(),
            _ => self.steps.push(Step::Bytes(bytes.len())),
        }
    }
}
