//! TLS and plain TCP, and clients that use the wrong one.

use std::io::Read;
use std::net::{Shutdown, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use jtp_cli::tls::pem::read_certificates;
use jtp_cli::tls::provider;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;

use crate::support::{ALL, CLIENT, Folder as _, TestDir};

#[test]
fn t2_default_server_accepts_plain_and_tls() {
    let dir = TestDir::with_images();
    let server = dir.serve("");
    dir.fetch(&server, "").assert_success(ALL);
    assert_eq!(dir.files("images"), dir.files("output"));
    dir.fetch(&server, "--tls --out by-tls").assert_success(ALL);
    assert_eq!(dir.files("images"), dir.files("by-tls"));
    dir.fetch(&server, "--tls --server-name 127.0.0.1 --out by-address")
        .assert_success(ALL);
    // The last option wins.
    dir.fetch(&server, "--tls --plain --tls --cert nowhere")
        .assert_failure(5, &["nowhere"]);
    dir.fetch(&server, "--tls --plain --cert nowhere")
        .assert_success(ALL);
}

#[test]
fn t2_plain_client_of_a_tls_server_is_pointed_to_tls_flag() {
    let dir = TestDir::with_images();
    let server = dir.serve("--require-tls");
    dir.fetch(&server, "")
        .assert_failure(5, &[&server.address, "requires TLS; use --tls"]);
    assert!(!dir.path("output").exists());
    dir.fetch(&server, "--tls").assert_success(ALL);
}

#[test]
fn t2_tls_client_of_a_plain_server_is_pointed_to_plain_flag() {
    let dir = TestDir::with_images();
    let server = dir.serve("--plain");
    // With an explicit certificate, because a machine without root certificates would fail earlier.
    let other = TestDir::with_images();
    other.serve("").stop();
    let cert = other.path("cert.pem");
    let args = ["--tls", "--cert", cert.to_str().unwrap()];
    dir.fetch(&server, &args)
        .assert_failure(5, &[&server.address, "does not speak TLS; use --plain"]);
    dir.fetch(&server, "").assert_success(ALL);
}

#[test]
fn t1_certificates_are_verified() {
    let dir = TestDir::with_images();
    let server = dir.serve("");
    let other = TestDir::with_images();
    other.serve("").stop();
    let wrong_cert = other.path("cert.pem");
    let args = ["--tls", "--cert", wrong_cert.to_str().unwrap()];
    dir.fetch(&server, &args)
        .assert_failure(5, &["certificate of", &server.address]);
    dir.fetch(&server, "--tls --server-name pictures.example")
        .assert_failure(5, &["is for localhost", "--server-name"]);
    dir.fetch(&server, &["--tls", "--server-name", "no name"])
        .assert_failure(5, &["--server-name"]);
    dir.write("broken.pem", "-----BEGIN CERTIFICATE-----\n");
    dir.fetch(&server, "--tls --cert broken.pem")
        .assert_failure(5, &["broken.pem"]);
    // Without a file the client uses the system's roots, which do not contain this server's certificate.
    let away = TestDir::new();
    let output = away.run(CLIENT, &["--tls", "--addr", &server.address]);
    output.assert_failure(5, &["--cert"]);
    // No log lines of libraries beside the error.
    assert_eq!(output.err.lines().count(), 1, "{}", output.err);
}

/// The certificate of the program `server`, in a configuration that requires client certificates.
fn requiring_client_certificates(dir: &TestDir) -> rustls::ServerConfig {
    dir.serve("").stop();
    let chain = read_certificates(&dir.path("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(dir.path("key.pem")).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(chain[0].clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain, key)
        .unwrap()
}

#[test]
fn a_server_that_requires_a_client_certificate_exits_5_without_retries() {
    let dir = TestDir::with_images();
    let config = Arc::new(requiring_client_certificates(&dir));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let connections = Arc::new(AtomicUsize::new(0));
    let accepted = Arc::clone(&connections);
    thread::spawn(move || {
        for stream in listener.incoming() {
            accepted.fetch_add(1, Ordering::SeqCst);
            let mut stream = stream.unwrap();
            let mut tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            // With TLS 1.3 the client's handshake succeeds, and the alert is the answer to its request.
            tls.complete_io(&mut stream).unwrap_err();
            while tls.wants_write() {
                tls.write_tls(&mut stream).unwrap();
            }
            stream.shutdown(Shutdown::Write).unwrap();
            // Reads to the end: closing with unread bytes would reset the connection and discard the alert.
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    dir.run(CLIENT, &format!("--tls --addr {address}"))
        .assert_failure(
            5,
            &[
                &address,
                "requires a client certificate; pass one with --identity",
            ],
        );
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}
