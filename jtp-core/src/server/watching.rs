//! A connection during WATCH: a place in the catalog's history, and how much of it is on its way.

use super::CloseReason;
use crate::catalog::Cursor;
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
    /// The events before this place are told; those of the batch behind it are being told.
    cursor: Cursor,
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
        self.cursor
            .frames()
            .and_then(|frames| frames.get(self.sent..self.offered))
            .unwrap_or(&[])
    }

    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent = self.offered.min(self.sent + bytes);
        self.advance();
    }

    /// Offers the next events once all that was offered is sent, unless the WATCH is ending.
    pub(super) fn advance(&mut self) {
        while self.sent == self.offered && self.ending.is_none() {
            let Some(frames) = self.cursor.frames() else {
                return;
            };
            if self.offered < frames.len() {
                self.offered = window(frames, self.offered);
                return;
            }
            let Some(next) = self.cursor.next() else {
                return;
            };
            self.cursor = next;
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
