//! The codec: every frame of JTP/1 as a pure function over slices.
//!
//! `encode` appends a frame to a buffer. `decode` reads the start of a slice and returns [`Decoded::Complete`] with
//! the value and its length in bytes, [`Decoded::Incomplete`] with a lower bound of the bytes that are missing, or an
//! error. An error is returned as soon as one byte rules out a valid frame, and is final: further bytes cannot make
//! the frame valid.
//!
//! These functions have no state. A [`Dissector`] adds the state that a proxy or a protocol analyzer needs to follow
//! one direction of a connection.
//!
//! | frame | module |
//! |---|---|
//! | varint | [`varint`] |
//! | a request's head and its IDs | [`request`] |
//! | a response's header and count, `JTPC`, `JTPE` | [`response`] |
//! | an entry of `JTPL` or `JTPW` | [`entry`] |
//! | a packet's head | [`packet`] |
//!
//! ```
//! use jtp_core::wire::{Decoded, varint};
//!
//! let mut out = Vec::new();
//! varint::encode(4660, &mut out);
//! assert_eq!(out, [0xB4, 0x24]);
//! assert_eq!(varint::decode(&out), Ok(Decoded::Complete { value: 4660, used: 2 }));
//! assert_eq!(varint::decode(&out[..1]), Ok(Decoded::Incomplete { need: 1 }));
//! ```

#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

mod dissector;
pub mod entry;
pub mod packet;
pub mod request;
pub mod response;
pub mod varint;

use core::fmt;

pub use dissector::{Dissector, Frame};

/// What a decoder found at the start of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a frame is complete or incomplete, and errors are not in this type"
)]
pub enum Decoded<T> {
    /// A complete frame.
    Complete {
        /// The decoded value.
        value: T,
        /// Its length in bytes.
        used: usize,
    },
    /// The slice ends inside the frame.
    Incomplete {
        /// The frame is not complete before this number of further bytes, at least 1. It can need more, and it
        /// can turn out to be invalid.
        need: usize,
    },
}

impl<T> Decoded<T> {
    /// Applies a function to the value.
    #[must_use]
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Decoded<U> {
        match self {
            Decoded::Complete { value, used } => Decoded::Complete {
                value: f(value),
                used,
            },
            Decoded::Incomplete { need } => Decoded::Incomplete { need },
        }
    }
}

/// The result of a decoder.
pub type DecodeResult<T> = Result<Decoded<T>, WireError>;

/// Bytes that are not a valid frame of JTP/1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// A varint that is longer than necessary, has a sixth byte, or exceeds 32 bits. // W2
    #[error("a varint is not the shortest encoding of a 32-bit number")]
    Varint,
    /// A request type that is not assigned. // S10
    #[error("request type {0} is not assigned")]
    UnknownRequest(u8),
    /// A reserved bit in a request's flags. // W7
    #[error("reserved request flags are set ({0:#04x})")]
    RequestFlags(u8),
    /// Bytes that are none of the seven response headers.
    #[error("unknown response header {}", Readable(*.0))]
    UnknownHeader([u8; 4]),
    /// A reserved bit in an entry's flags (bits 4 to 7). // R1
    #[error("reserved flags are set in a catalog entry ({0:#04x})")]
    EntryFlags(u8),
    /// A reserved bit in a packet's flags (bits 5 to 7). // R1
    #[error("reserved flags are set in a packet ({0:#04x})")]
    PacketFlags(u8),
    /// A file name that is not UTF-8. // R1
    #[error("a file name is not UTF-8")]
    Name,
    /// An error code that is not assigned. // R1
    #[error("unknown error code {0}")]
    UnknownErrorCode(u8),
    /// A response header other than `JTPC` and `JTPE` where a packet is due. // S12
    #[error("response header {} where a packet is due", .0.bytes().escape_ascii())]
    HeaderForPacket(response::Header),
    /// Bytes after a `JTPE`, which ends the connection. // S11
    #[error("bytes after an error that ends the connection")]
    AfterError,
}

/// The bytes of a header as text, or in hexadecimal. Zeros at its end stand for bytes that were not needed. Without
/// backslashes, which a program that escapes messages would double.
struct Readable([u8; 4]);

impl fmt::Display for Readable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.iter().rposition(|byte| *byte != 0);
        let seen = self.0.get(..=end.unwrap_or(0)).unwrap_or_default();
        let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && *byte != b'\\';
        match core::str::from_utf8(seen) {
            Ok(text) if seen.iter().all(is_plain) => f.write_str(text)?,
            _ => {
                for (n, byte) in seen.iter().enumerate() {
                    let space = if n == 0 { "" } else { " " };
                    write!(f, "{space}{byte:#04x}")?;
                }
            }
        }
        match seen.len() < self.0.len() {
            true => f.write_str(" …"),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn unknown_header_is_shown_as_text_or_in_hexadecimal() {
        for (bytes, expected) in [
            (b"HTTP", "HTTP"),
            (b"H\0\0\0", "H …"),
            (b"H\0\r\n", "0x48 0x00 0x0d 0x0a"),
            (b"a\\bc", "0x61 0x5c 0x62 0x63"),
            (b"\xffa\0\0", "0xff 0x61 …"),
            (b"\0\0\0\0", "0x00 …"),
        ] {
            let text = WireError::UnknownHeader(*bytes).to_string();
            assert_eq!(text, ["unknown response header ", expected].concat());
        }
    }
}
