//! Requests, responses, errors, and the end of connections.

use super::*;

#[test]
fn s1_pipelined_requests_are_answered_in_order() {
    let mut scene = Scene::new(2);
    let mut input = LIST.to_vec();
    input.extend(get(true, &[scene.id(1)]));
    input.extend_from_slice(LIST);
    scene.send(&input);
    assert_eq!(
        scene.frames(),
        ["JTPL 000 001", "JTPD 1", "packet 1", "JTPL 000 001"]
    );
}

#[test]
fn s1_while_a_response_is_under_way_reading_stops_at_what_is_no_cancel() {
    let mut scene = Scene::new(2);
    scene.loads = false;
    scene.send(GET_ALL);
    assert!(scene.connection.wants_read(&[]));
    assert!(scene.connection.wants_read(&[3]));
    assert!(!scene.connection.wants_read(&[1]));
    assert!(
        !scene.connection.wants_read(&[3, 0xff]),
        "an invalid CANCEL has its turn later"
    );
    assert_eq!(scene.connection.receive(&[1, 1, 3, 0], scene.now).used, 0);
}

#[test]
fn s2_keep_alive_decides_what_follows_a_response() {
    let mut scene = Scene::new(1);
    scene.send(LIST).send(&[1, 0]).send(LIST).send(&[9, 9]);
    assert_eq!(
        scene.frames(),
        ["JTPL 000", "JTPL 000"],
        "what follows is thrown away"
    );
    assert!(scene.half_closed);
    assert_eq!(scene.reason(), Some(CloseReason::NoKeepAlive));
    scene.eof();
    assert!(scene.connection.is_closed());
}

#[test]
fn s3_a_response_is_computed_from_one_snapshot() {
    let mut scene = Scene::new(2);
    scene.loads = false;
    scene.send(GET_ALL);
    scene.add("zzz.png", vec![9; 10]);
    scene.writer.remove(scene.id(0));
    scene.publish();
    scene.loads = true;
    scene.run().send(LIST);
    assert_eq!(
        scene.frames(),
        ["JTPG 2", "packet 0", "packet 1", "JTPL 001 zzz"]
    );
}

#[test]
fn s7_get_answers_in_the_order_asked_and_leaves_out_unknown_ids() {
    let mut scene = Scene::new(3);
    let (a, b) = (scene.id(0), scene.id(2));
    scene.send(&get(true, &[b, ImageId(7), a, b]));
    assert_eq!(
        scene.frames(),
        ["JTPD 3", "packet 2", "packet 0", "packet 2"]
    );
    scene.send(&get(true, &[])).send(&get(true, &[ImageId(7)]));
    assert_eq!(scene.frames(), ["JTPD 0", "JTPD 0"]);
}

#[test]
fn s5_s8_batch_sends_what_the_client_lacks_in_catalog_order() {
    let mut scene = Scene::new(5);
    let had = [scene.id(3), ImageId(1), scene.id(0), scene.id(3)];
    scene.send(&batch(true, &had));
    assert_eq!(
        scene.frames(),
        ["JTPB 3", "packet 1", "packet 2", "packet 4"]
    );
    scene.send(&batch(true, &[])).send(GET_ALL);
    assert_eq!(scene.frames().len(), 12);
}

#[test]
fn s8_too_many_ids_are_refused_before_any_is_read() {
    let mut scene = Scene::new(1);
    scene.send(&[2, 1, 0xc1, 0x84, 0x3d]); // 1,000,001
    assert_eq!(scene.frames(), ["JTPE InvalidRequest"]);
    assert!(scene.requests.is_empty());
    let mut scene = Scene::new(1);
    scene.send(&[2, 1, 0xc0, 0x84, 0x3d]);
    assert!(scene.frames().is_empty(), "a million is allowed");
    assert_eq!(scene.requests.len(), 1);
}

#[test]
fn s8_ids_are_matched_however_they_are_cut() {
    let ids: Vec<ImageId> = (0..4).map(|n| ImageId::of(&[n; 100])).collect();
    let whole = batch(true, &ids);
    for size in 1..whole.len() {
        let mut scene = Scene::new(6);
        for piece in whole.chunks(size) {
            scene.send(piece);
        }
        assert_eq!(
            scene.frames(),
            ["JTPB 2", "packet 4", "packet 5"],
            "pieces of {size}"
        );
    }
}

#[test]
fn s10_bad_requests_get_their_error_and_the_connection_ends() {
    for (bytes, expected) in [
        (&[6][..], "JTPE UnsupportedFeature"),
        (&[255, 255], "JTPE UnsupportedFeature"),
        (&[1, 2], "JTPE InvalidRequest"),
        (&[3, 0x80], "JTPE InvalidRequest"),
        (&[2, 1, 0x80, 0x00], "JTPE InvalidRequest"),
        (&[2, 1, 0xff, 0xff, 0xff, 0xff, 0x10], "JTPE InvalidRequest"),
    ] {
        let mut scene = Scene::new(1);
        scene.send(bytes).send(LIST);
        assert_eq!(scene.frames(), [expected], "{bytes:?}");
        assert!(scene.half_closed);
    }
}

#[test]
fn s10_watch_switched_off_is_unsupported_and_bit_0_of_watch_and_cancel_is_ignored() {
    let mut scene = Scene::with(1, ServerConfig::new().with_watch(false));
    scene.send(WATCH);
    assert_eq!(scene.frames(), ["JTPE UnsupportedFeature"]);
    assert_eq!(scene.reason(), Some(CloseReason::WatchDisabled));
    let mut scene = Scene::new(1);
    scene.send(&[4, 1, 3, 1]).send(LIST);
    assert_eq!(scene.frames(), ["JTPC", "JTPL 000"]);
}

#[test]
fn s10_eof_inside_a_request_finishes_earlier_responses_and_closes_unanswered() {
    for inside in [
        &[1][..],
        &[3],
        &[0, 1],
        &[0, 1, 2, 0xff],
        &[2, 1, 0x85],
        &[2, 1, 1, 0, 0],
    ] {
        let mut scene = Scene::new(1);
        let mut input = LIST.to_vec();
        input.extend_from_slice(inside);
        scene.send(&input).eof();
        assert_eq!(scene.frames(), ["JTPL 000"], "{inside:?}");
        assert!(scene.connection.is_closed());
        assert_eq!(scene.reason(), Some(CloseReason::TruncatedRequest));
    }
}

#[test]
fn s11_every_close_is_a_lingering_one() {
    let mut scene = Scene::new(1);
    scene.send(&[255]);
    assert!(scene.half_closed && !scene.connection.is_closed());
    assert!(scene.connection.wants_read(&[]));
    assert_eq!(scene.connection.deadline(), Some(scene.now + 5 * SECOND));
    let junk = vec![0xff; 1024 * 1024];
    for _ in 0..15 {
        scene.send(&junk);
        assert!(!scene.connection.is_closed());
    }
    scene.send(&junk).send(&junk);
    assert!(scene.connection.is_closed(), "over 16 MiB");

    let mut scene = Scene::new(1);
    scene.send(&[255]).pass(5 * SECOND);
    assert!(scene.connection.is_closed(), "over 5 s");

    let mut scene = Scene::new(1);
    scene.send(&[255]).eof();
    assert!(scene.connection.is_closed(), "the client closed");
}

#[test]
fn s12_an_image_that_cannot_be_opened_is_an_error_where_its_packet_would_begin() {
    let mut scene = Scene::new(3);
    scene.loads = false;
    scene.send(GET_ALL);
    scene.connection.body_loaded(100, scene.now).unwrap();
    scene.run();
    assert_eq!(
        scene.connection.wants_body().unwrap().image().id,
        scene.id(1)
    );
    scene
        .connection
        .body_failed("001.png vanished", scene.now)
        .unwrap();
    scene.run();
    assert_eq!(scene.frames(), ["JTPG 3", "packet 0", "JTPE ServerError"]);
    assert_eq!(scene.reason(), Some(CloseReason::BodyFailed));
}

#[test]
fn s13_an_image_that_changes_under_way_closes_the_connection_short() {
    let mut scene = Scene::new(3);
    scene.loads = false;
    scene.send(GET_ALL);
    scene.connection.body_loaded(40, scene.now).unwrap();
    scene.run();
    assert_eq!(scene.connection.wants_body().unwrap().offset(), 40);
    scene.connection.body_loaded(9, scene.now).unwrap();
    scene.connection.body_failed("changed", scene.now).unwrap();
    assert_eq!(scene.connection.wants_body(), None);
    scene.run();
    assert_eq!(scene.frames(), ["JTPG 3", "cut in a body (49)"]);
    assert!(scene.half_closed);
}

#[test]
fn s16_shutdown_closes_idle_connections_and_finishes_the_response_under_way() {
    let mut scene = Scene::new(1);
    scene.connection.shutdown(scene.now);
    scene.run();
    assert!(scene.half_closed && scene.frames().is_empty());
    scene.pass(SECOND);
    assert!(scene.connection.is_closed());

    let mut scene = Scene::new(2);
    scene.loads = false;
    let mut input = GET_ALL.to_vec();
    input.extend_from_slice(LIST);
    scene.send(&input);
    scene.connection.shutdown(scene.now);
    scene.loads = true;
    scene.run();
    assert_eq!(
        scene.frames(),
        ["JTPG 2", "packet 0", "packet 1"],
        "what was behind it is dropped"
    );
    assert_eq!(scene.reason(), Some(CloseReason::Shutdown));
}

#[test]
fn s16_shutdown_ends_a_watch_at_an_event_boundary() {
    let mut scene = Scene::new(0);
    scene.send(WATCH);
    scene.step = 3;
    scene.add("a.png", vec![1]);
    scene.publish();
    assert!(scene.take());
    scene.connection.shutdown(scene.now);
    assert!(!scene.connection.wants_finish());
    scene.run();
    assert_eq!(scene.frames(), ["JTPW a.png"]);
    assert!(scene.half_closed);
}

#[test]
fn the_application_can_refuse_a_request_or_a_whole_connection() {
    let mut scene = Scene::new(1);
    scene.decides = false;
    scene.send(LIST);
    scene
        .connection
        .refuse(ErrorCode::RateLimited, "slow down", scene.now)
        .unwrap();
    scene.run();
    assert_eq!(scene.frames(), ["JTPE RateLimited"]);

    let mut scene = Scene::new(1);
    let config = ServerConfig::new();
    scene.connection =
        ServerConnection::refused(config, ErrorCode::UnsupportedFeature, "use TLS", Time::ZERO);
    scene.send(LIST);
    assert_eq!(scene.frames(), ["JTPE UnsupportedFeature"]);
    assert!(scene.half_closed);
}

#[test]
fn calls_that_do_not_fit_answer_misuse_and_change_nothing() {
    let mut scene = Scene::new(1);
    let (now, catalog) = (scene.now, Arc::clone(scene.writer.snapshot()));
    let connection = &mut scene.connection;
    assert_eq!(connection.accept(&catalog, now), Err(Misuse::NoRequest));
    assert_eq!(
        connection.refuse(ErrorCode::NotFound, "", now),
        Err(Misuse::NoRequest)
    );
    assert_eq!(connection.body_loaded(0, now), Err(Misuse::NoBody));
    assert_eq!(connection.body_failed("", now), Err(Misuse::NoBody));
    let misuse = Misuse::Overacknowledged {
        acknowledged: 1,
        shown: 0,
    };
    assert_eq!(connection.transmitted(1, now), Err(misuse));
    assert_eq!(connection.finished(now), Err(Misuse::NoFinish));
    connection.catalog_changed(&catalog, now);
    scene.loads = false;
    scene.send(GET_ALL);
    let misuse = Misuse::ExcessBody {
        loaded: 101,
        missing: 100,
    };
    assert_eq!(scene.connection.body_loaded(101, now), Err(misuse));
    scene.connection.body_loaded(100, now).unwrap();
    assert_eq!(scene.connection.wants_body(), None);
    assert_eq!(scene.connection.body_loaded(0, now), Err(Misuse::NoBody));
    scene.loads = true;
    scene.run().send(LIST);
    assert_eq!(scene.frames(), ["JTPG 1", "packet 0", "JTPL 000"]);
}

#[test]
fn an_earlier_time_is_taken_as_no_time_having_passed() {
    let mut scene = Scene::new(1);
    scene.now = Time::ZERO + 100 * SECOND;
    scene.loads = false;
    scene.send(GET_ALL);
    let connection = &mut scene.connection;
    connection.body_loaded(100, Time::ZERO).unwrap();
    connection.transmitted(1, Time::ZERO).unwrap();
    assert_eq!(connection.deadline(), Some(Time::ZERO + 130 * SECOND));
}

#[test]
fn an_empty_catalog_and_an_empty_image_travel() {
    let mut scene = Scene::new(0);
    scene.send(LIST).send(GET_ALL).send(&batch(true, &[]));
    assert_eq!(scene.frames(), ["JTPL ", "JTPG 0", "JTPB 0"]);
    scene.add("empty.png", Vec::new());
    scene.publish();
    scene.send(GET_ALL);
    assert_eq!(scene.frames(), ["JTPG 1", "packet 0"]);
}

/// Every exchange gives the same output, however the input and the output are cut.
#[test]
fn pieces_of_any_size_make_no_difference() {
    let mut script = LIST.to_vec();
    script.extend(get(true, &[ImageId::of(&[1; 100]), ImageId(9)]));
    script.extend(batch(true, &[ImageId::of(&[0; 100])]));
    script.extend_from_slice(GET_ALL);
    script.extend_from_slice(LIST);
    script.extend_from_slice(&[1, 0, 99]);
    let mut whole = Scene::new(3);
    whole.send(&script);
    let expected = whole.got.clone();
    for input in 1..8 {
        for output in 1..8 {
            let mut scene = Scene::new(3);
            scene.step = output;
            for piece in script.chunks(input) {
                scene.send(piece);
            }
            assert_eq!(scene.got, expected);
        }
    }
}
