//! `--watch`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use jtp_core::ImageId;
use rustix::process::Signal;

use crate::support::{CLIENT, Fake, Place, Running, list_response, packet, picture};

fn watch(place: &Place, server: &Running, args: &[&str]) -> Running {
    let args = [&["--watch", "--addr", server.address.as_str()], args].concat();
    let client = Running::start(place.command(CLIENT, &args));
    client.err.until("watching");
    client
}

#[test]
fn n1_new_images_are_fetched_as_they_come_until_ctrl_c() {
    let place = Place::with_images();
    let server = place.serve(&["--no-tls"]);
    let client = watch(&place, &server, &[]);
    assert!(client.out.line().starts_with("fetched 3 images"));
    place.add("new.png", &picture(5, 400));
    assert_eq!(client.out.line(), "fetched new.png (400 B)");
    // A changed image is a new one, and replaces the old one's file.
    place.add("a.png", &picture(6, 2048));
    assert_eq!(client.out.line(), "fetched a.png (2.00 KiB)");
    assert_eq!(place.files("output"), place.files("images"));
    client.signal(Signal::INT);
    assert_eq!(client.end().code, Some(130));
}

#[test]
fn n5_after_a_reconnect_nothing_is_missing() {
    let place = Place::with_images();
    let server = place.serve(&[]);
    let client = watch(&place, &server, &["--batch", "--tls", "-k"]);
    assert!(client.out.line().starts_with("fetched 3 images"));
    let address = server.address.clone();
    assert_eq!(server.stop().code, Some(0));
    let lost = client.err.until("trying again");
    assert!(lost.contains(&address), "{lost}");
    place.add("meanwhile.png", &picture(5, 400));
    fs::remove_file(place.path("images/b.jpg")).unwrap();
    let server = place.serve_on(&address, &[]);
    assert_eq!(client.out.line(), "fetched meanwhile.png (400 B)");
    place.add("later.png", &picture(6, 400));
    assert_eq!(client.out.line(), "fetched later.png (400 B)");
    client.signal(Signal::TERM);
    assert_eq!(client.end().code, Some(130));
    drop(server);
}

#[test]
fn s10_a_server_that_offers_no_watch_is_told() {
    let place = Place::with_images();
    let server = place.serve(&["--no-watch"]);
    let ended = place.fetch(&server, &["--watch"]);
    ended.failed(1, &["UnsupportedFeature"]);
    ended.says("fetched 3 images (198.24 KiB); 0 already there; 0 failed");
}

/// An event that tells of an image with that ID.
fn event(name: &str, id: ImageId, size: u32) -> Vec<u8> {
    let listed = list_response(&[(name, id, size)]);
    [b"JTPW", &listed[5..]].concat() // Without JTPL and its count of one byte.
}

#[test]
fn n2_news_is_read_while_an_image_is_being_fetched() {
    let place = Place::new();
    let response = |packet: &[u8]| [b"JTPD".as_slice(), &[1], packet].concat();
    let (image, second) = (picture(5, 400), picture(6, 400));
    let (id, second_id) = (ImageId::of(&image), ImageId::of(&second));
    let (asked, all_read) = (Barrier::new(2), Barrier::new(2));
    let (lists, gets) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let fake = Fake::new(move |_, request, stream| {
        let counter = if request == 0 { &gets } else { &lists };
        match (request, counter.fetch_add(1, Ordering::SeqCst)) {
            // The first job.
            (1, 0) => drop(stream.write_all(&list_response(&[]))),
            // LIST with WATCH behind it.
            (1, 1) => {
                stream.write_all(&list_response(&[])).unwrap();
                stream.write_all(&event("new.png", id, 400)).unwrap();
                asked.wait();
                // More than fits into the buffers of both sockets, and more than a client remembers.
                let name = "x".repeat(60_000);
                for n in 0..=255 {
                    let other = ImageId::from_be_bytes([7, 7, 7, 7, 7, 7, 7, n]);
                    stream.write_all(&event(&name, other, 1)).unwrap();
                }
                all_read.wait();
                drop(stream.read(&mut [0])); // Open for as long as the client wants.
            }
            // What there was too much of to remember, the catalog tells.
            (1, _) => {
                let list = [("new.png", id, 400), ("b.png", second_id, 400)];
                drop(stream.write_all(&list_response(&list)));
            }
            // The first image comes once all news is read.
            (_, 0) => {
                asked.wait();
                all_read.wait();
                drop(stream.write_all(&response(&packet(id, &image))));
            }
            _ => drop(stream.write_all(&response(&packet(second_id, &second)))),
        }
    });
    let client = Running::start(place.command(CLIENT, &["--watch", "--addr", &fake.addr()]));
    client.err.until("watching");
    client.out.until("fetched new.png");
    client.out.until("fetched b.png");
    client.signal(Signal::INT);
    assert_eq!(client.end().code, Some(130));
    assert_eq!(place.names("output"), ["b.png", "new.png"]);
}
