//! Startup errors of the server, and the options that select what it shares.

use std::net::TcpListener;

use crate::support::{Folder as _, SERVER, TestDir};

#[test]
fn missing_images_folder_is_named_in_the_error() {
    let dir = TestDir::new();
    dir.run(SERVER, "--images nowhere --bind 127.0.0.1:0")
        .assert_failure(1, &["nowhere", "No such file", "--images"]);
    dir.write("file", "");
    dir.run(SERVER, "--images file --bind 127.0.0.1:0")
        .assert_failure(1, &["file", "Not a directory"]);
}

#[test]
fn bind_errors_are_reported_before_images_are_read() {
    let dir = TestDir::with_images();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    dir.run(SERVER, &["--bind", &address])
        .assert_failure(1, &[&address, "in use", "--bind"]);
    dir.run(SERVER, "--bind 192.0.2.1:0")
        .assert_failure(1, &["not an address of this machine"]);
    dir.run(SERVER, "--bind nohost.invalid:0")
        .assert_failure(1, &["nohost.invalid", "--bind"]);
}

#[test]
fn certificate_without_a_key_and_a_missing_folder_are_named() {
    let dir = TestDir::with_images();
    dir.write("cert.pem", "no certificate");
    dir.run(SERVER, "--bind 127.0.0.1:0")
        .assert_failure(1, &["cert.pem exists", "key.pem is missing"]);
    dir.run(SERVER, "--cert nowhere/c.pem --key nowhere/k.pem")
        .assert_failure(1, &["nowhere/k.pem", "--no-tls"]);
}

#[test]
fn only_and_compression_options_apply() {
    let dir = TestDir::with_images();
    let server = dir.serve("--only .BMP --compression-threshold 0");
    let listed = dir.fetch(&server, "--list");
    listed.assert_exit(0);
    let words: Vec<_> = listed.out.split_whitespace().collect();
    assert_eq!(words[1..], ["200002", "BMP", "c.bmp"], "{listed:?}");
}

#[test]
fn startup_log_names_images_address_and_transport() {
    let dir = TestDir::with_images();
    for (args, transport) in [
        ("", "TLS, and plain TCP from this machine"),
        ("--no-tls", "plain TCP"),
        ("--require-tls", "TLS"),
        ("--allow-plain", "TLS and plain TCP"),
    ] {
        let server = dir.serve(args);
        let line = server.err.wait_for("sharing");
        assert!(
            line.contains("3 images (") && line.ends_with(&format!("over {transport}")),
            "{line}"
        );
        assert!(line.contains(&server.address), "{line}");
    }
}
