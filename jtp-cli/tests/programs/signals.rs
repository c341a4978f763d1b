//! Ctrl-C and SIGTERM.

use std::io::{Read, Write};
use std::net::TcpStream;

use jtp_core::ImageId;
use rustix::process::Signal;

use crate::support::{
    CLIENT, FakeServer, Process, TestDir, list_response, random_image, varint, wait_until,
};

#[test]
fn s16_server_exits_0_on_sigint_and_sigterm() {
    let dir = TestDir::with_images();
    for signal in [Signal::INT, Signal::TERM] {
        let server = dir.serve(&[]);
        let idle = TcpStream::connect(&server.address).unwrap();
        server.signal(signal);
        let output = server.wait();
        assert_eq!(output.code, Some(0), "{output:?}");
        assert!(output.err.contains("stopped"), "{output:?}");
        drop(idle);
    }
}

#[test]
fn s16_requests_in_progress_finish_unless_a_second_signal_arrives() {
    let dir = TestDir::new();
    let image = random_image(1, 30 << 20);
    dir.add("a.png", &image);
    for graceful in [true, false] {
        let server = dir.serve(&["--no-tls"]);
        let mut peer = TcpStream::connect(&server.address).unwrap();
        peer.write_all(&[5, 0]).unwrap();
        let mut header = [0; 4];
        peer.read_exact(&mut header).unwrap();
        assert_eq!(&header, b"JTPG");
        server.signal(Signal::TERM);
        server.err.wait_for("stopping");
        if graceful {
            let mut rest = Vec::new();
            peer.read_to_end(&mut rest).unwrap();
            assert!(
                rest.ends_with(&image[image.len() - 100..]),
                "the response is incomplete"
            );
            assert_eq!(server.wait().code, Some(0));
        } else {
            server.signal(Signal::TERM);
            assert_eq!(server.wait().code, Some(1));
        }
    }
}

#[test]
fn interrupted_client_leaves_no_partial_file_and_exits_130() {
    let dir = TestDir::new();
    let id = ImageId(7);
    let fake = FakeServer::new(move |_, request, stream| {
        if request == 1 {
            let _ = stream.write_all(&list_response(&[("a.png", id, 2 << 20)]));
            return;
        }
        // Sends half of the packet, then stalls.
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
        let client = Process::start(dir.command(CLIENT, &["--addr", &fake.addr()]));
        wait_until("a hidden temporary file", || {
            let names = dir.names("output");
            names.iter().any(|name| name.ends_with(".part"))
        });
        client.signal(signal);
        let output = client.wait();
        assert_eq!(output.code, Some(130), "{output:?}");
        assert_eq!(output.err, "");
        output.assert_summary("fetched 0 images (0 B); 0 already there; 0 failed; 1 not fetched");
        assert_eq!(dir.names("output"), [""; 0]);
    }
}

#[test]
fn killed_client_leaves_no_visible_file_and_the_next_run_cleans_up() {
    let dir = TestDir::new();
    let image = random_image(1, 2 << 20);
    let id = ImageId::of(&image);
    let fake = FakeServer::new(move |n, request, stream| {
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
    let client = Process::start(dir.command(CLIENT, &["--addr", &fake.addr()]));
    wait_until("a hidden temporary file", || {
        let names = dir.names("output");
        names.iter().any(|name| name.ends_with(".part"))
    });
    client.signal(Signal::KILL);
    assert_eq!(client.wait().code, None);
    assert!(dir.names("output").iter().all(|name| name.starts_with('.')));
    let output = dir.run(CLIENT, &["--addr", &fake.addr(), "--batch"]);
    output.assert_success("fetched 1 image (2.00 MiB); 0 already there; 0 failed");
    assert_eq!(dir.names("output"), ["a.png"]);
}
