//! Requests, responses, errors, and the end of connections.

use super::*;

#[test]
fn s1_pipelined_requests_are_answered_in_order() {
    let mut harness = Harness::new(2);
    let mut input = LIST.to_vec();
    input.extend(get(true, &[harness.id(1)]));
    input.extend_from_slice(LIST);
    harness.send(&input);
    assert_eq!(
        harness.frames(),
        ["JTPL 000 001", "JTPD 1", "packet 1", "JTPL 000 001"]
    );
}

#[test]
fn s1_only_a_cancel_is_read_during_a_response() {
    let mut harness = Harness::new(2);
    harness.auto_load = false;
    harness.send(GET_ALL);
    assert!(harness.connection.wants_read(&[]));
    assert!(harness.connection.wants_read(&[3]));
    assert!(!harness.connection.wants_read(&[1]));
    assert!(
        !harness.connection.wants_read(&[3, 0xff]),
        "an invalid CANCEL is handled after the response"
    );
    assert_eq!(
        harness.connection.receive(&[1, 1, 3, 0], harness.now).used,
        0
    );
}

#[test]
fn s2_input_after_a_request_without_keep_alive_is_discarded() {
    let mut harness = Harness::new(1);
    harness.send(LIST).send(&[1, 0]).send(LIST).send(&[9, 9]);
    assert_eq!(
        harness.frames(),
        ["JTPL 000", "JTPL 000"],
        "input after the last request is discarded"
    );
    assert!(harness.half_closed);
    assert_eq!(harness.reason(), Some(CloseReason::NoKeepAlive));
    harness.eof();
    assert!(harness.connection.is_closed());
}

#[test]
fn s3_a_response_is_computed_from_one_snapshot() {
    let mut harness = Harness::new(2);
    harness.auto_load = false;
    harness.send(GET_ALL);
    harness.add("zzz.png", vec![9; 10]);
    harness.writer.remove(harness.id(0));
    harness.publish();
    harness.auto_load = true;
    harness.run().send(LIST);
    assert_eq!(
        harness.frames(),
        ["JTPG 2", "packet 0", "packet 1", "JTPL 001 zzz"]
    );
}

#[test]
fn s7_get_returns_images_in_request_order_and_omits_unknown_ids() {
    let mut harness = Harness::new(3);
    let (a, b) = (harness.id(0), harness.id(2));
    harness.send(&get(true, &[b, ImageId(7), a, b]));
    assert_eq!(
        harness.frames(),
        ["JTPD 3", "packet 2", "packet 0", "packet 2"]
    );
    harness
        .send(&get(true, &[]))
        .send(&get(true, &[ImageId(7)]));
    assert_eq!(harness.frames(), ["JTPD 0", "JTPD 0"]);
}

#[test]
fn s5_s8_batch_sends_missing_images_in_catalog_order() {
    let mut harness = Harness::new(5);
    let have = [harness.id(3), ImageId(1), harness.id(0), harness.id(3)];
    harness.send(&batch(true, &have));
    assert_eq!(
        harness.frames(),
        ["JTPB 3", "packet 1", "packet 2", "packet 4"]
    );
    harness.send(&batch(true, &[])).send(GET_ALL);
    assert_eq!(harness.frames().len(), 12);
}

#[test]
fn s8_too_many_ids_are_refused_before_any_id_is_read() {
    let mut harness = Harness::new(1);
    harness.send(&[2, 1, 0xc1, 0x84, 0x3d]); // 1,000,001
    assert_eq!(harness.frames(), ["JTPE InvalidRequest"]);
    assert!(harness.requests.is_empty());
    let mut harness = Harness::new(1);
    harness.send(&[2, 1, 0xc0, 0x84, 0x3d]);
    assert!(harness.frames().is_empty(), "a million is allowed");
    assert_eq!(harness.requests.len(), 1);
}

#[test]
fn s8_ids_are_matched_however_the_input_is_split() {
    let ids: Vec<ImageId> = (0..4).map(|n| ImageId::of(&[n; 100])).collect();
    let whole = batch(true, &ids);
    for size in 1..whole.len() {
        let mut harness = Harness::new(6);
        for piece in whole.chunks(size) {
            harness.send(piece);
        }
        assert_eq!(
            harness.frames(),
            ["JTPB 2", "packet 4", "packet 5"],
            "pieces of {size}"
        );
    }
}

#[test]
fn s10_invalid_requests_get_an_error_and_close_the_connection() {
    for (bytes, expected) in [
        (&[6][..], "JTPE UnsupportedFeature"),
        (&[255, 255], "JTPE UnsupportedFeature"),
        (&[1, 2], "JTPE InvalidRequest"),
        (&[3, 0x80], "JTPE InvalidRequest"),
        (&[2, 1, 0x80, 0x00], "JTPE InvalidRequest"),
        (&[2, 1, 0xff, 0xff, 0xff, 0xff, 0x10], "JTPE InvalidRequest"),
    ] {
        let mut harness = Harness::new(1);
        harness.send(bytes).send(LIST);
        assert_eq!(harness.frames(), [expected], "{bytes:?}");
        assert!(harness.half_closed);
    }
}

#[test]
fn s10_disabled_watch_is_unsupported_and_bit_0_of_watch_and_cancel_is_ignored() {
    let mut harness = Harness::with(1, ServerConfig::new().with_watch(false));
    harness.send(WATCH);
    assert_eq!(harness.frames(), ["JTPE UnsupportedFeature"]);
    assert_eq!(harness.reason(), Some(CloseReason::WatchOff));
    let mut harness = Harness::new(1);
    harness.send(&[4, 1, 3, 1]).send(LIST);
    assert_eq!(harness.frames(), ["JTPC", "JTPL 000"]);
}

#[test]
fn s10_eof_inside_a_request_finishes_earlier_responses_and_closes() {
    for inside in [
        &[1][..],
        &[3],
        &[0, 1],
        &[0, 1, 2, 0xff],
        &[2, 1, 0x85],
        &[2, 1, 1, 0, 0],
    ] {
        let mut harness = Harness::new(1);
        let mut input = LIST.to_vec();
        input.extend_from_slice(inside);
        harness.send(&input).eof();
        assert_eq!(harness.frames(), ["JTPL 000"], "{inside:?}");
        assert!(harness.connection.is_closed());
        assert_eq!(harness.reason(), Some(CloseReason::TruncatedRequest));
    }
}

#[test]
fn s11_close_lingers_until_eof_5_s_or_16_mib() {
    let mut harness = Harness::new(1);
    harness.send(&[255]);
    assert!(harness.half_closed && !harness.connection.is_closed());
    assert!(harness.connection.wants_read(&[]));
    assert_eq!(
        harness.connection.deadline(),
        Some(harness.now + 5 * SECOND)
    );
    let junk = vec![0xff; 1024 * 1024];
    for _ in 0..15 {
        harness.send(&junk);
        assert!(!harness.connection.is_closed());
    }
    harness.send(&junk).send(&junk);
    assert!(harness.connection.is_closed(), "more than 16 MiB discarded");

    let mut harness = Harness::new(1);
    harness.send(&[255]).advance_time(5 * SECOND);
    assert!(harness.connection.is_closed(), "5 s passed");

    let mut harness = Harness::new(1);
    harness.send(&[255]).eof();
    assert!(harness.connection.is_closed(), "the client closed");
}

#[test]
fn s12_an_image_that_cannot_be_opened_causes_jtpe_instead_of_its_packet() {
    let mut harness = Harness::new(3);
    harness.auto_load = false;
    harness.send(GET_ALL);
    harness.connection.body_loaded(100, harness.now).unwrap();
    harness.run();
    assert_eq!(
        harness.connection.wants_body().unwrap().image.id,
        harness.id(1)
    );
    harness
        .connection
        .body_failed("001.png vanished", harness.now)
        .unwrap();
    harness.run();
    assert_eq!(harness.frames(), ["JTPG 3", "packet 0", "JTPE ServerError"]);
    assert_eq!(harness.reason(), Some(CloseReason::Body));
}

#[test]
fn s13_an_image_that_changes_while_it_is_sent_cuts_the_connection() {
    let mut harness = Harness::new(3);
    harness.auto_load = false;
    harness.send(GET_ALL);
    harness.connection.body_loaded(40, harness.now).unwrap();
    harness.run();
    assert_eq!(harness.connection.wants_body().unwrap().offset, 40);
    harness.connection.body_loaded(9, harness.now).unwrap();
    harness
        .connection
        .body_failed("changed", harness.now)
        .unwrap();
    assert_eq!(harness.connection.wants_body(), None);
    harness.run();
    assert_eq!(harness.frames(), ["JTPG 3", "truncated body (49)"]);
    assert!(harness.half_closed);
}

#[test]
fn s16_shutdown_closes_idle_connections_and_finishes_the_current_response() {
    let mut harness = Harness::new(1);
    harness.connection.shutdown(harness.now);
    harness.run();
    assert!(harness.half_closed && harness.frames().is_empty());
    harness.advance_time(SECOND);
    assert!(harness.connection.is_closed());

    let mut harness = Harness::new(2);
    harness.auto_load = false;
    let mut input = GET_ALL.to_vec();
    input.extend_from_slice(LIST);
    harness.send(&input);
    harness.connection.shutdown(harness.now);
    harness.auto_load = true;
    harness.run();
    assert_eq!(
        harness.frames(),
        ["JTPG 2", "packet 0", "packet 1"],
        "later requests are dropped"
    );
    assert_eq!(harness.reason(), Some(CloseReason::Shutdown));
}

#[test]
fn s16_shutdown_ends_a_watch_at_an_event_boundary() {
    let mut harness = Harness::new(0);
    harness.send(WATCH);
    harness.write_size = 3;
    harness.add("a.png", vec![1]);
    harness.publish();
    assert!(harness.write());
    harness.connection.shutdown(harness.now);
    assert!(!harness.connection.wants_finish());
    harness.run();
    assert_eq!(harness.frames(), ["JTPW a.png"]);
    assert!(harness.half_closed);
}

#[test]
fn the_application_can_refuse_a_request_or_a_whole_connection() {
    let mut harness = Harness::new(1);
    harness.auto_accept = false;
    harness.send(LIST);
    harness
        .connection
        .refuse(ErrorCode::RateLimited, "slow down", harness.now)
        .unwrap();
    harness.run();
    assert_eq!(harness.frames(), ["JTPE RateLimited"]);

    let mut harness = Harness::new(1);
    let config = ServerConfig::new();
    harness.connection = ServerConnection::refused(
        config,
        ErrorCode::UnsupportedFeature,
        TLS_NEEDED,
        Time::ZERO,
    );
    harness.send(LIST);
    assert_eq!(harness.frames(), ["JTPE UnsupportedFeature"]);
    assert!(harness.half_closed);
}

#[test]
fn invalid_calls_return_misuse_and_change_nothing() {
    let mut harness = Harness::new(1);
    let (now, catalog) = (harness.now, Arc::clone(harness.writer.snapshot()));
    let connection = &mut harness.connection;
    assert_eq!(connection.accept(&catalog, now), Err(Misuse::NoRequest));
    assert_eq!(
        connection.refuse(ErrorCode::NotFound, "", now),
        Err(Misuse::NoRequest)
    );
    assert_eq!(connection.body_loaded(0, now), Err(Misuse::NoBody));
    assert_eq!(connection.body_failed("", now), Err(Misuse::NoBody));
    assert_eq!(connection.transmitted(1, now), Err(Misuse::TooMuch));
    assert_eq!(connection.finished(now), Err(Misuse::NoFinish));
    connection.catalog_changed(&catalog, now);
    harness.auto_load = false;
    harness.send(GET_ALL);
    assert_eq!(
        harness.connection.body_loaded(101, now),
        Err(Misuse::NoBody)
    );
    harness.connection.body_loaded(100, now).unwrap();
    assert_eq!(harness.connection.wants_body(), None);
    assert_eq!(harness.connection.body_loaded(0, now), Err(Misuse::NoBody));
    harness.auto_load = true;
    harness.run().send(LIST);
    assert_eq!(harness.frames(), ["JTPG 1", "packet 0", "JTPL 000"]);
}

#[test]
fn an_earlier_time_is_treated_as_the_current_time() {
    let mut harness = Harness::new(1);
    harness.now = Time::ZERO + 100 * SECOND;
    harness.auto_load = false;
    harness.send(GET_ALL);
    let connection = &mut harness.connection;
    connection.body_loaded(100, Time::ZERO).unwrap();
    connection.transmitted(1, Time::ZERO).unwrap();
    assert_eq!(connection.deadline(), Some(Time::ZERO + 130 * SECOND));
}

#[test]
fn an_empty_catalog_and_an_empty_image_are_sent() {
    let mut harness = Harness::new(0);
    harness.send(LIST).send(GET_ALL).send(&batch(true, &[]));
    assert_eq!(harness.frames(), ["JTPL ", "JTPG 0", "JTPB 0"]);
    harness.add("empty.png", Vec::new());
    harness.publish();
    harness.send(GET_ALL);
    assert_eq!(harness.frames(), ["JTPG 1", "packet 0"]);
}

#[test]
fn output_does_not_depend_on_how_input_and_output_are_split() {
    let mut script = LIST.to_vec();
    script.extend(get(true, &[ImageId::of(&[1; 100]), ImageId(9)]));
    script.extend(batch(true, &[ImageId::of(&[0; 100])]));
    script.extend_from_slice(GET_ALL);
    script.extend_from_slice(LIST);
    script.extend_from_slice(&[1, 0, 99]);
    let mut whole = Harness::new(3);
    whole.send(&script);
    let expected = whole.received.clone();
    for input in 1..8 {
        for output in 1..8 {
            let mut harness = Harness::new(3);
            harness.write_size = output;
            for piece in script.chunks(input) {
                harness.send(piece);
            }
            assert_eq!(harness.received, expected);
        }
    }
}
