//! S13: a served file that changes under the server's hands, at many moments of a slow reader.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use jtp_store::ImageStore;

use crate::support::bytes::*;
use crate::support::files::noise;
use crate::support::peer::Peer;
use crate::support::serve::Served;
use crate::support::tls::tls;

/// More than the system takes off a server's hands (4 MiB) and a reader's, so that the server has not read all of it
/// while the reader waits, however quick it is.
const LEN: usize = 6 << 20;

/// A change, and what to call it.
type Change = (&'static str, fn(&Path));

/// What happens to the file. All write bytes that make another image.
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
        let file = File::options().write(true).open(path).unwrap();
        file.write_all_at(b"more", LEN as u64).unwrap();
    }),
    ("replaced", |path| {
        let hidden = path.with_file_name(".hidden");
        fs::write(&hidden, noise(LEN, 77)).unwrap();
        fs::rename(hidden, path).unwrap();
    }),
    ("rewritten in place", |path| {
        let file = File::options().write(true).open(path).unwrap();
        file.write_all_at(&noise(LEN, 78), 0).unwrap();
    }),
    ("rewritten at its end, and its time set back", |path| {
        let file = File::options().write(true).open(path).unwrap();
        let before = file.metadata().unwrap().modified().unwrap();
        file.write_all_at(b"other", LEN as u64 - 5).unwrap();
        file.set_modified(before).unwrap();
    }),
    ("cut and written again", |path| {
        let file = File::create(path).unwrap();
        file.write_all_at(&noise(LEN, 79), 0).unwrap();
    }),
    ("deleted", |path| fs::remove_file(path).unwrap()),
];

/// How much of the answer was read when it happens: before the head, inside, and at the end.
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

/// Reads the rest of `JTPD` of one image: whether the image came. What comes is never a whole packet of
/// other bytes.
fn verdict(peer: &mut Peer, mut got: Vec<u8>, picture: &Picture, what: &str) -> bool {
    got.extend(peer.read_to_end());
    let whole = data_of(&[picture]);
    if got == whole {
        return true;
    }
    if let Some(error) = got.strip_prefix(&data_head(1)[..])
        && error.starts_with(b"JTPE")
    {
        assert_eq!(error[4], SERVER_ERROR, "{what}: S12");
        return false;
    }
    if got == data_head(0) {
        return false; // S7: it was gone when the request was read.
    }
    assert!(
        got.len() < whole.len(),
        "{what}: S13: a whole packet came, and not of the image"
    );
    false
}

#[test]
fn s13_no_packet_of_wrong_bytes_is_ever_completed() {
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
            cases.push((what, change, moment, Picture::new(&name, bytes)));
        }
    }
    let served = Served::folder_with(folder, |s| s.tls(tls().server.clone()));
    let (mut came, mut cut) = (0, 0);
    for (what, change, moment, picture) in &cases {
        let what = format!("{what} after {moment} bytes");
        let peer = served.peer();
        let mut peer = if secure {
            peer.tls(tls().client())
        } else {
            peer
        };
        peer.send(get(0, &[picture.id]));
        let got = peer.read(*moment);
        change(&served.path().join(&picture.name));
        if verdict(&mut peer, got, picture, &what) {
            came += 1;
        } else {
            cut += 1;
        }
        // The server goes on, on a new connection and with another image.
        let mut peer = served.peer();
        peer.send([LIST, 0]);
        peer.expect(b"JTPL");
        peer.read_to_end();
    }
    // Most moments are in the middle of what the server has not read yet.
    assert!(
        cut > cases.len() / 2,
        "{cut} of {} were cut, {came} came",
        cases.len()
    );
    // The catalog is corrected: it shows what the folder holds, and every image of it can be had.
    let now = served.pictures();
    let mut distinct: Vec<u64> = now.iter().map(|p| p.id).collect();
    distinct.sort_unstable();
    distinct.dedup(); // S4: some changes make the same image of several files.
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
fn s12_s13_a_file_that_vanishes_before_its_turn_is_an_error_where_its_packet_would_begin() {
    let folder = crate::support::files::generated(6, LEN);
    let served = Served::folder(folder);
    let pictures = served.pictures();
    for (n, what) in ["deleted", "truncated"].into_iter().enumerate() {
        let gone = &pictures[5 - n];
        let mut peer = served.peer();
        let left: Vec<Picture> = served.pictures();
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
        peer.expect_error(SERVER_ERROR); // S12 S11: and the LIST behind it is not answered.
        served.wait_for(|catalog| catalog.get(jtp_core::ImageId(gone.id)).is_none());
        fs::remove_file(served.path().join(&gone.name)).ok();
        served.wait_for_pictures(&served.pictures());
    }
}

#[test]
fn s13_what_was_read_ahead_of_a_cancel_is_not_served_from_later() {
    // One that is loaded whole, then one of which only the beginning is: that one is open while the one
    // before it is on its way.
    let names: Vec<String> = (0..12).map(|n| format!("{n:02}.png")).collect();
    let len = |n: usize| {
        if n.is_multiple_of(2) {
            200_000
        } else {
            300_000
        }
    };
    let files = (0..12).map(|n| (&*names[n], noise(len(n), n as u64)));
    let served = Served::folder(crate::support::files::folder_of(files));
    let pictures = served.pictures();
    for read in (0..1_200_000).step_by(100_000) {
        let mut peer = served.peer();
        let answer = images_of(b"JTPG", &pictures);
        peer.send([LIST_AND_GET, KEEP]);
        peer.expect(&answer[..read + 5]);
        peer.send_and_be_read(CANCEL);
        // On to a packet boundary, and what comes there.
        let mut end = head(b"JTPG", 12).len();
        let mut next = 0;
        for picture in &pictures {
            let from = end.max(read + 5);
            end += picture.packet().len();
            if end < read + 5 {
                next += 1;
                continue;
            }
            if from + picture.packet().len() == end || from == end {
                let first = peer.read(1);
                if first == b"J" {
                    peer.expect(b"TPC");
                    break;
                }
                peer.expect(&answer[from + 1..end]);
            } else {
                peer.expect(&answer[from..end]);
            }
            next += 1;
        }
        // Each file is touched: the same image, but the proof of an old handle would fail.
        for picture in &pictures {
            let path = served.path().join(&picture.name);
            let file = File::options().append(true).open(path).unwrap();
            let time = file.metadata().unwrap().modified().unwrap();
            file.set_modified(time + std::time::Duration::from_secs(5))
                .unwrap();
        }
        for picture in &pictures {
            let image = served
                .store
                .catalog()
                .snapshot()
                .get(jtp_core::ImageId(picture.id));
            let image = image.expect("a touched file stays in the catalog");
            let begun = std::time::Instant::now();
            while served.store.open(&image).is_err() {
                assert!(
                    begun.elapsed() < crate::support::PATIENCE,
                    "the store follows"
                );
                std::thread::yield_now();
            }
        }
        let all: Vec<&Picture> = pictures.iter().collect();
        let ids: Vec<u64> = all.iter().map(|p| p.id).collect();
        assert!(next < 12, "C2: CANCEL was seen in between");
        peer.send(get(KEEP, &ids[next..]));
        peer.expect(data_of(&all[next..]));
    }
}

#[test]
fn s3_a_response_is_of_one_snapshot_whatever_happens_meanwhile() {
    let served = Served::folder(crate::support::files::generated(6, LEN));
    let before = served.pictures();
    let answer = images_of(b"JTPG", &before);
    let mut peer = served.peer();
    peer.send([LIST_AND_GET, KEEP, LIST, KEEP]);
    peer.expect(&answer[..100]);
    // One more, in the middle of what is still to be sent.
    fs::write(served.path().join("0002a.png"), noise(99, 1)).unwrap();
    served.wait_for(|catalog| catalog.len() == 7);
    peer.expect(&answer[100..]);
    // The request behind it has a snapshot of its own, from when its turn came.
    peer.expect(list_of(&served.pictures()));
}

#[test]
fn s14_an_image_that_no_packet_can_carry_is_left_out() {
    let folder = crate::support::files::samples();
    let before = crate::support::files::pictures(folder.path());
    let huge = File::create(folder.path().join("huge.png")).unwrap();
    huge.set_len(1 << 32).unwrap(); // All of it a hole.
    let served = Served::folder(folder);
    let mut peer = served.peer();
    peer.send([LIST, KEEP, LIST_AND_GET, 0]);
    peer.expect(list_of(&before));
    peer.expect(images_of(b"JTPG", &before));
    peer.expect_end();
}
