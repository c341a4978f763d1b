//! WATCH. // N1 N2 N3 N4 N5 N6

use super::*;

#[test]
fn n1_each_new_image_is_announced_once_and_no_earlier_one() {
    let mut harness = Harness::new(2);
    harness.send(WATCH);
    harness.add("b.png", vec![1]);
    harness.add("a.png", vec![2]);
    harness.publish();
    harness.run();
    harness.add("c.png", vec![3]);
    harness.publish();
    harness.run();
    assert_eq!(harness.frames(), ["JTPW b.png", "JTPW a.png", "JTPW c.png"]);
}

#[test]
fn n2_a_watcher_that_falls_too_far_behind_is_disconnected() {
    let mut harness = Harness::with(0, ServerConfig::new().with_max_watch_lag(2));
    harness.send(WATCH);
    harness.write_size = 0;
    for n in 0..4 {
        harness.add(&format!("{n}.png"), vec![n]);
        harness.publish();
    }
    assert_eq!(harness.reason(), None, "the current event is sent first");
    harness.write_size = usize::MAX;
    harness.run();
    assert_eq!(harness.frames(), ["JTPW 0.png"]);
    assert_eq!(harness.reason(), Some(CloseReason::Lag));
}

#[test]
fn n2_a_watch_that_starts_too_far_behind_is_disconnected() {
    let mut harness = Harness::with(0, ServerConfig::new().with_max_watch_lag(2));
    harness.write_size = 0;
    let mut input = LIST.to_vec();
    input.extend_from_slice(WATCH);
    harness.send(&input);
    for n in 0..4 {
        harness.add(&format!("{n}.png"), vec![n]);
        harness.publish();
    }
    // The WATCH starts at the snapshot of the LIST (N5); nothing is published after it starts.
    harness.write_size = usize::MAX;
    harness.run();
    assert_eq!(harness.frames(), ["JTPL "]);
    assert_eq!(harness.reason(), Some(CloseReason::Lag));
}

#[test]
fn n2_a_watcher_that_reads_nothing_for_30_s_is_disconnected() {
    let mut harness = Harness::new(0);
    harness.send(WATCH).advance_time(1000 * SECOND);
    assert_eq!(harness.connection.deadline(), None, "N4");
    harness.write_size = 0;
    harness.add("a.png", vec![1]);
    harness.publish();
    harness.advance_time(29 * SECOND);
    assert!(!harness.connection.is_closed());
    harness.advance_time(SECOND);
    assert!(harness.connection.is_closed());
    assert_eq!(harness.reason(), Some(CloseReason::Timeout(Timeout::Write)));
}

#[test]
fn n2_cancel_is_answered_before_all_pending_events_are_sent() {
    let mut harness = Harness::new(0);
    harness.send(WATCH);
    // More events than are encoded in advance.
    let images: u32 = if cfg!(miri) { 1_000 } else { 2_000 };
    for n in 0..images {
        harness.add(&format!("{n:04}.png"), n.to_be_bytes().to_vec());
    }
    harness.write_size = 1;
    harness.publish();
    harness.write();
    assert!(harness.connection.transmit().len() <= 16 * 1024);
    harness.write_size = usize::MAX;
    harness.input.extend_from_slice(CANCEL);
    harness.run();
    let frames = harness.frames();
    assert_eq!(frames.last().unwrap(), "JTPC");
    assert!(frames.len() < 1_000);
    harness.send(WATCH);
    assert!(
        harness.frames().is_empty(),
        "N1: a new WATCH starts at the current snapshot"
    );
}

#[test]
fn n3_cancel_ends_a_watch_and_requests_are_valid_again() {
    let mut harness = Harness::new(1);
    harness
        .send(WATCH)
        .send(&[3])
        .send(&[0])
        .send(LIST)
        .send(CANCEL);
    assert_eq!(harness.frames(), ["JTPC", "JTPL 000", "JTPC"]);
}

#[test]
fn n3_anything_but_cancel_during_watch_is_invalid() {
    for bytes in [LIST, &[4], &[3, 4], &[0xff]] {
        let mut harness = Harness::new(1);
        harness.send(WATCH).send(bytes);
        assert_eq!(harness.frames(), ["JTPE InvalidRequest"], "{bytes:?}");
    }
}

#[test]
fn n3_an_incomplete_cancel_times_out_after_10_s() {
    let mut harness = Harness::new(1);
    harness.send(WATCH).advance_time(SECOND).send(&[3]);
    assert_eq!(
        harness.connection.deadline(),
        Some(Time::ZERO + 11 * SECOND)
    );
    harness.advance_time(10 * SECOND);
    assert!(harness.half_closed && harness.frames().is_empty());
    assert_eq!(
        harness.reason(),
        Some(CloseReason::Timeout(Timeout::Cancel))
    );
}

#[test]
fn n5_a_pipelined_watch_starts_at_the_snapshot_of_the_list_before_it() {
    let mut harness = Harness::new(1);
    harness.write_size = 0;
    let mut input = LIST.to_vec();
    input.extend_from_slice(WATCH);
    harness.send(&input);
    harness.add("between.png", vec![1]);
    harness.publish();
    harness.write_size = usize::MAX;
    harness.run();
    assert_eq!(harness.frames(), ["JTPL 000", "JTPW between.png"]);

    // A WATCH that is not pipelined starts when it is read.
    let mut harness = Harness::new(1);
    harness.write_size = 0;
    harness.send(LIST);
    harness.add("between.png", vec![1]);
    harness.publish();
    harness.write_size = usize::MAX;
    harness.send(WATCH);
    assert_eq!(harness.frames(), ["JTPL 000"]);
}

#[test]
fn n5_a_watch_after_another_request_starts_at_the_current_snapshot() {
    let mut harness = Harness::new(1);
    harness.send(LIST);
    harness.write_size = 0;
    let mut input = LIST.to_vec();
    input.extend_from_slice(CANCEL);
    input.extend_from_slice(WATCH);
    harness.send(&input);
    harness.add("between.png", vec![1]);
    harness.publish();
    harness.write_size = usize::MAX;
    harness.run();
    assert_eq!(harness.frames(), ["JTPL 000", "JTPL 000", "JTPC"]);
}

#[test]
fn n6_eof_ends_a_watch_after_the_current_event() {
    let mut harness = Harness::new(0);
    harness.send(WATCH);
    harness.write_size = 3;
    harness.add("a.png", vec![1]);
    harness.publish();
    harness.write();
    harness.eof();
    harness.add("b.png", vec![2]);
    harness.publish();
    harness.run();
    assert_eq!(harness.frames(), ["JTPW a.png"]);
    assert!(harness.connection.is_closed());
}

#[test]
fn n5_a_watch_after_a_cancelled_list_starts_at_the_current_snapshot() {
    let mut harness = Harness::new(1);
    harness.auto_accept = false;
    harness.send(&[1, 1, 3, 0, 4, 0]).run();
    harness
        .connection
        .accept(harness.writer.snapshot(), harness.now)
        .unwrap();
    harness.add("new.png", vec![9; 10]);
    harness.writer.publish();
    harness.auto_accept = true;
    harness.run();
    assert_eq!(
        harness.frames(),
        ["JTPL 000", "JTPC"],
        "the image is in the current snapshot"
    );
    harness.add("newer.png", vec![8; 10]);
    harness.publish();
    harness.run();
    assert_eq!(harness.frames(), ["JTPW newer.png"]);
}

#[test]
fn n2_a_watch_whose_list_outlasts_the_history_is_disconnected() {
    let mut harness = Harness::new(1);
    harness.writer.set_history(5);
    harness.write_size = 0;
    let mut input = LIST.to_vec();
    input.extend_from_slice(WATCH);
    harness.send(&input);
    for n in 0..6 {
        harness.add(&format!("{n}.png"), vec![n; 9]);
        harness.publish();
    }
    harness.write_size = usize::MAX;
    harness.run();
    assert_eq!(harness.frames(), ["JTPL 000"]);
    assert!(harness.half_closed);
    assert_eq!(harness.reason(), Some(CloseReason::Lag));
}

#[test]
fn n2_a_watcher_behind_the_history_is_disconnected_at_an_event_boundary() {
    let mut harness = Harness::new(0);
    harness.writer.set_history(3);
    harness.send(WATCH);
    harness.write_size = 3;
    harness.add("first.png", vec![1]);
    harness.publish();
    harness.write();
    harness.write_size = 0;
    for n in 2..9 {
        harness.add(&format!("{n}.png"), vec![n]);
        harness.writer.publish();
    }
    harness.write_size = usize::MAX;
    harness.run();
    assert_eq!(harness.frames(), ["JTPW first.png"]);
    assert_eq!(harness.reason(), Some(CloseReason::Lag));
}
