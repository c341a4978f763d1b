//! What a server connection is told once.

use core::time::Duration;

/// The limits and clocks of a server connection; the defaults are the protocol's.
///
/// A clock that is `None` never runs out.
///
/// ```
/// use std::time::Duration;
/// use jtp_core::server::ServerConfig;
///
/// let config = ServerConfig::new().with_idle_timeout(Some(Duration::from_secs(5))).with_watch(false);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerConfig {
    pub(super) first_byte_timeout: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) request_grace: Option<Duration>,
    pub(super) request_rate: u32,
    pub(super) write_timeout: Option<Duration>,
    pub(super) cancel_timeout: Option<Duration>,
    pub(super) linger_timeout: Duration,
    pub(super) linger_bytes: u64,
    pub(super) max_have: u32,
    pub(super) max_watch_lag: u64,
    pub(super) watch: bool,
}

impl ServerConfig {
    /// The protocol's defaults.
    #[must_use]
    pub const fn new() -> ServerConfig {
        ServerConfig {
            first_byte_timeout: Some(Duration::from_secs(60)),
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
        }
    }

    /// How long a new connection may stay silent; 60 s by default. // T4
    #[must_use]
    pub const fn with_first_byte_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.first_byte_timeout = timeout;
        self
    }

    /// How long a connection may stay silent between requests; 30 s by default. // T4
    #[must_use]
    pub const fn with_idle_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// How slow a request may come: after `grace` (10 s by default) at least `rate` bytes a second
    /// (16 KiB by default; 0 counts as 1). `None` sets no bound. // T4
    #[must_use]
    pub const fn with_request_clock(mut self, grace: Option<Duration>, rate: u32) -> Self {
        self.request_grace = grace;
        self.request_rate = if rate == 0 { 1 } else { rate };
        self
    }

    /// How long output may wait without one byte of it moving; 30 s by default. // T4 N2
    #[must_use]
    pub const fn with_write_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.write_timeout = timeout;
        self
    }

    /// What [`with_write_timeout`](Self::with_write_timeout) has set.
    #[must_use]
    pub const fn write_timeout(&self) -> Option<Duration> {
        self.write_timeout
    }

    /// How long a CANCEL begun during WATCH may take to be whole; 10 s by default. // N3
    #[must_use]
    pub const fn with_cancel_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.cancel_timeout = timeout;
        self
    }

    /// How long, and how many bytes, a closing connection still reads; 5 s and 16 MiB by default. // S11
    #[must_use]
    pub const fn with_linger(mut self, timeout: Duration, bytes: u64) -> Self {
        self.linger_timeout = timeout;
        self.linger_bytes = bytes;
        self
    }

    /// The most IDs a BATCH may name; 1,000,000 by default. // S8
    #[must_use]
    pub const fn with_max_have(mut self, max: u32) -> Self {
        self.max_have = max;
        self
    }

    /// How many events a watcher may be behind; 1,000,000 by default. // N2
    #[must_use]
    pub const fn with_max_watch_lag(mut self, events: u64) -> Self {
        self.max_watch_lag = events;
        self
    }

    /// Whether WATCH is answered, or refused with `UnsupportedFeature`; it is by default. // S10
    #[must_use]
    pub const fn with_watch(mut self, watch: bool) -> Self {
        self.watch = watch;
        self
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self::new()
    }
}
