//! TLS and plain TCP, and clients that use the wrong one.

use std::fs;

use crate::support::{CLIENT, TestDir};

const ALL: &str = "fetched 3 images (198.24 KiB); 0 already there; 0 failed";

#[test]
fn t2_default_server_accepts_plain_and_tls() {
    let dir = TestDir::with_images();
    let server = dir.serve(&[]);
    dir.fetch(&server, &[]).succeeded(ALL);
    assert_eq!(dir.files("images"), dir.files("output"));
    dir.fetch(&server, &["--tls", "--out", "by-tls"])
        .succeeded(ALL);
    assert_eq!(dir.files("images"), dir.files("by-tls"));
    let by_address = dir.fetch(
        &server,
        &["--tls", "--server-name", "127.0.0.1", "--out", "by-address"],
    );
    by_address.succeeded(ALL);
    // The last option wins.
    dir.fetch(&server, &["--tls", "--plain", "--tls", "--cert", "nowhere"])
        .failed_with(5, &["nowhere"]);
    dir.fetch(&server, &["--tls", "--plain", "--cert", "nowhere"])
        .succeeded(ALL);
}

#[test]
fn t2_plain_client_of_a_tls_server_is_pointed_to_tls_flag() {
    let dir = TestDir::with_images();
    let server = dir.serve(&["--require-tls"]);
    dir.fetch(&server, &[])
        .failed_with(5, &[&server.address, "requires TLS: use --tls"]);
    assert!(!dir.path("output").exists());
    dir.fetch(&server, &["--tls"]).succeeded(ALL);
}

#[test]
fn t2_tls_client_of_a_plain_server_is_pointed_to_plain_flag() {
    let dir = TestDir::with_images();
    let server = dir.serve(&["--plain"]);
    // With an explicit certificate, because a machine without root certificates would fail earlier.
    let other = TestDir::with_images();
    other.serve(&[]).stop();
    let cert = other.path("cert.pem");
    let args = ["--tls", "--cert", cert.to_str().unwrap()];
    dir.fetch(&server, &args)
        .failed_with(5, &[&server.address, "does not speak TLS: use --plain"]);
    dir.fetch(&server, &[]).succeeded(ALL);
}

#[test]
fn t1_certificates_are_verified() {
    let dir = TestDir::with_images();
    let server = dir.serve(&[]);
    let other = TestDir::with_images();
    other.serve(&[]).stop();
    let wrong_cert = other.path("cert.pem");
    let args = ["--tls", "--cert", wrong_cert.to_str().unwrap()];
    dir.fetch(&server, &args)
        .failed_with(5, &["certificate of", &server.address]);
    dir.fetch(&server, &["--tls", "--server-name", "pictures.example"])
        .failed_with(5, &["is for localhost", "--server-name"]);
    dir.fetch(&server, &["--tls", "--server-name", "no name"])
        .failed_with(5, &["--server-name"]);
    fs::write(dir.path("broken.pem"), "-----BEGIN CERTIFICATE-----\n").unwrap();
    dir.fetch(&server, &["--tls", "--cert", "broken.pem"])
        .failed_with(5, &["broken.pem"]);
    // Without a file the client uses the system's roots, which do not contain this server's certificate.
    let away = TestDir::new();
    let finished = away.run(CLIENT, &["--tls", "--addr", &server.address]);
    finished.failed_with(5, &["--cert"]);
    // No log lines of libraries beside the error.
    assert_eq!(finished.err.lines().count(), 1, "{}", finished.err);
}
