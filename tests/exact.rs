//! A scripted client: exact bytes to the server, exact bytes from it.

use jtp_store::DirStore;

use crate::support::bytes::*;
use crate::support::files::{self, bmp, folder_of};
use crate::support::serve::Served;
use crate::support::tls::tls;

#[test]
fn each_response_byte_by_byte() {
    let served = Served::samples();
    let pictures = served.pictures();
    let all: Vec<&Picture> = pictures.iter().collect();
    let mut peer = served.peer();
    peer.send([LIST, KEEP]);
    peer.expect(list_of(&pictures)); // S5
    peer.send([LIST_AND_GET, KEEP]);
    peer.expect(images_of(b"JTPG", &pictures));
    peer.send(batch(KEEP, &[pictures[0].id, 7, pictures[0].id]));
    peer.expect(images_of(b"JTPB", &pictures[1..])); // S8
    peer.send(get(KEEP, &[all[9].id, 7, all[2].id, all[9].id]));
    peer.expect(data_of(&[all[9], all[2], all[9]])); // S7
    peer.send(get(KEEP, &[]));
    peer.expect(data_of(&[])); // S7: no NotFound
    peer.send(get(0, &[8]));
    peer.expect(data_of(&[])); // S7
    peer.expect_end(); // S2
}

#[test]
fn s1_pipelined_requests_are_answered_in_order() {
    let served = Served::folder_with(files::samples(), |s| s.tls(tls().server.clone()));
    let pictures = served.pictures();
    let requests = [
        vec![LIST, KEEP],
        get(KEEP, &[pictures[3].id, pictures[4].id]),
        batch(KEEP, &[pictures[0].id]),
        vec![LIST_AND_GET, KEEP],
        get(KEEP, &[]),
        vec![LIST, 0],
        vec![LIST, 0], // S2: thrown away
    ]
    .concat();
    let answers = [
        list_of(&pictures),
        data_of(&[&pictures[3], &pictures[4]]),
        images_of(b"JTPB", &pictures[1..]),
        images_of(b"JTPG", &pictures),
        data_of(&[]),
        list_of(&pictures),
    ]
    .concat();
    for secure in [false, true] {
        let whole = |mut peer: crate::support::peer::Peer| {
            peer.send(&requests);
            peer.expect(&answers);
            peer.expect_end();
        };
        let peer = served.peer();
        whole(if secure {
            peer.tls(tls().client())
        } else {
            peer
        });
    }
    // One byte at a time is the same.
    let mut peer = served.peer();
    for byte in &requests {
        peer.send([*byte]);
    }
    peer.expect(&answers);
    peer.expect_end();
}

#[test]
fn s1_more_requests_than_are_read_ahead() {
    let served = Served::samples();
    let pictures = served.pictures();
    let mut peer = served.peer();
    let ids = [pictures[2].id; 255];
    let each = data_of(&[&pictures[2]; 255]);
    // 100 KiB of requests, 40 times as much in answers per request: both directions are full at once.
    let requests = get(KEEP, &ids).repeat(3);
    peer.send(&requests);
    for _ in 0..3 {
        peer.expect(&each);
    }
    peer.send([LIST, 0]);
    peer.expect(list_of(&pictures));
    peer.expect_end();
}

#[test]
fn s10_what_is_no_request_gets_its_error_and_the_end() {
    let served = Served::samples();
    let list = list_of(&served.pictures());
    let have = |varint: &[u8]| [&[BATCH, KEEP], varint].concat();
    for (bytes, code) in [
        (vec![6, 0], UNSUPPORTED_FEATURE),
        (vec![255, 255], UNSUPPORTED_FEATURE), // the type is judged first
        (vec![LIST, 2], INVALID_REQUEST),
        (vec![GET, 0x80, 0], INVALID_REQUEST),
        (vec![CANCEL[0], 2], INVALID_REQUEST),
        (vec![WATCH[0], 0x41], INVALID_REQUEST),
        (have(&[0x80, 0x00]), INVALID_REQUEST), // W2: longer than needed
        (have(&[0xff, 0xff, 0xff, 0xff, 0x1f]), INVALID_REQUEST), // W2: over a u32
        (have(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00]), INVALID_REQUEST), // W2: a sixth byte
        (have(&varint(1_000_001)), INVALID_REQUEST), // S8
        (CANCEL.to_vec(), INVALID_REQUEST),     // C4
    ] {
        let mut peer = served.peer();
        peer.send(&bytes);
        assert!(!peer.expect_error(code).is_empty(), "{bytes:02x?}"); // S11
        // Behind a good request the answer to that comes first.
        if bytes != CANCEL {
            let mut peer = served.peer();
            peer.send([&[LIST, KEEP], &bytes[..]].concat());
            peer.expect(&list);
            peer.expect_error(code);
        }
    }
}

#[test]
fn s6_the_list_is_truthful_before_and_after_compression() {
    // Large enough that its form is not ready when the store has just been opened.
    let folder = files::samples();
    for n in 0..4u8 {
        let path = folder.path().join(format!("big-{n}.bmp"));
        std::fs::write(path, bmp(4 << 20, n)).unwrap();
    }
    std::fs::write(folder.path().join("empty.bmp"), b"").unwrap();
    let pictures = files::pictures(folder.path());
    let store = DirStore::open_folder(folder.path()).unwrap();
    let served = Served::store(store, |server| server);
    let mut compressed = Vec::new();
    // Twice as it happens to be, once when all is compressed.
    for round in 0..3 {
        if round == 2 {
            served.wait_for(|catalog| {
                let raw_bmp = |e: jtp_core::wire::entry::Entry<'_>| {
                    e.name.ends_with(".bmp") && e.length > 0 && !e.flags.is_compressed()
                };
                !catalog.entries().any(raw_bmp)
            });
        }
        let mut peer = served.peer();
        // Both from one write; a form may become ready in between, so only equal snapshots are compared.
        loop {
            peer.send([LIST, KEEP, LIST_AND_GET, KEEP, LIST, KEEP]);
            let list = |peer: &mut crate::support::peer::Peer| {
                peer.expect(b"JTPL");
                (0..peer.varint()).map(|_| peer.entry()).collect::<Vec<_>>()
            };
            let before = list(&mut peer);
            peer.expect(b"JTPG");
            let packets: Vec<_> = (0..peer.varint()).map(|_| peer.packet()).collect();
            let after = list(&mut peer);
            assert_eq!(packets.len(), pictures.len());
            for ((entry, packet), picture) in before.iter().zip(&packets).zip(&pictures) {
                assert_eq!((entry.1, &*entry.2), (picture.id, &*picture.name));
                assert_eq!(packet.id, picture.id);
                let bytes = if packet.flags & ZSTD == 0 {
                    packet.data.clone()
                } else {
                    assert!([3, 7].contains(&picture.kind), "S9: {}", picture.name);
                    assert!(packet.data.len() * 100 < picture.bytes.len() * 95, "S9");
                    zstd::decode_all(&packet.data[..]).unwrap()
                };
                assert!(bytes == picture.bytes, "{}", picture.name);
            }
            if before != after {
                continue;
            }
            for (entry, packet) in before.iter().zip(&packets) {
                let size = u32::try_from(packet.data.len()).unwrap();
                assert_eq!((entry.0, entry.3), (packet.flags, size), "{}", entry.2);
            }
            compressed = before.iter().filter(|e| e.0 & ZSTD != 0).cloned().collect();
            break;
        }
    }
    // Once all is ready: each BMP, and nothing else; an empty one travels raw. // S9
    assert!(compressed.iter().all(|e| e.2.ends_with(".bmp")));
    assert_eq!(compressed.len(), 3 + 4);
}

#[test]
fn s4_files_of_the_same_bytes_are_one_image() {
    let png = files::noise(1000, 1);
    let served = Served::folder(folder_of([
        ("b.png", png.clone()),
        ("a.png", png.clone()),
        ("c.png", files::noise(1000, 2)),
    ]));
    let pictures = [
        Picture::new("a.png", png),
        Picture::new("c.png", files::noise(1000, 2)),
    ];
    let mut peer = served.peer();
    peer.send([LIST, KEEP, LIST_AND_GET, 0]);
    peer.expect(list_of(&pictures));
    peer.expect(images_of(b"JTPG", &pictures));
    peer.expect_end();
}

#[test]
fn s15_requests_over_the_rate_are_told_so() {
    let window = std::time::Duration::from_secs(3600);
    let served = Served::folder_with(files::samples(), |s| s.rate_limit(3, window));
    let list = list_of(&served.pictures());
    let mut peer = served.peer();
    // CANCEL does not count.
    peer.send([&[LIST, KEEP][..], &CANCEL, &CANCEL, &CANCEL, &[LIST, KEEP]].concat());
    peer.expect([&list[..], b"JTPCJTPCJTPC", &list].concat());
    // The address counts, not the connection.
    let mut other = served.peer();
    other.send([LIST, KEEP, LIST, KEEP, LIST, KEEP]);
    other.expect(&list);
    other.expect_error(RATE_LIMITED);
    peer.send([LIST, 0]);
    peer.expect_error(RATE_LIMITED);
}
