//! Why a server connection ends.

use core::fmt;

use crate::wire::WireError;
use crate::wire::response::ErrorCode;

/// Why the server ends a connection, for logs and counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer closed its side between requests, or during WATCH. // N6
    #[error("the peer closed the connection")]
    PeerClosed,
    /// The peer closed its side inside a request. // S10
    #[error("the peer closed the connection inside a request")]
    TruncatedRequest,
    /// The last response was to a request without keep-alive. // S2
    #[error("the request did not ask for keep-alive")]
    NoKeepAlive,
    /// Bytes that are not a request. // S10
    #[error("invalid request: {0}")]
    InvalidRequest(WireError),
    /// A BATCH with too many IDs. // S8
    #[error("BATCH names {have} images, the limit is {max}")]
    TooManyIds {
        /// Number of IDs in the BATCH.
        have: u32,
        /// The limit.
        max: u32,
    },
    /// A CANCEL where none is allowed. // C4
    #[error("CANCEL without a request to cancel")]
    StrayCancel,
    /// A request other than CANCEL during WATCH. // N3
    #[error("a request other than CANCEL during WATCH")]
    RequestDuringWatch,
    /// WATCH is disabled. // S10
    #[error("WATCH is disabled on this server")]
    WatchDisabled,
    /// The application refused the request or the connection.
    #[error("refused with {0}")]
    Refused(ErrorCode),
    /// An image could not be read. // S12 S13
    #[error("an image could not be read")]
    BodyFailed,
    /// A timeout passed. // T4 N2 N3
    #[error("timed out: {0}")]
    Timeout(Timeout),
    /// A watching client fell too far behind. // N2
    #[error("the watching client fell too far behind")]
    WatchLag,
    /// The server has too many watchers, and ended this one. // T8
    #[error("too many watchers")]
    TooManyWatchers,
    /// The server is shutting down. // S16
    #[error("the server is shutting down")]
    Shutdown,
    /// The caller [aborted](super::ServerConnection::abort) the connection.
    #[error("the connection was aborted")]
    Aborted,
}

impl CloseReason {
    /// A fixed label for metrics: snake case, without any data. Each timeout has its own.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            CloseReason::PeerClosed => "peer_closed",
            CloseReason::TruncatedRequest => "truncated_request",
            CloseReason::NoKeepAlive => "no_keep_alive",
            CloseReason::InvalidRequest(_) => "invalid_request",
            CloseReason::TooManyIds { .. } => "too_many_ids",
            CloseReason::StrayCancel => "stray_cancel",
            CloseReason::RequestDuringWatch => "request_during_watch",
            CloseReason::WatchDisabled => "watch_disabled",
            CloseReason::Refused(_) => "refused",
            CloseReason::BodyFailed => "body_failed",
            CloseReason::Timeout(timeout) => timeout.as_str(),
            CloseReason::WatchLag => "watch_lag",
            CloseReason::TooManyWatchers => "too_many_watchers",
            CloseReason::Shutdown => "shutdown",
            CloseReason::Aborted => "aborted",
        }
    }
}

/// Which of a server's timeouts passed. // T4
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Timeout {
    /// A new connection sent nothing.
    FirstRequest,
    /// An open connection sent no further request.
    Idle,
    /// A request arrived too slowly.
    Request,
    /// The peer accepted no output.
    Write,
    /// A CANCEL during WATCH was not completed. // N3
    Cancel,
}

impl Timeout {
    /// A fixed label for metrics, in snake case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Timeout::FirstRequest => "first_request_timeout",
            Timeout::Idle => "idle_timeout",
            Timeout::Request => "request_timeout",
            Timeout::Write => "write_timeout",
            Timeout::Cancel => "cancel_timeout",
        }
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Timeout::FirstRequest => "the peer sent nothing",
            Timeout::Idle => "the peer sent no further request",
            Timeout::Request => "a request arrived too slowly",
            Timeout::Write => "the peer accepted no output",
            Timeout::Cancel => "a CANCEL was not completed",
        })
    }
}
