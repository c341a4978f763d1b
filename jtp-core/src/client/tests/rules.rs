//! The rules of the receiving half.

use super::*;
use ResponseKind as Kind;
use Step::{Ask, AskLast, Cancel, Eof};

const JTPC: &[u8] = b"JTPC";
const JTPW: &[u8] = b"JTPW";

fn peer(error: PeerError) -> ClientError {
    error.into()
}

#[test]
fn each_kind_of_response_gives_its_events_and_leaves_the_connection_idle() {
    let list = [
        Ask(Request::List),
        bytes(&[&head(Header::List, 2), &entry("a.gif"), &entry("")]),
    ];
    let run = play(&list);
    assert_eq!(run.sent, [1, 1]);
    assert_eq!(
        run.log,
        [
            Log::Begin(Kind::List, 2),
            Log::Entry(owned_entry("a.gif")),
            Log::Entry(owned_entry("")),
            Log::End(Kind::List),
        ]
    );
    assert!(run.idle && run.reusable && run.outstanding == 0);

    for (request, header, kind) in [
        (get(&[A, b"unknown", B]), Header::Data, Kind::GetById),
        (batch(&[b"known"]), Header::Batch, Kind::Batch),
        (Request::ListAndGet, Header::ListAndGet, Kind::ListAndGet),
    ] {
        let run = play(&[
            AskLast(request),
            bytes(&[&head(header, 2), &packet(A), &packet(B)]),
            Eof,
        ]);
        let mut log = vec![Log::Begin(kind, 2)];
        log.extend(image_logs(A));
        log.extend(image_logs(B));
        log.extend([Log::End(kind), Log::Closed]);
        assert_eq!(run.log, log);
        assert!(!run.reusable);
    }
}

#[test]
fn empty_responses_and_empty_images_need_no_further_bytes() {
    for (request, header, kind) in [
        (Request::List, Header::List, Kind::List),
        (get(&[]), Header::Data, Kind::GetById), // S7
        (batch(&[]), Header::Batch, Kind::Batch),
        (Request::ListAndGet, Header::ListAndGet, Kind::ListAndGet),
    ] {
        let log = logs(&[AskLast(request), bytes(&[&head(header, 0)]), Eof]);
        assert_eq!(log, [Log::Begin(kind, 0), Log::End(kind), Log::Closed]);
    }
    let log = logs(&[
        Ask(get(&[b""])),
        bytes(&[&head(Header::Data, 1), &packet(b"")]),
    ]);
    assert_eq!(log[1..3], image_logs(b""));
    assert_eq!(log[3], Log::End(Kind::GetById));
}

#[test]
fn s1_pipelined_responses_are_matched_in_order() {
    let run = play_with(
        PIPELINING,
        &[
            Ask(get(&[A])),
            Ask(Request::List),
            Ask(batch(&[])),
            bytes(&[
                &head(Header::Data, 1),
                &packet(A),
                &head(Header::List, 0),
                &head(Header::Batch, 1),
                &packet(B),
            ]),
        ],
    );
    let ends: Vec<_> = run
        .log
        .iter()
        .filter(|log| matches!(log, Log::End(_)))
        .collect();
    let kinds = [Kind::GetById, Kind::List, Kind::Batch].map(Log::End);
    assert_eq!(ends, kinds.iter().collect::<Vec<_>>());
    assert!(run.idle);
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
fn r1_eof_is_early_anywhere_but_after_the_last_response() {
    let stream = [
        &head(Header::List, 1)[..],
        &entry("a"),
        &head(Header::Batch, 1),
        &packet(A),
        &error_frame(ErrorCode::ServerError, "x"),
    ]
    .concat();
    let responses = stream.len() - error_frame(ErrorCode::ServerError, "x").len();
    for end in 0..stream.len() {
        let steps = [
            Ask(Request::List),
            Ask(batch(&[])),
            Step::Bytes(stream[..end].to_vec()),
            Eof,
        ];
        let last = play(&steps).log.pop();
        let early = Some(Log::Failed(ClientError::EarlyEof));
        let expected = if end == responses {
            Some(Log::Closed)
        } else {
            early
        };
        assert_eq!(last, expected, "after {end} bytes");
    }
    // Before any request it is valid; while a request is queued it is early.
    assert_eq!(logs(&[Eof]), [Log::Closed]);
    let held = [
        Ask(get(&[A])),
        Ask(Request::List),
        bytes(&[&head(Header::Data, 0)]),
        Eof,
    ];
    assert_eq!(failure(&held), ClientError::EarlyEof);
    // A WATCH continues until its CANCEL is answered.
    assert_eq!(failure(&[Ask(Request::Watch), Eof]), ClientError::EarlyEof);
    assert_eq!(
        failure(&[Ask(Request::Watch), Cancel, Eof]),
        ClientError::EarlyEof
    );
}

#[test]
fn r1_unknown_headers_and_headers_of_other_responses_are_errors() {
    let unknown = |bytes: &[u8; 4], location| {
        let error = WireError::UnknownHeader(*bytes);
        peer(PeerError::Wire { error, location })
    };
    let list = |answer: &[u8]| failure(&[Ask(Request::List), bytes(&[answer])]);
    assert_eq!(list(b"HTTP/1.1 400"), unknown(b"H\0\0\0", Location::Header));
    assert_eq!(list(b"JTPX"), unknown(b"JTPX", Location::Header));
    assert_eq!(alloc::format!("{}", Location::Header), "response header");
    let requests = [
        (Request::List, Header::List),
        (get(&[A]), Header::Data),
        (batch(&[]), Header::Batch),
        (Request::ListAndGet, Header::ListAndGet),
        (Request::Watch, Header::Watch),
    ];
    for (request, expected) in &requests {
        for (_, received) in &requests {
            if received == expected {
                continue;
            }
            let error = match received {
                Header::Watch => PeerError::UnexpectedWatchEvent,
                &received => PeerError::UnexpectedResponse {
                    expected: *expected,
                    received,
                },
            };
            let steps = [Ask(request.clone()), bytes(&[&received.bytes()])];
            assert_eq!(failure(&steps), peer(error));
        }
        let steps = [Ask(request.clone()), bytes(&[JTPC])];
        assert_eq!(failure(&steps), peer(PeerError::UnexpectedCancelled));
    }
    // Where a packet begins. // S12
    let get_one =
        |packet: &[u8]| failure(&[Ask(get(&[A])), bytes(&[&head(Header::Data, 1), packet])]);
    assert_eq!(get_one(b"JTPD"), peer(PeerError::NotAPacket(Header::Data)));
    assert_eq!(get_one(JTPW), peer(PeerError::NotAPacket(Header::Watch)));
    assert_eq!(get_one(JTPC), peer(PeerError::UnexpectedCancelled));
    assert_eq!(get_one(b"JPEG"), unknown(b"JP\0\0", Location::Packet));
}

#[test]
fn r1_invalid_flags_varints_names_and_codes_are_errors() {
    let list = |tail: &[u8]| failure(&[Ask(Request::List), bytes(&[b"JTPL", tail])]);
    let all = |tail: &[u8]| failure(&[Ask(Request::ListAndGet), bytes(&[b"JTPG\x01", tail])]);
    let wire = |error, location| peer(PeerError::Wire { error, location });
    let with = |at: usize, byte: u8| {
        let mut entry = entry("x");
        entry[at] = byte;
        [&[1][..], &entry].concat()
    };
    for bit in 4..8 {
        let error = WireError::EntryFlags(1 << bit);
        assert_eq!(list(&with(8, 1 << bit)), wire(error, Location::Entry));
    }
    for bit in [5, 7] {
        let error = WireError::PacketFlags(1 << bit);
        assert_eq!(all(&[1 << bit]), wire(error, Location::Packet));
    }
    assert_eq!(
        all(&[0x40]),
        wire(WireError::PacketFlags(0x40), Location::Packet)
    );
    assert_eq!(
        list(&with(11, 0xff)),
        wire(WireError::Name, Location::Entry)
    );
    assert_eq!(list(&[0x80, 0]), wire(WireError::Varint, Location::Count));
    assert_eq!(
        list(&[0xff, 0xff, 0xff, 0xff, 0x10]),
        wire(WireError::Varint, Location::Count)
    );
    assert_eq!(
        all(&[0, 0x80, 0]),
        wire(WireError::Varint, Location::Packet)
    );
    for code in [0, 6, 255] {
        let steps = [bytes(&[b"JTPE", &[code, 0, 0]])];
        let error = WireError::UnknownErrorCode(code);
        assert_eq!(failure(&steps), wire(error, Location::Error));
    }
}

#[test]
fn r1_more_or_other_images_than_requested_are_errors() {
    let answer = |request: Request, header, images: &[&[u8]]| {
        let mut answer = head(header, u32::try_from(images.len()).unwrap());
        images.iter().for_each(|image| answer.extend(packet(image)));
        play(&[Ask(request), Step::Bytes(answer)])
            .log
            .pop()
            .unwrap()
    };
    let failed = |error| Log::Failed(peer(error));
    let unrequested = |image| failed(PeerError::UnrequestedImage(id(image)));
    let too_many = |requested, announced| {
        failed(PeerError::TooManyImages {
            requested,
            announced,
        })
    };
    let end = Log::End(Kind::GetById);
    assert_eq!(answer(get(&[A]), Header::Data, &[A, A]), too_many(1, 2));
    assert_eq!(answer(get(&[]), Header::Data, &[A]), too_many(0, 1));
    assert_eq!(answer(get(&[A, B]), Header::Data, &[A, A]), unrequested(A));
    assert_eq!(
        answer(get(&[A, B]), Header::Data, &[b"c"]),
        unrequested(b"c")
    );
    // In any order, and repeated if requested repeatedly. // S7
    assert_eq!(answer(get(&[A, B, A]), Header::Data, &[B, A, A]), end);
    assert_eq!(answer(get(&[A, B, A]), Header::Data, &[A]), end);
    assert_eq!(answer(batch(&[A]), Header::Batch, &[B, A]), unrequested(A));
    assert_eq!(
        answer(batch(&[A]), Header::Batch, &[B]),
        Log::End(Kind::Batch)
    );
}

#[test]
fn r1_data_without_a_request_are_an_error() {
    let unrequested = peer(PeerError::UnexpectedData);
    for data in [&b"\0"[..], b"JTPL\0", b"JTPD", b"Jx", b"HTTP/1.1"] {
        assert_eq!(
            failure(&[bytes(&[data])]),
            unrequested,
            "before any request"
        );
        let steps = [Ask(Request::List), bytes(&[&head(Header::List, 0), data])];
        assert_eq!(failure(&steps), unrequested, "after the response");
        let steps = [
            AskLast(Request::List),
            bytes(&[&head(Header::List, 0), data]),
        ];
        assert_eq!(failure(&steps), unrequested, "after the last response");
    }
    assert_eq!(
        failure(&[bytes(&[JTPC])]),
        peer(PeerError::UnexpectedCancelled)
    );
    assert_eq!(
        failure(&[bytes(&[JTPW])]),
        peer(PeerError::UnexpectedWatchEvent)
    );
}

#[test]
fn r1_s12_jtpe_is_valid_at_every_frame_boundary() {
    let frame = error_frame(ErrorCode::RateLimited, "slow down");
    let error = server_error(ErrorCode::RateLimited, "slow down");
    let watch_event = [JTPW, &entry("x")].concat();
    let one = [&head(Header::Data, 2)[..], &packet(A)].concat();
    for (requests, before) in [
        (vec![], vec![]),
        (vec![Ask(Request::List)], vec![]),
        (vec![Ask(Request::List)], head(Header::List, 0)),
        (vec![Ask(get(&[A, B]))], head(Header::Data, 2)),
        (vec![Ask(get(&[A, B]))], one.clone()),
        (vec![Ask(get(&[A, B])), Cancel], one),
        (vec![Ask(Request::Watch)], vec![]),
        (vec![Ask(Request::Watch)], watch_event),
        (vec![Ask(Request::Watch), Cancel], vec![]),
    ] {
        let steps = [&requests[..], &[bytes(&[&before, &frame, b"and more"])]].concat();
        assert_eq!(failure(&steps), error, "{requests:?}");
    }
    // The longest message, and one that is not UTF-8.
    let long = "é".repeat(32_767);
    let steps = [Step::Bytes(error_frame(ErrorCode::ServerError, &long))];
    assert_eq!(failure(&steps), server_error(ErrorCode::ServerError, &long));
    let steps = [bytes(&[b"JTPE\x01\0\x02a\xff"])];
    assert_eq!(
        failure(&steps),
        server_error(ErrorCode::NotFound, "a\u{fffd}")
    );
}

#[test]
fn r2_the_stream_continues_after_a_bad_image() {
    let wrong = packet_of(0, id(A), b"other");
    let broken = packet_of(8, id(B), b"no zstd at all");
    let encrypted = packet_of(16, id(b"c"), b"secret");
    let long = packet_of(0, id(b"d"), &[0; 65]);
    let steps = [
        Ask(Request::ListAndGet),
        bytes(&[
            &head(Header::ListAndGet, 5),
            &wrong,
            &broken,
            &encrypted,
            &long,
            &packet(A),
        ]),
    ];
    let config = ClientConfig::default()
        .with_max_image_size(64) // R4
        .with_max_window(8 << 20);
    let run = play_with(config, &steps);
    let verdicts = run.log.iter().filter_map(|log| match log {
        Log::ImageEnd(_, verdict) => Some(*verdict),
        _ => None,
    });
    let verdicts: Vec<_> = verdicts.collect();
    assert!(matches!(verdicts[0], Err(ImageFault::WrongId { .. })));
    #[cfg(feature = "zstd")]
    assert!(matches!(verdicts[1], Err(ImageFault::Broken(_))));
    #[cfg(not(feature = "zstd"))]
    assert_eq!(verdicts[1], Err(ImageFault::CompressionUnsupported));
    assert_eq!(
        verdicts[2..4],
        [
            Err(ImageFault::Encrypted),
            Err(ImageFault::TooLarge { limit: 64 })
        ]
    );
    assert_eq!(verdicts[4], Ok(()));
    assert!(run.idle && run.reusable);
}

#[cfg(feature = "zstd")]
#[test]
fn r2_w8_compressed_images_are_decoded_and_verified() {
    let image: Vec<u8> = b"BM of many bytes ".repeat(20);
    let wire = zstd::bulk::compress(&image, 3).unwrap();
    let packets = packet_of(0b1011, id(&image), &wire).repeat(2);
    let log = logs(&[
        Ask(Request::ListAndGet),
        bytes(&[&head(Header::ListAndGet, 2), &packets]),
    ]);
    assert_eq!(log[1..7], [image_logs(&image), image_logs(&image)].concat());
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
