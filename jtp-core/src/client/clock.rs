//! The response timeout. // T6

use core::time::Duration;

use super::ClientConfig;
use crate::time::Time;

/// Measures one span after another, each at most as long as the response timeout. A span ends when enough bytes were
/// sent or received in it, and with each step of a request: all output sent, its response begun, its response complete.
#[derive(Debug)]
pub(super) struct ResponseClock {
    /// When the span began, later by the time that the application needed since.
    begun: Time,
    /// Number of bytes sent and received in the span.
    bytes: u64,
    /// When the caller last passed bytes, or found that there are none.
    active: Time,
}

impl ResponseClock {
    pub(super) fn new(now: Time) -> ResponseClock {
        ResponseClock {
            begun: now,
            bytes: 0,
            active: now,
        }
    }

    /// Begins a span.
    pub(super) fn restart(&mut self, now: Time) {
        self.begun = self.begun.max(now);
        self.bytes = 0;
    }

    /// The caller is working on the connection.
    pub(super) fn touch(&mut self, now: Time) {
        self.active = self.active.max(now);
    }

    /// Counts bytes sent or received.
    pub(super) fn count(&mut self, bytes: usize, config: &ClientConfig, now: Time) {
        if bytes == 0 {
            return;
        }
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes >= config.minimum_bytes() {
            self.restart(now);
        }
    }

    /// Leaves out the time since the caller last worked on the connection.
    pub(super) fn resume(&mut self, now: Time) {
        let now = now.max(self.active);
        let before = self.active.saturating_since(self.begun);
        let begun = now.elapsed().saturating_sub(before);
        self.begun = self.begun.max(Time::since_epoch(begun));
        self.active = now;
    }

    pub(super) fn deadline(&self, timeout: Duration) -> Time {
        self.begun + timeout
    }
}
