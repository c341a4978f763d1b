//! WATCH on a folder that changes.

use std::fs;

use crate::support::bytes::*;
use crate::support::files::noise;
use crate::support::serve::TestServer;

/// Adds a file by a rename, so that it is never seen half-written.
fn put(served: &TestServer, name: &str, bytes: &[u8]) -> TestImage {
    let hidden = served.path().join(".new");
    fs::write(&hidden, bytes).unwrap();
    fs::rename(hidden, served.path().join(name)).unwrap();
    TestImage::new(name, bytes.to_vec())
}

#[test]
fn n1_each_added_image_is_notified_once() {
    let served = TestServer::samples();
    let before = served.images();
    let mut peer = served.peer();
    // N5: LIST and WATCH in one write.
    peer.send([&[LIST, KEEP][..], &WATCH].concat());
    peer.expect(list_of(&before)); // none of these is notified

    // Added by a rename, and written in place.
    let added = put(&served, "added.png", &noise(5000, 1));
    peer.expect(added.event());
    fs::write(served.path().join("written.gif"), noise(300_000, 2)).unwrap();
    peer.expect(TestImage::new("written.gif", noise(300_000, 2)).event());

    // Replaced: a changed file is a new image.
    peer.expect(put(&served, "added.png", &noise(6000, 3)).event());

    // Renamed: no event.
    fs::rename(
        served.path().join("aurora.jpg"),
        served.path().join("zz.jpg"),
    )
    .unwrap();
    served.wait_for(|c| c.entries().any(|e| e.name == "zz.jpg"));
    // Touched: no event.
    let touched = fs::File::options()
        .append(true)
        .open(served.path().join("maze.bmp"));
    touched
        .unwrap()
        .set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    // The same bytes under another name: no event. // S4
    fs::copy(
        served.path().join("maze.bmp"),
        served.path().join("maze-2.bmp"),
    )
    .unwrap();
    // Removed: no event.
    let removed = fs::read(served.path().join("tiles.bmp")).unwrap();
    fs::remove_file(served.path().join("tiles.bmp")).unwrap();
    served.wait_for(|c| !c.entries().any(|e| e.name == "tiles.bmp"));
    // Added again: an event.
    peer.expect(put(&served, "tiles.bmp", &removed).event());
    // Not an image, or hidden: no event.
    fs::write(served.path().join("notes.txt"), "text").unwrap();
    fs::write(served.path().join(".hidden.png"), noise(10, 4)).unwrap();
    peer.expect(put(&served, "last.webp", &noise(10, 5)).event());

    // N3: after CANCEL the connection takes ordinary requests.
    peer.send([&CANCEL[..], &[LIST, KEEP]].concat());
    peer.expect(b"JTPC");
    peer.expect(b"JTPL");
    let count = peer.varint();
    assert_eq!(count, 14 + 3);
    for _ in 0..count {
        peer.entry();
    }
    // N1: an image added between two watches is not notified.
    let unseen = put(&served, "unseen.png", &noise(99, 6));
    served.wait_for(|c| c.get(jtp_core::ImageId(unseen.id)).is_some());
    peer.send(WATCH);
    // N1: events start when the WATCH is read.
    peer.send(CANCEL);
    peer.expect(b"JTPC");
    peer.send([&[LIST, KEEP][..], &WATCH].concat());
    peer.expect(b"JTPL");
    for _ in 0..peer.varint() {
        peer.entry();
    }
    peer.expect(put(&served, "seen.png", &noise(98, 7)).event());
}

#[test]
fn n1_many_added_images_are_all_notified() {
    let served = TestServer::samples();
    let mut peer = served.peer();
    peer.send([&[LIST, KEEP][..], &WATCH].concat());
    peer.expect(list_of(&served.images()));
    let mut added: Vec<u64> = (0..500)
        .map(|n| put(&served, &format!("n{n:03}.png"), &noise(200, n)).id)
        .collect();
    let mut events: Vec<u64> = (0..500)
        .map(|_| {
            peer.expect(b"JTPW");
            peer.entry().1
        })
        .collect();
    added.sort_unstable();
    events.sort_unstable();
    assert_eq!(events, added);
    // N6: the end of the client's stream ends the watch.
    peer.half_close();
    peer.expect_end();
}
