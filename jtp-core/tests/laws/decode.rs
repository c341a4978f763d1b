//! Every decoder on the same bytes: what it says holds for every cut, and what it read encodes to itself. The
//! test beside this folder feeds it, and the fuzz target `wire_decode`.

use std::fmt::Debug;

use jtp_core::wire::response::{self, ErrorFrame, Header};
use jtp_core::wire::{
    DecodeResult, Decoded, WireError, entry, packet, request::RequestHead, varint,
};

pub(crate) fn run(data: &[u8]) {
    check(data, varint::decode, |value, out| {
        varint::encode(*value, out);
    });
    check(data, RequestHead::decode, |head, out| {
        head.encode(out);
        if let Some(flags) = out.get_mut(1) {
            *flags = u8::from(head.keep_alive); // CANCEL and WATCH are sent with 0 whatever came. // W7
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
    for header in [Header::List, Header::Batch, Header::ListAndGet] {
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
        |bytes: &[u8]| Ok(own(ErrorFrame::decode_body(bytes)?)),
        |frame, out| {
            frame.encode(out);
            out.drain(..response::HEADER_LEN);
            if frame.message.contains('\u{fffd}') {
                // It may stand for bytes that were no UTF-8.
                out.clear();
            }
        },
    );
    // S12: what begins a packet begins no header.
    if let (Ok(Decoded::Complete { .. }), Ok(_)) = (packet::decode_head(data), Header::decode(data))
    {
        panic!("a packet and a header");
    }
}

fn own(frame: Decoded<ErrorFrame<'_>>) -> Decoded<ErrorFrame<'static>> {
    frame.map(|frame| ErrorFrame::new(frame.code, frame.message.into_owned()))
}

/// The laws of a decoder. `encode` may leave its output empty where the bytes cannot be had again.
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
                "{value:?} is not what was read"
            );
            assert_eq!(
                decode(&data[..*used]),
                whole,
                "what follows makes a difference"
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
                panic!("complete at {cut}, and not at {}: {whole:?}", data.len())
            }
            Ok(Decoded::Incomplete { need }) => {
                assert!(need > 0 && failed.is_none(), "an error was taken back");
                assert!(
                    !complete || need <= needed - cut,
                    "asks for more than there is"
                );
                // With fewer bytes than it needs the answer stays the same kind, unless it is an error.
                if let Some(bytes) = data.get(..cut + need - 1) {
                    assert!(!matches!(decode(bytes), Ok(Decoded::Complete { .. })));
                }
            }
            Err(error) => {
                assert!(whole.is_err(), "an error was taken back");
                failed = Some(error);
            }
        }
    }
}
