//! Listing and fetching.

use std::fs;
use std::io::{Read, Write};
use std::process::Stdio;

use jtp_core::ImageId;
use rustix::process::Signal;

use crate::support::{
    CLIENT, Fake, Place, Running, eventually, list_response, packet, picture, varint,
};

#[test]
fn the_list_has_a_line_for_each_image_and_nothing_is_fetched() {
    let place = Place::with_images();
    let server = place.serve(&["--compression-threshold", "0"]);
    let ended = place.fetch(&server, &["--list"]);
    let id = |name: &str| ImageId::of(&fs::read(place.path("images").join(name)).unwrap());
    let expected = format!(
        "{}    1000  PNG         a.png\n{}    2000  JPEG        b.jpg\n{}  200002  BMP         c.bmp\n",
        id("a.png"),
        id("b.jpg"),
        id("c.bmp")
    );
    assert_eq!((ended.code, ended.out), (Some(0), expected));
    assert!(!place.path("output").exists());
}

#[test]
fn names_of_a_list_are_escaped_and_a_closed_stdout_is_no_error() {
    let place = Place::new();
    let fake = Fake::with(&[("a\x1b[2J\u{202e}\n.png", ImageId(1), 5)], &[]);
    let ended = place.run(CLIENT, &["--list", "--addr", &fake.addr()]);
    assert_eq!(ended.code, Some(0));
    assert_eq!(
        ended.out,
        "0000000000000001  5  PNG         a\\u{1b}[2J\\u{202e}\\n.png\n"
    );

    let long = "n".repeat(60_000);
    let entries: Vec<_> = (0..100).map(|n| (long.as_str(), ImageId(n), 1)).collect();
    let fake = Fake::with(&entries, &[]);
    let mut command = place.command(CLIENT, &["--list", "--addr", &fake.addr()]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut err = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut err)
        .unwrap();
    assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""));
}

#[test]
fn a_batch_fetches_what_is_lacking() {
    let place = Place::with_images();
    let server = place.serve(&[]);
    place
        .fetch(&server, &["--batch"])
        .well("fetched 3 images (198.24 KiB); 0 already there; 0 failed");
    place
        .fetch(&server, &["--batch"])
        .well("fetched 0 images (0 B); 3 already there; 0 failed");
    // Had under whatever name; what is damaged or gone is not.
    fs::rename(place.path("output/a.png"), place.path("output/renamed.png")).unwrap();
    fs::remove_file(place.path("output/b.jpg")).unwrap();
    fs::write(place.path("output/c.bmp"), "damaged").unwrap();
    place
        .fetch(&server, &["--delta"])
        .well("fetched 2 images (197.27 KiB); 1 already there; 0 failed");
    assert_eq!(place.names("output"), ["b.jpg", "c.bmp", "renamed.png"]);
    assert_eq!(place.files("output")[1], place.files("images")[2]);
    // Without --batch everything comes anew.
    place
        .fetch(&server, &[])
        .well("fetched 3 images (198.24 KiB); 0 already there; 0 failed");
}

#[test]
fn names_that_changed_places_on_the_server_lose_no_image() {
    let place = Place::with_images();
    place.serve(&["--no-tls"]).stop();
    let server = place.serve(&["--no-tls"]);
    place.fetch(&server, &["--batch"]);
    server.stop();
    fs::rename(place.path("images/a.png"), place.path("images/z.png")).unwrap();
    place.add("a.png", &picture(9, 500));
    let server = place.serve(&["--no-tls"]);
    place
        .fetch(&server, &["--batch"])
        .well("fetched 2 images (1.46 KiB); 2 already there; 0 failed");
    assert_eq!(place.files("output"), place.files("images"));
}

#[test]
fn several_connections_and_several_rounds_fetch_the_same() {
    let place = Place::new();
    for n in 0..300_usize {
        place.add(&format!("{n}.gif"), &picture(n as u64, n * 7));
    }
    let server = place.serve(&[]);
    for (n, args) in [
        &["--parallel", "4"][..],
        &["-p", "32", "-k", "--tls"],
        &["-k", "--pipeline", "--repeat", "2"],
        &["-p", "3", "-k", "--pipeline", "--batch"],
        &["--no-tcp-nodelay"],
    ]
    .into_iter()
    .enumerate()
    {
        let out = format!("out{n}");
        let ended = place.fetch(&server, &[args, &["--out", &out]].concat());
        ended.well("fetched 300 images (306.59 KiB); 0 already there; 0 failed");
        assert_eq!(place.files(&out), place.files("images"), "{args:?}");
        let rounds = if args.contains(&"--repeat") { 2 } else { 1 };
        assert_eq!(ended.out.lines().count(), rounds);
    }
    fs::remove_file(place.path("out0/7.gif")).unwrap();
    fs::remove_file(place.path("out0/8.gif")).unwrap();
    let ended = place.fetch(&server, &["--batch", "-p", "2", "--out", "out0"]);
    ended.well("fetched 2 images (105 B); 298 already there; 0 failed");
    let quiet = place.fetch(&server, &["--quiet", "--out", "quiet"]);
    assert_eq!(
        (quiet.code, quiet.out.as_str(), quiet.err.as_str()),
        (Some(0), "", "")
    );
}

#[test]
fn an_empty_catalog_is_all_well() {
    let place = Place::new();
    let server = place.serve(&["--no-tls"]);
    place
        .fetch(&server, &[])
        .well("fetched 0 images (0 B); 0 already there; 0 failed");
    let listed = place.fetch(&server, &["--list"]);
    assert_eq!((listed.code, listed.out.as_str()), (Some(0), ""));
}

#[test]
fn what_has_come_is_in_place_while_the_server_pauses() {
    let place = Place::new();
    let (small, large) = (picture(1, 500), ImageId(7));
    let list = list_response(&[
        ("small.png", ImageId::of(&small), 500),
        ("large.png", large, 2 << 20),
    ]);
    let first = packet(ImageId::of(&small), &small);
    // The head of a large one, or less than that, and then nothing more.
    let heads = [
        vec![0],
        [
            vec![0],
            varint(2 << 20),
            large.to_be_bytes().to_vec(),
            vec![9; 5],
        ]
        .concat(),
    ];
    for head in heads {
        let (list, first) = (list.clone(), first.clone());
        let fake = Fake::new(move |_, request, stream| {
            if request == 1 {
                let _ = stream.write_all(&list);
                return;
            }
            let _ = stream.write_all(&[b"JTPG\x02", first.as_slice(), &head].concat());
            let _ = stream.read(&mut [0]);
        });
        let client = Running::start(place.command(CLIENT, &["--addr", &fake.addr()]));
        eventually("the first image", || {
            place.names("output").contains(&"small.png".to_owned())
        });
        client.signal(Signal::INT);
        let ended = client.end();
        assert_eq!(ended.code, Some(130), "{ended:?}");
        ended.says("fetched 1 image (500 B); 0 already there; 0 failed; 1 not fetched");
        assert_eq!(place.names("output"), ["small.png"]);
        fs::remove_file(place.path("output/small.png")).unwrap();
    }
}
