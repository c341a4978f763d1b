//! Receiving a body: the output is bounded, does not depend on how the input is split, and equals the output of the
//! Zstd library.

use std::io::Read;

use jtp_core::{BodyReceiver, FileType, Flags, Image, ImageFault, ImageId};

use crate::ByteReader;

const MAX_SIZE: u64 = 1 << 20;
const MAX_WINDOW: u32 = 1 << 17;

type Outcome = (Vec<u8>, Result<ImageId, ImageFault>);

pub fn run(data: &[u8]) {
    let mut reader = ByteReader(data);
    let mode = reader.byte();
    let cuts = reader.take(4);
    let rest = reader.0;
    let (wire, plain) = match mode % 4 {
        // Any bytes as Zstd frames.
        0 => (rest.to_vec(), None),
        // Any bytes as blocks after a valid header.
        1 => ([&[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38], rest].concat(), None),
        // A body compressed by the library, in one or two frames.
        2 => (compressed(mode, rest), Some(rest)),
        // The same with one byte changed.
        _ => {
            let (place, change) = (reader.byte(), reader.byte());
            let mut wire = compressed(mode, reader.0);
            let len = wire.len();
            if let Some(byte) = wire.get_mut(usize::from(place) % len.max(1)) {
                *byte ^= change;
            }
            (wire, None)
        }
    };
    let flags = Flags::new(FileType::Other, true);
    let length = u32::try_from(wire.len()).unwrap();
    let image = |id| Image::new(id, flags, length);
    let mut receiver = BodyReceiver::new(MAX_SIZE, MAX_WINDOW);
    let whole = receive(&mut receiver, image(ImageId(0)), &wire, &mut || usize::MAX);
    // A reused receiver gives the same result.
    let mut cuts = cuts.iter().map(|cut| usize::from(*cut)).cycle();
    let pieces = receive(&mut receiver, image(ImageId(0)), &wire, &mut || {
        cuts.next().unwrap_or(1)
    });
    assert_eq!(pieces.1, whole.1);
    assert!(
        pieces.0 == whole.0,
        "the output depends on how the input is split"
    );

    let Err(ImageFault::WrongId { actual, .. }) = whole.1 else {
        assert!(whole.1.is_err() || whole.1 == Ok(ImageId(0)));
        assert!(
            plain.is_none(),
            "a body compressed by the library is rejected: {:?}",
            whole.1
        );
        return;
    };
    assert_eq!(
        ImageId::of(&whole.0),
        actual,
        "the ID does not match the output"
    );
    let again = receive(&mut receiver, image(actual), &wire, &mut || 1);
    assert_eq!(again.1, Ok(actual));
    if let Some(plain) = plain {
        assert!(whole.0 == plain);
    }
    // The library decodes the same bytes.
    let mut decoder = zstd::stream::Decoder::new(&wire[..]).unwrap();
    let mut by_library = Vec::new();
    let read = decoder
        .by_ref()
        .take(MAX_SIZE + 1)
        .read_to_end(&mut by_library);
    if read.is_ok() {
        assert!(by_library == whole.0, "the library decodes different bytes");
    }
    // The same bytes as a raw body.
    let raw = Image::new(
        actual,
        Flags::new(FileType::Png, false),
        u32::try_from(whole.0.len()).unwrap(),
    );
    assert_eq!(
        receive(&mut receiver, raw, &whole.0, &mut || 7).1,
        Ok(actual)
    );
}

fn compressed(mode: u8, plain: &[u8]) -> Vec<u8> {
    let level = i32::from(mode >> 4) + 1;
    let middle = if mode & 8 == 0 {
        plain.len()
    } else {
        plain.len() / 2
    };
    let (first, second) = plain.split_at(middle);
    let mut wire = zstd::bulk::compress(first, level).unwrap();
    if mode & 8 != 0 {
        wire.extend_from_slice(&[0x53, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9]);
        wire.extend(zstd::bulk::compress(second, level).unwrap());
    }
    wire
}

fn receive(
    receiver: &mut BodyReceiver,
    image: Image,
    wire: &[u8],
    cut: &mut dyn FnMut() -> usize,
) -> Outcome {
    receiver.begin(image);
    let mut out = Vec::new();
    let mut rest = wire;
    while !rest.is_empty() {
        assert!(receiver.verdict().is_none(), "a verdict before the end");
        assert_eq!(receiver.remaining() as usize, rest.len());
        let (mut piece, later) = rest.split_at(cut().clamp(1, rest.len()));
        rest = later;
        while !piece.is_empty() {
            let received = receiver.receive(piece);
            assert!(
                received.used > 0 || !received.data.is_empty(),
                "no progress"
            );
            assert!(received.used <= piece.len());
            out.extend_from_slice(received.data);
            assert!(out.len() as u64 <= MAX_SIZE, "R4");
            piece = &piece[received.used..];
        }
    }
    let verdict = receiver.verdict().expect("a verdict at the end");
    // Bytes after the body are not consumed.
    assert_eq!(receiver.receive(b"more").used, 0);
    (out, verdict.map(|verified| verified.id()))
}
