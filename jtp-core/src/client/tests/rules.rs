//! Receiving responses and events.

use super::*;
use ResponseKind as Kind;
use Step::{Ask, AskLast, Cancel, Eof};

const JTPC: &[u8] = b"JTPC";
const JTPW: &[u8] = b"JTPW";

fn peer(error: PeerError) -> ClientError {
    error.into()
}

#[test]
fn each_response_is_reported_and_leaves_the_connection_idle() {
    let list = [
        Ask(Request::List),
        bytes(&[&head(Header::List, 2), &entry("a.gif"), &entry("")]),
    ];
    let run = run_all_splits(&list);
    assert_eq!(run.sent, [1, 1]);
    assert_eq!(
        run.log,
        [
            Log::Begin(Kind::List, 2),
            Log::Entry(logged_entry("a.gif")),
            Log::Entry(logged_entry("")),
            Log::End(Kind::List),
        ]
    );
    assert!(run.idle && run.reusable && run.outstanding == 0);

    for (request, header, kind) in [
        (get(&[A, b"unknown", B]), Header::Data, Kind::GetById),
        (batch(&[b"known"]), Header::Batch, Kind::Batch),
        (Request::ListAndGet, Header::ListAndGet, Kind::ListAndGet),
    ] {
        let run = run_all_splits(&[
            AskLast(request),
            bytes(&[&head(header, 2), &packet(A), &packet(B)]),
            Eof,
        ]);
        let mut log = vec![Log::Begin(kind, 2)];
        log.extend(image_log(A));
        log.extend(image_log(B));
        log.extend([Log::End(kind), Log::Closed]);
        assert_eq!(run.log, log);
        assert!(!run.reusable);
    }
}

#[test]
fn empty_responses_and_empty_images_are_complete_without_more_input() {
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
    assert_eq!(log[1..3], image_log(b""));
    assert_eq!(log[3], Log::End(Kind::GetById));
}

#[test]
fn s1_pipelined_responses_are_matched_in_order() {
    let run = run_all_splits_with(
        PIPELINE,
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
fn w5_w6_names_are_normalized_to_nfc_and_reserved_types_are_kept() {
    let mut odd = entry("e\u{301}.gif");
    odd[8] = 0b101;
    let log = logs(&[
        Ask(Request::List),
        bytes(&[&head(Header::List, 2), &odd, &entry("é")]),
    ]);
    let mut expected = logged_entry("é.gif");
    expected.flags = Flags::from_bits(0b101);
    assert_eq!(
        log[1..3],
        [Log::Entry(expected), Log::Entry(logged_entry("é"))]
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
fn r1_eof_is_early_unless_all_responses_are_complete() {
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
        let last = run_all_splits(&steps).log.pop();
        let early = Some(Log::Failed(ClientError::EarlyEof));
        let expected = if end == responses {
            Some(Log::Closed)
        } else {
            early
        };
        assert_eq!(last, expected, "after {end} bytes");
    }
    // Before any request, and with a request that is held back.
    assert_eq!(logs(&[Eof]), [Log::Closed]);
    let held = [
        Ask(get(&[A])),
        Ask(Request::List),
        bytes(&[&head(Header::Data, 0)]),
        Eof,
    ];
    assert_eq!(failure(&held), ClientError::EarlyEof);
    // WATCH lasts until CANCEL is answered.
    assert_eq!(failure(&[Ask(Request::Watch), Eof]), ClientError::EarlyEof);
    assert_eq!(
        failure(&[Ask(Request::Watch), Cancel, Eof]),
        ClientError::EarlyEof
    );
}

#[test]
fn r1_unknown_and_unexpected_headers_are_errors() {
    let unknown = |bytes: &[u8; 4], place| {
        let error = WireError::UnknownHeader(*bytes);
        peer(PeerError::Wire { error, place })
    };
    let list = |answer: &[u8]| failure(&[Ask(Request::List), bytes(&[answer])]);
    assert_eq!(list(b"HTTP/1.1 400"), unknown(b"H\0\0\0", Place::Header));
    assert_eq!(list(b"JTPX"), unknown(b"JTPX", Place::Header));
    let requests = [
        (Request::List, Header::List),
        (get(&[A]), Header::Data),
        (batch(&[]), Header::Batch),
        (Request::ListAndGet, Header::ListAndGet),
        (Request::Watch, Header::Watch),
    ];
    for (request, due) in &requests {
        for (_, came) in &requests {
            if came == due {
                continue;
            }
            let error = match came {
                Header::Watch => PeerError::NewsUnasked,
                &came => PeerError::NotTheAnswer { due: *due, came },
            };
            let steps = [Ask(request.clone()), bytes(&[&came.bytes()])];
            assert_eq!(failure(&steps), peer(error));
        }
        let steps = [Ask(request.clone()), bytes(&[JTPC])];
        assert_eq!(failure(&steps), peer(PeerError::CancelledUnasked));
    }
    // Where a packet begins. // S12
    let get_one =
        |packet: &[u8]| failure(&[Ask(get(&[A])), bytes(&[&head(Header::Data, 1), packet])]);
    assert_eq!(get_one(b"JTPD"), peer(PeerError::NotAPacket(Header::Data)));
    assert_eq!(get_one(JTPW), peer(PeerError::NotAPacket(Header::Watch)));
    assert_eq!(get_one(JTPC), peer(PeerError::CancelledUnasked));
    assert_eq!(get_one(b"JPEG"), unknown(b"JP\0\0", Place::Packet));
}

#[test]
fn r1_invalid_flags_varints_names_and_codes_are_errors() {
    let list = |tail: &[u8]| failure(&[Ask(Request::List), bytes(&[b"JTPL", tail])]);
    let all = |tail: &[u8]| failure(&[Ask(Request::ListAndGet), bytes(&[b"JTPG\x01", tail])]);
    let wire = |error, place| peer(PeerError::Wire { error, place });
    let with = |at: usize, byte: u8| {
        let mut entry = entry("x");
        entry[at] = byte;
        [&[1][..], &entry].concat()
    };
    for bit in 4..8 {
        let error = WireError::EntryFlags(1 << bit);
        assert_eq!(list(&with(8, 1 << bit)), wire(error, Place::Entry));
    }
    for bit in [5, 7] {
        let error = WireError::PacketFlags(1 << bit);
        assert_eq!(all(&[1 << bit]), wire(error, Place::Packet));
    }
    assert_eq!(
        all(&[0x40]),
        wire(WireError::PacketFlags(0x40), Place::Packet)
    );
    assert_eq!(list(&with(11, 0xff)), wire(WireError::Name, Place::Entry));
    assert_eq!(list(&[0x80, 0]), wire(WireError::Varint, Place::Count));
    assert_eq!(
        list(&[0xff, 0xff, 0xff, 0xff, 0x10]),
        wire(WireError::Varint, Place::Count)
    );
    assert_eq!(all(&[0, 0x80, 0]), wire(WireError::Varint, Place::Packet));
    for code in [0, 6, 255] {
        let steps = [bytes(&[b"JTPE", &[code, 0, 0]])];
        let error = WireError::UnknownErrorCode(code);
        assert_eq!(failure(&steps), wire(error, Place::Error));
    }
}

#[test]
fn r1_too_many_or_unrequested_images_are_errors() {
    let answer = |request: Request, header, images: &[&[u8]]| {
        let mut answer = head(header, u32::try_from(images.len()).unwrap());
        images.iter().for_each(|image| answer.extend(packet(image)));
        run_all_splits(&[Ask(request), Step::Bytes(answer)])
            .log
            .pop()
            .unwrap()
    };
    let failed = |error| Log::Failed(peer(error));
    let unasked = |image| failed(PeerError::ImageUnasked(id(image)));
    let too_many = |asked, promised| failed(PeerError::TooManyImages { asked, promised });
    let end = Log::End(Kind::GetById);
    assert_eq!(answer(get(&[A]), Header::Data, &[A, A]), too_many(1, 2));
    assert_eq!(answer(get(&[]), Header::Data, &[A]), too_many(0, 1));
    assert_eq!(answer(get(&[A, B]), Header::Data, &[A, A]), unasked(A));
    assert_eq!(answer(get(&[A, B]), Header::Data, &[b"c"]), unasked(b"c"));
    // In any order, and twice if requested twice. // S7
    assert_eq!(answer(get(&[A, B, A]), Header::Data, &[B, A, A]), end);
    assert_eq!(answer(get(&[A, B, A]), Header::Data, &[A]), end);
    assert_eq!(answer(batch(&[A]), Header::Batch, &[B, A]), unasked(A));
    assert_eq!(
        answer(batch(&[A]), Header::Batch, &[B]),
        Log::End(Kind::Batch)
    );
}

#[test]
fn r1_data_without_an_outstanding_request_is_an_error() {
    let unasked = peer(PeerError::DataUnasked);
    for data in [&b"\0"[..], b"JTPL\0", b"JTPD", b"Jx", b"HTTP/1.1"] {
        assert_eq!(failure(&[bytes(&[data])]), unasked, "before any request");
        let steps = [Ask(Request::List), bytes(&[&head(Header::List, 0), data])];
        assert_eq!(failure(&steps), unasked, "after a complete response");
        let steps = [
            AskLast(Request::List),
            bytes(&[&head(Header::List, 0), data]),
        ];
        assert_eq!(failure(&steps), unasked, "after the last response");
    }
    assert_eq!(
        failure(&[bytes(&[JTPC])]),
        peer(PeerError::CancelledUnasked)
    );
    assert_eq!(failure(&[bytes(&[JTPW])]), peer(PeerError::NewsUnasked));
}

#[test]
fn r1_s12_jtpe_is_valid_at_every_frame_boundary() {
    let frame = error_frame(ErrorCode::RateLimited, "slow down");
    let error = server_error(ErrorCode::RateLimited, "slow down");
    let event = [JTPW, &entry("x")].concat();
    let one = [&head(Header::Data, 2)[..], &packet(A)].concat();
    for (calls, before) in [
        (vec![], vec![]),
        (vec![Ask(Request::List)], vec![]),
        (vec![Ask(Request::List)], head(Header::List, 0)),
        (vec![Ask(get(&[A, B]))], head(Header::Data, 2)),
        (vec![Ask(get(&[A, B]))], one.clone()),
        (vec![Ask(get(&[A, B])), Cancel], one),
        (vec![Ask(Request::Watch)], vec![]),
        (vec![Ask(Request::Watch)], event),
        (vec![Ask(Request::Watch), Cancel], vec![]),
    ] {
        let steps = [&calls[..], &[bytes(&[&before, &frame, b"and more"])]].concat();
        assert_eq!(failure(&steps), error, "{calls:?}");
    }
    // The longest message, and a message that is not UTF-8.
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
fn r2_the_stream_continues_after_an_invalid_image() {
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
    let config = ClientConfig::default().with_max_image_size(64); // R4
    let run = run_all_splits_with(config, &steps);
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
    assert_eq!(log[1..7], [image_log(&image), image_log(&image)].concat());
}

#[test]
fn r2_an_undecoded_image_is_reported_as_sent_without_a_verdict() {
    let mut connection = ClientConnection::new(ClientConfig::default(), NOW);
    let none = Err(Misuse::NoImageBegun);
    assert_eq!(connection.leave_undecoded(), none, "no request was made");
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
        let (begun, event) = (matches!(event, Event::Image(_)), std::format!("{event:?}"));
        // The connection decodes the last image.
        let leave = begun
            && events
                .iter()
                .filter(|event| event.starts_with("Packet"))
                .count()
                < 2;
        if leave {
            assert_eq!(connection.leave_undecoded(), Ok(()));
        }
        if !begun || leave {
            assert_eq!(connection.leave_undecoded(), none, "after {event}");
        }
        events.push(event.split(['(', ' ']).next().unwrap().into());
        if event.starts_with("Data") && events.len() == 3 {
            assert_eq!(event, std::format!("Data({:?})", b"no Zstd"));
        }
    }
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let expected = "Begin Image Data PacketEnd Image PacketEnd Image Data ImageEnd End";
    assert_eq!(events.join(" "), expected);
    assert!(connection.is_idle());
}

#[test]
fn r3_counts_do_not_size_buffers() {
    let max = u32::MAX;
    let log = logs(&[
        Ask(Request::List),
        bytes(&[&head(Header::List, max), &entry("a")]),
    ]);
    assert_eq!(
        log,
        [Log::Begin(Kind::List, max), Log::Entry(logged_entry("a"))]
    );
    let huge = [
        0, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0, 0, 0, 0, 9, 1, 2, 3,
    ];
    let log = logs(&[Ask(batch(&[])), bytes(&[&head(Header::Batch, max), &huge])]);
    assert_eq!(log[1..], [Log::Image(ImageId(9)), Log::Data(vec![1, 2, 3])]);
    // The head buffer holds at most one entry of the longest kind.
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
        [
            Log::Entry(logged_entry(&name)),
            Log::Entry(logged_entry("b"))
        ]
    );
}

#[test]
fn c7_jtpc_is_accepted_at_any_packet_boundary() {
    let begun = || Log::Begin(Kind::Batch, 2);
    let cancelled = || vec![Log::Cancelled(Kind::Batch)];
    let ask = [Ask(batch(&[])), Cancel];
    let batch_head = head(Header::Batch, 2);
    let answer = |parts: &[&[u8]]| run_all_splits(&[&ask[..], &[bytes(parts)]].concat());

    // In place of the header; after the header; between packets.
    let run = answer(&[JTPC]);
    assert_eq!(run.sent, [2, 1, 0, 3, 0]);
    assert_eq!(run.log, cancelled());
    assert!(run.idle && run.outstanding == 0);
    let run = answer(&[&batch_head, JTPC]);
    assert_eq!(run.log, [vec![begun()], cancelled()].concat());
    let run = answer(&[&batch_head, &packet(A), JTPC]);
    let mut log = vec![begun()];
    log.extend(image_log(A));
    assert_eq!(run.log, [log.clone(), cancelled()].concat());
    // After the last packet (R7), or after a complete response (C3).
    let run = answer(&[&batch_head, &packet(A), &packet(B), JTPC]);
    log.extend(image_log(B));
    log.push(Log::End(Kind::Batch));
    log.extend(cancelled());
    assert_eq!(run.log, log);
    // The request is outstanding until JTPC arrives.
    let run = answer(&[&batch_head, &packet(A), &packet(B)]);
    assert!(!run.idle && run.outstanding == 1);
    // The catalog is completed first. // C2
    let log = logs(&[
        Ask(Request::List),
        Cancel,
        bytes(&[&head(Header::List, 1), &entry("a"), JTPC]),
    ]);
    assert_eq!(log[2..], [Log::End(Kind::List), Log::Cancelled(Kind::List)]);
}

#[test]
fn c7_a_cancel_is_answered_by_exactly_one_jtpc() {
    let ask = [Ask(batch(&[])), Cancel];
    let steps = [&ask[..], &[bytes(&[JTPC, JTPC])]].concat();
    assert_eq!(failure(&steps), peer(PeerError::CancelledUnasked));
    let steps = [
        &ask[..],
        &[bytes(&[&head(Header::Batch, 0), &head(Header::Batch, 0)])],
    ]
    .concat();
    let (due, came) = (Header::Cancelled, Header::Batch);
    assert_eq!(failure(&steps), peer(PeerError::NotTheAnswer { due, came }));
    // The CANCEL applies to the second request and cannot end the first. // C5
    let steps = [Ask(Request::List), Ask(batch(&[])), Cancel, bytes(&[JTPC])];
    assert_eq!(failure(&steps), peer(PeerError::CancelledUnasked));
    let steps = [
        Ask(Request::List),
        Ask(batch(&[])),
        Cancel,
        bytes(&[&head(Header::List, 0), JTPC]),
    ];
    assert_eq!(logs(&steps)[2..], [Log::Cancelled(Kind::Batch)]);
}

#[test]
fn n1_n3_watch_reports_images_until_jtpc() {
    let event = [JTPW, &entry("x")].concat();
    let new_image = || Log::NewImage(logged_entry("x"));
    let watch = [
        Ask(Request::Watch),
        bytes(&[&event, &event]),
        Cancel,
        // Events in flight still arrive.
        bytes(&[&event, JTPC]),
    ];
    let run = run_all_splits(&watch);
    assert_eq!(run.sent, [4, 0, 3, 0]);
    assert_eq!(
        run.log,
        [
            new_image(),
            new_image(),
            new_image(),
            Log::Cancelled(Kind::Watch)
        ]
    );
    // The connection is keep-alive again, but not reusable with deployed servers. // N3 R7
    assert!(run.idle && !run.reusable);
    let steps = [
        &watch[..],
        &[Ask(Request::List), bytes(&[&head(Header::List, 0)])],
    ]
    .concat();
    let run = run_all_splits_with(PIPELINE, &steps);
    assert_eq!(run.sent, [4, 0, 3, 0, 1, 1]);
    assert_eq!(run.log.last(), Some(&Log::End(Kind::List)));
    assert!(run.idle && run.reusable);
    // No events after JTPC.
    let steps = [&watch[..], &[bytes(&[&event])]].concat();
    assert_eq!(failure(&steps), peer(PeerError::NewsUnasked));
}

#[test]
fn n5_list_and_watch_are_sent_in_one_write() {
    let mut connection = ClientConnection::new(ClientConfig::default(), NOW);
    connection.request(Request::List, true, NOW).unwrap();
    connection.request(Request::Watch, true, NOW).unwrap();
    assert_eq!(connection.transmit(), [1, 1, 4, 0]);
    let steps = [
        Ask(Request::List),
        Ask(Request::Watch),
        bytes(&[&head(Header::List, 1), &entry("a"), JTPW, &entry("b")]),
    ];
    assert_eq!(
        logs(&steps)[2..],
        [Log::End(Kind::List), Log::NewImage(logged_entry("b"))]
    );
    // Events cannot arrive before the catalog.
    let steps = [Ask(Request::List), Ask(Request::Watch), bytes(&[JTPW])];
    assert_eq!(failure(&steps), peer(PeerError::NewsUnasked));
}
