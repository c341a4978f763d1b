//! WATCH on a folder that changes.

use std::fs;
use std::time::Duration;

use jtp_core::server::ServerConfig;
use jtp_store::MemoryStore;

use crate::support::Result;
use crate::support::bytes::*;
use crate::support::files::{noise, samples};
use crate::support::serve::{Served, in_time};
use crate::support::tls::{localhost, tls};

fn news(picture: &Picture) -> Vec<u8> {
    [&b"JTPW"[..], &picture.entry()].concat()
}

/// A file that appears whole, as a careful program makes it.
fn put(served: &Served, name: &str, bytes: &[u8]) -> Picture {
    let hidden = served.path().join(".new");
    fs::write(&hidden, bytes).unwrap();
    fs::rename(hidden, served.path().join(name)).unwrap();
    Picture::new(name, bytes.to_vec())
}

#[test]
fn n1_each_image_that_enters_is_told_once_and_nothing_else() {
    let served = Served::samples();
    let before = served.pictures();
    let mut peer = served.peer();
    // N5: LIST and WATCH in one write.
    peer.send([&[LIST, KEEP][..], &WATCH].concat());
    peer.expect(list_of(&before)); // none of these is told

    // Added, and written slowly in place.
    let added = put(&served, "added.png", &noise(5000, 1));
    peer.expect(news(&added));
    fs::write(served.path().join("written.gif"), noise(300_000, 2)).unwrap();
    peer.expect(news(&Picture::new("written.gif", noise(300_000, 2))));

    // Replaced: a changed file is a new image.
    peer.expect(news(&put(&served, "added.png", &noise(6000, 3))));

    // Renamed: not told.
    fs::rename(
        served.path().join("aurora.jpg"),
        served.path().join("zz.jpg"),
    )
    .unwrap();
    served.wait_for(|c| c.entries().any(|e| e.name == "zz.jpg"));
    // Touched: not told.
    let touched = fs::File::options()
        .append(true)
        .open(served.path().join("maze.bmp"));
    touched
        .unwrap()
        .set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    // The same bytes under another name: not told. // S4
    fs::copy(
        served.path().join("maze.bmp"),
        served.path().join("maze-2.bmp"),
    )
    .unwrap();
    // Removed: not told.
    let removed = fs::read(served.path().join("tiles.bmp")).unwrap();
    fs::remove_file(served.path().join("tiles.bmp")).unwrap();
    served.wait_for(|c| !c.entries().any(|e| e.name == "tiles.bmp"));
    // And added again: told again.
    peer.expect(news(&put(&served, "tiles.bmp", &removed)));
    // No image, hidden, or half: not told.
    fs::write(served.path().join("notes.txt"), "text").unwrap();
    fs::write(served.path().join(".hidden.png"), noise(10, 4)).unwrap();
    peer.expect(news(&put(&served, "last.webp", &noise(10, 5))));

    // N3: CANCEL, and an ordinary connection again.
    peer.send([&CANCEL[..], &[LIST, KEEP]].concat());
    peer.expect(b"JTPC");
    peer.expect(b"JTPL");
    let count = peer.varint();
    assert_eq!(count, 14 + 3);
    for _ in 0..count {
        peer.entry();
    }
    // N1: what came while nobody watched is not told to a new WATCH.
    let unseen = put(&served, "unseen.png", &noise(99, 6));
    served.wait_for(|c| c.get(jtp_core::ImageId(unseen.id)).is_some());
    peer.send(WATCH);
    // N1: "from the moment WATCH is read": LIST of another connection is read later than that. // S1
    peer.send(CANCEL);
    peer.expect(b"JTPC");
    peer.send([&[LIST, KEEP][..], &WATCH].concat());
    peer.expect(b"JTPL");
    for _ in 0..peer.varint() {
        peer.entry();
    }
    peer.expect(news(&put(&served, "seen.png", &noise(98, 7))));
}

#[test]
fn n1_many_images_at_once_all_are_told() {
    let served = Served::samples();
    let mut peer = served.peer();
    peer.send([&[LIST, KEEP][..], &WATCH].concat());
    peer.expect(list_of(&served.pictures()));
    let mut added: Vec<u64> = (0..500)
        .map(|n| put(&served, &format!("n{n:03}.png"), &noise(200, n)).id)
        .collect();
    let mut told: Vec<u64> = (0..500)
        .map(|_| {
            peer.expect(b"JTPW");
            peer.entry().1
        })
        .collect();
    added.sort_unstable();
    told.sort_unstable();
    assert_eq!(told, added);
    // N6: the client's end ends the watch.
    peer.half_close();
    peer.expect_end();
}

#[test]
fn n3_anything_but_cancel_is_invalid_during_watch() {
    let served = Served::samples();
    for request in [vec![LIST, KEEP], WATCH.to_vec(), get(KEEP, &[])] {
        let mut peer = served.peer();
        peer.send([&WATCH[..], &request].concat());
        peer.expect_error(INVALID_REQUEST);
    }
}

#[test]
fn n6_the_end_of_the_clients_stream_ends_the_watch() {
    let served = Served::samples();
    for rest in [&[][..], &[CANCEL[0]]] {
        let mut peer = served.peer();
        peer.send([&WATCH[..], rest].concat());
        peer.half_close();
        peer.expect_end();
    }
}

#[test]
fn our_client_is_told_over_tls_and_fetches_what_is_new() -> Result {
    let served = Served::folder_with(samples(), |s| s.tls(tls().server.clone()));
    let client = || served.client().tls(tls().client(), localhost()).build();
    served.block_on(in_time(async {
        let (mut watching, mut fetching) = (client(), client());
        let (listed, mut watch) = watching.list_and_watch().await?;
        assert_eq!(listed.len(), 14);
        for n in 0..5 {
            let name = format!("new-{n}.png");
            let picture = put(&served, &name, &noise(50_000, n));
            let told = watch.next().await?; // N1
            assert_eq!((told.id.0, &*told.name), (picture.id, &*name));
            let got = crate::requests::fetch(fetching.get([told.id]), &[picture]).await?;
            assert_eq!(got, [told.id.0]);
        }
        assert!(watch.cancel().await?.is_empty()); // N3
        watching.close().await;
        fetching.close().await;
        Ok(())
    }))
}

#[test]
fn n4_idle_timeouts_do_not_end_a_watch() {
    let config = ServerConfig::new().with_idle_timeout(Some(Duration::from_millis(50)));
    let served = Served::folder_with(samples(), |s| s.config(config));
    let list = list_of(&served.pictures());
    let mut watching = served.peer();
    watching.send([&[LIST, KEEP][..], &WATCH].concat());
    watching.expect(&list);
    let mut idle = served.peer();
    idle.send([LIST, KEEP]);
    idle.expect(&list);
    idle.expect_end(); // T4: its time is over, and the watch was idle for longer.
    watching.expect(news(&put(&served, "new.png", &noise(10, 1))));
    // An ordinary connection again, it has the same limit.
    watching.send(CANCEL);
    watching.expect(b"JTPC");
    watching.expect_end();
}

/// Images of 100 bytes with names of 1000, put into the store; what a watcher is told of them.
fn many_events(served: &Served<MemoryStore>, count: u32) -> Vec<u8> {
    let put = |n: u32| {
        let name = format!("{n:08}{}.png", "x".repeat(1000));
        let bytes = noise(100, u64::from(n));
        served.store.insert(&name, bytes.clone()).unwrap();
        news(&Picture::new(&name, bytes))
    };
    (0..count).flat_map(put).collect()
}

#[test]
fn n2_a_watcher_that_reads_late_misses_nothing() {
    let served = Served::store(MemoryStore::new(), |server| server);
    let mut peer = served.peer();
    peer.send([&[LIST, KEEP][..], &WATCH].concat());
    peer.expect(list_of(&[]));
    // Far more than the system's buffers hold.
    let told = many_events(&served, 3000);
    peer.expect(told);
    peer.send(CANCEL);
    peer.expect(b"JTPC");
}

#[test]
fn n2_a_watcher_beyond_the_history_is_disconnected_and_skips_nothing() {
    let config = ServerConfig::new().with_max_watch_lag(10);
    let served = Served::store(MemoryStore::new(), |server| server.config(config));
    let mut peer = served.peer();
    peer.send([&[LIST, KEEP][..], &WATCH].concat());
    peer.expect(list_of(&[]));
    let told = many_events(&served, 3000);
    let got = peer.read_to_end();
    assert!(got.len() < told.len(), "it was disconnected");
    assert!(told.starts_with(&got), "what came is what was first");
}
