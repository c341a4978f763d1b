//! TLS, plain TCP, and the mix-ups.

use std::fs;

use crate::support::{CLIENT, Place};

const ALL: &str = "fetched 3 images (198.24 KiB); 0 already there; 0 failed";

#[test]
fn t2_the_defaults_work_together_and_so_does_tls() {
    let place = Place::with_images();
    let server = place.serve(&[]);
    place.fetch(&server, &[]).well(ALL);
    assert_eq!(place.files("images"), place.files("output"));
    place
        .fetch(&server, &["--tls", "--out", "by-tls"])
        .well(ALL);
    assert_eq!(place.files("images"), place.files("by-tls"));
    let by_address = place.fetch(
        &server,
        &["--tls", "--server-name", "127.0.0.1", "--out", "by-address"],
    );
    by_address.well(ALL);
    // The last one wins.
    place
        .fetch(&server, &["--tls", "--plain", "--tls", "--cert", "nowhere"])
        .failed(5, &["nowhere"]);
    place
        .fetch(&server, &["--tls", "--plain", "--cert", "nowhere"])
        .well(ALL);
}

#[test]
fn t2_a_plain_client_of_a_tls_server_is_told_so() {
    let place = Place::with_images();
    let server = place.serve(&["--require-tls"]);
    place
        .fetch(&server, &[])
        .failed(5, &[&server.address, "use --tls"]);
    assert!(!place.path("output").exists());
    place.fetch(&server, &["--tls"]).well(ALL);
}

#[test]
fn t2_a_tls_client_of_a_plain_server_is_told_so() {
    let place = Place::with_images();
    let server = place.serve(&["--plain"]);
    // The machine may have no roots of its own: then that is told first.
    let made = Place::with_images();
    made.serve(&[]).stop();
    let cert = made.path("cert.pem");
    let args = ["--tls", "--cert", cert.to_str().unwrap()];
    place
        .fetch(&server, &args)
        .failed(5, &[&server.address, "use --plain"]);
    place.fetch(&server, &[]).well(ALL);
}

#[test]
fn t1_certificates_are_verified() {
    let place = Place::with_images();
    let server = place.serve(&[]);
    let other = Place::with_images();
    other.serve(&[]).stop();
    let not_its = other.path("cert.pem");
    let not_its = ["--tls", "--cert", not_its.to_str().unwrap()];
    place
        .fetch(&server, &not_its)
        .failed(5, &["certificate of", &server.address]);
    place
        .fetch(&server, &["--tls", "--server-name", "pictures.example"])
        .failed(5, &["is for localhost", "--server-name"]);
    place
        .fetch(&server, &["--tls", "--server-name", "no name"])
        .failed(5, &["--server-name"]);
    fs::write(place.path("broken.pem"), "-----BEGIN CERTIFICATE-----\n").unwrap();
    place
        .fetch(&server, &["--tls", "--cert", "broken.pem"])
        .failed(5, &["broken.pem"]);
    // Without the file, the system's roots: they do not know this server, or there are none.
    let away = Place::new();
    let ended = away.run(CLIENT, &["--tls", "--addr", &server.address]);
    ended.failed(5, &["--cert"]);
    // The program says what it means to the user; what libraries log about it would only stand beside that.
    assert_eq!(ended.err.lines().count(), 1, "{}", ended.err);
}
