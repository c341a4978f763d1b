//! What can go wrong, split by whose fault it is.

use alloc::string::String;
use core::fmt;

use crate::image::ImageId;
use crate::wire::WireError;
use crate::wire::response::{ErrorCode, Header};

/// Why a connection is at its end. It is sticky: once it is there, every later call gives the same one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The server broke the protocol. Asking it again is not likely to help. // R1
    #[error("the server broke the protocol: {0}")]
    Peer(#[from] PeerError),
    /// The server sent `JTPE`, and closes the connection. // R1 S11
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The connection ended while something was still due. Images that were complete are good. // R1 R6
    #[error("the connection ended early")]
    EarlyEof,
    /// No byte moved for the response timeout while a response was due. // T6
    #[error("no byte moved in time")]
    TimedOut,
}

/// What the server sent that no server may send. // R1
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// Bytes that are no frame.
    #[error("{error} ({place})")]
    Wire {
        /// What is wrong with them.
        error: WireError,
        /// Where they stood.
        place: Place,
    },
    /// A response that does not answer the request.
    #[error("{} came where {} was due", .came.bytes().escape_ascii(), .due.bytes().escape_ascii())]
    NotTheAnswer {
        /// The header that answers the request; `JTPC` where only that was missing.
        due: Header,
        /// The header that came.
        came: Header,
    },
    /// A response header where a packet begins, other than `JTPE` and `JTPC`. // S12
    #[error("{} came where a packet was due", .0.bytes().escape_ascii())]
    NotAPacket(Header),
    /// `JTPC`, and no CANCEL was sent.
    #[error("JTPC came, but no CANCEL was sent")]
    CancelledUnasked,
    /// `JTPW` outside WATCH.
    #[error("JTPW came outside WATCH")]
    NewsUnasked,
    /// Data where no response is due: after the promised one, before any request, or before the request was
    /// wholly sent.
    #[error("data came that no request asked for")]
    DataUnasked,
    /// `JTPD` promises more images than were asked for.
    #[error("{promised} images were promised, {asked} were asked for")]
    TooManyImages {
        /// How many IDs the request had.
        asked: u32,
        /// The count in the response's head.
        promised: u32,
    },
    /// A packet with an image that was not asked for, or once more than it was.
    #[error("image {0} came, which was not asked for")]
    ImageUnasked(ImageId),
}

/// Where in the stream bad bytes stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Place {
    /// In a response's header.
    Header,
    /// In a response's count.
    Count,
    /// In an entry of the catalog, or of a new image.
    Entry,
    /// In a packet's head.
    Packet,
    /// In a `JTPE`.
    Error,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Place::Header => "in a response's header",
            Place::Count => "in a response's count",
            Place::Entry => "in a catalog entry",
            Place::Packet => "in a packet's head",
            Place::Error => "in an error frame",
        })
    }
}

/// What a `JTPE` said. Shown, it has everything escaped that a terminal or a log of lines would obey.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the server reports {code}: {}", Harmless(message))]
pub struct ServerError {
    /// Its code.
    pub code: ErrorCode,
    /// Its message, at most 65,535 bytes of it as they came (bytes that are not UTF-8 replaced): it may hold
    /// control characters that a terminal should not see.
    pub message: String,
}

/// What a peer said, for whoever shows an error without looking into it.
struct Harmless<'a>(&'a str);

impl fmt::Display for Harmless<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        self.0.chars().try_for_each(|c| match c {
            // These do no harm, and a message is full of them.
            '\'' | '"' => f.write_char(c),
            c => write!(f, "{}", c.escape_debug()),
        })
    }
}

/// A call that makes no sense now. It changed nothing, and the connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misuse {
    /// The connection has ended, by an error or by the server.
    #[error("the connection has ended")]
    Closed,
    /// A request without keep-alive was made before: the server closes after its response. // S2
    #[error("the last request was made without keep-alive")]
    LastRequest,
    /// Only CANCEL may follow WATCH. // N3
    #[error("only a cancel may follow WATCH")]
    Watching,
    /// CANCEL was sent, and deployed servers misread what follows it; see
    /// [`ClientConfig::with_pipeline`](super::ClientConfig::with_pipeline). // R7
    #[error("the connection is not to be used again after a cancel")]
    AfterCancel,
    /// `GET_BY_ID` asks for at most 255 images.
    #[error("{0} images in one request; 255 are possible")]
    TooManyIds(usize),
    /// There is no request under way, or it was cancelled before.
    #[error("there is nothing to cancel")]
    NothingToCancel,
    /// A request without keep-alive cannot be cancelled: close the connection instead. // C4
    #[error("a request without keep-alive cannot be cancelled")]
    NotCancellable,
    /// Requests wait behind the one to cancel, and after a CANCEL they could never be sent. // R7
    #[error("requests are queued behind the one to cancel")]
    RequestsQueued,
    /// Only an image of which nothing was told yet can be left undecoded.
    #[error("no image has just begun")]
    NoImageBegun,
    /// More output was acknowledged than there was.
    #[error("{acknowledged} bytes were acknowledged, {shown} were shown")]
    Overacknowledged {
        /// What `transmitted` was given.
        acknowledged: usize,
        /// What `transmit` showed.
        shown: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r1_what_a_server_said_is_shown_without_what_a_terminal_obeys() {
        let error = ClientError::from(ServerError {
            code: ErrorCode::ServerError,
            message: "can't \"read\"\n\u{1b}[2J\u{202e}\u{9b}31m C:\\x.png Zürich".into(),
        });
        assert_eq!(
            alloc::format!("{error}"),
            r#"the server reports ServerError: can't "read"\n\u{1b}[2J\u{202e}\u{9b}31m C:\\x.png Zürich"#
        );
    }
}
