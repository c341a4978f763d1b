//! What keeps a server from starting, and what it shares.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use crate::support::{Place, SERVER};

#[test]
fn a_missing_images_folder_is_named() {
    let place = Place::new();
    let ended = place.run(SERVER, &["--images", "nowhere", "--bind", "127.0.0.1:0"]);
    ended.failed(1, &["nowhere", "No such file", "--images"]);
    fs::write(place.path("file"), "").unwrap();
    place
        .run(SERVER, &["--images", "file", "--bind", "127.0.0.1:0"])
        .failed(1, &["file", "Not a directory"]);
}

#[test]
fn a_port_in_use_is_told_before_any_image_is_read() {
    let place = Place::with_images();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let ended = place.run(SERVER, &["--bind", &address]);
    ended.failed(1, &[&address, "in use", "--bind"]);
    place
        .run(SERVER, &["--bind", "192.0.2.1:0"])
        .failed(1, &["no address of this machine"]);
    place
        .run(SERVER, &["--bind", "nohost.invalid:0"])
        .failed(1, &["nohost.invalid", "--bind"]);
}

#[test]
fn certificate_and_key_are_made_once_and_kept() {
    let place = Place::with_images();
    let server = place.serve(&[]);
    let mode = fs::metadata(place.path("key.pem"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let made = (
        fs::read(place.path("cert.pem")).unwrap(),
        fs::read(place.path("key.pem")).unwrap(),
    );
    assert_eq!(server.stop().code, Some(0));
    place.serve(&[]).stop();
    let kept = (
        fs::read(place.path("cert.pem")).unwrap(),
        fs::read(place.path("key.pem")).unwrap(),
    );
    assert_eq!(made, kept);
    let plain = Place::with_images();
    plain.serve(&["--no-tls"]).stop();
    assert!(!plain.path("cert.pem").exists(), "plain TCP needs none");
}

#[test]
fn a_broken_or_lonely_certificate_is_named() {
    let place = Place::with_images();
    let run = |args: &[&str]| place.run(SERVER, &[&["--bind", "127.0.0.1:0"], args].concat());
    fs::write(place.path("cert.pem"), "no certificate").unwrap();
    run(&[]).failed(1, &["cert.pem is there", "key.pem is missing"]);
    fs::write(place.path("key.pem"), "no key").unwrap();
    run(&[]).failed(1, &["cert.pem does not contain a certificate"]);
    run(&["--cert", "nowhere/c.pem", "--key", "nowhere/k.pem"])
        .failed(1, &["nowhere/k.pem", "--no-tls"]);
    run(&["--cert", "images", "--key", "key.pem"]).failed(1, &["cannot read images"]);
}

#[test]
fn only_and_compression_are_as_asked() {
    let place = Place::with_images();
    let server = place.serve(&["--only", ".BMP", "--compression-threshold", "0"]);
    let listed = place.fetch(&server, &["--list"]);
    assert_eq!(listed.code, Some(0));
    let words: Vec<_> = listed.out.split_whitespace().collect();
    assert_eq!(words[1..], ["200002", "BMP", "c.bmp"], "{listed:?}");
}

#[test]
fn the_first_lines_say_what_is_shared_and_how() {
    let place = Place::with_images();
    for (args, tongue) in [
        (&[][..], "TLS, on this machine plain TCP too"),
        (&["--no-tls"], "plain TCP"),
        (&["--require-tls"], "TLS"),
        (&["--allow-plain"], "TLS and plain TCP"),
    ] {
        let server = place.serve(args);
        let line = server.err.until("sharing");
        assert!(
            line.contains("3 images (") && line.ends_with(&format!("by {tongue}")),
            "{line}"
        );
        assert!(line.contains(&server.address), "{line}");
    }
}
