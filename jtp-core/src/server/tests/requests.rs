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

    // The same while a request waits for a decision; its IDs are read once it is accepted.
    for (request, reads) in [(GET_ALL, true), (&batch(true, &[ImageId(1)]), false)] {
        let mut server = Scenario::new(2);
        server.auto_accept = false;
        server.send(request);
        assert_eq!(server.connection.wants_read(&[]), reads);
        assert!(!server.connection.wants_read(&[1]));
        server.send(&[3, 0]);
        assert!(
            !server.connection.wants_read(&[]),
            "nothing follows a CANCEL"
        );
    }
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
    assert_eq!(server.frames(), ["Batch 3", "body 1", "body 2", "body 4"]);
    server.send(&batch(true, &[])).send(GET_ALL);
    assert_eq!(server.frames().len(), 12);
    server.write_limit = 0;
    server.send(GET_ALL);
    let upcoming = server.connection.upcoming().map(|image| image.id);
    assert!(upcoming.eq((1..5).map(|n| server.id(n))));
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

#[test]
fn t2_t8_a_connection_that_is_refused_sends_an_error_and_closes() {
    let mut server = Scenario::new(1);
    let config = ServerConfig::new();
    server.connection =
        ServerConnection::refused(config, ErrorCode::UnsupportedFeature, "use TLS", Time::ZERO);
    server.send(LIST);
    assert_eq!(server.frames(), ["JTPE UnsupportedFeature"]);
    assert!(server.half_closed);
}

#[test]
fn c6_at_most_one_packet_is_offered() {
    let mut server = Scenario::new(3);
    server.auto_load = false;
    server.send(GET_ALL);
    server.connection.body_loaded(1, server.now).unwrap();
    server.write();
    assert_eq!(
        server.connection.transmit().body,
        None,
        "all that is loaded was sent"
    );
    server.connection.body_loaded(99, server.now).unwrap();
    assert_eq!(
        server.connection.wants_body(),
        None,
        "the next packet begins after this one"
    );
    assert!(server.connection.transmit().len() <= packet::MAX_HEAD_LEN + 100);
}
