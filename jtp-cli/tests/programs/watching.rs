//! `--watch`.

use std::fs;

use rustix::process::Signal;

use crate::support::{CLIENT, Place, Running, picture};

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
