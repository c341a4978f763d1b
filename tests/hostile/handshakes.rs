//! T8: many TLS handshakes from one address.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::{connect_from, scale};
use crate::support::TEST_TIMEOUT;
use crate::support::bytes::*;
use crate::support::files::images_in;
use crate::support::peer::Peer;
use crate::support::process::{Process, WorkDir};
use crate::support::tls::localhost;

fn client_config(workdir: &WorkDir) -> Arc<rustls::ClientConfig> {
    let certificate = CertificateDer::from_pem_file(workdir.path().join("cert.pem")).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// The ClientHello of an ordinary client, to be sent again and again.
fn hello(workdir: &WorkDir) -> Vec<u8> {
    let mut client = rustls::ClientConnection::new(client_config(workdir), localhost()).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

/// A client at 127.0.0.`last` that lists the catalog over TLS.
fn list_over_tls(last: u8, server: &Process, workdir: &WorkDir) {
    let mut peer = Peer::on(connect_from(last, server.addr())).tls(client_config(workdir));
    peer.send([LIST, 1]);
    peer.expect(list_of(&images_in(&workdir.images())));
}

/// Whether the server answers on this connection; `false` if it closes the connection without a byte.
fn is_answered(mut stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    match stream.read(&mut [0]) {
        Ok(count) => count == 1,
        Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("no answer and no end"),
        Err(_) => false,
    }
}

#[test]
fn t8_handshakes_that_wait_for_their_client_delay_no_other() {
    let workdir = WorkDir::samples();
    let server = workdir.server("--max-handshakes 1 --compression-threshold 0");
    let hello = hello(&workdir);
    // Some send half a ClientHello, some never answer the server's part.
    let slow: Vec<TcpStream> = (0..scale(40, 400))
        .map(|n| {
            let mut stream = connect_from(2, server.addr());
            let length = if n % 2 == 0 {
                hello.len() / 2
            } else {
                hello.len()
            };
            stream.write_all(&hello[..length]).unwrap();
            stream
        })
        .collect();
    for stream in slow.iter().skip(1).step_by(2) {
        assert!(is_answered(stream));
    }
    list_over_tls(3, &server, &workdir);
    list_over_tls(2, &server, &workdir);
    for mut stream in slow {
        stream.set_nonblocking(true).unwrap();
        let mut rest = [0; 16 * 1024];
        let error = loop {
            match stream.read(&mut rest) {
                Ok(0) => panic!("closed before its time"),
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "it is still open");
    }
}
