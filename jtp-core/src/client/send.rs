//! The sending half: what may be sent when, and the window of encoded output.

use alloc::vec::Vec;

use super::request::{Cancel, Pending, Request};
use super::{ClientConnection, Time};
use crate::connection::Misuse;
use crate::wire::request::MAX_GET;

/// How much output is encoded ahead, in bytes. A BATCH of a million IDs is 8 MB: it is encoded as it is sent.
pub(super) const WINDOW: usize = 16 * 1024;

/// Output that was encoded and not yet acknowledged.
#[derive(Debug, Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    /// The first byte not acknowledged.
    at: usize,
}

impl Output {
    pub(super) fn waiting(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting().is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.at = 0;
    }

    fn acknowledge(&mut self, n: usize) {
        self.at = self.at.saturating_add(n);
        if self.is_empty() {
            self.clear();
        }
    }

    /// Drops what was acknowledged, so that the buffer does not grow while it is refilled.
    fn compact(&mut self) {
        if self.at > 0 {
            self.bytes.drain(..self.at);
            self.at = 0;
        }
    }
}

impl ClientConnection {
    /// Makes a request. It is queued, and becomes output as soon as the protocol and
    /// [`ClientConfig::with_pipeline`](super::ClientConfig::with_pipeline) allow; responses come in the order
    /// of the requests. Without `keep_alive` it is the last one (WATCH does not use it). // S1 S2 W7
    ///
    /// # Errors
    ///
    /// [`Misuse`], if no request can follow what was asked before, or this one cannot be framed.
    pub fn request(&mut self, request: Request, keep_alive: bool, now: Time) -> Result<(), Misuse> {
        if self.is_over() {
            return Err(Misuse::Closed);
        }
        if self.last {
            return Err(Misuse::LastRequest); // S2
        }
        if self.cancelled && !self.config.pipeline() {
            return Err(Misuse::AfterCancel); // R7
        }
        if self.pending.back().is_some_and(Pending::is_watching) {
            return Err(Misuse::Watching); // N3
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

    /// Cancels the request that was sent last: CANCEL is sent behind it, and
    /// [`Event::Cancelled`](super::Event::Cancelled) will tell the server's answer, once. Until then events go
    /// on, and what they say is good. The server looks for it ahead of its turn only while it answers that
    /// very request: CANCEL does not reach requests that were pipelined before it. // C1 C5 C7
    ///
    /// # Errors
    ///
    /// [`Misuse`], if there is nothing to cancel, it was done before, the request was made without
    /// keep-alive (C4), or (without [pipelining](super::ClientConfig::with_pipeline)) requests wait behind it.
    pub fn cancel(&mut self, now: Time) -> Result<(), Misuse> {
        if self.is_over() {
            return Err(Misuse::Closed);
        }
        let at = self.pending.iter().rposition(|p| !p.is_untouched());
        let at = at.unwrap_or(0);
        let is_last = at + 1 >= self.pending.len();
        match self.pending.get(at) {
            None => return Err(Misuse::NothingToCancel),
            Some(target) if target.cancel != Cancel::No => return Err(Misuse::NothingToCancel),
            Some(target) if !target.keeps_open() => return Err(Misuse::NotCancellable), // C4
            Some(_) if !is_last && !self.config.pipeline() => return Err(Misuse::RequestsQueued),
            Some(_) => {}
        }
        // For WATCH the clock begins to run here. // T6
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

    /// The bytes to send next; empty if there is nothing to send now. Looking twice shows the same, and what
    /// was shown stays at the front until it is acknowledged: more may be appended. Only the end of the
    /// connection takes it away: whoever gets `JTPE` stops sending. // R1
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
    /// [`Misuse::Overacknowledged`]. Once the connection has ended any number is right: a write may have been
    /// under way.
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
            self.progress(now);
            if shown - n < WINDOW / 2 {
                self.fill();
            }
        }
        Ok(())
    }

    /// Encodes what may be sent, up to the window.
    pub(super) fn fill(&mut self) {
        if self.next >= self.pending.len() {
            return;
        }
        self.output.compact();
        loop {
            let room = WINDOW.saturating_sub(self.output.bytes.len());
            // Those further ahead were asked when the one before this was encoded.
            let before = self.next.checked_sub(1).and_then(|at| self.pending.get(at));
            let held = before.is_some_and(|before| before.holds_back(self.config.pipeline()));
            match self.pending.get_mut(self.next) {
                Some(request) if room > 0 && !(held && request.is_untouched()) => {
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
