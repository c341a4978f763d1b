//! Response headers with their counts, and the frames `JTPC` and `JTPE`.
//!
//! | header | answers | bytes after the header |
//! |---|---|---|
//! | `JTPL` | LIST | `count:varint entry × count` |
//! | `JTPD` | `GET_BY_ID` | `count:u8 packet × count` |
//! | `JTPB` | BATCH | `missing:varint packet × missing` |
//! | `JTPG` | `LIST_AND_GET` | `count:varint packet × count` |
//! | `JTPC` | CANCEL | nothing |
//! | `JTPW` | WATCH, one per new image | one entry |
//! | `JTPE` | anything | `code:u8 messageLen:u16 message` |

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::{DecodeResult, Decoded, WireError, varint};

/// The length of a header, in bytes.
pub const HEADER_LEN: usize = 4;

/// The maximum length of a header with its count, in bytes.
pub const MAX_HEAD_LEN: usize = HEADER_LEN + varint::MAX_LEN;

/// The maximum length of a `JTPE` with its header, in bytes.
pub const MAX_ERROR_LEN: usize = HEADER_LEN + 3 + u16::MAX as usize;

/// A response header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Header {
    /// `JTPL`, answers LIST.
    List,
    /// `JTPD`, answers `GET_BY_ID`.
    Data,
    /// `JTPB`, answers BATCH.
    Batch,
    /// `JTPG`, answers `LIST_AND_GET`.
    ListAndGet,
    /// `JTPC`, answers CANCEL.
    Cancelled,
    /// `JTPW`, reports one new image during WATCH.
    Watch,
    /// `JTPE`, an error.
    Error,
}

impl Header {
    /// All headers.
    pub const ALL: [Header; 7] = [
        Header::List,
        Header::Data,
        Header::Batch,
        Header::ListAndGet,
        Header::Cancelled,
        Header::Watch,
        Header::Error,
    ];

    /// The four bytes on the wire.
    #[must_use]
    pub const fn bytes(self) -> [u8; HEADER_LEN] {
        match self {
            Header::List => *b"JTPL",
            Header::Data => *b"JTPD",
            Header::Batch => *b"JTPB",
            Header::ListAndGet => *b"JTPG",
            Header::Cancelled => *b"JTPC",
            Header::Watch => *b"JTPW",
            Header::Error => *b"JTPE",
        }
    }

    /// Whether a varint follows that counts entries or packets.
    #[must_use]
    pub const fn has_varint(self) -> bool {
        match self {
            Header::List | Header::Batch | Header::ListAndGet => true,
            Header::Data | Header::Cancelled | Header::Watch | Header::Error => false,
        }
    }

    /// Reads a header from the start of `input`.
    ///
    /// # Errors
    ///
    /// [`WireError::UnknownHeader`] as soon as no header begins with these bytes; missing ones are reported as 0.
    pub fn decode(input: &[u8]) -> DecodeResult<Header> {
        let seen = input.get(..HEADER_LEN).unwrap_or(input);
        match Header::ALL
            .into_iter()
            .find(|header| header.bytes().starts_with(seen))
        {
            Some(value) if seen.len() == HEADER_LEN => Ok(Decoded::Complete {
                value,
                used: HEADER_LEN,
            }),
            Some(_) => Ok(Decoded::Incomplete {
                need: HEADER_LEN - seen.len(),
            }),
            None => {
                let mut bytes = [0; HEADER_LEN];
                bytes
                    .iter_mut()
                    .zip(seen)
                    .for_each(|(to, from)| *to = *from);
                Err(WireError::UnknownHeader(bytes))
            }
        }
    }
}

/// Appends a header with the count that follows it in `JTPL`, `JTPB` and `JTPG`.
pub fn encode_head(header: Header, count: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&header.bytes());
    varint::encode(count, out);
}

/// Appends `JTPD` with its one-byte count.
pub fn encode_data_head(count: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&Header::Data.bytes());
    out.push(count);
}

/// Reads the count after a header: one byte for `JTPD`, a varint for `JTPL`, `JTPB` and `JTPG`. The other headers have
/// none; the result is then 1 for `JTPW`, and 0 for `JTPC` and `JTPE`, with no bytes used.
///
/// # Errors
///
/// [`WireError::Varint`] for an invalid varint. // W2
pub fn decode_count(header: Header, input: &[u8]) -> DecodeResult<u32> {
    match header {
        Header::List | Header::Batch | Header::ListAndGet => varint::decode(input),
        Header::Data => Ok(match input.first() {
            Some(&count) => Decoded::Complete {
                value: u32::from(count),
                used: 1,
            },
            None => Decoded::Incomplete { need: 1 },
        }),
        Header::Watch => Ok(Decoded::Complete { value: 1, used: 0 }),
        Header::Cancelled | Header::Error => Ok(Decoded::Complete { value: 0, used: 0 }),
    }
}

/// The code of a `JTPE`, which ends the connection. // S11
///
/// The codes are classes of failure that a client handles differently. This project's clients behave as follows
/// (R6):
///
/// | code | new attempt |
/// |---|---|
/// | [`NotFound`](Self::NotFound), [`InvalidRequest`](Self::InvalidRequest), [`UnsupportedFeature`](Self::UnsupportedFeature) | none: the error is reported to the user |
/// | [`ServerError`](Self::ServerError) | on a new connection, 250 ms later, then with doubled pauses |
/// | [`RateLimited`](Self::RateLimited) | the same, beginning with 1 s |
///
/// # Which code to send
///
/// JTP has no code for "forbidden". An application that denies a request sends
/// [`InvalidRequest`](Self::InvalidRequest) and says why in the message. It is final for clients, and a denied request
/// stays denied: `ServerError` and `RateLimited` make clients try again for nothing, `UnsupportedFeature` claims that
/// the server cannot do it for anyone. To hide single images from a peer, accept its request with a catalog that
/// does not have them: unknown IDs are left out of the response. // S7
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// 1: reserved. A server never sends it for an image that it does not have; the image is left out of the
    /// response. Final for clients. // S7
    NotFound,
    /// 2: the request breaks a rule (S8, S10, C4, N3) or is denied. The same request would fail again: final for
    /// clients.
    InvalidRequest,
    /// 3: the server cannot complete the response, for instance because a file disappeared or a backend is down. A
    /// later attempt can succeed. // S12
    ServerError,
    /// 4: the server has no such request type or has WATCH switched off (S10), or it requires TLS (T2). Final for
    /// clients.
    UnsupportedFeature,
    /// 5: the client's address made too many requests. A later attempt succeeds. // S15
    RateLimited,
}

impl ErrorCode {
    /// The byte on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            ErrorCode::NotFound => 1,
            ErrorCode::InvalidRequest => 2,
            ErrorCode::ServerError => 3,
            ErrorCode::UnsupportedFeature => 4,
            ErrorCode::RateLimited => 5,
        }
    }

    /// The code for a byte on the wire.
    ///
    /// # Errors
    ///
    /// [`WireError::UnknownErrorCode`] for an unassigned code. // R1
    pub const fn from_code(code: u8) -> Result<ErrorCode, WireError> {
        match code {
            1 => Ok(ErrorCode::NotFound),
            2 => Ok(ErrorCode::InvalidRequest),
            3 => Ok(ErrorCode::ServerError),
            4 => Ok(ErrorCode::UnsupportedFeature),
            5 => Ok(ErrorCode::RateLimited),
            unknown => Err(WireError::UnknownErrorCode(unknown)),
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ErrorCode::NotFound => "NotFound",
            ErrorCode::InvalidRequest => "InvalidRequest",
            ErrorCode::ServerError => "ServerError",
            ErrorCode::UnsupportedFeature => "UnsupportedFeature",
            ErrorCode::RateLimited => "RateLimited",
        })
    }
}

/// The contents of a `JTPE`. // S11
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ErrorFrame<'a> {
    /// The code, for the program.
    pub code: ErrorCode,
    /// The message, for people. When received, bytes that are not UTF-8 are replaced by U+FFFD.
    pub message: Cow<'a, str>,
}

impl<'a> ErrorFrame<'a> {
    /// An error with a message.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'a, str>>) -> ErrorFrame<'a> {
        let message = message.into();
        ErrorFrame { code, message }
    }

    /// Appends the frame with its header. A message longer than 65,535 bytes is truncated at a character boundary.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let message = truncate(&self.message, u16::MAX);
        out.extend_from_slice(&Header::Error.bytes());
        out.push(self.code.code());
        out.extend_from_slice(&message.1.to_be_bytes());
        out.extend_from_slice(message.0.as_bytes());
    }

    /// Reads the bytes after the header `JTPE`.
    ///
    /// # Errors
    ///
    /// [`WireError::UnknownErrorCode`] for an unassigned code. // R1
    pub fn decode_body(input: &[u8]) -> DecodeResult<ErrorFrame<'_>> {
        if let Some(&code) = input.first() {
            ErrorCode::from_code(code)?;
        }
        let Some((&[code, n0, n1], rest)) = input.split_first_chunk::<3>() else {
            return Ok(Decoded::Incomplete {
                need: 3 - input.len(),
            });
        };
        let length = usize::from(u16::from_be_bytes([n0, n1]));
        let Some(message) = rest.get(..length) else {
            return Ok(Decoded::Incomplete {
                need: length - rest.len(),
            });
        };
        let value = ErrorFrame::new(
            ErrorCode::from_code(code)?,
            String::from_utf8_lossy(message),
        );
        Ok(Decoded::Complete {
            value,
            used: 3 + length,
        })
    }
}

/// The longest prefix of `text` of at most `limit` bytes that ends at a character boundary, and its length.
fn truncate(text: &str, limit: u16) -> (&str, u16) {
    let most = u16::try_from(text.len()).unwrap_or(limit).min(limit);
    let end = (0..=most)
        .rev()
        .find(|&at| text.is_char_boundary(usize::from(at)));
    let end = end.unwrap_or(0);
    (text.get(..usize::from(end)).unwrap_or_default(), end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_over_65535_bytes_is_truncated_at_a_character_boundary() {
        let message = "é".repeat(40_000);
        let mut out = Vec::new();
        ErrorFrame::new(ErrorCode::ServerError, Cow::Owned(message)).encode(&mut out);
        match ErrorFrame::decode_body(&out[4..]) {
            Ok(Decoded::Complete { value, .. }) => assert_eq!(value.message.len(), 65_534),
            other => panic!("{other:?}"),
        }
    }
}
