//! Errors that end a client connection.

use alloc::string::String;
use core::fmt;

use crate::image::ImageId;
use crate::wire::WireError;
use crate::wire::response::{ErrorCode, Header};

/// Why a connection ended. It is sticky: every later call returns the same error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The server violated the protocol. A new attempt is not likely to succeed. // R1
    #[error("the server violated the protocol")]
    Peer(#[from] PeerError),
    /// The server sent `JTPE`, and closes the connection. // R1 S11
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The connection ended while a response was due. Images that were complete are good. // R1 R6
    #[error("the connection ended before the response was complete")]
    EarlyEof,
    /// Fewer bytes than the [minimum](super::ClientConfig::with_minimum_bytes) were sent and received within the response
    /// timeout, and the response is not complete. // T6
    #[error("the server did not answer in time")]
    TimedOut,
}

/// A protocol violation by the server. // R1
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// Bytes that are not a frame.
    #[error("invalid {location}: {error}")]
    Wire {
        /// What is wrong with them.
        error: WireError,
        /// The part of the stream that they are in.
        location: Location,
    },
    /// A response of another kind than the request's.
    #[error("received {} instead of {}", .received.bytes().escape_ascii(), .expected.bytes().escape_ascii())]
    UnexpectedResponse {
        /// The header that answers the request; `JTPC` if only the answer to CANCEL is missing.
        expected: Header,
        /// The header that was received.
        received: Header,
    },
    /// A response header where a packet begins, other than `JTPE` and `JTPC`. // S12
    #[error("received {} instead of a packet", .0.bytes().escape_ascii())]
    NotAPacket(Header),
    /// `JTPC` without a CANCEL.
    #[error("received JTPC, but no CANCEL was sent")]
    UnexpectedCancelled,
    /// `JTPW` outside WATCH.
    #[error("received JTPW outside WATCH")]
    UnexpectedWatchEvent,
    /// Data where no response is due: before a request was completely sent, or after the response to the last one.
    #[error("received data that no request asked for")]
    UnexpectedData,
    /// `JTPD` announces more images than the request named.
    #[error("{announced} images announced, only {requested} were requested")]
    TooManyImages {
        /// Number of IDs in the request.
        requested: u32,
        /// The count in the response's head.
        announced: u32,
    },
    /// A packet with an image that was not requested, or that was sent more often than requested.
    #[error("received image {0}, which was not requested")]
    UnrequestedImage(ImageId),
}

/// The part of the stream in which invalid bytes were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Location {
    /// A response's header.
    Header,
    /// A response's count.
    Count,
    /// An entry of `JTPL` or `JTPW`.
    Entry,
    /// A packet's head.
    Packet,
    /// A `JTPE`.
    Error,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Location::Header => "response header",
            Location::Count => "count in a response",
            Location::Entry => "catalog entry",
            Location::Packet => "packet head",
            Location::Error => "error frame",
        })
    }
}

/// The contents of a `JTPE`. `Display` escapes control characters and other characters that could change how a
/// terminal or a line-based log shows the message, and shows 1,000 characters of it at most.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the server reports {code}: {}", Escaped(message))]
#[non_exhaustive]
pub struct ServerError {
    /// The error code.
    pub code: ErrorCode,
    /// The message as received, at most 65,535 bytes, invalid UTF-8 replaced by U+FFFD. It may contain control
    /// characters: use `Display` to show it.
    pub message: String,
}

impl ServerError {
    /// An error with this code and message.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> ServerError {
        ServerError {
            code,
            message: message.into(),
        }
    }
}

/// Text from a peer, escaped for display.
struct Escaped<'a>(&'a str);

/// The most characters that are shown of a message, which may have 65,535 bytes.
const MAX_SHOWN: usize = 1_000;

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        let mut left = MAX_SHOWN;
        for (at, c) in self.0.char_indices() {
            // `escape_debug` would escape these, which are harmless and common.
            let is_plain = matches!(c, '\'' | '"');
            let length = if is_plain {
                1
            } else {
                c.escape_debug().count()
            };
            if length > left {
                return write!(f, "… ({} more bytes)", self.0.len() - at);
            }
            left -= length;
            match is_plain {
                true => f.write_char(c)?,
                false => write!(f, "{}", c.escape_debug())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r1_a_long_server_message_is_cut_when_it_is_displayed() {
        let message = "\u{1b}[2J\n".repeat(13_000);
        let shown = alloc::format!("{}", ServerError::new(ErrorCode::ServerError, message));
        assert!(shown.ends_with(" more bytes)"), "{shown}");
        assert!(shown.len() < 1_080, "{shown}");
        let fits = "é".repeat(1_000);
        let shown = alloc::format!(
            "{}",
            ServerError::new(ErrorCode::ServerError, fits.as_str())
        );
        assert!(shown.ends_with(&fits), "{shown}");
    }

    #[test]
    fn r1_a_server_message_is_displayed_without_control_characters() {
        let error = ClientError::from(ServerError::new(
            ErrorCode::ServerError,
            "can't \"read\"\n\u{1b}[2J\u{202e}\u{9b}31m C:\\x.png Zürich",
        ));
        assert_eq!(
            alloc::format!("{error}"),
            r#"the server reports ServerError: can't "read"\n\u{1b}[2J\u{202e}\u{9b}31m C:\\x.png Zürich"#
        );
    }
}
