//! `--proxy-protocol`.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::TestDir;

/// A header for 192.0.2.7:4711.
const HEADER: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\x0a\x00\x00\x01\x12\x67\x20\xfb";

const LIST: [u8; 2] = [1, 0];

fn exchange(address: &str, bytes: &[&[u8]]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&bytes.concat()).unwrap();
    let mut response = Vec::new();
    // A reset is an end.
    let _ = stream.read_to_end(&mut response);
    response
}

#[test]
fn connections_of_listed_proxies_need_a_header_and_are_logged_by_its_address() {
    let dir = TestDir::with_images();
    for networks in [
        "--proxy-protocol 127.0.0.1",
        "--proxy-protocol 192.0.2.1,127.0.0.0/8",
        "--proxy-protocol 192.0.2.1 --proxy-protocol 127.0.0.1/32",
        "--proxy-protocol ::ffff:127.0.0.1",
    ] {
        let server = dir.serve(&format!("--no-tls -vv {networks}"));
        server
            .err
            .wait_for("must begin with a PROXY protocol header");
        let response = exchange(&server.address, &[HEADER, &LIST]);
        assert_eq!(&response[..5], b"JTPL\x03", "{networks:?}");
        server.err.wait_for("192.0.2.7:4711");
        // Without a header: closed, and the operator sees why.
        assert_eq!(exchange(&server.address, &[&LIST]), b"");
        let line = server.err.wait_for("PROXY protocol header");
        assert!(line.contains("proxy=127.0.0.1:"), "{line}");
        server.stop().assert_exit(0);
    }
}

#[test]
fn headers_of_other_addresses_are_invalid() {
    let dir = TestDir::with_images();
    for args in ["", "--proxy-protocol 192.0.2.1,2001:db8::/32"] {
        let server = dir.serve(&format!("--no-tls {args}"));
        let response = exchange(&server.address, &[HEADER, &LIST]);
        assert_eq!(&response[..4], b"JTPE", "{args:?}");
        assert_eq!(dir.fetch(&server, "--list").code, Some(0));
    }
}
