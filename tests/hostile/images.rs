//! R2 R4 R5 W8: servers that send bombs, frames of every bad kind, and names of every bad kind.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;

use super::{Mib, Ware, client, is_full, scale, shop, tell};
use crate::support::bytes::*;
use crate::support::process::Place;

/// What a client may need, however large what it gets claims to be: its buffers, and a window of 8 MiB.
const MOST_MEMORY: u64 = 64 << 20;

/// The header of a Zstd frame with this descriptor, and these fields.
fn frame(descriptor: u8, fields: &[u8]) -> Vec<u8> {
    [&[0x28, 0xb5, 0x2f, 0xfd, descriptor][..], fields].concat()
}

/// So many blocks that say "128 KiB of one byte", in four bytes each.
fn repeated(blocks: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(blocks * 4);
    for n in 1..=blocks {
        let header = (128 << 10) << 3 | 1 << 1 | u32::from(n == blocks);
        out.extend_from_slice(&header.to_le_bytes()[..3]);
        out.push(0);
    }
    out
}

/// Each with a name that says what it is; none of them is an image.
fn bombs() -> Vec<Ware> {
    let blocks = scale(1 << 10, 32 << 10); // of 128 KiB: 128 MiB, or 4 GiB
    let zeros = zstd::bulk::compress(&vec![0; scale(64, 1024) << 20], 3).unwrap();
    let small = zstd::bulk::compress(b"small", 3).unwrap();
    let many_empty = frame(0x20, &[0, 1, 0, 0]).repeat(scale(20_000, 1_000_000));
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a bomb that says its size", zeros.clone()),
        (
            "a bomb of repeated blocks",
            [frame(0, &[0x38]), repeated(blocks)].concat(),
        ),
        (
            "a bomb behind a good frame",
            [&small[..], &frame(0, &[0x38]), &repeated(blocks)].concat(),
        ),
        (
            "a bomb in pieces",
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
        ("frames of nothing", many_empty),
        (
            "nothing but a skippable frame",
            vec![0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0],
        ),
        ("no frame", b"not a frame at all".to_vec()),
        ("half a frame", small[..small.len() - 1].to_vec()),
        ("something behind the frame", [&small[..], b"x"].concat()),
        ("a block of the reserved type", frame(0, &[0x38, 7, 0, 0])),
        (
            "a format before 1.0",
            vec![0x27, 0xb5, 0x2f, 0xfd, 0, 0, 0, 0, 0],
        ),
        ("not a byte", Vec::new()),
    ];
    let ware = |(n, (what, data)): (usize, (&str, Vec<u8>))| {
        Ware::packed(&format!("{what}.tga"), 1_000 + n as u64, data)
    };
    let mut wares: Vec<Ware> = cases.into_iter().enumerate().map(ware).collect();
    // Encrypted; too large as it is; the same bytes under another's ID.
    wares.push(Ware {
        flags: 0x10,
        ..Ware::packed("encrypted.tga", 7, small)
    });
    wares.push(Ware {
        id: 8,
        ..Ware::raw("too large.png", &vec![1; 9 << 20])
    });
    wares.push(Ware {
        id: 9,
        ..Ware::raw("another's ID.png", b"other bytes")
    });
    wares
}

#[test]
fn r2_r4_w8_bombs_and_bad_frames_fail_alone_and_need_no_memory() {
    let bad = bombs();
    let failed = bad.len();
    let mut wares = vec![Ware::raw("first.png", b"a good one")];
    wares.extend(bad);
    // A frame inside a frame is an image like any other: it is not unpacked twice.
    let inner = [frame(0, &[0x38]), repeated(1 << 14)].concat();
    let nested = zstd::bulk::compress(&inner, 3).unwrap();
    wares.push(Ware::packed("nested.tga", id_of(&inner), nested));
    wares.push(Ware::raw("last.png", b"and a good one at the end"));
    let travels: usize = wares.iter().map(|ware| ware.data.len()).sum();
    let place = Place::of(&[]);
    let address = shop(wares);
    for args in [&[][..], &["-k"], &["-p", "3"]] {
        let _ = fs::remove_dir_all(place.output());
        let args = [&["--max-image-size", "8MiB"], args].concat();
        let ended = client(&place, address, &args);
        assert_eq!(ended.code, Some(3), "{ended:?}");
        let there = place.fetched();
        let names: Vec<&str> = there.iter().map(|picture| &*picture.name).collect();
        assert_eq!(
            names,
            ["first.png", "last.png", "nested.tga"],
            "{}",
            ended.said
        );
        assert!(there[2].bytes == inner);
        tell!(
            "{failed} bad images in {} that travel, {args:?}: {:.1} s, peak memory {}",
            Mib(travels as u64),
            ended.took.as_secs_f64(),
            Mib(ended.peak),
        );
        assert!(ended.peak < MOST_MEMORY, "R3 R4: {}", Mib(ended.peak));
    }
}

/// Names of every bad kind, and good ones that meet.
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
    // Every character of one byte, alone and in the middle.
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
fn r5_no_name_gets_out_of_the_folder_or_hides_in_it() {
    let names = hostile_names();
    let wares: Vec<Ware> = names
        .iter()
        .enumerate()
        .map(|(n, name)| Ware::raw(name, format!("image {n}").as_bytes()))
        .collect();
    let wanted: BTreeSet<u64> = wares.iter().map(|ware| ware.id).collect();
    let place = Place::of(&[]);
    // In the folder there is a link out of it, and a folder, under names that the server knows.
    let outside = place.path().join("outside");
    fs::write(&outside, "mine").unwrap();
    fs::create_dir_all(place.output().join("folder.png")).unwrap();
    symlink(&outside, place.output().join("link.png")).unwrap();
    symlink("/etc", place.output().join("a")).unwrap();
    let listing = || -> BTreeSet<_> {
        let names = fs::read_dir(place.path()).unwrap();
        names.map(|entry| entry.unwrap().file_name()).collect()
    };
    fs::write(place.path().join("client.log"), "").unwrap();
    let before = listing();
    let address = shop(wares);
    for args in [&[][..], &["-k", "-p", "4"]] {
        let ended = client(&place, address, args);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(listing(), before, "something came beside the folder");
        assert_eq!(
            fs::read(&outside).unwrap(),
            b"mine",
            "written through a link"
        );
        let mut there = BTreeSet::new();
        let mut hidden = 0;
        for entry in fs::read_dir(place.output()).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if name.starts_with('.') {
                assert_eq!(name, ".jtp-index", "a file that hides");
                hidden += 1;
            } else if entry.file_type().unwrap().is_file() {
                let harmful = |c: char| c.is_control() || "/\\:<>\"|?*".contains(c);
                assert!(!name.chars().any(harmful) && name.len() <= 240, "{name:?}");
                there.insert(id_of(&fs::read(entry.path()).unwrap()));
            } else {
                // The folder that is in the way of one of them, and a link that was in nobody's.
                assert!(name == "folder.png" || name == "a", "{name}");
            }
        }
        assert_eq!(there, wanted);
        assert!(hidden <= 1);
        // What is printed of a name moves no cursor.
        assert!(
            !ended.said.contains('\u{1b}'),
            "{}",
            ended.said.escape_debug()
        );
        tell!(
            "{} names, {args:?}: {} files, all inside; peak memory {}",
            names.len(),
            there.len(),
            Mib(ended.peak)
        );
    }
}
