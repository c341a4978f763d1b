//! The server's timeouts. // T4

use core::time::Duration;

use super::watching::WatchEnd;
use super::{CloseReason, ServerConnection, State, Timeout};
use crate::time::Time;

/// The linger timeout of a server that is shutting down, unless a shorter one is configured. // S16
const DRAINING_LINGER: Duration = Duration::from_secs(1);

/// Measures the rate at which a request arrives, without the time in which the server did not read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RequestClock {
    started: Time,
    paused: Option<Time>,
    bytes: u64,
}

impl RequestClock {
    /// Starts with the first byte of a request.
    pub(super) fn start(&mut self, now: Time) {
        *self = RequestClock {
            started: now,
            paused: None,
            bytes: 0,
        };
    }

    pub(super) fn count(&mut self, bytes: usize) {
        self.bytes = self
            .bytes
            .saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// The server stops reading.
    pub(super) fn pause(&mut self, now: Time) {
        self.paused = Some(now);
    }

    /// The server reads again.
    pub(super) fn resume(&mut self, now: Time) {
        if let Some(paused) = self.paused.take() {
            self.started = self.started + now.saturating_since(paused);
        }
    }

    /// When the request becomes too slow, which is when `bytes < rate × (t − grace)`.
    fn deadline(&self, grace: Duration, rate: u32) -> Time {
        let seconds = Duration::from_secs(self.bytes / u64::from(rate));
        // No overflow: the remainder is a u32, and below the rate, so the nanoseconds are below a second.
        let nanos = (self.bytes % u64::from(rate)) * 1_000_000_000 / u64::from(rate);
        self.started + grace + seconds + Duration::from_nanos(nanos)
    }
}

impl ServerConnection {
    /// When to call [`handle_timeout`](Self::handle_timeout) unless something else happens first. `None` while the
    /// connection waits for the application, or for nothing.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.next_timeout().map(|(deadline, _)| deadline)
    }

    /// Ends the connection if the deadline has passed; otherwise it does nothing.
    ///
    /// No error frame is sent. If the peer accepts no output, the connection is closed at once.
    pub fn handle_timeout(&mut self, now: Time) {
        let Some((deadline, timeout)) = self.next_timeout() else {
            return;
        };
        if now < deadline {
            return;
        }
        match (timeout, &mut self.state) {
            (None, _) => self.state = State::Closed, // S11
            (Some(timeout @ Timeout::Write), _) => self.end(CloseReason::Timeout(timeout)),
            (Some(timeout), State::Watching(watching)) => {
                watching
                    .end
                    .get_or_insert(WatchEnd::Close(CloseReason::Timeout(timeout)));
                self.progress(now);
            }
            (Some(timeout), _) => self.close(CloseReason::Timeout(timeout), now),
        }
    }

    /// The next deadline and its timeout; `None` in place of the timeout for the end of lingering.
    fn next_timeout(&self) -> Option<(Time, Option<Timeout>)> {
        let config = &self.config;
        let after = |duration: Option<Duration>, timeout: Timeout| {
            duration.map(|duration| (self.since + duration, Some(timeout)))
        };
        let request = || {
            let grace = config.request_grace()?;
            let deadline = self.request_clock.deadline(grace, config.request_rate());
            Some((deadline, Some(Timeout::Request)))
        };
        let write = || after(config.write_timeout(), Timeout::Write);
        match &self.state {
            State::Head { len: 0, .. } if self.received_any => {
                after(config.idle_timeout(), Timeout::Idle)
            }
            State::Head { len: 0, .. } => {
                after(config.first_request_timeout(), Timeout::FirstRequest)
            }
            State::Head { .. } | State::Ids(_) => request(),
            State::Deciding { .. } | State::Closed => None,
            State::Responding(_) if self.transmit().is_empty() => None,
            State::Responding(_) | State::Flushing | State::Finishing => write(),
            State::Watching(watching) => {
                // N4: no timeout without output or an incomplete CANCEL.
                let cancel = match (watching.cancel_begun, watching.end) {
                    (Some(begun), None) => config
                        .cancel_timeout()
                        .map(|timeout| (begun + timeout, Some(Timeout::Cancel))),
                    _ => None,
                };
                let write = if watching.output().is_empty() {
                    None
                } else {
                    write()
                };
                [cancel, write]
                    .into_iter()
                    .flatten()
                    .min_by_key(|(deadline, _)| *deadline)
            }
            State::Lingering { .. } => {
                // S16: a shutdown does not wait long for idle clients to close.
                let most = if self.draining {
                    DRAINING_LINGER
                } else {
                    Duration::MAX
                };
                Some((self.since + config.linger_timeout().min(most), None))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t4_the_request_clock_allows_the_grace_and_then_the_rate() {
        let mut clock = RequestClock::default();
        let (grace, rate) = (Duration::from_secs(10), 16 * 1024);
        clock.start(Time::ZERO + Duration::from_secs(5));
        assert_eq!(
            clock.deadline(grace, rate).elapsed(),
            Duration::from_secs(15)
        );
        clock.count(16 * 1024 + 8 * 1024);
        assert_eq!(
            clock.deadline(grace, rate).elapsed(),
            Duration::from_millis(16_500)
        );
        clock.pause(Time::ZERO + Duration::from_secs(6));
        clock.resume(Time::ZERO + Duration::from_secs(60));
        assert_eq!(
            clock.deadline(grace, rate).elapsed(),
            Duration::from_millis(70_500)
        );
    }
}
