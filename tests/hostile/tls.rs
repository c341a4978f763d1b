//! T1: broken TLS, oversized records, and renegotiation.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::ConnectionTrafficSecrets;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};

use super::{HonestClient, Mib, measuring_time, report, report_line, scale, sockets};
use crate::support::TEST_TIMEOUT;
use crate::support::process::{Process, WorkDir, peak_memory, wait_until};

/// A TLS record with arbitrary content.
fn record(kind: u8, length: u16, body: &[u8]) -> Vec<u8> {
    [&[kind, 3, 1][..], &length.to_be_bytes(), body].concat()
}

/// Sends everything and reads until the server closes; returns the number of bytes received.
fn until_closed(server: &Process, pieces: impl IntoIterator<Item = Vec<u8>>) -> usize {
    let mut stream = TcpStream::connect(server.addr()).unwrap();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    stream.set_write_timeout(Some(TEST_TIMEOUT)).unwrap();
    for piece in pieces {
        if stream.write_all(&piece).is_err() {
            break;
        }
    }
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return answer.len(),
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("the server does not close")
            }
            Err(_) => return answer.len(), // A reset, because the server left bytes unread.
        }
    }
}

#[test]
fn t1_broken_and_oversized_records_end_the_connection() {
    let workdir = WorkDir::samples();
    let server = workdir.server("--compression-threshold 0");
    let honest = HonestClient::of(&server, &workdir);
    let baseline = honest.fetch_for(measuring_time());
    let before = peak_memory(server.id()).unwrap();
    let count = scale(10, 300);
    let cases: [(&str, Vec<Vec<u8>>); 7] = [
        (
            "a record of 65535 bytes",
            vec![record(22, 0xffff, &[0; 0xffff])],
        ),
        (
            "a record of 16385 bytes and its overhead",
            vec![record(22, 18_433, &[1; 18_433])],
        ),
        ("a handshake message of 16 MiB, in records", {
            let begin = [&[1, 0xff, 0xff, 0xff][..], &[0; 16_380]].concat();
            std::iter::once(record(22, 16_384, &begin))
                .chain((0..1_023).map(|_| record(22, 16_384, &[0; 16_384])))
                .collect()
        }),
        ("empty records", vec![record(22, 0, &[]).repeat(10_000)]),
        (
            "application data before the handshake",
            vec![record(23, 3, b"\x01\x00\x00")],
        ),
        (
            "an alert, then other bytes",
            vec![record(21, 2, &[2, 40]), vec![7; 1_000]],
        ),
        ("SSL 2", vec![vec![0x16, 0x80, 0x2e, 1, 0, 2, 0, 0, 0, 0]]),
    ];
    for (what, pieces) in cases {
        let mut answered = 0;
        for _ in 0..count {
            answered = answered.max(until_closed(&server, pieces.clone()));
        }
        report_line!("{count} x {what}: all closed, at most {answered} bytes of answer");
    }
    let under_attack = honest.fetch_for(measuring_time());
    report("afterwards", &server, before, baseline, under_attack);
    assert!(
        peak_memory(server.id()).unwrap() < before + (16 << 20),
        "{}",
        Mib(peak_memory(server.id()).unwrap())
    );
}

/// A TLS 1.2 client session with its keys extracted, to send records that no library sends.
fn session(server: &Process, workdir: &WorkDir) -> (TcpStream, LessSafeKey, [u8; 4], u64) {
    let certificate = CertificateDer::from_pem_file(workdir.path().join("cert.pem")).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let provider = rustls::crypto::CryptoProvider {
        cipher_suites: vec![TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256],
        ..rustls::crypto::aws_lc_rs::default_provider()
    };
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.enable_secret_extraction = true;
    let name = ServerName::try_from("localhost").unwrap();
    let mut session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = TcpStream::connect(server.addr()).unwrap();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    while session.is_handshaking() || session.wants_write() {
        session.complete_io(&mut stream).unwrap();
    }
    let (sequence, secrets) = session.dangerous_extract_secrets().unwrap().tx;
    let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else {
        panic!("unexpected cipher")
    };
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, key.as_ref()).unwrap());
    (stream, key, iv.as_ref()[..4].try_into().unwrap(), sequence)
}

/// A TLS 1.2 record encrypted with AES-GCM (RFC 5288).
fn sealed(key: &LessSafeKey, salt: [u8; 4], sequence: u64, kind: u8, plain: &[u8]) -> Vec<u8> {
    let explicit = sequence.to_be_bytes();
    let nonce: [u8; 12] = [&salt[..], &explicit].concat().try_into().unwrap();
    let length = u16::try_from(plain.len()).unwrap().to_be_bytes();
    let aad = [&explicit[..], &[kind, 3, 3], &length].concat();
    let mut sealed = plain.to_vec();
    let nonce = Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(nonce, Aad::from(aad), &mut sealed)
        .unwrap();
    let length = u16::try_from(8 + sealed.len()).unwrap().to_be_bytes();
    [&[kind, 3, 3][..], &length, &explicit, &sealed].concat()
}

#[test]
fn t1_renegotiation_in_tls_1_2_is_refused() {
    let workdir = WorkDir::samples();
    let server = workdir.server("--compression-threshold 0");
    let quiet = sockets(server.id());
    let honest = HonestClient::of(&server, &workdir);
    let baseline = honest.fetch_for(measuring_time());
    let before = peak_memory(server.id()).unwrap();
    // ClientHello: TLS 1.2, no session, one cipher suite, no compression.
    let body = [&[3, 3][..], &[9; 32], &[0, 0, 2, 0xc0, 0x2b, 1, 0]].concat();
    let hello = [&[1, 0, 0, u8::try_from(body.len()).unwrap()][..], &body].concat();
    let count = scale(5, 200);
    let mut answers = Vec::new();
    for _ in 0..count {
        let (mut stream, key, salt, mut sequence) = session(&server, &workdir);
        // LIST is answered, so the keys are correct.
        stream
            .write_all(&sealed(&key, salt, sequence, 23, &[1, 1]))
            .unwrap();
        let mut header = [0; 5];
        stream.read_exact(&mut header).unwrap();
        assert_eq!(header[0], 23, "application data");
        let mut tried = 0;
        while tried < 1_000 {
            sequence += 1;
            tried += 1;
            if stream
                .write_all(&sealed(&key, salt, sequence, 22, &hello))
                .is_err()
            {
                break;
            }
        }
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        answers.push(rest.len());
    }
    wait_until("all are closed", || sockets(server.id()) <= quiet);
    let most = answers.iter().max().unwrap();
    report_line!("{count} connections that request renegotiation repeatedly: all closed");
    // The catalog and some alerts, but no second ServerHello with a certificate.
    assert!(*most < 8 * 1024, "{most} bytes of answer");
    let under_attack = honest.fetch_for(measuring_time());
    report("afterwards", &server, before, baseline, under_attack);
    assert!(
        peak_memory(server.id()).unwrap() < before + (16 << 20),
        "{}",
        Mib(peak_memory(server.id()).unwrap())
    );
}
