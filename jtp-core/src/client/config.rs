//! The settings of a client connection.

use core::time::Duration;

use crate::body::{DEFAULT_MAX_IMAGE_SIZE, DEFAULT_MAX_WINDOW};

/// The default of [`ClientConfig::response_timeout`]. // T6
pub const DEFAULT_RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// The default of [`ClientConfig::minimum_bytes`]. // T6
pub const DEFAULT_MINIMUM_BYTES: u64 = 16 * 1024;

/// The limits and timeouts of a [`ClientConnection`](super::ClientConnection).
///
/// ```
/// use std::time::Duration;
/// use jtp_core::client::ClientConfig;
///
/// let config = ClientConfig::default()
///     .with_response_timeout(Some(Duration::from_secs(5)))
///     .with_max_image_size(64 << 20);
/// assert_eq!(config.max_image_size(), 64 << 20);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientConfig {
    response_timeout: Option<Duration>,
    minimum_bytes: u64,
    max_image_size: u64,
    max_window: u32,
    pipeline: bool,
}

impl ClientConfig {
    /// The protocol's defaults: 60 s for 16 KiB, 4 GiB − 1, a window of 8 MiB, no pipelining.
    #[must_use]
    pub const fn new() -> ClientConfig {
        ClientConfig {
            response_timeout: Some(DEFAULT_RESPONSE_TIMEOUT),
            minimum_bytes: DEFAULT_MINIMUM_BYTES,
            max_image_size: DEFAULT_MAX_IMAGE_SIZE,
            max_window: DEFAULT_MAX_WINDOW,
            pipeline: false,
        }
    }

    /// The time limit for each [minimum](ClientConfig::with_minimum_bytes) of bytes while a request is being sent or a
    /// response is due. It begins again with each step: the request is sent, the response begins, the response is
    /// complete. It stands while the caller does not read ([`wait`](super::ClientConnection::wait)), and does not
    /// apply during WATCH. `None` disables it. Default: 60 s. // T6
    #[must_use]
    pub const fn with_response_timeout(mut self, timeout: Option<Duration>) -> ClientConfig {
        self.response_timeout = timeout;
        self
    }

    /// The number of bytes that must be sent or received within each
    /// [response timeout](ClientConfig::with_response_timeout), unless the response ends before. So a server that sends
    /// a byte now and then cannot hold the client. With 0, a single byte is enough. Default: 16 KiB, which is 273 bytes
    /// a second at 60 s. // T6
    #[must_use]
    pub const fn with_minimum_bytes(mut self, bytes: u64) -> ClientConfig {
        self.minimum_bytes = bytes;
        self
    }

    /// The maximum number of bytes of a decoded image. A longer one is discarded and reported as a fault. Default:
    /// 4 GiB − 1, for images that are streamed; at most 1 GiB is advised for images held in memory. // R4
    #[must_use]
    pub const fn with_max_image_size(mut self, bytes: u64) -> ClientConfig {
        self.max_image_size = bytes;
        self
    }

    /// The maximum Zstd window in bytes, which bounds the memory that a compressed image needs. Default: 8 MiB, which
    /// the format's specification asks every decoder to support. The decoder itself supports at most 2 GiB. // W8
    #[must_use]
    pub const fn with_max_window(mut self, bytes: u32) -> ClientConfig {
        self.max_window = bytes;
        self
    }

    /// Whether the server is known to accept requests while it answers `GET_BY_ID`, and to read all of CANCEL.
    /// Default: `false`, since deployed servers do neither. Only CANCEL is then sent behind an unfinished
    /// `GET_BY_ID` or WATCH, and a connection is not used again after CANCEL. // R7
    #[must_use]
    pub const fn with_pipeline(mut self, pipeline: bool) -> ClientConfig {
        self.pipeline = pipeline;
        self
    }

    /// See [`with_response_timeout`](ClientConfig::with_response_timeout).
    #[must_use]
    pub const fn response_timeout(&self) -> Option<Duration> {
        self.response_timeout
    }

    /// See [`with_minimum_bytes`](ClientConfig::with_minimum_bytes).
    #[must_use]
    pub const fn minimum_bytes(&self) -> u64 {
        self.minimum_bytes
    }

    /// See [`with_max_image_size`](ClientConfig::with_max_image_size).
    #[must_use]
    pub const fn max_image_size(&self) -> u64 {
        self.max_image_size
    }

    /// See [`with_max_window`](ClientConfig::with_max_window).
    #[must_use]
    pub const fn max_window(&self) -> u32 {
        self.max_window
    }

    /// See [`with_pipeline`](ClientConfig::with_pipeline).
    #[must_use]
    pub const fn pipeline(&self) -> bool {
        self.pipeline
    }
}

impl Default for ClientConfig {
    fn default() -> Self {
        ClientConfig::new()
    }
}
