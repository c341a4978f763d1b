//! Runs every decoder on the same bytes. The result must be consistent for every prefix, and a decoded value must
//! encode to the bytes read. Used by the test `laws` and the fuzz target `wire_decode`.

use std::fmt::Debug;

use jtp_core::wire::response::{self, ErrorFrame, Header};
use jtp_core::wire::{
    DecodeResult, Decoded, Dissector, Frame, WireError, entry, packet, request::RequestHead, varint,
};

pub(crate) fn run(data: &[u8]) {
    check(data, varint::decode, |value, out| {
        varint::encode(*value, out);
    });
    check(data, RequestHead::decode, |head, out| {
        head.encode(out);
        if let Some(flags) = out.get_mut(1) {
            *flags = u8::from(head.keep_alive); // CANCEL and WATCH are encoded with 0 whatever was received. // W7
        }
    });
    check(data, entry::decode, |entry, out| {
        assert!(entry.name.len() <= entry::MAX_NAME_LEN);
        entry::encode(entry, out).unwrap();
        assert_eq!(
            out.len(),
            entry::encoded_len(entry.name.len(), entry.length)
        );
    });
    check(data, packet::decode_head, packet::encode_head);
    check(data, Header::decode, |header, out| {
        out.extend_from_slice(&header.bytes());
    });
    for header in Header::ALL.into_iter().filter(|header| header.has_varint()) {
        let decode = |bytes: &_| response::decode_count(header, bytes);
        check(data, decode, |count, out| {
            response::encode_head(header, *count, out);
            out.drain(..response::HEADER_LEN);
        });
    }
    check(
        data,
        |bytes| response::decode_count(Header::Data, bytes),
        |count, out| {
            out.push(u8::try_from(*count).unwrap());
        },
    );
    check(
        data,
        |bytes: &[u8]| Ok(into_owned(ErrorFrame::decode_body(bytes)?)),
        |frame, out| {
            frame.encode(out);
            out.drain(..response::HEADER_LEN);
            if frame.message.contains('\u{fffd}') {
                // It may replace bytes that were not UTF-8.
                out.clear();
            }
        },
    );
    // The framing state machine finds the same frames however the input is split.
    for dissector in [Dissector::client_to_server(), Dissector::server_to_client()] {
        let whole = dissect(dissector.clone(), &[data]);
        for cut in [data.len() / 3, data.len() / 2] {
            let (start, end) = data.split_at(cut);
            assert_eq!(dissect(dissector.clone(), &[start, end]), whole);
        }
    }
    // S12: no bytes are both a packet head and a header.
    if let (Ok(Decoded::Complete { .. }), Ok(_)) = (packet::decode_head(data), Header::decode(data))
    {
        panic!("both a packet head and a header");
    }
}

/// The number of frames without spans of IDs and bodies, the number of bytes in all of them, and whether an error
/// follows.
fn dissect(mut dissector: Dissector, pieces: &[&[u8]]) -> (usize, usize, bool) {
    let (mut frames, mut total) = (0, 0);
    let mut buffer = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        let mut at = 0;
        loop {
            match dissector.decode(&buffer[at..]) {
                Ok(Decoded::Complete { value, used }) => {
                    frames += usize::from(!matches!(value, Frame::Ids(_) | Frame::Body(_)));
                    assert!((1..=buffer.len() - at).contains(&used));
                    at += used;
                }
                Ok(Decoded::Incomplete { need }) => {
                    assert!(need > 0);
                    break;
                }
                Err(_) => return (frames, total + at, true),
            }
        }
        buffer.drain(..at);
        total += at;
        assert!(buffer.len() < Dissector::MAX_FRAME_LEN);
    }
    (frames, total, false)
}

fn into_owned(frame: Decoded<ErrorFrame<'_>>) -> Decoded<ErrorFrame<'static>> {
    frame.map(|frame| ErrorFrame::new(frame.code, frame.message.into_owned()))
}

/// Checks one decoder. `encode` leaves its output empty if the value does not determine the bytes.
fn check<'a, T: PartialEq + Debug>(
    data: &'a [u8],
    decode: impl Fn(&'a [u8]) -> DecodeResult<T>,
    encode: impl Fn(&T, &mut Vec<u8>),
) {
    let whole = decode(data);
    let (needed, complete) = match &whole {
        Ok(Decoded::Complete { value, used }) => {
            assert!(*used <= data.len() && *used > 0);
            let mut out = Vec::new();
            encode(value, &mut out);
            assert!(
                out.is_empty() || out == data[..*used],
                "{value:?} does not encode to the bytes read"
            );
            assert_eq!(
                decode(&data[..*used]),
                whole,
                "the result depends on the bytes after it"
            );
            (*used, true)
        }
        Ok(Decoded::Incomplete { need }) => {
            assert!(*need > 0);
            (data.len(), false)
        }
        Err(_) => (data.len(), false),
    };
    let step = (needed / 64).max(1);
    let mut failed: Option<WireError> = None;
    for cut in (0..needed).step_by(step) {
        match decode(&data[..cut]) {
            Ok(Decoded::Complete { .. }) => {
                panic!("complete at {cut} but not at {}: {whole:?}", data.len())
            }
            Ok(Decoded::Incomplete { need }) => {
                assert!(
                    need > 0 && failed.is_none(),
                    "an error disappeared with more input"
                );
                assert!(
                    !complete || need <= needed - cut,
                    "`need` is larger than the frame"
                );
                // With fewer bytes than `need` the frame must not be complete.
                if let Some(bytes) = data.get(..cut + need - 1) {
                    assert!(!matches!(decode(bytes), Ok(Decoded::Complete { .. })));
                }
            }
            Err(error) => {
                assert!(whole.is_err(), "an error disappeared with more input");
                failed = Some(error);
            }
        }
    }
}
