//! The settings of a server connection.

use core::time::Duration;

/// The limits and timeouts of a [`ServerConnection`](super::ServerConnection). The defaults are the protocol's.
///
/// A timeout of `None` never passes.
///
/// ```
/// use std::time::Duration;
/// use jtp_core::server::ServerConfig;
///
/// let config = ServerConfig::new().with_idle_timeout(Some(Duration::from_secs(5))).with_watch(false);
/// assert_eq!(config.idle_timeout(), Some(Duration::from_secs(5)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerConfig {
    first_request_timeout: Option<Duration>,
    idle_timeout: Option<Duration>,
    request_grace: Option<Duration>,
    request_rate: u32,
    write_timeout: Option<Duration>,
    cancel_timeout: Option<Duration>,
    linger_timeout: Duration,
    linger_bytes: u64,
    max_have: u32,
    max_watch_lag: u64,
    watch: bool,
    record_ids: bool,
}

impl ServerConfig {
    /// The protocol's defaults.
    #[must_use]
    pub const fn new() -> ServerConfig {
        ServerConfig {
            first_request_timeout: Some(Duration::from_secs(60)),
            idle_timeout: Some(Duration::from_secs(30)),
            request_grace: Some(Duration::from_secs(10)),
            request_rate: 16 * 1024,
            write_timeout: Some(Duration::from_secs(30)),
            cancel_timeout: Some(Duration::from_secs(10)),
            linger_timeout: Duration::from_secs(5),
            linger_bytes: 16 * 1024 * 1024,
            max_have: 1_000_000,
            max_watch_lag: 1_000_000,
            watch: true,
            record_ids: false,
        }
    }

    /// How long a new connection may take to send the first byte of its first request. Default: 60 s. // T4
    #[must_use]
    pub const fn with_first_request_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.first_request_timeout = timeout;
        self
    }

    /// How long a connection may stay idle between requests. Default: 30 s. // T4
    #[must_use]
    pub const fn with_idle_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// How long a request may arrive at any speed, before [`with_request_rate`](Self::with_request_rate) applies.
    /// `None` disables that limit. Default: 10 s. // T4
    #[must_use]
    pub const fn with_request_grace(mut self, grace: Option<Duration>) -> Self {
        self.request_grace = grace;
        self
    }

    /// The minimum rate at which a request must arrive, in bytes per second; 0 counts as 1. Default: 16 KiB. // T4
    #[must_use]
    pub const fn with_request_rate(mut self, rate: u32) -> Self {
        self.request_rate = if rate == 0 { 1 } else { rate };
        self
    }

    /// How long output may wait without the peer accepting a byte of it. Default: 30 s. // T4 N2
    #[must_use]
    pub const fn with_write_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.write_timeout = timeout;
        self
    }

    /// How long the second byte of a CANCEL may take during WATCH. Default: 10 s. // N3
    #[must_use]
    pub const fn with_cancel_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.cancel_timeout = timeout;
        self
    }

    /// How long a closing connection reads and discards input. Default: 5 s. // S11
    #[must_use]
    pub const fn with_linger_timeout(mut self, timeout: Duration) -> Self {
        self.linger_timeout = timeout;
        self
    }

    /// Number of bytes that a closing connection reads and discards at most. Default: 16 MiB. // S11
    #[must_use]
    pub const fn with_linger_bytes(mut self, bytes: u64) -> Self {
        self.linger_bytes = bytes;
        self
    }

    /// The maximum number of IDs in a BATCH. Default: 1,000,000. // S8
    #[must_use]
    pub const fn with_max_have(mut self, max: u32) -> Self {
        self.max_have = max;
        self
    }

    /// The maximum number of events that a watching client may be behind. Default: 1,000,000. // N2
    #[must_use]
    pub const fn with_max_watch_lag(mut self, events: u64) -> Self {
        self.max_watch_lag = events;
        self
    }

    /// Whether WATCH is answered; otherwise it is refused with `UnsupportedFeature`. Default: `true`. // S10
    #[must_use]
    pub const fn with_watch(mut self, watch: bool) -> Self {
        self.watch = watch;
        self
    }

    /// Whether the record of a `GET_BY_ID` has its IDs: see [`CompletedRequest::ids`](super::CompletedRequest::ids).
    /// They take at most 2 KiB for each record that is not taken. Default: `false`.
    #[must_use]
    pub const fn with_record_ids(mut self, record: bool) -> Self {
        self.record_ids = record;
        self
    }

    /// See [`with_first_request_timeout`](Self::with_first_request_timeout).
    #[must_use]
    pub const fn first_request_timeout(&self) -> Option<Duration> {
        self.first_request_timeout
    }

    /// See [`with_idle_timeout`](Self::with_idle_timeout).
    #[must_use]
    pub const fn idle_timeout(&self) -> Option<Duration> {
        self.idle_timeout
    }

    /// See [`with_request_grace`](Self::with_request_grace).
    #[must_use]
    pub const fn request_grace(&self) -> Option<Duration> {
        self.request_grace
    }

    /// See [`with_request_rate`](Self::with_request_rate).
    #[must_use]
    pub const fn request_rate(&self) -> u32 {
        self.request_rate
    }

    /// See [`with_write_timeout`](Self::with_write_timeout).
    #[must_use]
    pub const fn write_timeout(&self) -> Option<Duration> {
        self.write_timeout
    }

    /// See [`with_cancel_timeout`](Self::with_cancel_timeout).
    #[must_use]
    pub const fn cancel_timeout(&self) -> Option<Duration> {
        self.cancel_timeout
    }

    /// See [`with_linger_timeout`](Self::with_linger_timeout).
    #[must_use]
    pub const fn linger_timeout(&self) -> Duration {
        self.linger_timeout
    }

    /// See [`with_linger_bytes`](Self::with_linger_bytes).
    #[must_use]
    pub const fn linger_bytes(&self) -> u64 {
        self.linger_bytes
    }

    /// See [`with_max_have`](Self::with_max_have).
    #[must_use]
    pub const fn max_have(&self) -> u32 {
        self.max_have
    }

    /// See [`with_max_watch_lag`](Self::with_max_watch_lag).
    #[must_use]
    pub const fn max_watch_lag(&self) -> u64 {
        self.max_watch_lag
    }

    /// See [`with_watch`](Self::with_watch).
    #[must_use]
    pub const fn watch(&self) -> bool {
        self.watch
    }

    /// See [`with_record_ids`](Self::with_record_ids).
    #[must_use]
    pub const fn record_ids(&self) -> bool {
        self.record_ids
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_keeps_the_others() {
        let time = Duration::from_secs;
        let config = ServerConfig::new()
            .with_record_ids(true)
            .with_watch(false)
            .with_max_watch_lag(1)
            .with_max_have(2)
            .with_linger_bytes(3)
            .with_linger_timeout(time(4))
            .with_cancel_timeout(Some(time(5)))
            .with_write_timeout(Some(time(6)))
            .with_request_rate(0)
            .with_request_grace(Some(time(8)))
            .with_idle_timeout(Some(time(9)))
            .with_first_request_timeout(None);
        let expected = ServerConfig {
            first_request_timeout: None,
            idle_timeout: Some(time(9)),
            request_grace: Some(time(8)),
            request_rate: 1,
            write_timeout: Some(time(6)),
            cancel_timeout: Some(time(5)),
            linger_timeout: time(4),
            linger_bytes: 3,
            max_have: 2,
            max_watch_lag: 1,
            watch: false,
            record_ids: true,
        };
        assert_eq!(config, expected);
        assert_eq!(config.with_request_rate(7).request_rate(), 7);
    }
}
