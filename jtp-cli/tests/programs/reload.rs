//! SIGHUP: the server reads certificate, key and clients again.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use jtp_tokio::tls::KeyFingerprint;
use rcgen::{CertificateParams, KeyPair};
use rustix::process::Signal;

use crate::identity::{identity, list};
use crate::support::{ALL, CLIENT, Folder as _, Process, TestDir, key_in, key_of, noise};

fn watch(dir: &TestDir, server: &Process, identity: &str, out: &str) -> Process {
    let args = format!("--identity {identity} --out {out}");
    dir.watch(&server.address, &args)
}

#[test]
fn t7_removed_client_is_disconnected_and_others_go_on() {
    let dir = TestDir::with_images();
    let (alice, bob) = (identity(&dir, "alice.pem"), identity(&dir, "bob.pem"));
    let (alice, bob) = (
        format!("{} Alice", alice.split_once(' ').unwrap().0),
        format!("{} Bob", bob.split_once(' ').unwrap().0),
    );
    list(&dir, &[&alice, &bob]);
    let server = dir.serve("--clients clients");
    let kept = watch(&dir, &server, "alice.pem", "kept");
    let removed = watch(&dir, &server, "bob.pem", "removed");
    list(&dir, &[&alice]);
    server.signal(Signal::HUP);
    server.err.wait_for("SIGHUP: removed from clients: Bob");
    removed
        .wait()
        .assert_failure(5, &["does not admit this client", "sha256:"]);
    // The connection of the other one is still the same.
    dir.add("new.png", &noise(400, 5));
    kept.out.wait_for("fetched new.png");
    list(&dir, &[&bob, &alice]);
    server.signal(Signal::HUP);
    server.err.wait_for("SIGHUP: added to clients: Bob");
    dir.fetch(&server, "--identity bob.pem --list")
        .assert_no_error();
    list(&dir, &[&bob]);
    server.signal(Signal::HUP);
    server.err.wait_for("SIGHUP: removed from clients: Alice");
    kept.wait()
        .assert_failure(5, &["does not admit this client"]);
    drop(server);
}

/// Opening a pipe would wait for a program that writes to it: for ever, and with it every later SIGHUP.
#[test]
#[cfg(target_os = "linux")]
fn pipes_in_place_of_files_are_refused_at_once() {
    use crate::support::SERVER;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let dir = TestDir::with_images();
    let alice = identity(&dir, "alice.pem");
    list(&dir, &[&alice]);
    let make_pipe = |name: &str| {
        let _ = fs::remove_file(dir.path(name));
        let mode = Mode::from_raw_mode(0o600);
        mknodat(CWD, dir.path(name), FileType::Fifo, mode, 0).unwrap();
    };
    make_pipe("pipe");
    let server = dir.serve("--clients clients");
    make_pipe("clients");
    server.signal(Signal::HUP);
    server.err.wait_for("not a regular file");
    dir.remove("clients");
    list(&dir, &["# nobody"]);
    server.signal(Signal::HUP);
    server.err.wait_for("removed from clients: ");
    make_pipe("cert.pem");
    server.signal(Signal::HUP);
    server.err.wait_for("cannot read cert.pem");
    drop(server);

    for (program, args) in [
        (SERVER, "--bind 127.0.0.1:0 --clients pipe --cert a --key b"),
        (SERVER, "--bind 127.0.0.1:0 --cert pipe --key key.pem"),
        (SERVER, "--bind 127.0.0.1:0 --cert alice.pem --key pipe"),
        (CLIENT, "--list --tls --cert pipe"),
        (CLIENT, "--list --identity pipe"),
    ] {
        dir.run(program, args).assert_in_err("not a regular file");
    }
}

#[test]
fn unusable_files_leave_what_was_in_use() {
    let dir = TestDir::with_images();
    let alice = identity(&dir, "alice.pem");
    list(&dir, &[&alice]);
    let server = dir.serve("--clients clients");
    let (cert, key) = (dir.read("cert.pem"), dir.read("key.pem"));
    dir.write("copy.pem", &cert);
    list(&dir, &["sha256:00 mallory"]);
    dir.write("cert.pem", "-----BEGIN CERTIFICATE-----\n");
    server.signal(Signal::HUP);
    let line = server.err.wait_for("SIGHUP: the clients in use stay");
    assert!(line.contains("cannot use clients: line 1"), "{line}");
    let line = server.err.wait_for("SIGHUP: the certificate in use stays");
    assert!(line.contains("cert.pem does not contain"), "{line}");
    let args = "--identity alice.pem --cert copy.pem";
    dir.fetch(&server, &args).assert_success(ALL);
    // Each file counts for itself: one that is usable is used.
    list(&dir, &["# nobody"]);
    server.signal(Signal::HUP);
    server.err.wait_for("SIGHUP: removed from clients");
    server.err.wait_for("SIGHUP: the certificate in use stays");
    dir.fetch(&server, &args)
        .assert_failure(5, &["does not admit"]);
    // A key that is not the certificate's.
    list(&dir, &[&alice]);
    dir.write("cert.pem", &cert);
    dir.write("key.pem", KeyPair::generate().unwrap().serialize_pem());
    server.signal(Signal::HUP);
    let line = server.err.wait_for("SIGHUP: the certificate in use stays");
    assert!(line.contains("does not match"), "{line}");
    dir.remove("key.pem");
    server.signal(Signal::HUP);
    let line = server.err.wait_for("SIGHUP: the certificate in use stays");
    assert!(line.contains("cannot read key.pem"), "{line}");
    assert!(!dir.path("key.pem").exists());
    dir.write("key.pem", key);
    server.signal(Signal::HUP);
    server
        .err
        .wait_for("SIGHUP: the keys in clients are unchanged");
    server.err.wait_for("SIGHUP: the certificate is unchanged");
    dir.fetch(&server, &args).assert_success(ALL);
}

#[test]
fn new_certificate_is_used_and_open_connections_go_on() {
    let dir = TestDir::with_images();
    let server = dir.serve("");
    let old_pin = key_of(&server);
    let key = KeyPair::generate().unwrap();
    let params = |serial: u64| {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.serial_number = Some(serial.into());
        params.self_signed(&key).unwrap()
    };
    let new_pin = KeyFingerprint::of_certificate(params(1).der())
        .unwrap()
        .to_string();
    // It may fetch images over new connections.
    let client = dir.watch(&server.address, &format!("--pin {old_pin} --pin {new_pin}"));
    dir.write("key.pem", key.serialize_pem());
    dir.write("cert.pem", params(1).pem());
    server.signal(Signal::HUP);
    let line = server.err.wait_for("SIGHUP: new certificate");
    assert!(line.contains("with the new key sha256:"), "{line}");
    assert_eq!(key_in(&line), new_pin);
    dir.fetch(&server, &format!("--pin {new_pin} --out other"))
        .assert_success(ALL);
    dir.fetch(&server, &format!("--pin {old_pin} --out other"))
        .assert_failure(5, &["--pin expects"]);
    dir.write("cert.pem", params(2).pem());
    server.signal(Signal::HUP);
    let line = server.err.wait_for("SIGHUP: new certificate");
    assert!(line.contains("of the same key"), "{line}");
    dir.fetch(&server, "--tls --out other").assert_success(ALL);
    dir.add("new.png", &noise(400, 5));
    client.out.wait_for("fetched new.png");
    server.stop().assert_exit(0);
    let lost = client.err.next_line();
    assert!(lost.contains("retrying"), "{lost}");
}

#[test]
fn a_burst_of_hangups_ends_with_the_last_files() {
    // In another folder than the images: a confined server can read it as well.
    let (dir, lists) = (TestDir::with_images(), TestDir::new());
    let alice = identity(&dir, "alice.pem");
    list(&lists, &["# nobody"]);
    let clients = lists.path("clients");
    let server = dir.serve(&["--clients", clients.to_str().unwrap()]);
    for _ in 0..20 {
        server.signal(Signal::HUP);
    }
    list(&lists, &[&alice]);
    server.signal(Signal::HUP);
    server.err.wait_for("SIGHUP: added to ");
    dir.fetch(&server, "--identity alice.pem")
        .assert_success(ALL);
    server.stop().assert_exit(0);
}

#[test]
fn server_without_tls_ignores_hangups() {
    let dir = TestDir::with_images();
    let server = dir.serve("--no-tls");
    let mut open = TcpStream::connect(&server.address).unwrap();
    server.signal(Signal::HUP);
    server.err.wait_for("ignoring SIGHUP");
    assert!(
        !dir.path("cert.pem").exists(),
        "plain TCP needs no certificate"
    );
    open.write_all(&[1, 0]).unwrap();
    let mut header = [0; 4];
    open.read_exact(&mut header).unwrap();
    assert_eq!(&header, b"JTPL");
    server.stop().assert_exit(0);
}
