//! The rules of CANCEL. // C1 C2 C3 C4 C5 C6

use super::*;

#[test]
fn c1_c3_cancel_on_an_idle_keep_alive_connection_is_answered_at_once() {
    let mut server = Scenario::new(1);
    server.send(LIST).send(CANCEL).send(CANCEL).send(LIST);
    assert_eq!(server.frames(), ["JTPL 000", "JTPC", "JTPC", "JTPL 000"]);
}

#[test]
fn c2_cancel_stops_at_the_next_packet_boundary() {
    for sent_before in 0..=112 {
        let mut server = Scenario::new(3);
        server.auto_load = false;
        server.send(GET_ALL);
        server.connection.body_loaded(100, server.now).unwrap();
        server.write_limit = 1;
        for _ in 0..sent_before {
            server.write();
        }
        server.send(CANCEL).send(LIST);
        let first = "packet 0";
        assert_eq!(
            server.frames(),
            ["JTPG 3", first, "JTPC", "JTPL 000 001 002"]
        );
    }
}

#[test]
fn c2_the_header_and_count_are_always_sent_first() {
    for request in [
        GET_ALL.to_vec(),
        batch(true, &[]),
        get(true, &[ImageId::of(&[0; 100])]),
    ] {
        let mut server = Scenario::new(1);
        server.auto_load = false;
        server.write_limit = 1;
        server.input.extend_from_slice(&request);
        server.feed();
        server.send(CANCEL).send(LIST);
        let frames = server.frames();
        assert!(frames[0].ends_with(" 1"), "{frames:?}");
        assert_eq!(frames[1..], ["JTPC", "JTPL 000"]);
    }
}

#[test]
fn c2_a_catalog_is_completed_before_a_cancel_is_answered() {
    let mut server = Scenario::new(2);
    server.write_limit = 1;
    server.input.extend_from_slice(LIST);
    server.feed();
    server.write();
    server.send(CANCEL).send(LIST);
    assert_eq!(server.frames(), ["JTPL 000 001", "JTPC", "JTPL 000 001"]);
}

#[test]
fn c2_cancel_is_answered_after_a_decision_that_is_made_later() {
    let mut server = Scenario::new(2);
    server.auto_accept = false;
    server.send(GET_ALL).send(CANCEL);
    server
        .connection
        .accept(server.writer.snapshot(), server.now)
        .unwrap();
    server.run();
    assert_eq!(server.frames(), ["JTPG 2", "JTPC"]);
}

#[test]
fn c3_c4_after_a_watch_an_idle_connection_accepts_cancel() {
    let mut server = Scenario::new(1);
    server.send(WATCH).send(CANCEL);
    assert_eq!(server.frames(), ["JTPC"]);
    assert!(!server.connection.is_watching());
    server.send(CANCEL).send(&[1, 0]);
    assert_eq!(server.frames(), ["JTPC", "JTPL 000"]);
}

#[test]
fn c4_cancel_without_a_keep_alive_request_is_invalid() {
    let mut server = Scenario::new(1);
    server.send(CANCEL);
    assert_eq!(server.frames(), ["JTPE InvalidRequest"]);

    let mut server = Scenario::new(3);
    server.auto_load = false;
    server.send(&[5, 0]);
    server.connection.body_loaded(100, server.now).unwrap();
    server.send(CANCEL);
    assert_eq!(
        server.frames(),
        ["JTPG 3", "packet 0", "JTPE InvalidRequest"]
    );

    let mut server = Scenario::new(1);
    server.send(&[1, 0]).send(CANCEL);
    assert_eq!(
        server.frames(),
        ["JTPL 000"],
        "no error after the half-close"
    );
}

#[test]
fn c5_cancel_behind_a_second_request_cancels_the_second() {
    let mut server = Scenario::new(2);
    server.auto_load = false;
    let mut input = GET_ALL.to_vec();
    input.extend_from_slice(LIST);
    input.extend_from_slice(CANCEL);
    server.send(&input);
    server.auto_load = true;
    server.run();
    assert_eq!(
        server.frames(),
        ["JTPG 2", "packet 0", "packet 1", "JTPL 000 001", "JTPC"]
    );
}

#[test]
fn c6_at_most_one_packet_is_offered() {
    let mut server = Scenario::new(3);
    server.auto_load = false;
    server.send(GET_ALL);
    server.connection.body_loaded(100, server.now).unwrap();
    assert_eq!(
        server.connection.wants_body(),
        None,
        "the next packet begins after this one"
    );
    assert!(server.connection.transmit().len() <= packet::MAX_HEAD_LEN + 100);
}

#[test]
fn c1_a_cancel_before_the_decision_is_answered_for_every_kind_of_request() {
    for request in [
        LIST.to_vec(),
        get(true, &[]),
        batch(true, &[]),
        GET_ALL.to_vec(),
    ] {
        let mut server = Scenario::new(1);
        server.auto_accept = false;
        server.send(&request).send(CANCEL);
        assert!(
            server.input.is_empty(),
            "the CANCEL is read during the request"
        );
        server
            .connection
            .accept(server.writer.snapshot(), server.now)
            .unwrap();
        server.run();
        let frames = server.frames();
        assert_eq!(frames.len(), 2, "{frames:?}");
        assert_eq!(frames[1], "JTPC");
    }
}
