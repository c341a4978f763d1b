//! Why a server connection ends, and what its caller can do wrong.

use core::fmt;

use crate::wire::WireError;
use crate::wire::response::ErrorCode;

/// Why the server ends a connection, for its log: the peer's fault, its slowness, or the server's own will.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer closed its side between requests, or during WATCH. // N6
    #[error("the peer closed the connection")]
    PeerClosed,
    /// The peer closed its side inside a request. // S10
    #[error("the connection ended inside a request")]
    TruncatedRequest,
    /// The last response was to a request without keep-alive. // S2
    #[error("the request did not ask for keep-alive")]
    NoKeepAlive,
    /// Bytes that are no request. // S10
    #[error("invalid request: {0}")]
    Invalid(#[from] WireError),
    /// A BATCH with too many IDs. // S8
    #[error("BATCH names {have} images, over the limit of {max}")]
    TooManyIds {
        /// How many it said.
        have: u32,
        /// How many are allowed.
        max: u32,
    },
    /// A CANCEL where none is allowed. // C4
    #[error("CANCEL where there is nothing to cancel")]
    StrayCancel,
    /// Something other than CANCEL during WATCH. // N3
    #[error("a request other than CANCEL during WATCH")]
    DuringWatch,
    /// WATCH is switched off. // S10
    #[error("WATCH is not offered")]
    WatchOff,
    /// The application refused.
    #[error("refused with {0}")]
    Refused(ErrorCode),
    /// An image could not be read. // S12 S13
    #[error("an image could not be read")]
    Body,
    /// A clock ran out. // T4 N2 N3
    #[error("timed out: {0}")]
    Timeout(Timeout),
    /// A watcher fell too far behind. // N2
    #[error("the watcher fell too far behind")]
    Lag,
    /// The server is shutting down. // S16
    #[error("the server is shutting down")]
    Shutdown,
}

/// Which of a server's clocks ran out. // T4
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Timeout {
    /// No first byte.
    FirstByte,
    /// No request on an open connection.
    Idle,
    /// A request that comes too slowly.
    Request,
    /// Output that the peer does not take.
    Write,
    /// A CANCEL begun during WATCH and not completed. // N3
    Cancel,
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Timeout::FirstByte => "no byte came",
            Timeout::Idle => "no request came",
            Timeout::Request => "a request came too slowly",
            Timeout::Write => "the peer takes no output",
            Timeout::Cancel => "a CANCEL was begun and not completed",
        })
    }
}

/// A call that does not fit the connection's state; it changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misuse {
    /// No request waits for a decision.
    #[error("no request waits for a decision")]
    NoRequest,
    /// No body is wanted, or not so much of it.
    #[error("no body, or less of it, is wanted")]
    NoBody,
    /// More output is acknowledged than was there.
    #[error("more output is acknowledged than was there")]
    TooMuch,
    /// The half-close is not due.
    #[error("the half-close is not due")]
    NoFinish,
}
