//! The sending half: when a request may be sent, and the window of encoded output.

use alloc::vec::Vec;

use super::request::{Cancel, Pending, Request};
use super::{ClientConnection, Time};
use crate::connection::Misuse;
use crate::wire::request::MAX_GET;

/// Number of bytes that are encoded ahead. A BATCH of a million IDs is 8 MB, so it is encoded while it is sent.
pub(super) const WINDOW: usize = 16 * 1024;

/// Output that is encoded and not acknowledged.
#[derive(Debug, Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    /// Number of bytes that are acknowledged.
    sent: usize,
}

impl Output {
    pub(super) fn waiting(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting().is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.sent = 0;
    }

    fn acknowledge(&mut self, n: usize) {
        self.sent = self.sent.saturating_add(n);
    }

    /// Removes the acknowledged bytes, so that the buffer does not grow while it is refilled.
    fn compact(&mut self) {
        self.bytes.drain(..self.sent);
        self.sent = 0;
    }
}

impl ClientConnection {
    /// Queues a request. It becomes output as soon as the protocol and
    /// [`ClientConfig::with_pipeline`](super::ClientConfig::with_pipeline) allow; responses arrive in the order of
    /// the requests. Without `keep_alive` it is the last request, except for WATCH, which ignores it. // S1 S2 W7
    ///
    /// # Errors
    ///
    /// [`Misuse`] if no request can follow the earlier ones, or this one has too many IDs.
    pub fn request(&mut self, request: Request, keep_alive: bool, now: Time) -> Result<(), Misuse> {
        if let Some(misuse) = self.refusal() {
            return Err(misuse);
        }
        if let Request::GetById(ids) = &request {
            if ids.len() > MAX_GET {
                return Err(Misuse::TooManyIds(ids.len()));
            }
        }
        self.start_clock(now);
        let pending = Pending::new(request, keep_alive);
        self.last = !pending.keeps_open();
        self.pending.push_back(pending);
        self.fill();
        Ok(())
    }

    /// Cancels the request that was sent last: CANCEL is sent behind it, and the server's answer is one
    /// [`Event::Cancelled`](super::Event::Cancelled). Events before it are valid. The server acts on CANCEL only
    /// while it answers that request: it does not affect requests that were pipelined before it. // C1 C5 C7
    ///
    /// # Errors
    ///
    /// [`Misuse`] if there is no request to cancel, it is already cancelled, it was made without keep-alive (C4), or
    /// without [pipelining](super::ClientConfig::with_pipeline) requests are queued behind it.
    pub fn cancel(&mut self, now: Time) -> Result<(), Misuse> {
        if self.is_over() {
            return Err(Misuse::Closed);
        }
        let at = self.pending.iter().rposition(|p| !p.is_queued());
        let at = at.unwrap_or(0);
        let is_last = at + 1 >= self.pending.len();
        match self.pending.get(at) {
            None => return Err(Misuse::NothingToCancel),
            Some(target) if target.cancel != Cancel::No => return Err(Misuse::NothingToCancel),
            Some(target) if !target.keeps_open() => return Err(Misuse::NotCancellable), // C4
            Some(_) if !is_last && !self.config.pipeline() => return Err(Misuse::RequestsQueued),
            Some(_) => {}
        }
        // The response timeout did not apply during WATCH. // T6
        self.start_clock(now);
        self.cancelled = true;
        if let Some(target) = self.pending.get_mut(at) {
            target.cancel = Cancel::Wanted;
            if target.is_sent() {
                target.encode(&mut self.output.bytes, 0);
            }
        }
        self.fill();
        Ok(())
    }

    /// The bytes to send next; empty if there is nothing to send now. A repeated call shows the same bytes, perhaps
    /// with more behind them, until they are acknowledged. Only the end of the connection withdraws them: after
    /// `JTPE` nothing more is sent. // R1
    #[must_use]
    pub fn transmit(&self) -> &[u8] {
        if self.is_over() {
            &[]
        } else {
            self.output.waiting()
        }
    }

    /// Acknowledges that the first `n` bytes of [`transmit`](ClientConnection::transmit) were sent.
    ///
    /// # Errors
    ///
    /// [`Misuse::Overacknowledged`] if it showed fewer. After the end of the connection any number is accepted, since
    /// a write may have been in progress.
    pub fn transmitted(&mut self, n: usize, now: Time) -> Result<(), Misuse> {
        if self.is_over() {
            return Ok(());
        }
        let shown = self.output.waiting().len();
        if n > shown {
            return Err(Misuse::Overacknowledged {
                acknowledged: n,
                shown,
            });
        }
        if n > 0 {
            self.output.acknowledge(n);
            self.clock.touch(now);
            self.clock.count(n, &self.config, now);
            if shown - n < WINDOW / 2 {
                self.fill();
            }
            if self.output.is_empty() {
                self.clock.restart(now);
            }
        }
        Ok(())
    }

    /// Encodes requests that may be sent, up to the window.
    pub(super) fn fill(&mut self) {
        if self.next >= self.pending.len() {
            return;
        }
        self.output.compact();
        loop {
            let room = WINDOW.saturating_sub(self.output.bytes.len());
            // The request before this one was checked against those before it when it was encoded.
            let before = self.next.checked_sub(1).and_then(|at| self.pending.get(at));
            let waits = before.is_some_and(|before| before.holds_back(self.config.pipeline()));
            match self.pending.get_mut(self.next) {
                Some(request) if room > 0 && !(waits && request.is_queued()) => {
                    if !request.encode(&mut self.output.bytes, room) {
                        return;
                    }
                    self.next += 1;
                }
                _ => return,
            }
        }
    }
}
