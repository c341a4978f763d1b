use super::*;
use crate::image::{FileType, Flags};
use crate::wire::request::decode_ids;
use alloc::vec::Vec;

const CLIENT: Dissector = Dissector::client_to_server();
const SERVER: Dissector = Dissector::server_to_client();

/// The error of bytes that come in pieces of this length.
fn error(mut dissector: Dissector, bytes: &[u8], piece: usize) -> Option<WireError> {
    let mut buffer: Vec<u8> = Vec::new();
    for piece in bytes.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            match dissector.decode(&buffer) {
                Ok(Decoded::Complete { used, .. }) => drop(buffer.drain(..used)),
                Ok(Decoded::Incomplete { .. }) => break,
                Err(error) => {
                    assert_eq!(dissector.decode(&[]), Err(error), "errors are final");
                    assert!(!dissector.is_at_boundary());
                    return Some(error);
                }
            }
        }
    }
    None
}

fn image(n: u64, length: u32) -> Image {
    Image::new(ImageId(n), Flags::new(FileType::Png, false), length)
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
        (CLIENT, &b"\xff"[..], WireError::UnknownRequest(255)),
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
        assert_eq!(error(start.clone(), bytes, usize::MAX), Some(expected));
        for piece in 1..bytes.len() {
            assert!(error(start.clone(), bytes, piece).is_some(), "{expected:?}");
        }
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
    let mut dissector = SERVER;
    let cut = dissector.decode(&out[..out.len() - 1]);
    assert_eq!(cut, Ok(Decoded::Incomplete { need: 1 }));
    assert!(matches!(
        dissector.decode(&out),
        Ok(Decoded::Complete { .. })
    ));
    assert!(dissector.is_at_boundary());
}
