//! R2 R4 R5 W8: servers that send decompression bombs, invalid frames, and harmful names.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;

use super::{HostileImage, Mib, client, hostile_server, is_full, report_line, scale};
use crate::support::bytes::*;
use crate::support::process::WorkDir;

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
fn bombs() -> Vec<HostileImage> {
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
        HostileImage::packed(&format!("{what}.tga"), 1_000 + n as u64, data)
    };
    let mut images: Vec<HostileImage> = cases.into_iter().enumerate().map(image).collect();
    // Encrypted; too large uncompressed; an ID that does not match.
    images.push(HostileImage {
        flags: 0x10,
        ..HostileImage::packed("encrypted.tga", 7, small)
    });
    images.push(HostileImage {
        id: 8,
        ..HostileImage::raw("too large.png", &vec![1; 9 << 20])
    });
    images.push(HostileImage {
        id: 9,
        ..HostileImage::raw("another's ID.png", b"other bytes")
    });
    images
}

#[test]
fn r2_r4_w8_bombs_and_bad_frames_fail_individually_in_bounded_memory() {
    let bad = bombs();
    let failed = bad.len();
    let mut images = vec![HostileImage::raw("first.png", b"a good one")];
    images.extend(bad);
    // A frame inside a frame is an ordinary image: it is decompressed once.
    let inner = [frame(0, &[0x38]), repeated(1 << 14)].concat();
    let nested = zstd::bulk::compress(&inner, 3).unwrap();
    images.push(HostileImage::packed("nested.tga", id_of(&inner), nested));
    images.push(HostileImage::raw("last.png", b"and a good one at the end"));
    let sent_bytes: usize = images.iter().map(|image| image.data.len()).sum();
    let workdir = WorkDir::of(&[]);
    let address = hostile_server(images);
    for args in [&[][..], &["-k"], &["-p", "3"]] {
        let _ = fs::remove_dir_all(workdir.output());
        let args = [&["--max-image-size", "8MiB"], args].concat();
        let (ended, used) = client(&workdir, address, &args);
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
            "{failed} bad images in {} as sent, {args:?}: {:.1} s, peak memory {}",
            Mib(sent_bytes as u64),
            used.elapsed.as_secs_f64(),
            Mib(used.peak),
        );
        assert!(used.peak < MAX_MEMORY, "R3 R4: {}", Mib(used.peak));
    }
}

/// Harmful names of every kind, and harmless ones that collide.
fn hostile_names() -> Vec<String> {
    let mut names: Vec<String> = [
        "",
        ".",
        "..",
        "/",
        "\\",
        "../x.png",
        "..\\x.png",
        "../../../../tmp/x.png",
        "/etc/passwd",
        "/tmp/absolute.png",
        "a/b.png",
        "a\\b.png",
        "C:x.png",
        "C:\\x.png",
        "\\\\host\\share\\x.png",
        "\\\\?\\C:\\x.png",
        "x.png:stream",
        "~",
        "~/x.png",
        "-rf",
        "--out=x",
        ".hidden",
        ".jtp-index",
        ".jtp-0000000000000001",
        "...",
        ". .",
        " ",
        "x.png.",
        "x.png ",
        "x.png. .",
        "a\0b.png",
        "\0",
        "a\nb.png",
        "a\r.png",
        "\u{1b}[2J\u{1b}[31m.png",
        "\u{7f}.png",
        "\u{85}.png",
        "a\u{202e}gnp.exe",
        "\u{feff}x.png",
        "\u{200b}.png",
        "\u{200d}.jtp-index",
        "CON",
        "con.png",
        "PRN.png",
        "aux",
        "NUL.tar.gz",
        "COM1",
        "com9.png",
        "COM\u{b9}.png",
        "LPT\u{b3}",
        "CONIN$",
        "CLOCK$.png",
        "a<b>.png",
        "a|b?.png",
        "a*.png",
        "\"q\".png",
        "%2e%2e%2fx.png",
        "$(reboot).png",
        "`id`.png",
        "x;y.png",
        "a'b.png",
        "same.png",
        "SAME.png",
        "Same.PNG",
        "caf\u{e9}.png",
        "cafe\u{301}.png",
        "CAF\u{c9}.PNG",
        "stra\u{df}e.png",
        "STRASSE.png",
        "\u{fb01}x.png",
        "fix.png",
        "x.png/",
        "x.png/..",
        "./x.png",
        "output",
        "../output/x.png",
        "link.png",
        "folder.png",
        "\u{1f4a9}.png",
        "\u{fffd}.png",
        "\u{ffff}.png",
        "\u{10ffff}.png",
    ]
    .map(str::to_owned)
    .to_vec();
    names.push("x".repeat(255));
    names.push("x".repeat(65_535));
    names.push(format!("{}.png", "\u{e9}".repeat(20_000)));
    names.push(format!("a.{}", "x".repeat(5_000)));
    names.push("../".repeat(21_845));
    names.push(format!("{}{}", "e", "\u{301}".repeat(500)));
    // Every one-byte character, alone and inside a name.
    for c in (0..0x80u8).map(char::from) {
        names.push(c.to_string());
        names.push(format!("n{c}n.png"));
    }
    if is_full() {
        let all = (0x80..0x11_0000).filter_map(char::from_u32);
        names.extend(all.step_by(97).map(|c| format!("{c}.{c}")));
    }
    names
}

#[test]
fn r5_no_name_escapes_the_folder_or_is_hidden() {
    let names = hostile_names();
    let images: Vec<HostileImage> = names
        .iter()
        .enumerate()
        .map(|(n, name)| HostileImage::raw(name, format!("image {n}").as_bytes()))
        .collect();
    let expected: BTreeSet<u64> = images.iter().map(|image| image.id).collect();
    let workdir = WorkDir::of(&[]);
    // The output folder contains links to the outside and a folder, under names that the server uses.
    let outside = workdir.path().join("outside");
    fs::write(&outside, "mine").unwrap();
    fs::create_dir_all(workdir.output().join("folder.png")).unwrap();
    symlink(&outside, workdir.output().join("link.png")).unwrap();
    symlink("/etc", workdir.output().join("a")).unwrap();
    let listing = || -> BTreeSet<_> {
        let names = fs::read_dir(workdir.path()).unwrap();
        names.map(|entry| entry.unwrap().file_name()).collect()
    };
    fs::write(workdir.path().join("client.log"), "").unwrap();
    let before = listing();
    let address = hostile_server(images);
    for args in [&[][..], &["-k", "-p", "4"]] {
        let (ended, used) = client(&workdir, address, args);
        ended.assert_exit(0);
        assert_eq!(listing(), before, "a file was created beside the folder");
        assert_eq!(
            fs::read(&outside).unwrap(),
            b"mine",
            "written through a link"
        );
        let mut files = BTreeSet::new();
        let mut hidden = 0;
        for entry in fs::read_dir(workdir.output()).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if name.starts_with('.') {
                assert_eq!(name, ".jtp-index", "a hidden file");
                hidden += 1;
            } else if entry.file_type().unwrap().is_file() {
                let harmful = |c: char| c.is_control() || "/\\:<>\"|?*".contains(c);
                assert!(!name.chars().any(harmful) && name.len() <= 240, "{name:?}");
                files.insert(id_of(&fs::read(entry.path()).unwrap()));
            } else {
                // The folder and the links created above: they are not replaced.
                assert!(["folder.png", "link.png", "a"].contains(&&*name), "{name}");
            }
        }
        assert_eq!(files, expected);
        assert!(hidden <= 1);
        // Printed names contain no escape sequences.
        assert!(
            !ended.err.contains('\u{1b}'),
            "{}",
            ended.err.escape_debug()
        );
        report_line!(
            "{} names, {args:?}: {} files, all inside; peak memory {}",
            names.len(),
            files.len(),
            Mib(used.peak)
        );
    }
}
