//! The rules of CANCEL. // C1 C2 C3 C4 C5 C6

use super::*;

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
