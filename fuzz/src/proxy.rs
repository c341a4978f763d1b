//! Any bytes as a header of the PROXY protocol: the result does not depend on how the bytes arrive, no more is asked for
//! than the header has, and the fields are those at the specified offsets.

use std::net::{IpAddr, SocketAddr};

use jtp_driver::server::proxy::{MAX_HEADER, ProxyHeader, parse};

/// Settings: the first byte is the number of bytes of a valid beginning that replace those of the input.
pub fn run(data: &[u8]) {
    let Some((&valid, data)) = data.split_first() else {
        return;
    };
    let mut bytes = data.to_vec();
    let valid = usize::from(valid).min(13).min(bytes.len());
    bytes[..valid].copy_from_slice(&b"\r\n\r\n\0\r\nQUIT\n\x21"[..valid]);

    let mut decided = None;
    for end in 0..=bytes.len().min(MAX_HEADER + 1) {
        let parsed = parse(&bytes[..end]);
        if let Some((_, before)) = decided {
            assert_eq!(parsed, before, "decided, and changed by another byte");
            continue;
        }
        match parsed {
            Ok(ProxyHeader::Incomplete { length }) => {
                assert!(end < length && length <= MAX_HEADER);
            }
            parsed => decided = Some((end, parsed)),
        }
    }
    let Some((end, parsed)) = decided else {
        return;
    };
    assert_eq!(parse(&bytes), parsed);
    if let Ok(ProxyHeader::Complete { client, length }) = parsed {
        assert_eq!(length, end);
        assert_eq!(
            length,
            16 + usize::from(bytes[14]) * 256 + usize::from(bytes[15])
        );
        assert_eq!(client, source(&bytes));
    }
}

/// The source address of a complete header.
fn source(bytes: &[u8]) -> Option<SocketAddr> {
    let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    match (bytes[12], bytes[13]) {
        (0x20, _) => None,
        (0x21, 0x11) => {
            let ip: [u8; 4] = bytes[16..20].try_into().unwrap();
            Some(SocketAddr::new(IpAddr::from(ip), port(24)))
        }
        (0x21, 0x21) => {
            let ip: [u8; 16] = bytes[16..32].try_into().unwrap();
            Some(SocketAddr::new(IpAddr::from(ip), port(48)))
        }
        other => panic!("{other:?} was accepted"),
    }
}
