//! The rules of the receiving half.

use super::*;

#[test]
fn an_error_names_the_field() {
    let mut connection = asked(ClientConfig::new(), &[Request::List]);
    let bytes = [&head(Header::List, 1)[..], &[0xff; 9]].concat();
    let Err(ClientError::Peer(error)) = receive(&mut connection, &bytes) else {
        panic!("not the peer's fault");
    };
    let message = alloc::format!("{error}");
    assert!(message.starts_with("invalid catalog entry: "), "{message}");
}

#[cfg(feature = "zstd")]
#[test]
fn r4_the_window_of_a_compressed_image_is_limited_as_configured() {
    // A window of 256 KiB, and a raw block of one byte.
    let frame = b"\x28\xb5\x2f\xfd\x00\x40\x09\x00\x00a";
    let packet = packet_of(0b1000, id(b"a"), frame);
    let answer = [head(Header::ListAndGet, 1), packet].concat();
    for (window, is_good) in [(256 << 10, true), ((256 << 10) - 1, false)] {
        let config = ClientConfig::new().with_max_window(window);
        let events = receive(&mut asked(config, &[Request::ListAndGet]), &answer).unwrap();
        let verdict = events.iter().find_map(|event| match event {
            Event::ImageEnd { verdict, .. } => Some(verdict.is_ok()),
            _ => None,
        });
        assert_eq!(verdict, Some(is_good), "{events:?}");
    }
}

#[test]
fn w6_a_name_in_nfc_is_borrowed() {
    let input = [&head(Header::List, 1)[..], &entry("plain.gif")].concat();
    let mut connection = asked(ClientConfig::new(), &[Request::List]);
    let used = connection.receive(&input, NOW).unwrap().used;
    match connection.receive(&input[used..], NOW).unwrap().event {
        Some(Event::Entry(entry)) => {
            assert!(matches!(
                entry.name,
                alloc::borrow::Cow::Borrowed("plain.gif")
            ));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn r3_no_buffer_grows_with_a_count() {
    let most = u32::MAX;
    let mut connection = asked(ClientConfig::new(), &[Request::List]);
    let events = receive(&mut connection, &head(Header::List, most)).unwrap();
    let kind = ResponseKind::List;
    assert_eq!(events, [Event::Begin { kind, count: most }]);
    // The longest entry in pieces: the head buffer holds that entry and no more.
    let name = "n".repeat(entry::MAX_NAME_LEN);
    let mut names = Vec::new();
    for piece in [entry(&name), entry("b")].concat().chunks(1000) {
        for event in receive(&mut connection, piece).unwrap() {
            let Event::Entry(entry) = event else {
                panic!("{event:?}");
            };
            names.push(entry.name);
        }
        assert!(connection.head.len() <= entry::MAX_LEN);
    }
    assert_eq!(names, [&*name, "b"]);

    let mut connection = asked(ClientConfig::new(), &[Request::ListAndGet]);
    let mut bytes = head(Header::ListAndGet, most);
    packet::encode_head(
        &Image::new(ImageId(9), Flags::from_bits(0), most),
        &mut bytes,
    );
    bytes.extend([1, 2, 3]);
    assert_eq!(receive(&mut connection, &bytes).unwrap().len(), 3);
}
