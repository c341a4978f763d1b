//! Writes the seeds: `cargo run --example seeds` in `fuzz/`. They are requests and responses built with the encoders
//! of jtp-core, and invalid frames built by hand.

use std::fs;
use std::path::Path;

use jtp_core::wire::request::{self, RequestHead, RequestKind};
use jtp_core::wire::response::{ErrorCode, ErrorFrame, Header, encode_data_head, encode_head};
use jtp_core::wire::{entry, packet, varint};
use jtp_core::{FileType, Flags, Image, ImageId};
use jtp_fuzz::IMAGES;

fn main() {
    let save = |target: &str, name: &str, bytes: &[u8]| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("seeds")
            .join(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    };
    let head = |kind, keep_alive| {
        let mut out = Vec::new();
        RequestHead::new(kind, keep_alive).encode(&mut out);
        out
    };
    let ids: Vec<ImageId> = IMAGES
        .into_iter()
        .map(|(_, bytes)| ImageId::of(bytes))
        .collect();
    let with_ids = |kind, ids: &[ImageId]| {
        let mut out = head(kind, true);
        request::encode_ids(ids, &mut out);
        out
    };
    let get = with_ids(RequestKind::GetById { count: 3 }, &[ids[2], ids[0], ids[2]]);
    let batch = with_ids(RequestKind::Batch { have: 2 }, &ids[..2]);
    let list = head(RequestKind::List, true);
    let all = head(RequestKind::ListAndGet, true);
    let cancel = head(RequestKind::Cancel, false);
    let watch = head(RequestKind::Watch, false);
    let last = head(RequestKind::ListAndGet, false);

    // The catalog in an object store. The first byte selects the kind.
    let object = [&[4, 0xac, 0x02][..], &[7; 8], &[1], &[0x5a; 16], &[0]].concat();
    let other = [&[0x80, 5, 2, 1][..], b"x\0"].concat();
    let versioned = [&[0x80, 5, 0][..], b"\x02v1"].concat();
    let log = [
        &[9; 8][..],
        &[1, 2, 1, 7],
        b"b/a.gif",
        &object[..],
        &[0, 1],
        b"c",
    ]
    .concat();
    let part = [
        &[3, 0, 3][..],
        b"a/b",
        &object[..],
        &[2, 1],
        b"c",
        &other[..],
        &[0, 1],
        b"b",
        &versioned[..],
    ]
    .concat();
    // Version 2: a variant, and one that would be too long.
    let encoded = [&[0x0b, 0xac, 0x02][..], &[1; 8], &[0xc8, 1], &[2; 8], &[0, 0]].concat();
    let too_long = [&[0x0f, 0xac, 0x02][..], &[3; 8], &[0, 0x9c, 0x4a, 0, 0]].concat();
    let variants = [&[2, 0, 1, b'a'][..], &encoded, &[0, 1, b'b'], &too_long].concat();
    let snapshot = [&[1, 2, 1][..], &[9; 8], &[0, 50], &[3; 8]].concat();
    let lease = [&[9; 8][..], &[5, 0]].concat();
    for (kind, name, body) in [
        (0, "head", snapshot),
        (1, "part", part),
        (1, "part_variants", variants),
        (2, "log", log),
        (3, "lease", lease),
    ] {
        save("object_catalog", name, &[&[kind], &body[..]].concat());
    }

    // Clients and certificates. The first byte selects what is read.
    let key = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let client_list =
        |name: &str, text: String| save("identities", name, &[&[0], text.as_bytes()].concat());
    client_list(
        "list",
        format!(
            "# clients\r\n\n{key} Alice\n{} \t Bob \n",
            key.replace("e3", "E4")
        ),
    );
    client_list("list_without_name", format!("\u{feff}{key}"));
    client_list("list_twice", format!("{key} a\n{key} b"));
    client_list("list_bad_name", format!("{key} \u{1b}[2J"));
    client_list("list_bad_key", format!("{}0 a", key));
    for (name, certificate) in [
        ("self_signed", jtp_fuzz::identities::SELF_SIGNED),
        ("ca", jtp_fuzz::identities::CA),
        ("signed_by_ca", jtp_fuzz::identities::SIGNED_BY_CA),
        ("forged", jtp_fuzz::identities::FORGED),
    ] {
        save(
            "identities",
            &format!("key_{name}"),
            &[&[1], certificate].concat(),
        );
        save(
            "identities",
            &format!("trusted_{name}"),
            &[&[2], certificate].concat(),
        );
    }

    // Requests.
    let exchanges: [(&str, Vec<u8>); 10] = [
        ("list", list.clone()),
        ("get", get.clone()),
        ("batch", batch.clone()),
        ("pipelined", [&list[..], &get, &batch, &all].concat()),
        ("cancel", [&all[..], &cancel, &get, &cancel, &list].concat()),
        ("cancel_twice", [&list[..], &cancel, &cancel].concat()),
        ("watch", [&list[..], &watch, &cancel, &list].concat()),
        ("watch_then_list", [&watch[..], &list].concat()),
        ("last", [&last[..], &cancel].concat()),
        ("stray_cancel", cancel.clone()),
    ];
    let mut exchanges: Vec<(String, Vec<u8>)> = exchanges
        .map(|(name, bytes)| (name.to_owned(), bytes))
        .into();
    for kind in RequestKind::ALL {
        let kind = kind.with_ids(2);
        let request = with_ids(kind, &ids[..kind.ids() as usize]);
        let name = format!("type_{}", kind.code());
        exchanges.push((name, [&request[..], &list].concat()));
    }
    let invalid = [
        ("bad_type", vec![RequestKind::ALL.len() as u8]),
        ("bad_flags", vec![1, 0x82]),
        ("bad_varint", vec![2, 1, 0x80, 0]),
        ("too_many", [&[2, 1][..], &[0xc1, 0x84, 0x3d]].concat()),
        ("cut", get[..7].to_vec()),
    ];
    let invalid = invalid.map(|(name, bytes)| (name.to_owned(), bytes));
    for (name, bytes) in exchanges.iter().chain(&invalid) {
        // As a whole, and in pieces. The first byte has the settings and the number of choices.
        save("server_bytes", name, &[&[1], &bytes[..]].concat());
        let in_pieces = [&[0x91, 3, 5, 0, 2, 3, 1, 2, 3, 2], &bytes[..]].concat();
        save("server_bytes", &format!("pieces_{name}"), &in_pieces);
        save("wire_decode", &format!("request_{name}"), bytes);
    }

    // Responses.
    let image = |index: usize| {
        Image::new(
            ids[index],
            Flags::new(FileType::Png, false),
            u32::try_from(IMAGES[index].1.len()).unwrap(),
        )
    };
    let packets = |indices: &[usize]| {
        let mut out = Vec::new();
        for &index in indices {
            packet::encode_head(&image(index), &mut out);
            out.extend_from_slice(IMAGES[index].1);
        }
        out
    };
    let counted = |header, count, rest: &[u8]| {
        let mut out = Vec::new();
        match header {
            Header::Data => encode_data_head(count as u8, &mut out),
            header => encode_head(header, count, &mut out),
        }
        out.extend_from_slice(rest);
        out
    };
    let mut entries = Vec::new();
    for (index, (name, _)) in IMAGES.into_iter().enumerate() {
        let entry = entry::Entry::new(name, image(index));
        entry::encode(&entry, &mut entries).unwrap();
    }
    let mut error = Vec::new();
    ErrorFrame::new(ErrorCode::ServerError, "a disk failed").encode(&mut error);
    let mut one = Vec::new();
    let named = entry::Entry::new(
        "cafe\u{301}.gif",
        Image::new(ids[0], Flags::new(FileType::Gif, true), 4660),
    );
    entry::encode(&named, &mut one).unwrap();
    let plain = [9; 60];
    let small = zstd::bulk::compress(&plain, 3).unwrap();
    let compressed = Image::new(
        ImageId::of(&plain),
        Flags::new(FileType::Bmp, true),
        u32::try_from(small.len()).unwrap(),
    );
    let mut packed_head = Vec::new();
    packet::encode_head(&compressed, &mut packed_head);

    let answered_list = counted(Header::List, 4, &entries);
    let answered_get = counted(Header::Data, 2, &packets(&[2, 0]));
    let answered_all = counted(Header::ListAndGet, 4, &packets(&[0, 1, 2, 3]));
    let answered_packed = counted(Header::ListAndGet, 1, &[&packed_head[..], &small].concat());
    let cut_short = counted(Header::ListAndGet, 4, &packets(&[0, 1]));
    let event = [&b"JTPW"[..], &one].concat();
    // The first bytes: settings, then the requests (a type, and bits that select IDs).
    let responses: [(&str, &[u8], Vec<u8>); 11] = [
        ("list", &[0x03, 1], answered_list.clone()),
        ("get", &[0x03, 0b0010_1000], answered_get.clone()),
        (
            "batch",
            &[0x03, 0b0001_1010],
            counted(Header::Batch, 2, &packets(&[2, 3])),
        ),
        ("all", &[0x03, 5], answered_all.clone()),
        ("packed", &[0x03, 5], answered_packed),
        (
            "pipelined",
            &[0x05, 1, 5],
            [&answered_list[..], &answered_all].concat(),
        ),
        ("watch", &[0x13, 4], [&event[..], &event, b"JTPC"].concat()),
        ("cancelled", &[0x13, 5], [&cut_short[..], b"JTPC"].concat()),
        (
            "cancelled_late",
            &[0x13, 1],
            [&answered_list[..], b"JTPC"].concat(),
        ),
        (
            "error_inside",
            &[0x03, 5],
            [&cut_short[..], &error].concat(),
        ),
        ("error", &[0x03, 1], error.clone()),
    ];
    for (name, settings, bytes) in responses {
        // Decoded by the connection, and left undecoded.
        for (prefix, bit) in [("", 0), ("undecoded_", 0x40)] {
            let name = format!("{prefix}{name}");
            let settings = [&[settings[0] | bit], &settings[1..]].concat();
            for (prefix, choices) in [("", [0; 4]), ("pieces_", [2, 3, 9, 2])] {
                let name = format!("{prefix}{name}");
                save("client_bytes", &name, &[&settings[..], &choices, &bytes].concat());
            }
        }
        save("wire_decode", &format!("response_{name}"), &bytes);
    }
    save("wire_decode", "entry", &one);
    save("wire_decode", "packet", &packets(&[0]));
    save("wire_decode", "error_body", &error[4..]);
    save("wire_decode", "counts", &[0xb4, 0x24]);
    let mut varint_max = Vec::new();
    varint::encode(u32::MAX, &mut varint_max);
    save("wire_decode", "varint_most", &varint_max);

    // Random bytes for `pair` and `calls`.
    for seed in 1..=8u64 {
        let bytes = jtp_kit::noise(700, seed);
        save("pair", &format!("seed_{seed}"), &bytes);
        save(
            "calls",
            &format!("seed_{seed}"),
            &[&[(seed % 2) as u8], &bytes[..]].concat(),
        );
    }

    // Bodies: a mode, four piece lengths, then the input of the mode.
    let body = |mode: u8, bytes: &[u8]| [&[mode, 1, 7, 100, 3], bytes].concat();
    save("body", "frame", &body(0, &small));
    save(
        "body",
        "two_frames",
        &body(0, &[&small[..], &small].concat()),
    );
    save(
        "body",
        "skippable",
        &body(
            0,
            &[&[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 1, 2], &small[..]].concat(),
        ),
    );
    save(
        "body",
        "checksum",
        &body(0, &{
            let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
            encoder.include_checksum(true).unwrap();
            std::io::Write::write_all(&mut encoder, b"a body with a checksum behind it").unwrap();
            encoder.finish().unwrap()
        }),
    );
    save(
        "body",
        "window",
        &body(0, &[0x28, 0xb5, 0x2f, 0xfd, 0, 0xff, 1, 0, 0]),
    );
    save(
        "body",
        "bomb",
        &body(
            1,
            &[0x03, 0xff, 0x0f, 0, 0x02, 0, 0x10, 0, 0x02, 0, 0x10, 0],
        ),
    );
    save(
        "body",
        "raw_block",
        &body(1, &[&[0x29, 0, 0][..], b"hello"].concat()),
    );
    save("body", "plain", &body(2, IMAGES[3].1));
    save(
        "body",
        "plain_split",
        &body(0x1a, b"so many words, so many words, so many words"),
    );
    save(
        "body",
        "changed",
        &body(3, &[&[9, 0x40], IMAGES[1].1].concat()),
    );

    // Names: a single one, and entries of an ID, a length and a name.
    let hostile = [
        "../../etc/passwd",
        "con.png",
        "COM\u{b9}.gif",
        ".hidden",
        "a.png. . ",
        "C:\\x.png",
        "a\0b\n.png",
        "e\u{301}.png",
        "a\u{202e}gnp.exe",
        "",
        "...",
        "stra\u{df}e.png",
        "\u{212b}.png",
    ];
    for (index, name) in hostile.iter().enumerate() {
        save("names", &format!("hostile_{index:02}"), name.as_bytes());
    }
    save("names", "long", "é".repeat(300).as_bytes());
    let mut colliding = Vec::new();
    for (id, name) in [
        (1, "a.png"),
        (2, "A.PNG"),
        (3, "a-0000000000000001.png"),
        (4, "0000000000000005.gif"),
    ] {
        colliding.extend_from_slice(&[id, name.len() as u8]);
        colliding.extend_from_slice(name.as_bytes());
    }
    save("names", "meeting", &colliding);
    let mut in_folders = Vec::new();
    for (id, name) in [
        (1, "a.png"),
        (2, "A.PNG/b.png"),
        (3, "a.png/../b.png"),
        (4, "a-0000000000000001.png/c"),
    ] {
        in_folders.extend_from_slice(&[id, name.len() as u8]);
        in_folders.extend_from_slice(name.as_bytes());
    }
    save("names", "folders", &in_folders);

    // PROXY headers: the number of bytes that are valid anyway, then the header.
    let header = |command: u8, family: u8, rest: &[u8]| {
        let length = (rest.len() as u16).to_be_bytes();
        let fixed = [
            &b"\x0c\r\n\r\n\0\r\nQUIT\n"[..],
            &[command, family],
            &length,
        ];
        [&fixed.concat()[..], rest].concat()
    };
    let extension = [&[7; 12][..], &[0xea, 0, 2, b'i', b'd'], b"request"].concat();
    for (name, bytes) in [
        (
            "tcp4",
            header(0x21, 0x11, &[192, 0, 2, 1, 10, 0, 0, 1, 1, 2, 3, 4]),
        ),
        ("tcp6", header(0x21, 0x21, &[9; 36])),
        ("extension", header(0x21, 0x11, &extension)),
        ("local", header(0x20, 0, &[])),
        ("local_with_family", header(0x20, 0x31, &[1; 216])),
        ("unix", header(0x21, 0x31, &[1; 216])),
        ("udp", header(0x21, 0x12, &[1; 12])),
        ("too_short", header(0x21, 0x21, &[1; 12])),
        ("too_long", header(0x21, 0x11, &[1; 3000])),
        ("cut", header(0x21, 0x11, &[1; 12])[..20].to_vec()),
        (
            "version_1",
            b"\0PROXY TCP4 192.0.2.1 10.0.0.1 1 2\r\n".to_vec(),
        ),
    ] {
        save("proxy", name, &bytes);
    }
}
