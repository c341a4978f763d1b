//! `server` and `client` as processes.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

use rustix::process::Signal;

use crate::support::bytes::*;
use crate::support::files::{noise, pictures};
use crate::support::process::{Place, eventually};
use crate::support::proxy::Proxy;

fn names(pictures: &[Picture]) -> Vec<&str> {
    pictures.iter().map(|p| &*p.name).collect()
}

#[track_caller]
fn assert_same(fetched: &[Picture], wanted: &[Picture]) {
    assert_eq!(names(fetched), names(wanted));
    assert!(fetched == wanted, "all bytes are the same");
}

#[test]
fn t2_the_two_terminal_way_works_with_no_other_flag_and_so_does_tls() {
    let place = Place::samples();
    let server = place.server(&[]); // TLS is on, with a certificate of its own making.
    let samples = pictures(&place.images());
    place.client(server.address, &[]).fetched(14, 0);
    assert_same(&place.fetched(), &samples);

    // By TLS, trusting the certificate that the server has made.
    place
        .client(
            server.address,
            &["--tls", "--cert", "cert.pem", "--out", "secure"],
        )
        .fetched(14, 0);
    assert_same(
        &pictures(&place.output().with_file_name("secure")),
        &samples,
    );

    // Only what is lacking.
    place.client(server.address, &["--batch"]).fetched(0, 14);
    let added = place.add("new.png", &noise(100_000, 1));
    let listed = |id: u64| {
        let list = place.client(server.address, &["--list"]);
        list.well()
            .out
            .lines()
            .any(|line| line.starts_with(&format!("{id:016x} ")))
    };
    eventually("the new image is listed", || listed(added.id));
    place.client(server.address, &["--batch"]).fetched(1, 14);
    assert_same(&place.fetched(), &pictures(&place.images()));
    // And over several connections, with keep-alive, everything anew.
    place
        .client(server.address, &["-p", "4", "-k", "--repeat", "2"])
        .well();
    assert_same(&place.fetched(), &pictures(&place.images()));

    // S16: SIGTERM is a good end.
    assert_eq!(server.stop().code(), Some(0));
}

#[test]
fn the_list_has_a_line_for_each_image_in_catalog_order() {
    let place = Place::samples();
    let server = place.server(&["--no-tls", "--compression-threshold", "0"]);
    let list = place.client(server.address, &["--list"]);
    let lines: Vec<Vec<&str>> = list
        .well()
        .out
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let samples = pictures(&place.images());
    assert_eq!(lines.len(), samples.len());
    for (line, picture) in lines.iter().zip(&samples) {
        assert_eq!(line[0], format!("{:016x}", picture.id));
        assert_eq!(line[1], picture.bytes.len().to_string());
        assert_eq!(line.last(), Some(&&*picture.name));
    }
    assert!(!place.output().exists(), "--list fetches nothing");
}

#[test]
fn n1_a_watching_client_gets_what_is_new() {
    let place = Place::samples();
    let server = place.server(&[]);
    let mut client =
        place.start_client(server.address, &["--watch", "--tls", "--cert", "cert.pem"]);
    eventually("all are here", || place.fetched().len() == 14);
    for n in 0..3 {
        place.add(&format!("new-{n}.png"), &noise(200_000, n));
        eventually("the new one is here", || {
            place.fetched().len() == 15 + usize::try_from(n).unwrap()
        });
    }
    assert_same(&place.fetched(), &pictures(&place.images()));
    // S16: the server's end ends the watch at an event boundary; another server goes on (N5).
    assert_eq!(server.stop().code(), Some(0));
    client.signal(Signal::INT);
    assert_eq!(client.end().code(), Some(130));
}

/// 200 images of some 30 KB, and a place with them.
fn many() -> (Place, Vec<Picture>) {
    let pictures: Vec<Picture> = (0..200)
        .map(|n| {
            let len = 20_000 + usize::try_from(n).unwrap() * 97;
            Picture::new(&format!("{n:03}.png"), noise(len, n))
        })
        .collect();
    (Place::of(&pictures), pictures)
}

/// The visible files, each of which has to be whole and right; by name, what tells one from its successor.
#[track_caller]
fn whole_files(place: &Place, pictures: &[Picture]) -> HashMap<String, (u64, i64)> {
    let fetched = place.fetched();
    for file in &fetched {
        let right = pictures.iter().any(|p| p == file);
        assert!(right, "R2: {} is visible and not the image", file.name);
    }
    let inode = |p: &Picture| {
        let data = fs::metadata(place.output().join(&p.name)).unwrap();
        (p.name.clone(), (data.ino(), data.mtime_nsec()))
    };
    fetched.iter().map(inode).collect()
}

#[test]
fn r2_r5_r6_a_client_killed_at_any_moment_leaves_whole_files_and_the_next_fetches_the_rest() {
    let (place, pictures) = many();
    let server = place.server(&["--no-tls"]);
    let mut before = HashMap::new();
    let mut killed = 0;
    // The moments: inside LIST, at its end, and all over the images, in heads and bodies.
    for moment in [0, 1, 3000, 7000, 7005, 7018, 30_000]
        .into_iter()
        .chain((0..16).map(|n| 250_000 + n * 9_973))
    {
        let proxy = Proxy::start(server.address, moment);
        let args: &[&str] = match killed % 3 {
            0 => &["--batch"],
            1 => &["--batch", "-p", "3"],
            _ => &["--batch", "-k"],
        };
        let mut client = place.start_client(proxy.address, args);
        // From 250,000 bytes some images are whole, on any number of connections: one of them is let in.
        let known = if moment < 250_000 {
            0
        } else {
            before.len() + 1
        };
        eventually("the moment is here", || {
            (proxy.is_spent() && place.fetched().len() >= known) || client.has_ended()
        });
        if !client.has_ended() {
            client.signal(Signal::KILL);
            killed += 1;
        }
        client.end();
        let after = whole_files(&place, &pictures);
        for (name, file) in &before {
            assert_eq!(after.get(name), Some(file), "{name} was not fetched again");
        }
        before = after;
    }
    assert!(killed >= 20, "{killed}");
    assert!(
        before.len() >= 16,
        "{} came in all these moments",
        before.len()
    );
    assert!(before.len() < 200, "there is a rest");
    place
        .client(server.address, &["--batch"])
        .fetched(200 - before.len(), before.len());
    let after = whole_files(&place, &pictures);
    assert_eq!(after.len(), 200);
    for (name, file) in &before {
        assert_eq!(after.get(name), Some(file), "{name} was not fetched again");
    }
    // Nothing temporary is left.
    let left: Vec<_> = fs::read_dir(place.output())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name.as_encoded_bytes().starts_with(b".") && name != ".jtp-index")
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn r6_a_server_killed_and_started_again_in_the_middle_costs_nothing() {
    let (place, pictures) = many();
    for (args, moment) in [
        (&[][..], 2_000_000),
        (&["-p", "3"], 1_000_000),
        (&["-k"], 3_000_000),
    ] {
        let _ = fs::remove_dir_all(place.output());
        let server = place.server(&["--no-tls"]);
        let proxy = Proxy::start(server.address, moment);
        let mut client = place.start_client(proxy.address, args);
        eventually("the moment is here", || proxy.is_spent());
        server.kill();
        let server = place.server(&["--no-tls"]);
        proxy.open(server.address);
        assert_eq!(client.end().code(), Some(0), "{args:?}");
        assert_same(&place.fetched(), &pictures);
        assert_eq!(server.stop().code(), Some(0));
    }
}
