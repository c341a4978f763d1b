//! The codec: every frame of JTP/1 as a pure function over slices.
//!
//! Nothing here has state. `encode` appends a frame to a buffer; `decode` looks at the start of a slice and
//! answers [`Decoded::Complete`] with the value and the bytes it took, [`Decoded::Incomplete`] with the least
//! number of further bytes that can complete the frame, or an error. An error comes with the first byte that no
//! good frame has there, and is final: no further bytes can make the frame good. Whoever writes a proxy or a dissector needs nothing else of this crate.
//!
//! | frame | module |
//! |---|---|
//! | varint | [`varint`] |
//! | a request's head | [`request`] |
//! | a response's header and count, `JTPC`, `JTPE` | [`response`] |
//! | an entry of `JTPL` and `JTPW` | [`entry`] |
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

mod dissector;
pub mod entry;
pub mod packet;
pub mod request;
pub mod response;
pub mod varint;

pub use dissector::{Dissector, Frame};

/// What a decoder found at the start of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded<T> {
    /// A whole frame, and how many bytes it took.
    Complete {
        /// The frame.
        value: T,
        /// Its length in bytes.
        used: usize,
    },
    /// The slice ends inside the frame.
    Incomplete {
        /// With fewer than so many further bytes the frame is not complete, though it may turn out to be none;
        /// at least 1.
        need: usize,
    },
}

impl<T> Decoded<T> {
    /// The same with the value changed.
    #[must_use]
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Decoded<U> {
        match self {
            Decoded::Complete { value, used } => Decoded::Complete {
                value: change(value),
                used,
            },
            Decoded::Incomplete { need } => Decoded::Incomplete { need },
        }
    }
}

/// The answer of a decoder.
pub type DecodeResult<T> = Result<Decoded<T>, WireError>;

/// Bytes that are no frame of JTP/1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// A varint longer than needed, with a sixth byte, or over 32 bits. // W2
    #[error("a varint is not the shortest form of a 32-bit number")]
    Varint,
    /// A request type that is not assigned. // S10
    #[error("request type {0} is not assigned")]
    UnknownRequest(u8),
    /// A reserved bit in a request's flags. // W7
    #[error("reserved request flags are set ({0:#04x})")]
    RequestFlags(u8),
    /// A response header that is not one of the seven.
    #[error("unknown response header {}", .0.escape_ascii())]
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
    /// An error code that is not one of the five. // R1
    #[error("unknown error code {0}")]
    UnknownErrorCode(u8),
    /// A response header other than `JTPC` and `JTPE` in the place of a packet. // S12
    #[error("response header {} where a packet is due", .0.bytes().escape_ascii())]
    HeaderForPacket(response::Header),
    /// Bytes after a `JTPE`, which ends the connection. // S11
    #[error("bytes after an error that ends the connection")]
    AfterError,
}
