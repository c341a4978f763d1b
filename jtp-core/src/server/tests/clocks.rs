//! Timeouts, on simulated time. // T4 T5

use super::*;

#[test]
fn t4_first_byte_and_idle_timeouts_close_the_connection() {
    let mut harness = Harness::new(1);
    harness.advance_time(59 * SECOND);
    assert!(!harness.half_closed);
    harness.advance_time(SECOND);
    assert!(harness.half_closed);
    assert_eq!(
        harness.reason(),
        Some(CloseReason::Timeout(Timeout::FirstByte))
    );

    let mut harness = Harness::new(1);
    harness
        .advance_time(50 * SECOND)
        .send(LIST)
        .advance_time(29 * SECOND)
        .send(LIST)
        .advance_time(29 * SECOND);
    assert!(!harness.half_closed);
    harness.advance_time(SECOND);
    assert_eq!(harness.reason(), Some(CloseReason::Timeout(Timeout::Idle)));
    assert_eq!(
        harness.frames(),
        ["JTPL 000", "JTPL 000"],
        "without an error frame"
    );
}

#[test]
fn t4_a_request_slower_than_16_kib_per_second_after_10_s_times_out() {
    let mut harness = Harness::new(1);
    harness.send(&[2, 1, 0xc0, 0x84, 0x3d]);
    // 16 KiB per second is fast enough, and so is a pause within the grace period.
    for _ in 0..50 {
        harness.advance_time(SECOND).send(&vec![0; 16 * 1024]);
        assert_eq!(harness.reason(), None);
    }
    harness.advance_time(10 * SECOND);
    assert_eq!(harness.reason(), None);
    harness.advance_time(SECOND);
    assert_eq!(
        harness.reason(),
        Some(CloseReason::Timeout(Timeout::Request))
    );
}

#[test]
fn t4_the_request_clock_is_paused_until_the_request_is_accepted() {
    let mut harness = Harness::new(1);
    harness.auto_accept = false;
    harness.send(&get(true, &[ImageId(1)])[..5]);
    harness.advance_time(1000 * SECOND);
    assert_eq!(harness.connection.deadline(), None);
    harness
        .connection
        .accept(harness.writer.snapshot(), harness.now)
        .unwrap();
    harness.advance_time(9 * SECOND);
    assert_eq!(harness.reason(), None);
    harness.advance_time(2 * SECOND);
    assert_eq!(
        harness.reason(),
        Some(CloseReason::Timeout(Timeout::Request))
    );
}

#[test]
fn t4_a_blocked_write_times_out_after_30_s_but_a_body_load_does_not() {
    let mut harness = Harness::new(2);
    harness.auto_load = false;
    harness.send(GET_ALL).advance_time(1000 * SECOND);
    assert_eq!(harness.connection.deadline(), None);
    harness.write_size = 1;
    harness.connection.body_loaded(1, harness.now).unwrap();
    for _ in 0..5 {
        harness.write();
        harness.now = harness.now + 29 * SECOND;
        harness.connection.handle_timeout(harness.now);
        assert!(!harness.connection.is_closed());
    }
    assert!(!harness.connection.transmit().is_empty());
    harness.now = harness.now + 30 * SECOND;
    harness.connection.handle_timeout(harness.now);
    assert!(harness.connection.is_closed());
    // Unsent output is dropped.
    assert!(harness.connection.transmit().is_empty());
}

#[test]
fn t5_requests_before_a_half_close_are_answered() {
    let mut harness = Harness::new(2);
    harness.write_size = 1;
    let mut input = GET_ALL.to_vec();
    input.extend_from_slice(LIST);
    harness.input.extend_from_slice(&input);
    harness.connection.receive_eof();
    harness.run();
    assert_eq!(
        harness.frames(),
        ["JTPG 2", "packet 0", "packet 1", "JTPL 000 001"]
    );
    assert!(harness.connection.is_closed());
    assert_eq!(harness.reason(), Some(CloseReason::PeerClosed));
}
