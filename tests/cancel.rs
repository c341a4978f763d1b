//! CANCEL before, in the middle of, and after each response, by exact bytes.

use std::sync::Arc;

use jtp_core::ImageId;
use jtp_core::client::ClientConfig;
use jtp_store::MemoryStore;

use crate::support::Result;
use crate::support::bytes::*;
use crate::support::files::generated;
use crate::support::peer::Peer;
use crate::support::serve::{Served, in_time};
use crate::support::tls::tls;

/// The packets up to `JTPC`, which have to be fewer than all; `J` is no packet's flags byte. // S12
fn packets_until_cancelled(peer: &mut Peer, pictures: &[Picture]) {
    for (n, picture) in pictures.iter().enumerate() {
        let first = peer.read(1)[0];
        if first == b'J' {
            peer.expect(b"TPC");
            assert!((1..pictures.len()).contains(&n), "{n} packets came");
            return;
        }
        let packet = peer.packet_after(first);
        assert_eq!((packet.flags, packet.id), (picture.kind, picture.id));
        assert!(packet.data == picture.bytes, "a packet is never cut");
    }
    panic!("C2: all packets came, and CANCEL was not seen in between");
}

#[test]
fn c2_cancel_in_the_middle_stops_at_a_packet_boundary_and_the_framing_is_exact() {
    let folder = generated(12, 1 << 20);
    let served = Served::folder_with(folder, |s| s.tls(tls().server.clone()));
    let pictures = served.pictures();
    let ids: Vec<u64> = pictures.iter().map(|p| p.id).collect();
    let list = list_of(&pictures);
    for secure in [false, true] {
        let peer = served.peer();
        let mut peer = if secure { peer.tls(tls().client()) } else { peer };
        for (request, head) in [
            (get(KEEP, &ids), data_head(12)),
            (batch(KEEP, &[1, 2, 3]), head(b"JTPB", 12)),
            (vec![LIST_AND_GET, KEEP], head(b"JTPG", 12)),
        ] {
            // The moment of the CANCEL: after the head, inside the first body, behind it.
            for read in [0, 1, 14, 500_000, (1 << 20) + 14] {
                peer.send(&request);
                peer.expect(&head);
                let first = peer.read(read);
                let known = pictures[0].packet();
                let second = pictures[1].packet();
                assert!([&known[..], &second].concat().starts_with(&first));
                peer.send(CANCEL);
                // What is left of the packets that were begun.
                let begun = if read > known.len() { &second } else { &known };
                let inside = if read > known.len() { read - known.len() } else { read };
                if inside > 0 && inside < begun.len() {
                    peer.expect(&begun[inside..]);
                    let at = if read > known.len() { 2 } else { 1 };
                    let rest = &pictures[at..];
                    packets_until_cancelled_from(&mut peer, rest);
                } else {
                    packets_until_cancelled(&mut peer, &pictures);
                }
                // C1: ready for the next request, and nothing else came.
                peer.send([LIST, KEEP]);
                peer.expect(&list);
            }
        }
        // C4: nothing was left half-done.
        peer.send([LIST, 0]);
        peer.expect(&list);
        peer.expect_end();
    }
}

/// As [`packets_until_cancelled`], where one packet has come and `JTPC` may follow at once.
fn packets_until_cancelled_from(peer: &mut Peer, rest: &[Picture]) {
    for picture in rest {
        let first = peer.read(1)[0];
        if first == b'J' {
            peer.expect(b"TPC");
            return;
        }
        let packet = peer.packet_after(first);
        assert_eq!(packet.id, picture.id);
        assert!(packet.data == picture.bytes, "a packet is never cut");
    }
    panic!("C2: all packets came, and CANCEL was not seen in between");
}

#[test]
fn c6_little_is_queued_behind_a_cancel() {
    // With the system's small buffers, no more than the packet in hand and the next follow a CANCEL.
    let served = Served::folder(generated(40, 256 * 1024));
    let pictures = served.pictures();
    let mut peer = served.peer();
    peer.send([LIST_AND_GET, KEEP]);
    peer.expect(head(b"JTPG", 40));
    peer.send(CANCEL);
    let mut came = 0;
    loop {
        let first = peer.read(1)[0];
        if first == b'J' {
            peer.expect(b"TPC");
            break;
        }
        assert_eq!(peer.packet_after(first).id, pictures[came].id);
        came += 1;
    }
    assert!(came <= 8, "{came} packets of 40 came after CANCEL");
}

#[test]
fn c2_a_catalog_is_finished_before_a_cancel_is_answered() {
    let store = MemoryStore::new();
    let mut pictures = Vec::new();
    for n in 0..3000u32 {
        let name = format!("{n:08}-{}.png", "x".repeat(1000));
        store.insert(&name, n.to_be_bytes().to_vec()).unwrap();
        pictures.push(Picture::new(&name, n.to_be_bytes().to_vec()));
    }
    let served = Served::store(Arc::new(store), |server| server);
    let list = list_of(&pictures);
    let mut peer = served.peer();
    peer.send([LIST, KEEP]);
    peer.expect(&list[..100]);
    peer.send(CANCEL);
    peer.send([LIST, 0]);
    peer.expect(&list[100..]);
    peer.expect(b"JTPC");
    peer.expect(&list);
    peer.expect_end();
}

#[test]
fn c1_c3_each_cancel_has_one_answer_also_between_responses() {
    let served = Served::samples();
    let pictures = served.pictures();
    let mut peer = served.peer();
    peer.send(get(KEEP, &[]));
    peer.expect(data_of(&[]));
    for n in 1..4 {
        peer.send(CANCEL.repeat(n));
        peer.expect(b"JTPC".repeat(n)); // C1 C3
    }
    // C3: after WATCH too, and twice; bit 0 is ignored. // S10
    peer.send([&WATCH[..], &[3, 1], &CANCEL].concat());
    peer.expect(b"JTPCJTPC");
    // C5: behind another request a CANCEL waits for that one, whose answer is whole.
    peer.send([&[LIST, KEEP, LIST, KEEP][..], &CANCEL, &get(0, &[pictures[0].id])].concat());
    peer.expect(list_of(&pictures).repeat(2));
    peer.expect(b"JTPC");
    peer.expect(data_of(&[&pictures[0]]));
    peer.expect_end();
}

#[test]
fn c4_cancel_without_keep_alive_is_invalid() {
    let served = Served::folder(generated(12, 1 << 20));
    let pictures = served.pictures();
    let mut peer = served.peer();
    peer.send([LIST_AND_GET, 0]);
    peer.expect(head(b"JTPG", 12));
    peer.send(CANCEL);
    for n in 0.. {
        let first = peer.read(1)[0];
        if first == b'J' {
            assert!(n < 12, "at the next packet boundary");
            peer.expect(b"TPE");
            peer.expect([INVALID_REQUEST]);
            peer.read_to_end();
            break;
        }
        assert_eq!(peer.packet_after(first).id, pictures[n].id);
    }
}

#[test]
fn c7_our_client_keeps_what_was_complete_and_uses_the_connection_again() -> Result {
    let served = Served::folder(generated(12, 1 << 20));
    let pictures = served.pictures();
    let wanted: Vec<ImageId> = pictures.iter().map(|p| ImageId(p.id)).collect();
    served.block_on(in_time(async {
        for pipeline in [false, true] {
            let config = ClientConfig::new().with_pipeline(pipeline);
            let mut client = served.client().config(config).build();
            for _ in 0..3 {
                let mut images = client.get(wanted.clone());
                let first = images.next().await?.unwrap();
                assert!(first.bytes(1 << 20).await? == pictures[0].bytes);
                let mut second = images.next().await?.unwrap();
                assert!(second.chunk().await?.is_some());
                images.cancel().await?;
                assert_eq!(client.list().await?.len(), 12);
            }
        }
        Ok(())
    }))
}
