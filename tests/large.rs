//! Large requests and large images.

use jtp_store::DirStore;
use jtp_tokio::Images;

use crate::support::Result;
use crate::support::bytes::*;
use crate::support::files::folder_of;
use crate::support::serve::{TestServer, in_time};
use crate::support::tls::{localhost, tls};
#[cfg(target_os = "linux")]
use crate::support::{
    files::{images_in, noise},
    peer::Peer,
    process::{WorkDir, peak_memory},
};
use jtp_kit::bmp;

#[cfg(target_os = "linux")]
const MANY: u32 = 1_000_000;

/// A BATCH of a million IDs that includes these.
#[cfg(target_os = "linux")]
fn million(known: &[u64]) -> Vec<u8> {
    let mut ids: Vec<u64> = (0..u64::from(MANY))
        .map(|n| n.wrapping_mul(0x9e37_79b9))
        .collect();
    for (n, id) in known.iter().enumerate() {
        ids[n * 70_000 + 5] = *id;
    }
    batch(KEEP, &ids)
}

#[cfg(target_os = "linux")]
#[test]
fn s8_million_ids_need_no_memory() {
    let workdir = WorkDir::samples();
    let server = workdir.server("--no-tls --compression-threshold 0");
    let samples = images_in(&workdir.images());
    let fetch_all = |request: &[u8]| {
        let mut peer = Peer::connect(server.addr());
        peer.send(request);
        peer.expect(images_of(b"JTPB", &samples));
    };
    // A first BATCH allocates what every BATCH needs.
    fetch_all(&batch(KEEP, &[1, 2, 3]));
    let before = peak_memory(server.id()).unwrap();
    let request = million(&[]);
    for _ in 0..3 {
        fetch_all(&request);
    }
    let grown = peak_memory(server.id()).unwrap() - before;
    assert!(
        grown < 2 << 20,
        "{grown} bytes more for 8,000,000 bytes of IDs"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn r3_large_image_is_served_in_bounded_memory() {
    let workdir = WorkDir::of(&[TestImage::new("large.png", noise(64 << 20, 1))]);
    let server = workdir.server("--no-tls");
    let [large] = &images_in(&workdir.images())[..] else {
        panic!("one image");
    };
    let mut peer = Peer::connect(server.addr());
    peer.send([LIST_AND_GET, KEEP]);
    peer.expect(images_of(b"JTPG", std::slice::from_ref(large)));
    let peak = peak_memory(server.id()).unwrap();
    assert!(peak < 48 << 20, "the server's peak memory was {peak} bytes");
    workdir.client(server.addr(), "").assert_fetched(1, 0);
    assert!(workdir.fetched() == [large.clone()]);
}

#[test]
fn s9_a_bmp_of_64_mib_raw_and_compressed() -> Result {
    let files = || folder_of([("drawn.bmp", bmp(64 << 20, 9))]);
    let served = TestServer::folder_with(files(), |s| s.tls(tls().server.clone()));
    let expected = served.images();
    served.block_on(in_time(async {
        let mut client = served.client().tls(tls().client(), localhost()).build();
        assert_eq!(client.list().await?[0].length, 64 << 20);
        assert_eq!(fetch(client.list_and_get(), &expected).await?.len(), 1);
        client.close().await;
        Ok::<(), Box<dyn std::error::Error>>(())
    }))?;
    let folder = files();
    let served = TestServer::store(DirStore::open_folder(folder.path())?, |server| server);
    served.wait_for(|catalog| catalog.entries().all(|e| e.flags.is_compressed()));
    served.block_on(in_time(async {
        let mut client = served.client().build();
        let listed = client.list().await?;
        assert!(listed[0].flags.is_compressed() && listed[0].length < 1 << 20);
        assert_eq!(fetch(client.list_and_get(), &expected).await?.len(), 1);
        client.close().await;
        Ok(())
    }))
}

/// Fetches images, compares each with the expected one, and returns their IDs.
async fn fetch(mut images: Images<'_>, expected: &[TestImage]) -> Result<Vec<u64>> {
    let mut ids = Vec::new();
    while let Some(image) = images.next().await? {
        let head = image.image();
        let bytes = image.bytes(1 << 30).await?;
        let image = expected.iter().find(|p| p.id == head.id.0);
        let image = image.expect("an image of the folder");
        assert!(
            bytes == image.bytes,
            "{} has the expected bytes",
            image.name
        );
        assert_eq!(head.flags.file_type().code(), image.kind);
        ids.push(head.id.0);
    }
    Ok(ids)
}
