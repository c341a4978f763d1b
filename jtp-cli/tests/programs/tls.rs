//! TLS and plain TCP, and clients that use the wrong one.

use std::fs;

use crate::support::{CLIENT, TestDir};

const ALL: &str = "fetched 3 images (198.24 KiB); 0 already there; 0 failed";

#[test]
fn t2_default_server_accepts_plain_and_tls() {
    let dir = TestDir::with_images();
    let server = dir.serve(&[]);
    dir.fetch(&server, &[]).assert_success(ALL);
    assert_eq!(dir.files("images"), dir.files("output"));
    dir.fetch(&server, &["--tls", "--out", "by-tls"])
        .assert_success(ALL);
    assert_eq!(dir.files("images"), dir.files("by-tls"));
    let by_address = dir.fetch(
        &server,
        &["--tls", "--server-name", "127.0.0.1", "--out", "by-address"],
    );
    by_address.assert_success(ALL);
    // The last option wins.
    dir.fetch(&server, &["--tls", "--plain", "--tls", "--cert", "nowhere"])
        .assert_failure(5, &["nowhere"]);
    dir.fetch(&server, &["--tls", "--plain", "--cert", "nowhere"])
        .assert_success(ALL);
}

#[test]
fn t2_plain_client_of_a_tls_server_is_pointed_to_tls_flag() {
    let dir = TestDir::with_images();
    let server = dir.serve(&["--require-tls"]);
    dir.fetch(&server, &[])
        .assert_failure(5, &[&server.address, "requires TLS: use --tls"]);
    assert!(!dir.path("output").exists());
    dir.fetch(&server, &["--tls"]).assert_success(ALL);
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
        .assert_failure(5, &[&server.address, "does not speak TLS: use --plain"]);
    dir.fetch(&server, &[]).assert_success(ALL);
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
        .assert_failure(5, &["certificate of", &server.address]);
    dir.fetch(&server, &["--tls", "--server-name", "pictures.example"])
        .assert_failure(5, &["is for localhost", "--server-name"]);
    dir.fetch(&server, &["--tls", "--server-name", "no name"])
        .assert_failure(5, &["--server-name"]);
    fs::write(dir.path("broken.pem"), "-----BEGIN CERTIFICATE-----\n").unwrap();
    dir.fetch(&server, &["--tls", "--cert", "broken.pem"])
        .assert_failure(5, &["broken.pem"]);
    // Without a file the client uses the system's roots, which do not contain this server's certificate.
    let away = TestDir::new();
    let output = away.run(CLIENT, &["--tls", "--addr", &server.address]);
    output.assert_failure(5, &["--cert"]);
    // No log lines of libraries beside the error.
    assert_eq!(output.err.lines().count(), 1, "{}", output.err);
}
