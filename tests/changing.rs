//! S13: files that change while they are served, at many positions of a slow reader.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use jtp_tokio::store::ImageStore;

use crate::support::bytes::*;
use crate::support::files::noise;
use crate::support::peer::Peer;
use crate::support::serve::TestServer;
use crate::support::tls::tls;

/// More than the socket buffers of both ends hold (4 MiB), so that the server cannot have read the whole file while
/// the reader waits.
const LEN: usize = 6 << 20;

fn write_at(file: &mut File, bytes: &[u8], offset: u64) {
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.write_all(bytes).unwrap();
}

/// A change with its name.
type Change = (&'static str, fn(&Path));

/// The changes. Those that write make another image.
const CHANGES: [Change; 8] = [
    ("truncated", |path| {
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_len(1000)
            .unwrap();
    }),
    ("emptied", |path| drop(File::create(path).unwrap())),
    ("lengthened", |path| {
        let mut file = File::options().write(true).open(path).unwrap();
        write_at(&mut file, b"more", LEN as u64);
    }),
    ("replaced", |path| {
        let hidden = path.with_file_name(".hidden");
        fs::write(&hidden, noise(LEN, 77)).unwrap();
        fs::rename(hidden, path).unwrap();
    }),
    ("rewritten in place", |path| {
        let mut file = File::options().write(true).open(path).unwrap();
        write_at(&mut file, &noise(LEN, 78), 0);
    }),
    (
        "rewritten at its end, with the modification time restored",
        |path| {
            let mut file = File::options().write(true).open(path).unwrap();
            let before = file.metadata().unwrap().modified().unwrap();
            write_at(&mut file, b"other", LEN as u64 - 5);
            file.set_modified(before).unwrap();
        },
    ),
    ("truncated and rewritten", |path| {
        let mut file = File::create(path).unwrap();
        write_at(&mut file, &noise(LEN, 79), 0);
    }),
    ("deleted", |path| fs::remove_file(path).unwrap()),
];

/// How many bytes of the response are read before the change: before the head, inside the body, at its end.
const MOMENTS: [usize; 9] = [
    0,
    1,
    5,
    18,
    100_000,
    300_000,
    600_000,
    LEN - 200_000,
    LEN + 17,
];

/// Reads the rest of a `JTPD` with one image; returns whether the image arrived. A complete packet must not have
/// other bytes.
fn verdict(peer: &mut Peer, mut got: Vec<u8>, image: &TestImage, what: &str) -> bool {
    got.extend(peer.read_to_end());
    let expected = data_of(&[image]);
    if got == expected {
        return true;
    }
    let body = got.strip_prefix(&data_head(1)[..]);
    if let Some(error) = body.filter(|body| body.starts_with(b"JTPE")) {
        assert_eq!(error[4], SERVER_ERROR, "{what}: S12");
        return false;
    }
    if got == data_head(0) {
        return false; // S7: the image was gone when the request was read.
    }
    assert!(
        got.len() < expected.len(),
        "{what}: S13: a complete packet with wrong bytes"
    );
    false
}

#[test]
fn s13_no_packet_with_wrong_bytes_is_completed() {
    for secure in [false, true] {
        every_change_at_every_moment(secure);
    }
}

fn every_change_at_every_moment(secure: bool) {
    let folder = tempfile::tempdir().unwrap();
    let mut cases = Vec::new();
    for (what, change) in CHANGES {
        for moment in MOMENTS {
            let n = cases.len();
            let name = format!("{n:03}.png");
            let bytes = noise(LEN, 1000 + n as u64);
            fs::write(folder.path().join(&name), &bytes).unwrap();
            cases.push((what, change, moment, TestImage::new(&name, bytes)));
        }
    }
    let served = TestServer::folder_with(folder, |s| s.tls(tls().server.clone()));
    let (mut intact, mut cut) = (0, 0);
    for (what, change, moment, image) in &cases {
        let what = format!("{what} after {moment} bytes");
        let peer = served.peer();
        let mut peer = if secure {
            peer.tls(tls().client())
        } else {
            peer
        };
        peer.send(get(0, &[image.id]));
        let got = peer.read(*moment);
        change(&served.path().join(&image.name));
        if verdict(&mut peer, got, image, &what) {
            intact += 1;
        } else {
            cut += 1;
        }
        // The server continues to serve new connections.
        let mut peer = served.peer();
        peer.send([LIST, 0]);
        peer.expect(b"JTPL");
        peer.read_to_end();
    }
    // At most positions the server has not read the whole file yet.
    assert!(
        cut > cases.len() / 2,
        "{cut} of {} were cut off, {intact} arrived",
        cases.len()
    );
    // The catalog is corrected: it lists the folder's content, and every listed image can be fetched.
    // What was an image and is empty now stays listed, and cannot be fetched. // R8
    let (empty, full): (Vec<_>, Vec<_>) = served
        .images()
        .into_iter()
        .partition(|image| image.bytes.is_empty());
    for image in empty {
        fs::remove_file(served.path().join(image.name)).unwrap();
    }
    let mut distinct: Vec<u64> = full.iter().map(|image| image.id).collect();
    distinct.sort_unstable();
    distinct.dedup(); // S4: some changes make several files equal.
    served.wait_for(|catalog| {
        catalog.len() == distinct.len()
            && distinct
                .iter()
                .all(|id| catalog.get(jtp_core::ImageId(*id)).is_some())
    });
    let mut peer = served.peer();
    peer.send([LIST_AND_GET, 0]);
    peer.expect(head(b"JTPG", distinct.len()));
    for _ in 0..distinct.len() {
        let packet = peer.packet();
        assert_eq!(id_of(&packet.data), packet.id);
    }
    peer.expect_end();
}

#[test]
fn s12_s13_missing_file_gives_an_error_at_its_packet() {
    let folder = crate::support::files::generated(6, LEN);
    let served = TestServer::folder(folder);
    let images = served.images();
    for (n, what) in ["deleted", "truncated"].into_iter().enumerate() {
        let gone = &images[5 - n];
        let mut peer = served.peer();
        let left: Vec<TestImage> = served.images();
        let first = images_of(b"JTPG", &left);
        peer.send([LIST_AND_GET, KEEP, LIST, KEEP]);
        peer.expect(&first[..50]);
        let change = CHANGES.iter().find(|(name, _)| *name == what).unwrap().1;
        change(&served.path().join(&gone.name));
        let before: usize = left
            .iter()
            .take_while(|p| p.id != gone.id)
            .map(|p| p.packet().len())
            .sum();
        peer.expect(&first[50..head(b"JTPG", 1).len() + before]);
        peer.expect_error(SERVER_ERROR); // S12 S11: the LIST behind it is not answered.
        served.wait_for(|catalog| catalog.get(jtp_core::ImageId(gone.id)).is_none());
        fs::remove_file(served.path().join(&gone.name)).ok();
        served.wait_for_images(&served.images());
    }
}

#[test]
fn s13_data_read_ahead_of_a_cancel_is_discarded() {
    // Images that are loaded completely alternate with images that are loaded in part and stay open while
    // the one before is sent.
    let names: Vec<String> = (0..12).map(|n| format!("{n:02}.png")).collect();
    let len = |n: usize| [200_000, 300_000][n % 2];
    let files = (0..12).map(|n| (&*names[n], noise(len(n), n as u64)));
    let served = TestServer::folder(crate::support::files::folder_of(files));
    let images = served.images();
    for read in 0..8 {
        let mut peer = served.peer();
        peer.send([LIST_AND_GET, KEEP]);
        peer.expect(head(b"JTPG", 12));
        for image in &images[..read] {
            peer.expect(image.packet());
        }
        peer.send_and_be_read(CANCEL);
        // What was on its way.
        let mut next = read;
        let mut first = peer.read(1)[0];
        while first != b'J' {
            assert_eq!(peer.packet_after(first).id, images[next].id);
            next += 1;
            first = peer.read(1)[0];
        }
        peer.expect(b"TPC");
        // Touches each file: the image is the same, but an open handle would be detected as changed.
        for image in &images {
            let path = served.path().join(&image.name);
            let file = File::options().append(true).open(path).unwrap();
            let time = file.metadata().unwrap().modified().unwrap();
            file.set_modified(time + std::time::Duration::from_secs(5))
                .unwrap();
        }
        for image in &images {
            let image = served
                .store
                .catalog()
                .snapshot()
                .get(jtp_core::ImageId(image.id));
            let image = image.expect("a touched file stays in the catalog");
            let start = std::time::Instant::now();
            while served
                .block_on(Arc::clone(&served.store).open(image, 0))
                .is_err()
            {
                assert!(
                    start.elapsed() < crate::support::TEST_TIMEOUT,
                    "the store notices the change"
                );
                std::thread::yield_now();
            }
        }
        let all: Vec<&TestImage> = images.iter().collect();
        let ids: Vec<u64> = all.iter().map(|p| p.id).collect();
        assert!(next < 12, "C2: the CANCEL took effect");
        peer.send(get(KEEP, &ids[next..]));
        peer.expect(data_of(&all[next..]));
    }
}

#[test]
fn s14_image_over_4_gib_is_not_listed() {
    let folder = crate::support::files::samples();
    let before = crate::support::files::images_in(folder.path());
    let huge = File::create(folder.path().join("huge.png")).unwrap();
    huge.set_len(1 << 32).unwrap(); // A sparse file.
    let served = TestServer::folder(folder);
    let mut peer = served.peer();
    peer.send([LIST, KEEP, LIST_AND_GET, 0]);
    peer.expect(list_of(&before));
    peer.expect(images_of(b"JTPG", &before));
    peer.expect_end();
}
