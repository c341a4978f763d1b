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

/// Reads on after CANCEL, `read` bytes into the packets: the one that was begun to its end, then up to
/// `JTPC`, which has to come before all have. `J` is no packet's flags byte. // S12
fn expect_cancelled(peer: &mut Peer, pictures: &[Picture], mut read: usize) {
    for picture in pictures {
        let packet = picture.packet();
        if read >= packet.len() {
            read -= packet.len();
            continue;
        }
        if read == 0 {
            let first = peer.read(1);
            if first == b"J" {
                peer.expect(b"TPC");
                return;
            }
            assert_eq!(first, packet[..1]);
            read = 1;
        }
        peer.expect(&packet[read..]); // A packet is never cut.
        read = 0;
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
    let packets = [pictures[0].packet(), pictures[1].packet()].concat();
    let packet_len = pictures[0].packet().len();
    for secure in [false, true] {
        let peer = served.peer();
        let mut peer = if secure {
            peer.tls(tls().client())
        } else {
            peer
        };
        for (request, head) in [
            (get(KEEP, &ids), data_head(12)),
            (batch(KEEP, &[1, 2, 3]), head(b"JTPB", 12)),
            (vec![LIST_AND_GET, KEEP], head(b"JTPG", 12)),
        ] {
            // The moment of the CANCEL: after the head, inside the first packet, at its end, behind it.
            for read in [0, 1, 14, 500_000, packet_len, packet_len + 1] {
                peer.send(&request);
                peer.expect(&head);
                peer.expect(&packets[..read]);
                peer.send(CANCEL);
                expect_cancelled(&mut peer, &pictures, read);
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
    peer.send(
        [
            &[LIST, KEEP, LIST, KEEP][..],
            &CANCEL,
            &get(0, &[pictures[0].id]),
        ]
        .concat(),
    );
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
