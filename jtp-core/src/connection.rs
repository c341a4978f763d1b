//! Types that the client's and the server's connection share.

/// The result of a `receive` call: how much input it used, and what it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Received<E> {
    /// Number of input bytes used, also if there is no event. The caller keeps the rest.
    pub used: usize,
    /// What the used bytes amount to. `None`: nothing more can be found without further input or calls.
    pub event: Option<E>,
}

impl<E> Received<E> {
    pub(crate) const fn new(used: usize, event: Option<E>) -> Received<E> {
        Received { used, event }
    }
}

/// A call that is not valid in the connection's current state. It changed nothing, and the connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Misuse {
    /// The connection has ended.
    #[error("the connection has ended")]
    Closed,
    /// An earlier request was made without keep-alive: the server closes after its response. // S2
    #[error("an earlier request was made without keep-alive, so no other can follow")]
    LastRequest,
    /// Only CANCEL may follow WATCH. // N3
    #[error("only CANCEL may follow WATCH")]
    Watching,
    /// The connection is not in WATCH: none was requested, or the response before it is not complete.
    #[error("the connection is not in WATCH")]
    NotWatching,
    /// CANCEL was sent, and deployed servers misread what follows it; see
    /// [`ClientConfig::with_pipeline`](crate::client::ClientConfig::with_pipeline). // R7
    #[error("the connection cannot be used again after CANCEL")]
    AfterCancel,
    /// `GET_BY_ID` requests at most 255 images.
    #[error("{0} images in one GET_BY_ID, the limit is 255")]
    TooManyIds(usize),
    /// No request is in progress, or it is already cancelled.
    #[error("there is no request to cancel")]
    NothingToCancel,
    /// A request without keep-alive cannot be cancelled: close the connection instead. // C4
    #[error("a request without keep-alive cannot be cancelled")]
    NotCancellable,
    /// Requests are queued behind the one to cancel, and could never be sent after CANCEL. // R7
    #[error("requests are queued behind the one to cancel")]
    RequestsQueued,
    /// The last event was not the beginning of an image, so it cannot be left undecoded.
    #[error("no image has just begun")]
    NoImageBegun,
    /// More output was acknowledged than `transmit` showed.
    #[error("{acknowledged} bytes acknowledged, only {shown} were shown")]
    Overacknowledged {
        /// Number of bytes passed to `transmitted`.
        acknowledged: usize,
        /// Number of bytes that `transmit` showed.
        shown: usize,
    },
    /// No request is waiting for a decision.
    #[error("no request is waiting for a decision")]
    NoRequest,
    /// No body is wanted.
    #[error("no body is wanted")]
    NoBody,
    /// More of a body was loaded than is missing.
    #[error("{loaded} bytes of a body loaded, only {missing} were missing")]
    ExcessBody {
        /// Number of bytes passed to `body_loaded`.
        loaded: u32,
        /// Number of bytes of the image that were not loaded.
        missing: u32,
    },
    /// The half-close is not due.
    #[error("the half-close is not due")]
    NoFinish,
}
