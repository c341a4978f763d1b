//! Codec laws: decoding arbitrary bytes, and round trips of arbitrary values.

#[path = "laws/decode.rs"]
mod decode;

use jtp_core::wire::request::{RequestHead, RequestKind};
use jtp_core::wire::response::{self, ErrorCode, ErrorFrame, HEADER_LEN, Header};
use jtp_core::wire::{DecodeResult, Decoded, entry, packet, varint};
use jtp_core::{Flags, Image, ImageId};
use proptest::prelude::*;

fn whole<T>(read: DecodeResult<T>, bytes: &[u8]) -> T {
    match read.unwrap() {
        Decoded::Complete { value, used } if used == bytes.len() => value,
        _ => panic!("not the whole frame"),
    }
}

/// Any `u32`, small numbers, and numbers at the boundaries of the varint lengths. // W1 W2
fn number() -> impl Strategy<Value = u32> {
    let edges = (0u32..5, 0u32..3).prop_map(|(groups, more)| (1 << (groups * 7)) - 1 + more);
    prop_oneof![any::<u32>(), 0u32..300, edges]
}

fn image() -> impl Strategy<Value = Image> {
    (any::<u64>(), 0u8..32, number())
        .prop_map(|(id, flags, length)| Image::new(ImageId(id), Flags::from_bits(flags), length))
}

fn head() -> impl Strategy<Value = RequestHead> {
    let kind = (prop::sample::select(&RequestKind::ALL[..]), number())
        .prop_map(|(kind, ids)| kind.with_ids(ids));
    (kind, any::<bool>()).prop_map(|(kind, keep_alive)| {
        RequestHead::new(kind, keep_alive && kind.has_flags()) // S10
    })
}

proptest! {
    #[test]
    fn w2_s10_r1_decoding_is_consistent_for_every_prefix(
        start in prop::sample::select(vec![&b""[..], b"JTPE", b"JTPL", b"JTP", b"\x02\x01", b"\0\0", b"\x01\x02"]),
        bytes in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        decode::run(&[start, &bytes].concat());
    }

    #[test]
    fn w1_w2_varints_round_trip(value in number()) {
        let mut out = Vec::new();
        varint::encode(value, &mut out);
        prop_assert_eq!(whole(varint::decode(&out), &out), value);
        decode::run(&out);
    }

    #[test]
    fn w7_request_heads_round_trip(head in head()) {
        let mut out = Vec::new();
        head.encode(&mut out);
        prop_assert_eq!(whole(RequestHead::decode(&out), &out), head);
        decode::run(&out);
    }

    #[test]
    fn w4_packets_and_entries_round_trip(image in image(), name in "\\PC{0,40}|.{0,300}") {
        let mut out = Vec::new();
        packet::encode_head(&image, &mut out);
        prop_assert_eq!(whole(packet::decode_head(&out), &out), image);
        decode::run(&out);

        let flags = Flags::from_bits(image.flags.bits() & 15);
        let entry = entry::Entry::new(&name, Image::new(image.id, flags, image.length));
        out.clear();
        entry::encode(&entry, &mut out).unwrap();
        prop_assert_eq!(whole(entry::decode(&out), &out), entry);
        decode::run(&out);
    }

    #[test]
    fn s12_response_heads_and_errors_round_trip(
        count in number(),
        code in 1u8..6,
        message in ".{0,200}",
    ) {
        let mut out = Vec::new();
        for header in Header::ALL.into_iter().filter(|header| header.has_varint()) {
            out.clear();
            response::encode_head(header, count, &mut out);
            let (start, rest) = out.split_at(HEADER_LEN);
            prop_assert_eq!(whole(Header::decode(start), start), header);
            prop_assert_eq!(whole(response::decode_count(header, rest), rest), count);
            decode::run(rest);
        }
        let frame = ErrorFrame::new(ErrorCode::from_code(code).unwrap(), message);
        out.clear();
        frame.encode(&mut out);
        let (start, rest) = out.split_at(HEADER_LEN);
        prop_assert_eq!(whole(Header::decode(start), start), Header::Error);
        prop_assert_eq!(whole(ErrorFrame::decode_body(rest), rest), frame);
        decode::run(rest);
    }
}
