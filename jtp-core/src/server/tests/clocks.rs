//! The timeouts. // T4 T5

use super::*;

#[test]
fn t4_a_connection_without_requests_is_closed() {
    let mut server = Scenario::new(1);
    server.wait(59 * SECOND);
    assert!(!server.half_closed);
    server.wait(SECOND);
    assert!(server.half_closed);
    assert_eq!(
        server.reason(),
        Some(CloseReason::Timeout(Timeout::FirstRequest))
    );

    let mut server = Scenario::new(1);
    server
        .wait(50 * SECOND)
        .send(LIST)
        .wait(29 * SECOND)
        .send(LIST)
        .wait(29 * SECOND);
    assert!(!server.half_closed);
    server.wait(SECOND);
    assert_eq!(server.reason(), Some(CloseReason::Timeout(Timeout::Idle)));
    assert_eq!(
        server.frames(),
        ["List 1", "000.png", "List 1", "000.png"],
        "no error frame"
    );
}

#[test]
fn t4_a_request_must_arrive_at_16_kib_per_second_after_10_s() {
    let mut server = Scenario::new(1);
    server.wait(20 * SECOND).send(&[1]).wait(9 * SECOND);
    assert_eq!(server.reason(), None);
    server.wait(2 * SECOND);
    let timeout = Some(CloseReason::Timeout(Timeout::Request));
    assert_eq!(
        server.reason(),
        timeout,
        "the clock starts with the first byte"
    );
    let mut server = Scenario::new(1);
    server.send(&[2, 1, 0xc0, 0x84, 0x3d]);
    // 16 KiB per second is fast enough. A pause may be as long as the grace period.
    for _ in 0..50 {
        server.wait(SECOND).send(&vec![0; 16 * 1024]);
        assert_eq!(server.reason(), None);
    }
    server.wait(10 * SECOND);
    assert_eq!(server.reason(), None);
    server.wait(SECOND);
    assert_eq!(
        server.reason(),
        Some(CloseReason::Timeout(Timeout::Request))
    );
    let reason = format!("{}", server.reason().unwrap());
    assert_eq!(reason, "timed out: a request arrived too slowly");
}

#[test]
fn t4_the_request_clock_stops_while_the_application_decides() {
    let mut server = Scenario::new(1);
    server.auto_accept = false;
    server.send(&get(true, &[ImageId(1)])[..5]);
    server.wait(1000 * SECOND);
    assert_eq!(server.connection.deadline(), None);
    server
        .connection
        .accept(server.writer.snapshot(), server.now)
        .unwrap();
    server.wait(9 * SECOND);
    assert_eq!(server.reason(), None);
    server.wait(2 * SECOND);
    assert_eq!(
        server.reason(),
        Some(CloseReason::Timeout(Timeout::Request))
    );
}

#[test]
fn t4_the_peer_must_accept_output_within_30_s_but_loading_has_no_limit() {
    let mut server = Scenario::new(2);
    server.auto_load = false;
    server.send(GET_ALL).wait(1000 * SECOND);
    assert_eq!(server.connection.deadline(), None);
    server.write_limit = 1;
    server.connection.body_loaded(1, server.now).unwrap();
    for _ in 0..5 {
        server.write();
        server.now = server.now + 29 * SECOND;
        server.connection.handle_timeout(server.now);
        assert!(!server.connection.is_closed());
    }
    assert!(!server.connection.transmit().is_empty());
    server.now = server.now + 30 * SECOND;
    server.connection.handle_timeout(server.now);
    assert!(server.connection.is_closed());
    // The rest of the output is discarded.
    assert!(server.connection.transmit().is_empty());
}
