//! `--watch`.

use std::io::{Read as _, Write as _};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use jtp_core::ImageId;
use rustix::process::Signal;

use crate::support::{
    FakeServer, Folder as _, TestDir, images_response, list_response, noise, packet,
};

#[test]
fn n1_new_images_are_fetched_until_ctrl_c() {
    let dir = TestDir::with_images();
    let server = dir.serve("--no-tls");
    let client = dir.watch(&server.address, "");
    assert!(client.out.next_line().starts_with("fetched 3 images"));
    dir.add("new.png", &noise(400, 5));
    assert_eq!(client.out.next_line(), "fetched new.png (400 B)");
    // A changed image has a new ID and replaces the old file.
    dir.add("a.png", &noise(2048, 6));
    assert_eq!(
        client.out.next_line(),
        "fetched a.png (2.00 KiB), replacing a file"
    );
    client.end(Signal::INT).assert_exit(130);
    assert_eq!(dir.files("output"), dir.files("images"));
}

#[test]
fn n5_no_image_is_missed_across_a_reconnect() {
    let dir = TestDir::with_images();
    let server = dir.serve("");
    let client = dir.watch(&server.address, "--batch --tls -k");
    assert!(client.out.next_line().starts_with("fetched 3 images"));
    let address = server.address.clone();
    server.stop().assert_exit(0);
    let lost = client.err.wait_for("retrying in");
    assert!(lost.contains(&address), "{lost}");
    dir.add("meanwhile.png", &noise(400, 5));
    dir.remove("images/b.jpg");
    let server = dir.serve_on(&address, "");
    let again = client.err.wait_for("connected");
    assert_eq!(again, format!("connected to {address} again"));
    assert_eq!(client.out.next_line(), "fetched meanwhile.png (400 B)");
    dir.add("later.png", &noise(400, 6));
    assert_eq!(client.out.next_line(), "fetched later.png (400 B)");
    client.end(Signal::TERM).assert_exit(130);
    drop(server);
}

#[test]
fn s10_a_server_without_watch_is_an_error() {
    let dir = TestDir::with_images();
    let server = dir.serve("--no-watch");
    dir.fetch(&server, "--watch")
        .assert_failure(1, &["UnsupportedFeature"])
        .assert_summary("fetched 3 images (198.24 KiB); 0 already there; 0 failed");
}

/// A WATCH event that announces an image.
fn event(name: &str, id: ImageId, size: u32) -> Vec<u8> {
    let listed = list_response(&[(name, id, size)]);
    [b"JTPW", &listed[5..]].concat() // Without JTPL and its one-byte count.
}

#[test]
fn n2_events_are_read_while_an_image_is_fetched() {
    let dir = TestDir::new();
    let (image, second) = (noise(400, 5), noise(400, 6));
    let (id, second_id) = (ImageId::of(&image), ImageId::of(&second));
    let (requested, all_read) = (Barrier::new(2), Barrier::new(2));
    let (lists, gets) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let fake = FakeServer::new(move |_, request, stream| {
        let counter = if request == 0 { &gets } else { &lists };
        match (request, counter.fetch_add(1, Ordering::SeqCst)) {
            // The first job.
            (1, 0) => drop(stream.write_all(&list_response(&[]))),
            // LIST and a pipelined WATCH.
            (1, 1) => {
                stream.write_all(&list_response(&[])).unwrap();
                stream.write_all(&event("new.png", id, 400)).unwrap();
                requested.wait();
                // More than the socket buffers hold, and more than a client queues.
                let name = "x".repeat(60_000);
                for n in 0..=255 {
                    let other = ImageId::from_be_bytes([7, 7, 7, 7, 7, 7, 7, n]);
                    stream.write_all(&event(&name, other, 1)).unwrap();
                }
                all_read.wait();
                drop(stream.read(&mut [0])); // Until the client closes.
            }
            // The reconcile after the overflow.
            (1, _) => {
                let list = [("new.png", id, 400), ("b.png", second_id, 400)];
                drop(stream.write_all(&list_response(&list)));
            }
            // The first image is sent when all events have been read.
            (_, 0) => {
                requested.wait();
                all_read.wait();
                drop(stream.write_all(&images_response(0, &[packet(id, &image)])));
            }
            _ => drop(stream.write_all(&images_response(0, &[packet(second_id, &second)]))),
        }
    });
    let client = dir.watch(&fake.addr(), "");
    client.out.wait_for("fetched new.png");
    client.out.wait_for("fetched b.png");
    client.end(Signal::INT).assert_exit(130);
    assert_eq!(dir.names("output"), ["b.png", "new.png"]);
}
