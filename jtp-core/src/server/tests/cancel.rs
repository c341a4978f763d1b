//! CANCEL. // C1 C2 C3 C4 C5 C6

use super::*;

#[test]
fn c1_c3_cancel_on_an_idle_keep_alive_connection_is_answered_at_once() {
    let mut harness = Harness::new(1);
    harness.send(LIST).send(CANCEL).send(CANCEL).send(LIST);
    assert_eq!(harness.frames(), ["JTPL 000", "JTPC", "JTPC", "JTPL 000"]);
}

#[test]
fn c2_cancel_stops_at_the_next_packet_boundary() {
    for sent_before in 0..=112 {
        let mut harness = Harness::new(3);
        harness.auto_load = false;
        harness.send(GET_ALL);
        harness.connection.body_loaded(100, harness.now).unwrap();
        harness.write_size = 1;
        for _ in 0..sent_before {
            harness.write();
        }
        harness.send(CANCEL).send(LIST);
        let first = "packet 0";
        assert_eq!(
            harness.frames(),
            ["JTPG 3", first, "JTPC", "JTPL 000 001 002"]
        );
    }
}

#[test]
fn c2_cancel_is_answered_after_the_header_and_count() {
    for request in [
        GET_ALL.to_vec(),
        batch(true, &[]),
        get(true, &[ImageId::of(&[0; 100])]),
    ] {
        let mut harness = Harness::new(1);
        harness.auto_load = false;
        harness.write_size = 1;
        harness.input.extend_from_slice(&request);
        harness.process_input();
        harness.send(CANCEL).send(LIST);
        let frames = harness.frames();
        assert!(frames[0].ends_with(" 1"), "{frames:?}");
        assert_eq!(frames[1..], ["JTPC", "JTPL 000"]);
    }
}

#[test]
fn c2_cancel_is_answered_after_the_whole_catalog() {
    let mut harness = Harness::new(2);
    harness.write_size = 1;
    harness.input.extend_from_slice(LIST);
    harness.process_input();
    harness.write();
    harness.send(CANCEL).send(LIST);
    assert_eq!(harness.frames(), ["JTPL 000 001", "JTPC", "JTPL 000 001"]);
}

#[test]
fn c2_cancel_before_the_request_is_accepted_stops_it_after_the_count() {
    let mut harness = Harness::new(2);
    harness.auto_accept = false;
    harness.send(GET_ALL).send(CANCEL);
    harness
        .connection
        .accept(harness.writer.snapshot(), harness.now)
        .unwrap();
    harness.run();
    assert_eq!(harness.frames(), ["JTPG 2", "JTPC"]);
}

#[test]
fn c3_c4_an_earlier_watch_makes_cancel_valid_when_idle() {
    let mut harness = Harness::new(1);
    harness.send(WATCH).send(CANCEL);
    assert_eq!(harness.frames(), ["JTPC"]);
    assert!(!harness.connection.is_watching());
    harness.send(CANCEL).send(&[1, 0]);
    assert_eq!(harness.frames(), ["JTPC", "JTPL 000"]);
}

#[test]
fn c4_cancel_without_a_keep_alive_request_is_invalid() {
    let mut harness = Harness::new(1);
    harness.send(CANCEL);
    assert_eq!(harness.frames(), ["JTPE InvalidRequest"]);

    let mut harness = Harness::new(3);
    harness.auto_load = false;
    harness.send(&[5, 0]);
    harness.connection.body_loaded(100, harness.now).unwrap();
    harness.send(CANCEL);
    assert_eq!(
        harness.frames(),
        ["JTPG 3", "packet 0", "JTPE InvalidRequest"]
    );

    let mut harness = Harness::new(1);
    harness.send(&[1, 0]).send(CANCEL);
    assert_eq!(
        harness.frames(),
        ["JTPL 000"],
        "no output after the half-close"
    );
}

#[test]
fn c5_cancel_applies_to_the_last_pipelined_request() {
    let mut harness = Harness::new(2);
    harness.auto_load = false;
    let mut input = GET_ALL.to_vec();
    input.extend_from_slice(LIST);
    input.extend_from_slice(CANCEL);
    harness.send(&input);
    harness.auto_load = true;
    harness.run();
    assert_eq!(
        harness.frames(),
        ["JTPG 2", "packet 0", "packet 1", "JTPL 000 001", "JTPC"]
    );
}

#[test]
fn c6_at_most_one_packet_is_offered() {
    let mut harness = Harness::new(3);
    harness.auto_load = false;
    harness.send(GET_ALL);
    harness.connection.body_loaded(100, harness.now).unwrap();
    assert_eq!(
        harness.connection.wants_body(),
        None,
        "the next body is loaded after this one is sent"
    );
    assert!(harness.connection.transmit().len() <= packet::MAX_HEAD_LEN + 100);
}

#[test]
fn c1_cancel_before_the_request_is_accepted_is_answered_for_every_kind() {
    for request in [
        LIST.to_vec(),
        get(true, &[]),
        batch(true, &[]),
        GET_ALL.to_vec(),
    ] {
        let mut harness = Harness::new(1);
        harness.auto_accept = false;
        harness.send(&request).send(CANCEL);
        assert!(
            harness.input.is_empty(),
            "CANCEL must be consumed before the request is accepted"
        );
        harness
            .connection
            .accept(harness.writer.snapshot(), harness.now)
            .unwrap();
        harness.run();
        let frames = harness.frames();
        assert_eq!(frames.len(), 2, "{frames:?}");
        assert_eq!(frames[1], "JTPC");
    }
}
