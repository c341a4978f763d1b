//! Ctrl-C and SIGTERM.

use std::io::{Read, Write};
use std::net::TcpStream;

use jtp_core::ImageId;
use rustix::process::Signal;

use crate::support::{CLIENT, Fake, Place, Running, eventually, list_response, picture, varint};

#[test]
fn s16_a_server_ends_well_on_both_signals() {
    let place = Place::with_images();
    for signal in [Signal::INT, Signal::TERM] {
        let server = place.serve(&[]);
        let idle = TcpStream::connect(&server.address).unwrap();
        server.signal(signal);
        let ended = server.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.err.contains("stopped"), "{ended:?}");
        drop(idle);
    }
}

#[test]
fn s16_what_is_under_way_is_finished_unless_a_second_signal_comes() {
    let place = Place::new();
    let image = picture(1, 30 << 20);
    place.add("a.png", &image);
    for patient in [true, false] {
        let server = place.serve(&["--no-tls"]);
        let mut peer = TcpStream::connect(&server.address).unwrap();
        peer.write_all(&[5, 0]).unwrap();
        let mut header = [0; 4];
        peer.read_exact(&mut header).unwrap();
        assert_eq!(&header, b"JTPG");
        server.signal(Signal::TERM);
        server.err.until("stopping");
        if patient {
            let mut rest = Vec::new();
            peer.read_to_end(&mut rest).unwrap();
            assert!(
                rest.ends_with(&image[image.len() - 100..]),
                "the response is finished"
            );
            assert_eq!(server.end().code, Some(0));
        } else {
            server.signal(Signal::TERM);
            assert_eq!(server.end().code, Some(1));
        }
    }
}

#[test]
fn an_interrupted_client_leaves_nothing_partial_and_exits_130() {
    let place = Place::new();
    let id = ImageId(7);
    let fake = Fake::new(move |_, request, stream| {
        if request == 1 {
            let _ = stream.write_all(&list_response(&[("a.png", id, 2 << 20)]));
            return;
        }
        // Half of it, and then nothing more.
        let head = [
            b"JTPG\x01\x00".to_vec(),
            varint(2 << 20),
            id.to_be_bytes().to_vec(),
        ]
        .concat();
        let _ = stream.write_all(&head);
        let _ = stream.write_all(&vec![0; 1 << 20]);
        let _ = stream.read(&mut [0]);
    });
    for signal in [Signal::INT, Signal::TERM] {
        let client = Running::start(place.command(CLIENT, &["--addr", &fake.addr()]));
        eventually("a hidden temporary file", || {
            place
                .names("output")
                .first()
                .is_some_and(|name| name.starts_with('.'))
        });
        client.signal(signal);
        let ended = client.end();
        assert_eq!(ended.code, Some(130), "{ended:?}");
        assert_eq!(ended.err, "");
        ended.says("fetched 0 images (0 B); 0 already there; 0 failed; 1 not fetched");
        assert_eq!(place.names("output"), [""; 0]);
    }
}

#[test]
fn a_killed_client_leaves_no_visible_file_and_the_next_one_cleans_up() {
    let place = Place::new();
    let image = picture(1, 2 << 20);
    let id = ImageId::of(&image);
    let fake = Fake::new(move |n, request, stream| {
        let head = [
            b"JTPG\x01\x00".to_vec(),
            varint(2 << 20),
            id.to_be_bytes().to_vec(),
        ]
        .concat();
        match (n, request) {
            (_, 1) => drop(stream.write_all(&list_response(&[("a.png", id, 2 << 20)]))),
            (1, _) => {
                let _ = stream.write_all(&head);
                let _ = stream.write_all(&image[..1 << 20]);
                let _ = stream.read(&mut [0]);
            }
            _ => drop(stream.write_all(&[head, image.clone()].concat())),
        }
    });
    let client = Running::start(place.command(CLIENT, &["--addr", &fake.addr()]));
    eventually("a hidden temporary file", || {
        !place.names("output").is_empty()
    });
    client.signal(Signal::KILL);
    assert_eq!(client.end().code, None);
    assert!(
        place
            .names("output")
            .iter()
            .all(|name| name.starts_with('.'))
    );
    let ended = place.run(CLIENT, &["--addr", &fake.addr(), "--batch"]);
    ended.well("fetched 1 image (2.00 MiB); 0 already there; 0 failed");
    assert_eq!(place.names("output"), ["a.png"]);
}
