//! The rules of the receiving half.

use super::*;
use ResponseKind as Kind;
use Step::Ask;

#[test]
fn an_error_names_the_field() {
    let steps = [
        Ask(Request::List),
        bytes(&[&head(Header::List, 1), &[0xff; 9]]),
    ];
    let ClientError::Peer(error) = failure(&steps) else {
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
    let answer = [
        head(Header::ListAndGet, 1),
        packet_of(0b1000, id(b"a"), frame),
    ]
    .concat();
    for (window, is_good) in [(256 << 10, true), ((256 << 10) - 1, false)] {
        let config = ClientConfig::default().with_max_window(window);
        let steps = [Ask(Request::ListAndGet), Step::Bytes(answer.clone())];
        let log = play_with(config, &steps).log;
        let verdict = log.iter().find_map(|log| match log {
            Log::ImageEnd(_, verdict) => Some(verdict.is_ok()),
            _ => None,
        });
        assert_eq!(verdict, Some(is_good), "{log:?}");
    }
}

#[test]
fn w5_w6_names_are_converted_to_nfc_and_reserved_types_are_kept() {
    let mut odd = entry("e\u{301}.gif");
    odd[8] = 0b101;
    let log = logs(&[
        Ask(Request::List),
        bytes(&[&head(Header::List, 2), &odd, &entry("é")]),
    ]);
    let mut expected = owned_entry("é.gif");
    expected.flags = Flags::from_bits(0b101);
    assert_eq!(
        log[1..3],
        [Log::Entry(expected), Log::Entry(owned_entry("é"))]
    );

    let input = [&head(Header::List, 1)[..], &entry("plain.gif")].concat();
    let mut connection = ClientConnection::new(ClientConfig::default(), NOW);
    connection.request(Request::List, true, NOW).unwrap();
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
fn r2_an_image_left_undecoded_is_passed_on_unchanged_and_without_a_verdict() {
    let mut connection = ClientConnection::new(ClientConfig::default(), NOW);
    let none = Err(Misuse::NoImageBegun);
    assert_eq!(connection.leave_undecoded(), none, "before any image");
    connection.request(Request::ListAndGet, true, NOW).unwrap();
    let mut sent = Vec::new();
    send(&mut connection, &mut sent);
    let compressed_and_wrong = packet_of(0b1011, id(A), b"no Zstd");
    let empty = packet_of(0, id(b""), b"");
    let stream = [
        &head(Header::ListAndGet, 3)[..],
        &compressed_and_wrong,
        &empty,
        &packet(B),
    ]
    .concat();
    let mut input = &stream[..];
    let mut events: Vec<String> = Vec::new();
    loop {
        let received = connection.receive(input, NOW).unwrap();
        input = &input[received.used..];
        let Some(event) = received.event else { break };
        let (begins, event) = (
            matches!(event, Event::Image(_)),
            alloc::format!("{event:?}"),
        );
        // The connection decodes the last image.
        let may_leave = begins
            && events
                .iter()
                .filter(|event| event.starts_with("Packet"))
                .count()
                < 2;
        if may_leave {
            assert_eq!(connection.leave_undecoded(), Ok(()));
        }
        if !begins || may_leave {
            assert_eq!(connection.leave_undecoded(), none, "after {event}");
        }
        events.push(event.split(['(', ' ']).next().unwrap().into());
        if event.starts_with("Data") && events.len() == 3 {
            assert_eq!(event, alloc::format!("Data({:?})", b"no Zstd"));
        }
    }
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let expected = "Begin Image Data PacketEnd Image PacketEnd Image Data ImageEnd End";
    assert_eq!(events.join(" "), expected);
    assert!(connection.is_idle());
}

#[test]
fn r3_no_buffer_grows_with_a_count() {
    let most = u32::MAX;
    let log = logs(&[
        Ask(Request::List),
        bytes(&[&head(Header::List, most), &entry("a")]),
    ]);
    assert_eq!(
        log,
        [Log::Begin(Kind::List, most), Log::Entry(owned_entry("a"))]
    );
    let huge = [
        0, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0, 0, 0, 0, 9, 1, 2, 3,
    ];
    let log = logs(&[Ask(batch(&[])), bytes(&[&head(Header::Batch, most), &huge])]);
    assert_eq!(log[1..], [Log::Image(ImageId(9)), Log::Data(vec![1, 2, 3])]);
    // The longest entry in pieces: the head buffer holds that entry and no more.
    let name = "n".repeat(entry::MAX_NAME_LEN);
    let input = [&head(Header::List, 2)[..], &entry(&name), &entry("b")].concat();
    let mut connection = ClientConnection::new(ClientConfig::default(), NOW);
    connection.request(Request::List, true, NOW).unwrap();
    let mut log = Vec::new();
    for piece in input.chunks(1000) {
        receive(&mut connection, piece, &mut log);
        assert!(connection.head.len() <= entry::MAX_LEN);
    }
    assert_eq!(
        log[1..3],
        [Log::Entry(owned_entry(&name)), Log::Entry(owned_entry("b"))]
    );
}

#[test]
fn an_owned_event_is_the_same_event_and_its_data_can_be_read_from_the_connection() {
    let input = [&head(Header::ListAndGet, 1)[..], &packet(A)].concat();
    let mut connection = ClientConnection::new(ClientConfig::default(), NOW);
    connection.request(Request::ListAndGet, true, NOW).unwrap();
    let (mut rest, mut data) = (&input[..], Vec::new());
    while let Received {
        used,
        event: Some(event),
    } = connection.receive(rest, NOW).unwrap()
    {
        let borrowed = event.clone();
        match event.into_owned() {
            Event::Data(bytes) => {
                assert!(bytes.is_empty());
                data.extend_from_slice(connection.data(rest));
            }
            owned => assert_eq!(owned, borrowed),
        }
        rest = &rest[used..];
    }
    assert_eq!(data, A);
}
