//! Requests, responses, errors, and the end of connections.

use super::*;

#[test]
fn s1_during_a_response_reading_stops_at_anything_but_cancel() {
    let mut server = Scenario::new(2);
    server.auto_load = false;
    server.send(GET_ALL);
    assert!(server.connection.wants_read(&[]));
    assert!(server.connection.wants_read(&[3]));
    assert!(!server.connection.wants_read(&[1]));
    assert!(
        !server.connection.wants_read(&[3, 0xff]),
        "an invalid CANCEL is read after the response"
    );
    assert_eq!(server.connection.receive(&[1, 1, 3, 0], server.now).used, 0);
}

#[test]
fn s2_keep_alive_decides_whether_another_request_is_read() {
    let mut server = Scenario::new(1);
    server.send(LIST).send(&[1, 0]).send(LIST).send(&[9, 9]);
    assert_eq!(
        server.frames(),
        ["JTPL 000", "JTPL 000"],
        "later input is discarded"
    );
    assert!(server.half_closed);
    assert_eq!(server.reason(), Some(CloseReason::NoKeepAlive));
    server.eof();
    assert!(server.connection.is_closed());
}

#[test]
fn s3_a_response_is_computed_from_one_snapshot() {
    let mut server = Scenario::new(2);
    server.auto_load = false;
    server.send(GET_ALL);
    server.add("zzz.png", vec![9; 10]);
    server.writer.remove(server.id(0));
    server.publish();
    server.auto_load = true;
    server.run().send(LIST);
    assert_eq!(
        server.frames(),
        ["JTPG 2", "packet 0", "packet 1", "JTPL 001 zzz"]
    );
}

#[test]
fn s5_s8_batch_sends_what_the_client_lacks_in_catalog_order() {
    let mut server = Scenario::new(5);
    let have = [server.id(3), ImageId(1), server.id(0), server.id(3)];
    server.write_limit = 0;
    server.send(&batch(true, &have));
    assert_eq!(server.connection.take_lookups(), 5);
    let upcoming = server.connection.upcoming().map(|image| image.id);
    assert!(upcoming.eq([2, 4].map(|n| server.id(n))));
    server.write_limit = usize::MAX;
    server.run();
    assert_eq!(
        server.frames(),
        ["JTPB 3", "packet 1", "packet 2", "packet 4"]
    );
    server.send(&batch(true, &[])).send(GET_ALL);
    assert_eq!(server.frames().len(), 12);
    server.write_limit = 0;
    server.send(GET_ALL);
    let upcoming = server.connection.upcoming().map(|image| image.id);
    assert!(upcoming.eq((1..5).map(|n| server.id(n))));
}

#[test]
fn c5_an_id_that_begins_like_cancel_is_none() {
    let mut server = Scenario::new(1);
    server.auto_accept = false;
    let all = batch(true, &[ImageId(0x0300 << 48), ImageId(1)]);
    let (head, ids) = all.split_at(3);
    server.send(head);
    assert!(!server.connection.wants_read(&[]));
    server.auto_accept = true;
    let catalog = server.writer.snapshot().clone();
    server.input.extend_from_slice(ids);
    server.feed();
    server.connection.accept(&catalog, server.now).unwrap();
    server.run();
    assert_eq!(server.frames(), ["JTPB 1", "packet 0"]);
}

#[test]
fn s10_disabled_watch_is_unsupported_and_bit_0_of_watch_and_cancel_is_ignored() {
    let mut server = Scenario::with(1, ServerConfig::new().with_watch(false));
    server.send(WATCH);
    assert_eq!(server.frames(), ["JTPE UnsupportedFeature"]);
    assert_eq!(server.reason(), Some(CloseReason::WatchDisabled));
    let mut server = Scenario::new(1);
    server.send(&[4, 1, 3, 1]).send(LIST);
    assert_eq!(server.frames(), ["JTPC", "JTPL 000"]);
}

#[test]
fn s10_the_reason_tells_the_end_of_input_inside_a_request_from_one_between_requests() {
    for (input, reason) in [
        (LIST, CloseReason::PeerClosed),
        (&[1, 1, 1][..], CloseReason::TruncatedRequest),
        (&[1, 1, 2, 1, 1, 0], CloseReason::TruncatedRequest),
    ] {
        let mut server = Scenario::new(1);
        server.send(input).eof();
        assert_eq!(server.frames(), ["JTPL 000"]);
        assert_eq!(server.reason(), Some(reason), "{input:?}");
    }
}

#[test]
fn s11_a_closing_connection_lingers_up_to_its_limits() {
    let mut server = Scenario::new(1);
    server.send(&[255]);
    assert!(server.half_closed && !server.connection.is_closed());
    assert!(server.connection.wants_read(&[]));
    assert_eq!(server.connection.deadline(), Some(server.now + 5 * SECOND));
    let junk = vec![0xff; 1024 * 1024];
    for _ in 0..16 {
        server.send(&junk);
        assert!(!server.connection.is_closed());
    }
    server.send(&junk);
    assert!(server.connection.is_closed(), "more than 16 MiB");

    let mut server = Scenario::new(1);
    server.send(&[255]).wait(5 * SECOND);
    assert!(server.connection.is_closed(), "after 5 s");

    let mut server = Scenario::new(1);
    server.send(&[255]).eof();
    assert!(server.connection.is_closed(), "the client closed");
}

#[test]
fn s12_an_image_that_cannot_be_opened_gives_an_error_instead_of_its_packet() {
    let mut server = Scenario::new(3);
    server.auto_load = false;
    server.send(GET_ALL);
    server.connection.body_loaded(100, server.now).unwrap();
    server.run();
    assert_eq!(
        server.connection.wants_body().unwrap().image().id,
        server.id(1)
    );
    server
        .connection
        .body_failed("001.png is gone", server.now)
        .unwrap();
    server.run();
    assert_eq!(server.frames(), ["JTPG 3", "packet 0", "JTPE ServerError"]);
    assert_eq!(server.reason(), Some(CloseReason::BodyFailed));
}

#[test]
fn s13_an_image_that_changes_while_it_is_sent_closes_the_connection_early() {
    let mut server = Scenario::new(3);
    server.auto_load = false;
    server.send(GET_ALL);
    server.connection.body_loaded(40, server.now).unwrap();
    server.run();
    assert_eq!(server.connection.wants_body().unwrap().offset(), 40);
    server.connection.body_loaded(9, server.now).unwrap();
    server
        .connection
        .body_failed("changed", server.now)
        .unwrap();
    assert_eq!(server.connection.wants_body(), None);
    server.run();
    assert_eq!(server.frames(), ["JTPG 3", "cut in a body (49)"]);
    assert!(server.half_closed);
}

#[test]
fn s16_shutdown_closes_idle_connections_and_completes_the_current_response() {
    let mut server = Scenario::new(1);
    server.connection.shutdown(server.now);
    server.run();
    assert!(server.half_closed && server.frames().is_empty());
    server.wait(SECOND);
    assert!(server.connection.is_closed());

    let mut server = Scenario::new(2);
    server.auto_load = false;
    let mut input = GET_ALL.to_vec();
    input.extend_from_slice(LIST);
    server.send(&input);
    server.connection.shutdown(server.now);
    server.auto_load = true;
    server.run();
    assert_eq!(
        server.frames(),
        ["JTPG 2", "packet 0", "packet 1"],
        "the pipelined request is not answered"
    );
    assert_eq!(server.reason(), Some(CloseReason::Shutdown));
}

#[test]
fn s16_shutdown_ends_a_watch_at_an_event_boundary() {
    let mut server = Scenario::new(0);
    server.send(WATCH);
    server.write_limit = 3;
    server.add("a.png", vec![1]);
    server.publish();
    assert!(server.write());
    server.connection.shutdown(server.now);
    assert!(!server.connection.wants_finish());
    server.run();
    assert_eq!(server.frames(), ["JTPW a.png"]);
    assert!(server.half_closed);
}

#[test]
fn an_application_can_refuse_a_request_or_a_connection() {
    let mut server = Scenario::new(1);
    server.auto_accept = false;
    server.send(LIST);
    server
        .connection
        .refuse(ErrorCode::RateLimited, "slow down", server.now)
        .unwrap();
    server.run();
    assert_eq!(server.frames(), ["JTPE RateLimited"]);

    let mut server = Scenario::new(1);
    let config = ServerConfig::new();
    server.connection =
        ServerConnection::refused(config, ErrorCode::UnsupportedFeature, "use TLS", Time::ZERO);
    server.send(LIST);
    assert_eq!(server.frames(), ["JTPE UnsupportedFeature"]);
    assert!(server.half_closed);
}

#[test]
fn calls_that_do_not_fit_the_state_return_misuse_and_change_nothing() {
    let mut server = Scenario::new(1);
    let (now, catalog) = (server.now, Arc::clone(server.writer.snapshot()));
    let connection = &mut server.connection;
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
    server.auto_load = false;
    server.send(GET_ALL);
    let misuse = Misuse::ExcessBody {
        loaded: 101,
        missing: 100,
    };
    assert_eq!(server.connection.body_loaded(101, now), Err(misuse));
    server.connection.body_loaded(100, now).unwrap();
    assert_eq!(server.connection.wants_body(), None);
    assert_eq!(server.connection.body_loaded(0, now), Err(Misuse::NoBody));
    server.auto_load = true;
    server.run().send(LIST);
    assert_eq!(server.frames(), ["JTPG 1", "packet 0", "JTPL 000"]);
}

#[test]
fn a_time_before_the_last_one_counts_as_the_last_one() {
    let mut server = Scenario::new(1);
    server.now = Time::ZERO + 100 * SECOND;
    server.auto_load = false;
    server.send(GET_ALL);
    let connection = &mut server.connection;
    connection.body_loaded(100, Time::ZERO).unwrap();
    connection.transmitted(1, Time::ZERO).unwrap();
    assert_eq!(connection.deadline(), Some(Time::ZERO + 130 * SECOND));
}
