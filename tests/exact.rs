//! LIST and packets of a folder, and the rate limit. Exact bytes of other exchanges are in the behaviour suite.

use jtp_store::DirStore;

use crate::support::bytes::*;
use crate::support::files;
use crate::support::serve::TestServer;
use jtp_kit::bmp;

#[test]
fn s6_list_matches_packets_before_and_after_compression() {
    // Large enough that the compressed variant is not ready when the store is opened.
    let folder = files::samples();
    for n in 0..4u8 {
        let path = folder.path().join(format!("big-{n}.bmp"));
        std::fs::write(path, bmp(4 << 20, n)).unwrap();
    }
    let mut images = files::images_in(folder.path());
    let store = DirStore::open_folder(folder.path()).unwrap();
    let served = TestServer::store(store, |server| server);
    let mut compressed = Vec::new();
    // Twice in whatever state the store is, once when everything is compressed.
    for round in 0..3 {
        if round == 2 {
            std::fs::write(folder.path().join("empty.bmp"), b"").unwrap();
            images = files::images_in(folder.path());
            served.wait_for(|catalog| catalog.len() == images.len());
            served.wait_for(|catalog| {
                let raw_bmp = |e: jtp_core::wire::entry::Entry<'_>| {
                    e.name.ends_with(".bmp") && e.length > 0 && !e.flags.is_compressed()
                };
                !catalog.entries().any(raw_bmp)
            });
        }
        let mut peer = served.peer();
        // A compressed variant may become ready between the requests, so only equal snapshots are compared.
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
            assert_eq!(packets.len(), images.len());
            for ((entry, packet), image) in before.iter().zip(&packets).zip(&images) {
                assert_eq!((entry.1, &*entry.2), (image.id, &*image.name));
                assert_eq!(packet.id, image.id);
                let bytes = if packet.flags & ZSTD == 0 {
                    packet.data.clone()
                } else {
                    assert!([3, 7].contains(&image.kind), "S9: {}", image.name);
                    assert!(packet.data.len() * 100 < image.bytes.len() * 95, "S9");
                    zstd::decode_all(&packet.data[..]).unwrap()
                };
                assert!(bytes == image.bytes, "{}", image.name);
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
    // In the end each BMP is compressed and nothing else; an empty one is sent uncompressed. // S9
    assert!(compressed.iter().all(|e| e.2.ends_with(".bmp")));
    assert_eq!(compressed.len(), 3 + 4);
}

#[test]
fn s15_requests_over_the_limit_get_rate_limited() {
    let window = std::time::Duration::from_secs(3600);
    let served = TestServer::folder_with(files::samples(), |s| s.rate_limit(3, window));
    let list = list_of(&served.images());
    let mut peer = served.peer();
    // CANCEL does not count.
    peer.send([&[LIST, KEEP][..], &CANCEL, &CANCEL, &CANCEL, &[LIST, KEEP]].concat());
    peer.expect([&list[..], b"JTPCJTPCJTPC", &list].concat());
    // The limit is per address, not per connection.
    let mut other = served.peer();
    other.send([LIST, KEEP, LIST, KEEP, LIST, KEEP]);
    other.expect(&list);
    other.expect_error(RATE_LIMITED);
    peer.send([LIST, 0]);
    peer.expect_error(RATE_LIMITED);
}
