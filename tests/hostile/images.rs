//! R2 R4 W8: servers that send decompression bombs and invalid frames.

use std::fs;

use super::{Mib, client, hostile_image, report_line, scale};
use crate::support::bytes::*;
use crate::support::process::WorkDir;
use crate::support::stub::Stub;

/// A compressed image.
fn packed(name: &str, id: u64, data: Vec<u8>) -> TestImage {
    hostile_image(name, id, ZSTD | 7, data)
}

/// The client's memory limit in bytes, whatever size an image claims: its buffers, and a window of 8 MiB.
const MAX_MEMORY: u64 = 64 << 20;

/// The header of a Zstd frame with this descriptor and these fields.
fn frame(descriptor: u8, fields: &[u8]) -> Vec<u8> {
    [&[0x28, 0xb5, 0x2f, 0xfd, descriptor][..], fields].concat()
}

/// RLE blocks of four bytes, each of which decodes to 128 KiB.
fn repeated(blocks: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(blocks * 4);
    for n in 1..=blocks {
        let header = (128 << 10) << 3 | 1 << 1 | u32::from(n == blocks);
        out.extend_from_slice(&header.to_le_bytes()[..3]);
        out.push(0);
    }
    out
}

/// Invalid bodies, named by what is wrong with them.
fn bombs() -> Vec<TestImage> {
    let blocks = scale(1 << 10, 32 << 10); // of 128 KiB: 128 MiB, or 4 GiB
    let zeros = zstd::bulk::compress(&vec![0; scale(64, 1024) << 20], 3).unwrap();
    let small = zstd::bulk::compress(b"small", 3).unwrap();
    let many_empty = frame(0x20, &[0, 1, 0, 0]).repeat(scale(20_000, 1_000_000));
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a bomb with its size in the header", zeros.clone()),
        (
            "a bomb of repeated blocks",
            [frame(0, &[0x38]), repeated(blocks)].concat(),
        ),
        (
            "a bomb behind a valid frame",
            [&small[..], &frame(0, &[0x38]), &repeated(blocks)].concat(),
        ),
        (
            "a bomb in many frames",
            zstd::bulk::compress(&vec![7; 1 << 20], 3)
                .unwrap()
                .repeat(200),
        ),
        (
            "a size of 2^63",
            [frame(0xc0, &[0x38, 0, 0, 0, 0, 0, 0, 0, 0x80]), repeated(1)].concat(),
        ),
        (
            "a segment of 2^60",
            [frame(0xe0, &[0, 0, 0, 0, 0, 0, 0, 0x10]), repeated(1)].concat(),
        ),
        (
            "a size of 4 GiB - 1",
            [frame(0xa0, &[0xff; 4]), repeated(1)].concat(),
        ),
        (
            "a window of 9 MiB",
            [frame(0, &[0x69]), repeated(1)].concat(),
        ),
        (
            "a window of 2 GiB",
            [frame(0, &[0xa8]), repeated(1)].concat(),
        ),
        (
            "the largest window",
            [frame(0, &[0xff]), repeated(1)].concat(),
        ),
        ("a dictionary", [frame(1, &[0x38, 9]), repeated(1)].concat()),
        (
            "a skippable frame of 4 GiB",
            [&[0x50, 0x2a, 0x4d, 0x18][..], &[0xff; 4], &[0; 999]].concat(),
        ),
        ("empty frames", many_empty),
        (
            "only a skippable frame",
            vec![0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0],
        ),
        ("no frame", b"not a frame at all".to_vec()),
        ("half a frame", small[..small.len() - 1].to_vec()),
        ("data behind the frame", [&small[..], b"x"].concat()),
        ("a block of the reserved type", frame(0, &[0x38, 7, 0, 0])),
        (
            "a format before 1.0",
            vec![0x27, 0xb5, 0x2f, 0xfd, 0, 0, 0, 0, 0],
        ),
        ("no bytes", Vec::new()),
    ];
    let image = |(n, (what, data)): (usize, (&str, Vec<u8>))| {
        packed(&format!("{what}.tga"), 1_000 + n as u64, data)
    };
    let mut images: Vec<TestImage> = cases.into_iter().enumerate().map(image).collect();
    // Encrypted; too large uncompressed; an ID that does not match.
    images.push(hostile_image("encrypted.tga", 7, 0x10, small));
    images.push(hostile_image("too large.png", 8, 0, vec![1; 9 << 20]));
    images.push(hostile_image(
        "another's ID.png",
        9,
        0,
        b"other bytes".into(),
    ));
    images
}

#[test]
fn r2_r4_w8_bombs_and_bad_frames_fail_individually_in_bounded_memory() {
    let bad = bombs();
    let failed = bad.len();
    let mut images = vec![TestImage::new("first.png", b"a good one".into())];
    images.extend(bad);
    // A frame inside a frame is an ordinary image: it is decompressed once.
    let inner = [frame(0, &[0x38]), repeated(1 << 14)].concat();
    let nested = zstd::bulk::compress(&inner, 3).unwrap();
    images.push(packed("nested.tga", id_of(&inner), nested));
    images.push(TestImage::new(
        "last.png",
        b"and a good one at the end".into(),
    ));
    let sent_bytes: usize = images.iter().map(|image| image.bytes.len()).sum();
    let workdir = WorkDir::of(&[]);
    let stub = Stub::of(images);
    for args in [&[][..], &["-k"], &["-p", "3"]] {
        let _ = fs::remove_dir_all(workdir.output());
        let args = [&["--max-image-size", "8MiB"], args].concat();
        let (ended, peak) = client(&workdir, stub.address, &args);
        ended.assert_exit(3);
        let files = workdir.fetched();
        let names: Vec<&str> = files.iter().map(|image| &*image.name).collect();
        assert_eq!(
            names,
            ["first.png", "last.png", "nested.tga"],
            "{}",
            ended.err
        );
        assert!(files[2].bytes == inner);
        report_line!(
            "{failed} bad images in {} as sent, {args:?}: peak memory {}",
            Mib(sent_bytes as u64),
            Mib(peak),
        );
        assert!(peak < MAX_MEMORY, "R3 R4: {}", Mib(peak));
    }
}
