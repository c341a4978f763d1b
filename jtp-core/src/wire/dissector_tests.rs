use super::*;
use crate::image::{FileType, Flags};
use crate::wire::request::{RequestKind, decode_ids, encode_ids};
use crate::wire::response::ErrorCode;
use crate::wire::varint;
use alloc::vec::Vec;
use proptest::prelude::*;

const CLIENT: Dissector = Dissector::client_to_server();
const SERVER: Dissector = Dissector::server_to_client();

/// What a dissector makes of some bytes, however they are cut.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    /// Every frame, encoded again.
    bytes: Vec<u8>,
    /// The number of frames of each kind; spans that follow each other count once.
    frames: Vec<(&'static str, usize)>,
    failed: bool,
    at_boundary: bool,
}

impl Outcome {
    fn add(&mut self, frame: &Frame<'_>) {
        let kind = match frame {
            Frame::Request(head) => {
                head.encode(&mut self.bytes);
                "request"
            }
            Frame::Ids(ids) => {
                assert!(!ids.is_empty() && ids.len() % ImageId::LEN == 0);
                encode_ids(&decode_ids(ids).collect::<Vec<_>>(), &mut self.bytes);
                "ids"
            }
            Frame::Response { header, count } => {
                self.bytes.extend_from_slice(&header.bytes());
                match header {
                    Header::Data => self.bytes.push(u8::try_from(*count).unwrap()),
                    _ => varint::encode(*count, &mut self.bytes),
                }
                "response"
            }
            Frame::Entry(entry) => {
                entry::encode(entry, &mut self.bytes).unwrap();
                "entry"
            }
            Frame::Packet(image) => {
                packet::encode_head(image, &mut self.bytes);
                "packet"
            }
            Frame::Body(bytes) => {
                assert!(!bytes.is_empty());
                self.bytes.extend_from_slice(bytes);
                "body"
            }
            Frame::NewImage(entry) => {
                self.bytes.extend_from_slice(b"JTPW");
                entry::encode(entry, &mut self.bytes).unwrap();
                "new image"
            }
            Frame::Cancelled => {
                self.bytes.extend_from_slice(b"JTPC");
                "cancelled"
            }
            Frame::Error(error) => {
                error.encode(&mut self.bytes);
                "error"
            }
        };
        match self.frames.last_mut() {
            Some((last, _)) if *last == kind && matches!(kind, "ids" | "body") => {}
            Some((last, count)) if *last == kind => *count += 1,
            _ => self.frames.push((kind, 1)),
        }
    }
}

/// Feeds `pieces` one after the other, as a connection does.
fn dissect<'a>(start: &Dissector, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut dissector = start.clone();
    let mut outcome = Outcome::default();
    let mut buffer: Vec<u8> = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        let mut at = 0;
        loop {
            match dissector.decode(&buffer[at..]) {
                Ok(Decoded::Complete { value, used }) => {
                    assert!((1..=buffer.len() - at).contains(&used));
                    outcome.add(&value);
                    at += used;
                }
                Ok(Decoded::Incomplete { need }) => {
                    assert!(need > 0);
                    break;
                }
                Err(error) => {
                    assert_eq!(dissector.decode(&[]), Err(error), "errors are final");
                    outcome.failed = true;
                    return outcome;
                }
            }
        }
        buffer.drain(..at);
        assert!(buffer.len() < Dissector::MAX_FRAME_LEN);
    }
    outcome.at_boundary = dissector.is_at_boundary() && buffer.is_empty();
    outcome
}

/// The outcome, which is the same for all cuts into two pieces and for single bytes.
fn dissect_in_all_ways(start: &Dissector, bytes: &[u8]) -> Outcome {
    let whole = dissect(start, [bytes]);
    assert_eq!(dissect(start, bytes.chunks(1)), whole, "byte by byte");
    for cut in 1..bytes.len() {
        let (first, second) = bytes.split_at(cut);
        assert_eq!(dissect(start, [first, second]), whole, "cut at {cut}");
    }
    whole
}

fn image(n: u64, length: u32) -> Image {
    Image::new(ImageId(n), Flags::new(FileType::Png, false), length)
}

fn requests() -> Vec<u8> {
    let mut out = Vec::new();
    let ids = [ImageId(1), ImageId(2), ImageId(3)];
    let mut request = |kind, ids: &[ImageId]| {
        RequestHead::new(kind, true).encode(&mut out);
        encode_ids(ids, &mut out);
    };
    for kind in RequestKind::ALL {
        for count in [0, 2, 3] {
            let kind = kind.with_ids(count);
            request(kind, &ids[..kind.ids() as usize]);
        }
    }
    out
}

/// Every frame of a server. Bodies contain the bytes of headers.
fn responses() -> Vec<u8> {
    let mut out = b"JTPL\x02".to_vec();
    entry::encode(&Entry::new("a.png", image(1, 5)), &mut out).unwrap();
    entry::encode(&Entry::new("JTPC", image(2, 0)), &mut out).unwrap();
    out.extend_from_slice(b"JTPL\0JTPD\0JTPG\x02");
    packet::encode_head(&image(1, 5), &mut out);
    out.extend_from_slice(b"JTPEJ");
    packet::encode_head(&image(2, 0), &mut out);
    out.extend_from_slice(b"JTPD\x01");
    packet::encode_head(&image(0x4a4a_4a4a_4a4a_4a4a, 200), &mut out);
    out.extend_from_slice(&[b'J'; 200]);
    // Cancelled after one of three packets. // C2
    out.extend_from_slice(b"JTPB\x03");
    packet::encode_head(&image(3, 1), &mut out);
    out.extend_from_slice(b"xJTPCJTPC");
    for n in 4..6 {
        out.extend_from_slice(b"JTPW");
        entry::encode(&Entry::new("\u{e9}.gif", image(n, 70_000)), &mut out).unwrap();
    }
    out.extend_from_slice(b"JTPCJTPG\x01");
    ErrorFrame::new(ErrorCode::ServerError, "no disk").encode(&mut out);
    out
}

#[test]
fn ids_are_passed_on_as_they_arrive() {
    let input = [2, 1, 3, 1, 2, 3, 4, 5, 6, 7, 8, 9];
    let mut dissector = CLIENT;
    let head = dissector.decode(&input);
    assert!(matches!(head, Ok(Decoded::Complete { used: 3, .. })));
    let Ok(Decoded::Complete { value, used: 8 }) = dissector.decode(&input[3..]) else {
        panic!("one of three IDs is there");
    };
    let Frame::Ids(ids) = value else {
        panic!("{value:?}")
    };
    assert!(decode_ids(ids).eq([ImageId(0x0102_0304_0506_0708)]));
}

#[test]
fn errors_name_what_is_wrong_and_are_final() {
    for (start, bytes, expected) in [
        (CLIENT, &b"\x06"[..], WireError::UnknownRequest(6)),
        (CLIENT, b"\x01\x02", WireError::RequestFlags(2)),
        (CLIENT, b"\x02\x01\x80\0", WireError::Varint),
        (SERVER, b"HTTP", WireError::UnknownHeader(*b"HTTP")),
        (
            SERVER,
            b"JTPG\x01JTPL",
            WireError::HeaderForPacket(Header::List),
        ),
        (SERVER, b"JTPG\x01JTPX", WireError::UnknownHeader(*b"JTPX")),
        (SERVER, b"JTPG\x01\x20", WireError::PacketFlags(0x20)),
        (SERVER, b"JTPE\x06", WireError::UnknownErrorCode(6)),
        (SERVER, b"JTPE\x02\0\0J", WireError::AfterError),
        (
            SERVER,
            b"JTPW\0\0\0\0\0\0\0\0\x10",
            WireError::EntryFlags(0x10),
        ),
    ] {
        assert!(dissect_in_all_ways(&start, bytes).failed);
        let mut dissector = start;
        let mut rest = bytes;
        let error = loop {
            match dissector.decode(rest) {
                Ok(Decoded::Complete { used, .. }) => rest = &rest[used..],
                Ok(Decoded::Incomplete { .. }) => panic!("{bytes:?} has no error"),
                Err(error) => break error,
            }
        };
        assert_eq!(error, expected);
        assert!(!dissector.is_at_boundary());
    }
}

#[test]
fn bodies_can_be_skipped() {
    let mut dissector = SERVER;
    assert_eq!(dissector.skip_body(1), 0, "no body yet");
    let bytes = b"JTPD\x02\0\x03\0\0\0\0\0\0\0\x07";
    for used in [5, 10] {
        let at = 5 * usize::from(used == 10);
        let decoded = dissector.decode(&bytes[at..]);
        assert!(matches!(decoded, Ok(Decoded::Complete { used: n, .. }) if n == used));
    }
    assert_eq!(dissector.body_left(), 3);
    assert_eq!((dissector.skip_body(2), dissector.skip_body(9)), (2, 1));
    assert_eq!(dissector.body_left(), 0);
    let decoded = dissector.decode(b"JTPC");
    assert!(matches!(
        decoded,
        Ok(Decoded::Complete {
            value: Frame::Cancelled,
            used: 4
        })
    ));
    assert!(dissector.is_at_boundary());
}

#[test]
fn the_longest_frame_fits_the_bound() {
    let mut out = b"JTPW".to_vec();
    let name = "x".repeat(entry::MAX_NAME_LEN);
    entry::encode(&Entry::new(&name, image(1, u32::MAX)), &mut out).unwrap();
    assert_eq!(out.len(), Dissector::MAX_FRAME_LEN);
    const { assert!(response::MAX_ERROR_LEN <= Dissector::MAX_FRAME_LEN) };
    let (last, start) = out.split_last().unwrap();
    assert!(dissect(&SERVER, [start, &[*last]]).at_boundary);
}

proptest! {
    #[test]
    fn no_bytes_panic_and_cuts_make_no_difference(
        noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        garbage in prop::collection::vec(any::<u8>(), 0..40),
        cuts in prop::collection::vec(1..40usize, 1..40),
    ) {
        for (start, good) in [(CLIENT, requests()), (SERVER, responses())] {
            let mut bytes = good;
            for (at, byte) in &noise {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            for bytes in [bytes, garbage.clone()] {
                let mut pieces = Vec::new();
                let mut rest = &bytes[..];
                for cut in cuts.iter().cycle() {
                    if rest.is_empty() {
                        break;
                    }
                    let (piece, later) = rest.split_at(rest.len().min(*cut));
                    pieces.push(piece);
                    rest = later;
                }
                prop_assert_eq!(dissect(&start, pieces), dissect(&start, [&bytes[..]]));
            }
        }
    }
}
