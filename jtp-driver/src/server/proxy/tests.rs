use proptest::collection::vec;
use proptest::prelude::*;

use super::ProxyHeader::{Complete, Incomplete};
use super::*;

fn header(version_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[version_command, family], &length, rest].concat()
}

/// A header with this client, and these extensions.
fn proxied(client: SocketAddr, extensions: &[u8]) -> Vec<u8> {
    let port = client.port().to_be_bytes();
    match client.ip() {
        IpAddr::V4(ip) => {
            let addresses = [&ip.octets()[..], &[10, 0, 0, 1], &port, &[1, 2], extensions];
            header(0x21, 0x11, &addresses.concat())
        }
        IpAddr::V6(ip) => {
            let addresses = [&ip.octets()[..], &[9; 16], &port, &[1, 2], extensions];
            header(0x21, 0x21, &addresses.concat())
        }
    }
}

#[test]
fn headers_of_the_specification_are_parsed() {
    // Written out, so that the encoder of this test proves nothing alone.
    let v4 =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x01\xdd\xd5\x20\xfb";
    let client = Some("192.0.2.1:56789".parse().unwrap());
    assert_eq!(parse(v4), Ok(Complete { client, length: 28 }));
    let v6 = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\x00\x24\
        \x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\
        \x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\xdd\xd5\x20\xfb";
    let client = Some("[2001:db8::1]:56789".parse().unwrap());
    assert_eq!(parse(v6), Ok(Complete { client, length: 52 }));
    // What follows the header is not looked at.
    let with_request = [&v4[..], &[1, 0]].concat();
    assert!(matches!(
        parse(&with_request),
        Ok(Complete { length: 28, .. })
    ));
}

#[test]
fn local_keeps_the_address_of_the_proxy() {
    let own = |rest: &[u8]| {
        Ok(Complete {
            client: None,
            length: 16 + rest.len(),
        })
    };
    for family in [0x00, 0x11, 0x21, 0x31, 0xff] {
        for rest in [&[][..], &[1], &[7; 12], &[7; 300]] {
            assert_eq!(parse(&header(0x20, family, rest)), own(rest));
        }
    }
}

#[test]
fn other_versions_commands_and_families_are_errors() {
    use ProxyHeaderError::*;
    for (bytes, error) in [
        (
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(),
            Signature,
        ),
        (vec![5, 0], Signature),
        (vec![0x16, 3, 1], Signature),
        (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), Signature),
        (header(0x11, 0x11, &[0; 12]), Version(1)),
        (header(0x31, 0x11, &[0; 12]), Version(3)),
        (header(0x22, 0x11, &[0; 12]), Command(2)),
        (header(0x2f, 0x11, &[0; 12]), Command(15)),
        // Unspecified, UDP, Unix, unknown.
        (header(0x21, 0x00, &[0; 12]), Family(0x00)),
        (header(0x21, 0x12, &[0; 12]), Family(0x12)),
        (header(0x21, 0x22, &[0; 36]), Family(0x22)),
        (header(0x21, 0x31, &[0; 216]), Family(0x31)),
        (header(0x21, 0x10, &[0; 12]), Family(0x10)),
        (header(0x21, 0xff, &[0; 12]), Family(0xff)),
        (header(0x21, 0x11, &[0; 11]), TooShort),
        (header(0x21, 0x21, &[0; 35]), TooShort),
        (header(0x21, 0x11, &[]), TooShort),
        (header(0x21, 0x11, &[0; 2033]), TooLong(2049)),
        (header(0x20, 0x00, &[0; 65_535]), TooLong(65_551)),
    ] {
        assert_eq!(parse(&bytes), Err(error), "{bytes:?}");
    }
    assert!(parse(&header(0x21, 0x11, &[0; 2032])).is_ok());
}

#[test]
fn the_length_is_known_after_the_fixed_part() {
    let client = "192.0.2.1:5".parse().unwrap();
    let whole = proxied(client, &[1; 100]);
    for (end, length) in [
        (0, 16),
        (1, 16),
        (12, 16),
        (13, 16),
        (15, 16),
        (16, 128),
        (127, 128),
    ] {
        assert_eq!(parse(&whole[..end]), Ok(Incomplete { length }), "{end}");
    }
}

proptest! {
    #[test]
    fn any_client_and_extensions_are_parsed_from_any_prefix(
        ip in any::<IpAddr>(),
        port in any::<u16>(),
        extensions in vec(any::<u8>(), 0..400),
        rest in vec(any::<u8>(), 0..40),
    ) {
        let client = SocketAddr::new(ip, port);
        let whole = proxied(client, &extensions);
        let length = whole.len();
        let complete = Ok(Complete { client: Some(client), length });
        prop_assert_eq!(parse(&whole), complete);
        prop_assert_eq!(parse(&[&whole[..], &rest].concat()), complete);
        for end in 0..length {
            // Never more than the header is asked for, and always more than there is.
            let Ok(Incomplete { length: needed }) = parse(&whole[..end]) else {
                return Err(TestCaseError::fail(format!("{end}: {:?}", parse(&whole[..end]))));
            };
            prop_assert!(end < needed && needed <= length);
        }
    }

    #[test]
    fn any_bytes_are_parsed_the_same_way_in_pieces(
        valid_prefix in 0_usize..=16,
        bytes in vec(any::<u8>(), 0..100),
    ) {
        let valid = proxied("192.0.2.1:5".parse().unwrap(), &[]);
        let bytes = [&valid[..valid_prefix], &bytes].concat();
        let whole = parse(&bytes);
        let mut outcome = None;
        for end in 0..=bytes.len() {
            match (parse(&bytes[..end]), outcome) {
                // What is decided stays decided.
                (now, Some(before)) => prop_assert_eq!(now, before),
                (Ok(Incomplete { length }), None) => prop_assert!(length > end && length <= MAX_HEADER),
                (now, None) => {
                    if let Ok(Complete { length, .. }) = now {
                        prop_assert_eq!(length, end);
                    }
                    outcome = Some(now);
                }
            }
        }
        if let Some(outcome) = outcome {
            prop_assert_eq!(whole, outcome);
        }
    }
}
