//! A connection during WATCH: a position in the catalog's history, and the part of the next events that is sent.

use alloc::sync::Arc;

use super::CloseReason;
use crate::catalog::{Batch, Cursor};
use crate::time::Time;
use crate::wire::response::HEADER_LEN;
use crate::wire::{Decoded, entry};

/// Maximum number of bytes offered at once, unless a single event is longer. Output is offered in whole events, and
/// cannot be withdrawn when CANCEL is received, so a smaller window answers CANCEL earlier. // C6
const WINDOW: usize = 16 * 1024;

/// How a WATCH ends, at the next event boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WatchEnd {
    /// By CANCEL: `JTPC` is sent, and the connection continues as a keep-alive one. // N3
    Cancel,
    /// In any other way: the connection closes.
    Close(CloseReason),
}

/// The state of a WATCH.
///
/// ```text
/// history  ──────────┬─────────── batch ────────────┬──────── later events
///                 cursor     sent      offered    batch.end()
///   all sent up to here   acknowledged  shown by `output`
/// ```
#[derive(Debug)]
pub(super) struct Watching {
    /// The position before `batch`. All earlier events are sent.
    cursor: Cursor,
    /// The events being sent.
    batch: Option<Arc<Batch>>,
    /// Number of bytes of the batch that are acknowledged.
    sent: usize,
    /// Number of bytes of the batch that are acknowledged or offered.
    offered: usize,
    /// When the first byte of a CANCEL was received.
    pub(super) cancel_begun: Option<Time>,
    pub(super) end: Option<WatchEnd>,
}

impl Watching {
    /// A WATCH that begins with the event after `cursor`.
    pub(super) fn new(cursor: Cursor) -> Watching {
        let mut watching = Watching {
            cursor,
            batch: None,
            sent: 0,
            offered: 0,
            cancel_begun: None,
            end: None,
        };
        watching.advance();
        watching
    }

    /// A WATCH that ends before any event.
    pub(super) fn ended(cursor: Cursor, end: WatchEnd) -> Watching {
        Watching {
            cursor,
            batch: None,
            sent: 0,
            offered: 0,
            cancel_begun: None,
            end: Some(end),
        }
    }

    pub(super) fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// The bytes that are offered and not acknowledged; they end at an event boundary.
    pub(super) fn output(&self) -> &[u8] {
        self.batch
            .as_ref()
            .and_then(|batch| batch.frames().get(self.sent..self.offered))
            .unwrap_or(&[])
    }

    /// Acknowledges the first `bytes` bytes of the output.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent = self.offered.min(self.sent + bytes);
        self.advance();
    }

    /// Offers further events if all offered ones are acknowledged, unless the WATCH is to end.
    pub(super) fn advance(&mut self) {
        while self.sent == self.offered && self.end.is_none() {
            if self.batch.is_none() {
                self.batch = self.cursor.next();
            }
            let Some(batch) = &self.batch else {
                if self.cursor.is_cut() {
                    self.end = Some(WatchEnd::Close(CloseReason::WatchLag)); // N2
                }
                return;
            };
            if self.offered < batch.frames().len() {
                self.offered = window(batch.frames(), self.offered);
                return;
            }
            self.cursor = batch.end();
            self.batch = None;
            self.sent = 0;
            self.offered = 0;
        }
    }
}

/// The end of the whole events to offer from `start` on.
fn window(frames: &[u8], start: usize) -> usize {
    let mut end = start;
    while end < frames.len() {
        let entry = frames.get(end + HEADER_LEN..).unwrap_or_default();
        let Ok(Decoded::Complete { used, .. }) = entry::decode(entry) else {
            // Not reached: the catalog encoded these frames. The rest would be offered at once.
            return frames.len();
        };
        let next = end + HEADER_LEN + used;
        if next - start > WINDOW && end > start {
            break;
        }
        end = next;
    }
    end
}
