use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::image::{FileType, Flags};

const LIMIT: u64 = 64 << 20;

fn image_of(id: ImageId, compressed: bool, wire: &[u8]) -> Image {
    let flags = Flags::new(FileType::Other, compressed);
    Image::new(id, flags, u32::try_from(wire.len()).unwrap())
}

type Outcome = (Vec<u8>, Result<ImageId, ImageFault>);

/// Passes a body and some bytes after it to the receiver, in pieces of the lengths that `cut` returns.
fn feed(
    body: &mut BodyReceiver,
    image: Image,
    wire: &[u8],
    mut cut: impl FnMut() -> usize,
) -> Outcome {
    body.begin(image);
    let mut stream = wire.to_vec();
    stream.extend_from_slice(b"next");
    let (mut at, mut out) = (0, Vec::new());
    while body.verdict().is_none() {
        let end = (at + cut()).min(stream.len());
        let mut piece = &stream[at..end];
        at = end;
        while !piece.is_empty() && body.verdict().is_none() {
            let received = body.receive(piece);
            assert!(received.used > 0, "no progress");
            out.extend_from_slice(received.data);
            piece = &piece[received.used..];
        }
        if body.verdict().is_some() {
            at -= piece.len();
        }
    }
    assert_eq!(at, wire.len(), "not exactly the body's bytes were used");
    let verdict = body.verdict().unwrap();
    assert!(verdict.is_err() || verdict.is_ok_and(|verified| verified.image() == image));
    (out, verdict.map(|verified| verified.id()))
}

/// The outcome, which must not depend on how the input is split, nor on whether the receiver is new.
fn outcome_with(body: &mut BodyReceiver, id: ImageId, compressed: bool, wire: &[u8]) -> Outcome {
    let image = image_of(id, compressed, wire);
    let first = feed(body, image, wire, || usize::MAX / 2);
    let mut sizes: Vec<usize> = vec![4096, 4099, 131_075];
    if wire.len() < 20_000 {
        sizes.extend([1, 2, 3, 7]);
    }
    for size in sizes {
        assert!(
            feed(body, image, wire, || size) == first,
            "pieces of {size}"
        );
    }
    if wire.len() < 400 {
        for at in 1..wire.len() {
            let mut sizes = vec![at].into_iter();
            let cut = || sizes.next().unwrap_or(usize::MAX / 2);
            assert!(feed(body, image, wire, cut) == first, "split at {at}");
        }
    }
    first
}

fn outcome(id: ImageId, compressed: bool, wire: &[u8]) -> Outcome {
    outcome_with(
        &mut BodyReceiver::new(LIMIT, DEFAULT_MAX_WINDOW),
        id,
        compressed,
        wire,
    )
}

#[test]
fn w3_raw_data_are_not_copied_and_their_id_is_checked() {
    let mut body = BodyReceiver::default();
    let data = b"an image and more";
    body.begin(image_of(ImageId::of(b"an image"), false, b"an image"));
    assert_eq!(body.remaining(), 8);
    let piece = body.receive(data);
    assert_eq!((piece.used, piece.data.as_ptr()), (8, data.as_ptr()));
    assert_eq!(
        body.verdict().unwrap().unwrap().id(),
        ImageId::of(b"an image")
    );
    let piece = body.receive(data);
    assert_eq!((piece.used, piece.data.len()), (0, 0));

    let wrong = ImageFault::WrongId {
        expected: ImageId(1),
        actual: ImageId::of(b"abc"),
    };
    assert_eq!(
        outcome(ImageId(1), false, b"abc"),
        (b"abc".to_vec(), Err(wrong))
    );
    let empty = ImageId::of(b"");
    assert_eq!(outcome(empty, false, b""), (vec![], Ok(empty)));
}

#[test]
fn calls_before_the_first_image_have_no_effect() {
    let mut body = BodyReceiver::default();
    assert_eq!(body.verdict(), None);
    assert_eq!(body.receive(b"abc").used, 0);
    assert_eq!(body.remaining(), 0);
}

#[test]
fn r2_an_encrypted_image_is_discarded() {
    for bits in [0x10, 0x18] {
        let mut body = BodyReceiver::default();
        let image = Image::new(ImageId::of(b"abc"), Flags::from_bits(bits), 3);
        let end = feed(&mut body, image, b"abc", || 1);
        assert_eq!(end, (vec![], Err(ImageFault::Encrypted)));
    }
}

#[test]
fn r4_a_raw_image_over_the_limit_is_discarded_without_output() {
    let mut body = BodyReceiver::new(4, 0);
    let id = ImageId::of(b"12345");
    let (data, verdict) = outcome_with(&mut body, id, false, b"12345");
    assert_eq!(
        (data.len(), verdict),
        (0, Err(ImageFault::TooLarge { limit: 4 }))
    );
    let id = ImageId::of(b"1234");
    assert_eq!(outcome_with(&mut body, id, false, b"1234").1, Ok(id));
}

#[cfg(not(feature = "zstd"))]
#[test]
fn w8_without_zstd_a_compressed_image_is_unsupported() {
    let end = outcome(ImageId::of(b"abc"), true, b"abc");
    assert_eq!(end, (vec![], Err(ImageFault::CompressionUnsupported)));
}

#[cfg(feature = "zstd")]
mod compressed {
    use super::*;
    use jtp_kit::noise;
    use proptest::prelude::*;
    use std::io::Write;

    fn compress(data: &[u8], level: i32) -> Vec<u8> {
        zstd::bulk::compress(data, level).unwrap()
    }

    /// Compresses as a stream: without a declared length, with the given window, and perhaps a checksum.
    fn compress_stream(data: &[u8], window_log: u32, checksum: bool) -> Vec<u8> {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(window_log).unwrap();
        encoder.include_checksum(checksum).unwrap();
        encoder.include_contentsize(false).unwrap();
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn text(length: usize) -> Vec<u8> {
        let words: &[&[u8]] = &[b"packet ", b"catalog ", b"snapshot ", b"image\n"];
        let order = noise(length / 6 + 1, 1);
        let mut text: Vec<u8> = order
            .iter()
            .flat_map(|&at| words[usize::from(at) % 4])
            .copied()
            .collect();
        text.truncate(length);
        text
    }

    fn good(data: &[u8], wire: &[u8]) {
        let id = ImageId::of(data);
        let (out, verdict) = outcome(id, true, wire);
        assert_eq!(verdict, Ok(id));
        assert!(out == data);
    }

    fn broken(data: &[u8], wire: &[u8]) -> &'static str {
        match outcome(ImageId::of(data), true, wire).1 {
            Err(ImageFault::Broken(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    /// A frame with the given window descriptor and these raw blocks.
    fn by_hand(window: u8, blocks: &[&[u8]]) -> Vec<u8> {
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, window];
        for (at, block) in blocks.iter().enumerate() {
            let last = u32::from(at + 1 == blocks.len());
            let header = u32::try_from(block.len()).unwrap() << 3 | last;
            frame.extend_from_slice(&header.to_le_bytes()[..3]);
            frame.extend_from_slice(block);
        }
        frame
    }

    #[test]
    fn w8_a_changed_bit_gives_the_same_outcome_from_any_split() {
        let data = text(600);
        let frame = compress_stream(&data, 10, false);
        let id = ImageId::of(&data);
        let mut body = BodyReceiver::default();
        for at in 0..frame.len() {
            let mut wire = frame.clone();
            wire[at] ^= 1 << (at % 8);
            let (out, verdict) = outcome_with(&mut body, id, true, &wire);
            // Some bits have no effect on the data, such as those of the window.
            assert_eq!(verdict.is_ok(), out == data, "bit of byte {at}");
        }
    }

    #[test]
    fn w8_the_window_is_limited_also_where_the_library_does_not_check_it() {
        let small = text(100);
        // A window of 16 MiB and few bytes of data: a complete frame in one piece.
        let window = |log: u8| (log - 10) << 3;
        assert_eq!(
            broken(&small, &by_hand(window(24), &[&small])),
            "the window is too large"
        );
        broken(&small, &by_hand(window(23) + 1, &[&small]));
        good(&small, &by_hand(window(23), &[&small]));
        // The window of a single segment is its content size, here 8 MiB + 1. The header is enough to refuse it.
        let header = [0x28, 0xb5, 0x2f, 0xfd, 0xa0, 1, 0, 0x80, 0];
        assert_eq!(broken(&small, &header), "the window is too large");
        // The limit can be lower and higher.
        let large = vec![7; (1 << 20) + 1];
        let frame = compress(&large, 19);
        assert_eq!(frame[4] & 0x20, 0x20, "not a single segment");
        let id = ImageId::of(&large);
        let mut body = BodyReceiver::new(LIMIT, 1 << 20);
        let end = outcome_with(&mut body, id, true, &frame).1;
        assert_eq!(end, Err(ImageFault::Broken("the window is too large")));
        let mut body = BodyReceiver::new(LIMIT, (1 << 20) + 1);
        assert_eq!(outcome_with(&mut body, id, true, &frame).1, Ok(id));
        let mut body = BodyReceiver::new(LIMIT, 1 << 10);
        let id = ImageId::of(&small);
        assert!(
            outcome_with(&mut body, id, true, &by_hand(8, &[&small]))
                .1
                .is_err()
        );
        assert!(
            outcome_with(&mut body, id, true, &by_hand(0, &[&small]))
                .1
                .is_ok()
        );
    }

    #[test]
    fn w8_blocks_over_their_limit_are_faults_also_in_one_piece() {
        // With a window of 1 KiB, blocks have at most 1 KiB.
        let data = noise(1025, 1);
        good(&data[1..], &by_hand(0, &[&data[1..]]));
        broken(&data, &by_hand(0, &[&data]));
        let data = noise(20_000, 1);
        let blocks: Vec<&[u8]> = data.chunks(1000).collect();
        good(&data, &by_hand(0, &blocks));
        good(&data, &by_hand(5 << 3, &[&data]));
    }

    #[test]
    fn w8_references_beyond_the_window_decode_the_same_from_any_split() {
        // Frames whose matches refer to bytes beyond the window that their header declares. The bytes that such a
        // match finds depend on where the library's ring buffer wraps, and on its earlier contents. So that those
        // are the same, each frame is decoded twice before the splits are compared.
        let mut body = BodyReceiver::new(LIMIT, 1 << 10);
        let noise = noise(40_000, 1);
        for seed in 0..40 {
            let mut encoder = zstd::stream::Encoder::new(Vec::new(), 9).unwrap();
            encoder.window_log(17).unwrap();
            encoder.include_checksum(false).unwrap();
            let mut data = Vec::new();
            for at in 0..8 {
                let random = usize::from(noise[seed * 8 + at]);
                let fresh = &noise[1000 * (at + 1)..][..300 + 2 * random];
                let copied = match data.len() {
                    0 => vec![],
                    length => data[length * random / 300..]
                        .iter()
                        .copied()
                        .take(400)
                        .collect(),
                };
                for part in [fresh.to_vec(), copied] {
                    encoder.write_all(&part).unwrap();
                    encoder.flush().unwrap();
                    data.extend(part);
                }
            }
            let mut wire = encoder.finish().unwrap();
            assert_eq!(wire[4..6], [0, 7 << 3]);
            wire[5] = 0;
            let id = ImageId::of(&data);
            let image = image_of(id, true, &wire);
            let _ = feed(&mut body, image, &wire, || usize::MAX / 2);
            let whole = feed(&mut body, image, &wire, || usize::MAX / 2);
            for size in [1, 5, 64, 300, 700, 1000, 4096] {
                assert!(
                    feed(&mut body, image, &wire, || size) == whole,
                    "seed {seed}, pieces of {size}"
                );
            }
        }
    }

    #[test]
    fn r4_a_decompression_bomb_is_stopped_at_the_limit() {
        let zeros = vec![0; 8 << 20];
        let id = ImageId::of(&zeros);
        let too_large = Err(ImageFault::TooLarge { limit: 1 << 20 });
        let mut body = BodyReceiver::new(1 << 20, DEFAULT_MAX_WINDOW);
        // A declared length is checked at once; without one the limit applies when it is reached.
        let (out, verdict) = outcome_with(&mut body, id, true, &compress(&zeros, 3));
        assert_eq!((out.len(), verdict), (0, too_large));
        let (out, verdict) = outcome_with(&mut body, id, true, &compress_stream(&zeros, 20, false));
        assert_eq!((out.len(), verdict), (1 << 20, too_large));
        let (out, verdict) = outcome_with(
            &mut body,
            id,
            true,
            &compress_stream(&zeros[..(1 << 20) + 1], 20, false),
        );
        assert_eq!((out.len(), verdict), (1 << 20, too_large));
        // The limit applies to all frames together.
        let frame = compress(&zeros[..700_000], 3);
        let (out, verdict) = outcome_with(&mut body, id, true, &frame.repeat(2));
        assert_eq!((out.len(), verdict), (700_000, too_large));
        // An image of exactly the limit is accepted.
        let most = &zeros[..1 << 20];
        let (_, verdict) = outcome_with(&mut body, ImageId::of(most), true, &compress(most, 3));
        assert!(verdict.is_ok());
        let none = &[][..];
        let mut body = BodyReceiver::new(0, DEFAULT_MAX_WINDOW);
        let (_, verdict) = outcome_with(&mut body, ImageId::of(none), true, &compress(none, 3));
        assert!(verdict.is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn any_data_are_decoded_and_faults_do_not_depend_on_the_split(
            data in proptest::collection::vec(0u8..4, 0..3000),
            level in 1..10,
            log in 10u32..14,
            flips in proptest::collection::vec((any::<prop::sample::Index>(), 0u8..8), 0..3),
            cuts in proptest::collection::vec(1usize..200, 1..40),
        ) {
            let id = ImageId::of(&data);
            let mut wire = compress(&data, level);
            wire.extend(compress_stream(&data, log, true));
            for (at, bit) in &flips {
                *at.get_mut(&mut wire) ^= 1 << bit;
            }
            let image = image_of(id, true, &wire);
            let mut body = BodyReceiver::new(1 << 16, 1 << 14);
            // Twice, for the reason given above.
            let _ = feed(&mut body, image, &wire, || usize::MAX / 2);
            let whole = feed(&mut body, image, &wire, || usize::MAX / 2);
            let mut pieces = cuts.iter().copied().cycle();
            let cut = feed(&mut body, image, &wire, || pieces.next().unwrap());
            prop_assert_eq!(&whole, &cut);
            if flips.is_empty() && data.is_empty() {
                prop_assert_eq!(whole.1, Ok(id));
            }
        }

        #[test]
        fn any_bytes_after_a_frame_header_give_the_same_outcome_from_any_split(
            // Blocks of any kind and size, so that the decoder accepts their headers.
            blocks in proptest::collection::vec((0u32..4, 0u32..600, any::<bool>()), 0..12),
            bytes in proptest::collection::vec(any::<u8>(), 600),
            descriptor in prop::sample::select(vec![0u8, 4, 0x40, 0x60]),
            cuts in proptest::collection::vec(1usize..300, 1..40),
        ) {
            let mut wire = vec![0x28, 0xb5, 0x2f, 0xfd, descriptor, 0];
            wire.extend(vec![0; if descriptor & 0x40 != 0 { 1 } else { 0 }]);
            for (kind, size, last) in blocks {
                let header = size << 3 | kind << 1 | u32::from(last);
                wire.extend_from_slice(&header.to_le_bytes()[..3]);
                let length = if kind == 1 { 1 } else { size as usize };
                wire.extend_from_slice(&bytes[..length]);
            }
            let image = image_of(ImageId(0), true, &wire);
            let mut body = BodyReceiver::new(1 << 16, 1 << 14);
            // Twice, for the reason given above.
            let _ = feed(&mut body, image, &wire, || usize::MAX / 2);
            let whole = feed(&mut body, image, &wire, || usize::MAX / 2);
            let mut pieces = cuts.iter().copied().cycle();
            let cut = feed(&mut body, image, &wire, || pieces.next().unwrap());
            prop_assert_eq!(whole, cut);
        }
    }
}
