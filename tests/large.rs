//! Large requests and large images.

use jtp_core::ImageId;
use jtp_core::client::HaveSet;
use jtp_store::DirStore;

use crate::requests::fetch;
use crate::support::Result;
use crate::support::bytes::*;
use crate::support::files::{bmp, folder_of, noise, pictures};
use crate::support::peer::Peer;
use crate::support::process::Place;
use crate::support::serve::{Served, in_time};
use crate::support::tls::{localhost, tls};

const MANY: u32 = 1_000_000;

/// A BATCH of a million IDs, of which only these are of images.
fn million(known: &[u64]) -> Vec<u8> {
    let mut ids: Vec<u64> = (0..u64::from(MANY))
        .map(|n| n.wrapping_mul(0x9e37_79b9))
        .collect();
    for (n, id) in known.iter().enumerate() {
        ids[n * 70_000 + 5] = *id;
    }
    batch(KEEP, &ids)
}

#[test]
fn s8_a_million_ids_are_matched_as_they_come_and_the_answer_is_exact() {
    let served = Served::folder_with(crate::support::files::samples(), |s| {
        s.tls(tls().server.clone())
    });
    let pictures = served.pictures();
    let request = million(&[pictures[1].id, pictures[4].id]);
    let mut lacking = pictures.clone();
    lacking.remove(4);
    lacking.remove(1);
    for secure in [false, true] {
        let peer = served.peer();
        let mut peer = if secure {
            peer.tls(tls().client())
        } else {
            peer
        };
        // All of it goes out before anything is read: the server has nothing to say until its end.
        peer.send(&request);
        peer.expect(images_of(b"JTPB", &lacking));
        // One more than a million is refused before any ID.
        peer.send([vec![BATCH, KEEP], varint(MANY + 1)].concat());
        peer.expect_error(INVALID_REQUEST);
    }
}

#[test]
fn s8_our_client_sends_a_million_ids() -> Result {
    let served = Served::samples();
    let pictures = served.pictures();
    let have: Vec<ImageId> = (0..u64::from(MANY) - 1)
        .map(|n| ImageId(n.wrapping_mul(0x9e37_79b9)))
        .chain([ImageId(pictures[0].id)])
        .collect();
    served.block_on(in_time(async {
        let mut client = served.client().build();
        let images = client.batch(HaveSet::try_from(have)?);
        assert_eq!(fetch(images, &pictures).await?.len(), 13);
        Ok(())
    }))
}

#[cfg(target_os = "linux")]
#[test]
fn s8_a_million_ids_take_no_memory() {
    let place = Place::samples();
    let server = place.server(&["--no-tls", "--compression-threshold", "0"]);
    let samples = pictures(&place.images());
    let ask = |request: &[u8]| {
        let mut peer = Peer::connect(server.address);
        peer.send(request);
        peer.expect(images_of(b"JTPB", &samples));
    };
    // What any BATCH needs is there before it is measured.
    ask(&batch(KEEP, &[1, 2, 3]));
    let before = server.peak_memory();
    let request = million(&[]);
    for _ in 0..3 {
        ask(&request);
    }
    let grown = server.peak_memory() - before;
    assert!(grown < 2 << 20, "{grown} bytes more for 8,000,000 of IDs");
}

#[cfg(target_os = "linux")]
#[test]
fn r3_a_large_image_goes_through_little_memory() {
    let place = Place::of(&[Picture::new("large.png", noise(64 << 20, 1))]);
    let server = place.server(&["--no-tls"]);
    let [large] = &pictures(&place.images())[..] else {
        panic!("one image");
    };
    let mut peer = Peer::connect(server.address);
    peer.send([LIST_AND_GET, KEEP]);
    peer.expect(images_of(b"JTPG", std::slice::from_ref(large)));
    let peak = server.peak_memory();
    assert!(peak < 48 << 20, "the server has had {peak} bytes");
    place.client(server.address, &[]).fetched(1, 0);
    assert!(place.fetched() == [large.clone()]);
}

#[test]
fn s9_a_bmp_of_64_mib_raw_and_compressed() -> Result {
    let files = || folder_of([("drawn.bmp", bmp(64 << 20, 9))]);
    let served = Served::folder_with(files(), |s| s.tls(tls().server.clone()));
    let pictures = served.pictures();
    served.block_on(in_time(async {
        let mut client = served.client().tls(tls().client(), localhost()).build();
        assert_eq!(client.list().await?[0].length, 64 << 20);
        assert_eq!(fetch(client.list_and_get(), &pictures).await?.len(), 1);
        client.close().await;
        Ok::<(), Box<dyn std::error::Error>>(())
    }))?;
    let folder = files();
    let served = Served::store(DirStore::open_folder(folder.path())?, |server| server);
    served.wait_for(|catalog| catalog.entries().all(|e| e.flags.is_compressed()));
    served.block_on(in_time(async {
        let mut client = served.client().build();
        let listed = client.list().await?;
        assert!(listed[0].flags.is_compressed() && listed[0].length < 1 << 20);
        assert_eq!(fetch(client.list_and_get(), &pictures).await?.len(), 1);
        client.close().await;
        Ok(())
    }))
}
