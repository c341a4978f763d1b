//! CANCEL before, during and after each response, with exact bytes.

use jtp_core::ImageId;
use jtp_core::client::ClientConfig;
use jtp_tokio::store::MemoryStore;

use crate::support::Result;
use crate::support::bytes::*;
use crate::support::files::generated;
use crate::support::peer::Peer;
use crate::support::serve::{TestServer, in_time};
use crate::support::tls::tls;

/// Reads the rest after a CANCEL, with `read` bytes of the packets read before: the packet in flight to its end,
/// then packets up to `JTPC`, which must come before the last packet. `J` is no packet's flags byte. // S12
fn expect_cancelled(peer: &mut Peer, expected: &[TestImage], mut read: usize) {
    for image in expected {
        let packet = image.packet();
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
        peer.expect(&packet[read..]); // A packet is never truncated.
        read = 0;
    }
    panic!("C2: all packets were sent, so the CANCEL had no effect");
}

#[test]
fn c2_cancel_stops_at_a_packet_boundary() {
    let folder = generated(12, 1 << 20);
    let served = TestServer::folder_with(folder, |s| s.tls(tls().server.clone()));
    let expected = served.images();
    let ids: Vec<u64> = expected.iter().map(|p| p.id).collect();
    let list = list_of(&expected);
    let packets = [expected[0].packet(), expected[1].packet()].concat();
    let packet_len = expected[0].packet().len();
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
            // The CANCEL is sent after the head, inside the first packet, at its end, behind it.
            for read in [0, 1, 14, 500_000, packet_len, packet_len + 1] {
                peer.send(&request);
                peer.expect(&head);
                peer.expect(&packets[..read]);
                peer.send_and_be_read(CANCEL);
                expect_cancelled(&mut peer, &expected, read);
                // C1: the connection is ready for the next request, and no other bytes arrived.
                peer.send([LIST, KEEP]);
                peer.expect(&list);
            }
        }
        // C4: the connection is in a clean state.
        peer.send([LIST, 0]);
        peer.expect(&list);
        peer.expect_end();
    }
}

#[test]
fn c6_few_packets_follow_a_cancel() {
    // With small socket buffers few packets follow a CANCEL.
    let served = TestServer::folder(generated(40, 256 * 1024));
    let expected = served.images();
    let mut peer = served.peer();
    peer.send([LIST_AND_GET, KEEP]);
    peer.expect(head(b"JTPG", 40));
    peer.send_and_be_read(CANCEL);
    let mut packets = 0;
    loop {
        let first = peer.read(1)[0];
        if first == b'J' {
            peer.expect(b"TPC");
            break;
        }
        assert_eq!(peer.packet_after(first).id, expected[packets].id);
        packets += 1;
    }
    assert!(packets <= 8, "{packets} packets of 40 followed the CANCEL");
}

#[test]
fn c2_catalog_is_completed_before_cancel_is_answered() {
    let store = MemoryStore::new();
    let mut expected = Vec::new();
    for n in 0..3000u32 {
        let name = format!("{n:08}-{}.png", "x".repeat(1000));
        store.insert(&name, n.to_be_bytes().to_vec()).unwrap();
        expected.push(TestImage::new(&name, n.to_be_bytes().to_vec()));
    }
    let served = TestServer::store(store, |server| server);
    let list = list_of(&expected);
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
fn c1_c3_each_cancel_between_responses_is_answered_once() {
    let served = TestServer::samples();
    let expected = served.images();
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
    // C5: a CANCEL behind another request waits for its complete answer.
    peer.send(
        [
            &[LIST, KEEP, LIST, KEEP][..],
            &CANCEL,
            &get(0, &[expected[0].id]),
        ]
        .concat(),
    );
    peer.expect(list_of(&expected).repeat(2));
    peer.expect(b"JTPC");
    peer.expect(data_of(&[&expected[0]]));
    peer.expect_end();
}

#[test]
fn c4_cancel_without_keep_alive_is_invalid() {
    let served = TestServer::folder(generated(12, 1 << 20));
    let expected = served.images();
    let mut peer = served.peer();
    peer.send([LIST_AND_GET, 0]);
    peer.expect(head(b"JTPG", 12));
    peer.send_and_be_read(CANCEL);
    for image in &expected {
        let first = peer.read(1)[0];
        if first == b'J' {
            // At the next packet boundary.
            peer.expect(b"TPE");
            peer.expect([INVALID_REQUEST]);
            peer.read_to_end();
            return;
        }
        assert_eq!(peer.packet_after(first).id, image.id);
    }
    panic!("C4: all packets were sent, so the CANCEL had no effect");
}

#[test]
fn c7_client_sends_requests_after_a_cancel() -> Result {
    let served = TestServer::folder(generated(12, 1 << 20));
    let expected = served.images();
    let ids: Vec<ImageId> = expected.iter().map(|p| ImageId(p.id)).collect();
    served.block_on(in_time(async {
        for pipeline in [false, true] {
            let config = ClientConfig::new().with_pipeline(pipeline);
            let mut client = served.client().config(config).build();
            for _ in 0..3 {
                let mut images = client.get(ids.clone());
                let first = images.next().await?.unwrap();
                assert!(first.bytes(1 << 20).await? == expected[0].bytes);
                let mut second = images.next().await?.unwrap();
                assert!(second.chunk().await?.is_some());
                images.cancel().await?;
                assert_eq!(client.list().await?.len(), 12);
            }
        }
        Ok(())
    }))
}
