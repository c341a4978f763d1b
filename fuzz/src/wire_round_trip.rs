//! Encodes a sequence of arbitrary frames and decodes it again.

use arbitrary::{Arbitrary, Unstructured};
use jtp_core::wire::request::{RequestHead, RequestKind};
use jtp_core::wire::response::{self, ErrorCode, ErrorFrame, Header};
use jtp_core::wire::{DecodeResult, Decoded, entry, packet, varint};
use jtp_core::{Flags, Image, ImageId};

#[derive(Debug, Arbitrary)]
enum Frame<'a> {
    Varint(u32),
    Request {
        kind: u8,
        count: u32,
        keep_alive: bool,
    },
    Entry {
        id: u64,
        flags: u8,
        name: &'a str,
        length: u32,
    },
    Packet {
        id: u64,
        flags: u8,
        length: u32,
    },
    Head {
        kind: u8,
        count: u32,
    },
    Error {
        code: u8,
        message: &'a str,
    },
}

pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(frames) = Vec::<Frame<'_>>::arbitrary(&mut input) else {
        return;
    };
    let mut out = Vec::new();
    for frame in &frames {
        frame.write(&mut out);
    }
    let mut rest = &out[..];
    for frame in &frames {
        rest = &rest[frame.read(rest)..];
    }
    assert!(rest.is_empty());
}

/// All but an error, which has a message.
fn header(kind: u8) -> Header {
    let headers = &Header::ALL[..Header::ALL.len() - 1];
    headers[usize::from(kind) % headers.len()]
}

fn head(kind: u8, count: u32, keep_alive: bool) -> RequestHead {
    let kind = RequestKind::ALL[usize::from(kind) % RequestKind::ALL.len()].with_ids(count);
    RequestHead::new(kind, keep_alive && kind.has_flags())
}

fn image(id: u64, flags: u8, length: u32) -> Image {
    Image::new(ImageId(id), Flags::from_bits(flags), length)
}

fn check_equal<T: PartialEq + std::fmt::Debug>(read: DecodeResult<T>, written: &T) -> usize {
    match read {
        Ok(Decoded::Complete { value, used }) => {
            assert_eq!(&value, written);
            used
        }
        other => panic!("{other:?} for {written:?}"),
    }
}

impl Frame<'_> {
    fn entry(&self) -> entry::Entry<'_> {
        let Frame::Entry {
            id,
            flags,
            name,
            length,
        } = *self
        else {
            unreachable!()
        };
        let name = name.get(..entry::MAX_NAME_LEN).unwrap_or(name);
        entry::Entry::new(name, image(id, flags & 0x0f, length))
    }

    fn error(&self) -> ErrorFrame<'_> {
        let Frame::Error { code, message } = *self else {
            unreachable!()
        };
        ErrorFrame::new(
            ErrorCode::from_code(code % 5 + 1).unwrap(),
            message.get(..60_000).unwrap_or(message),
        )
    }

    fn write(&self, out: &mut Vec<u8>) {
        match *self {
            Frame::Varint(value) => varint::encode(value, out),
            Frame::Request {
                kind,
                count,
                keep_alive,
            } => head(kind, count, keep_alive).encode(out),
            Frame::Entry { .. } => {
                // A name that is too long cannot be encoded; nothing is written. // S14
                let _ = entry::encode(&self.entry(), out);
            }
            Frame::Packet { id, flags, length } => {
                packet::encode_head(&image(id, flags & 0x1f, length), out)
            }
            Frame::Head { kind, count } => match header(kind) {
                Header::Data => response::encode_data_head(count as u8, out),
                bare @ (Header::Cancelled | Header::Watch) => out.extend_from_slice(&bare.bytes()),
                counted => response::encode_head(counted, count, out),
            },
            Frame::Error { .. } => self.error().encode(out),
        }
    }

    fn read(&self, rest: &[u8]) -> usize {
        match *self {
            Frame::Varint(value) => {
                let used = check_equal(varint::decode(rest), &value);
                assert_eq!(used, varint::encoded_len(value));
                used
            }
            Frame::Request {
                kind,
                count,
                keep_alive,
            } => check_equal(RequestHead::decode(rest), &head(kind, count, keep_alive)),
            Frame::Entry { .. } => {
                let entry = self.entry();
                if entry.name.len() > entry::MAX_NAME_LEN {
                    return 0;
                }
                check_equal(entry::decode(rest), &entry)
            }
            Frame::Packet { id, flags, length } => {
                check_equal(packet::decode_head(rest), &image(id, flags & 0x1f, length))
            }
            Frame::Head { kind, count } => {
                let header = header(kind);
                let used = check_equal(Header::decode(rest), &header);
                let expected = match header {
                    Header::Data => count & 0xff,
                    Header::Cancelled => 0,
                    Header::Watch => 1,
                    _ => count,
                };
                used + check_equal(response::decode_count(header, &rest[used..]), &expected)
            }
            Frame::Error { .. } => {
                let used = check_equal(Header::decode(rest), &Header::Error);
                used + check_equal(ErrorFrame::decode_body(&rest[used..]), &self.error())
            }
        }
    }
}
