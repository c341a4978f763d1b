//! A connection during WATCH: a place in the catalog's history, and how much of it is on its way.

use alloc::sync::Arc;

use super::CloseReason;
use crate::catalog::{Batch, Cursor};
use crate::time::Time;
use crate::wire::response::HEADER_LEN;
use crate::wire::{Decoded, entry};

/// Output is offered in whole events, and where one event is not longer no more at once than this: what was
/// offered cannot be taken back when a CANCEL comes. // C6
const WINDOW: usize = 16 * 1024;

/// How a WATCH ends, at the next event boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// By CANCEL: `JTPC`, and the connection is an ordinary one again. // N3
    Cancel,
    /// By anything else: the connection closes.
    Close(CloseReason),
}

#[derive(Debug)]
pub(super) struct Watching {
    /// The events before this place are told;
    cursor: Cursor,
    /// those of the batch behind it are being told.
    batch: Option<Arc<Batch>>,
    /// Of that batch's frames: acknowledged up to here,
    sent: usize,
    /// offered up to here.
    offered: usize,
    /// When the first byte of a CANCEL came.
    pub(super) cancel_begun: Option<Time>,
    pub(super) ending: Option<Ending>,
}

impl Watching {
    pub(super) fn new(cursor: Cursor) -> Watching {
        let mut watching = Watching {
            cursor,
            batch: None,
            sent: 0,
            offered: 0,
            cancel_begun: None,
            ending: None,
        };
        watching.advance();
        watching
    }

    /// One that tells nothing and ends at once.
    pub(super) fn ending(cursor: Cursor, ending: Ending) -> Watching {
        Watching {
            cursor,
            batch: None,
            sent: 0,
            offered: 0,
            cancel_begun: None,
            ending: Some(ending),
        }
    }

    pub(super) fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// What is offered and not acknowledged yet: it ends at an event boundary.
    pub(super) fn output(&self) -> &[u8] {
        self.batch
            .as_ref()
            .and_then(|batch| batch.frames().get(self.sent..self.offered))
            .unwrap_or(&[])
    }

    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent = self.offered.min(self.sent + bytes);
        self.advance();
    }

    /// Offers the next events once all that was offered is sent, unless the WATCH is ending.
    pub(super) fn advance(&mut self) {
        while self.sent == self.offered && self.ending.is_none() {
            if self.batch.is_none() {
                self.batch = self.cursor.next();
            }
            let Some(batch) = &self.batch else {
                if self.cursor.is_cut() {
                    self.ending = Some(Ending::Close(CloseReason::WatchLag)); // N2
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
            // The catalog encoded these frames, so this cannot be; the rest would be one piece then.
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
