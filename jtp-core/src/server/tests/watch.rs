//! The rules of WATCH. // N1 N2 N3 N4 N5 N6

use super::*;

#[test]
fn n2_a_client_that_falls_too_far_behind_is_disconnected() {
    for (events, sent) in [(1, 2), (2, 1), (9, 1)] {
        let mut server = Scenario::with(0, ServerConfig::new().with_max_watch_lag(2));
        server.send(WATCH);
        server.write_limit = 0;
        for range in [0..1, 1..1 + events] {
            for n in range {
                server.add(&format!("{n}.png"), vec![n]);
            }
            server.publish();
        }
        assert_eq!(
            server.reason(),
            None,
            "the event in progress is completed first"
        );
        server.write_limit = usize::MAX;
        server.run();
        assert_eq!(server.frames().len(), sent);
        let reason = (sent == 1).then_some(CloseReason::WatchLag);
        assert_eq!(server.reason(), reason, "{events} events behind");
    }
}

#[test]
fn n2_a_watch_that_begins_too_far_behind_is_disconnected() {
    for (events, reason) in [(2, None), (3, Some(CloseReason::WatchLag))] {
        let mut server = Scenario::with(0, ServerConfig::new().with_max_watch_lag(2));
        server.write_limit = 0;
        server.send(&[LIST, WATCH].concat());
        for n in 0..events {
            server.add(&format!("{n}.png"), vec![n]);
            server.publish();
        }
        // It begins at the LIST's snapshot (N5), and nothing is published after that.
        server.write_limit = usize::MAX;
        server.run();
        let watched = server.frames().len() - 1;
        assert_eq!(watched, if reason.is_none() { 2 } else { 0 });
        assert_eq!(server.reason(), reason);
    }
}

#[test]
fn n2_a_client_that_accepts_nothing_for_30_s_is_disconnected() {
    let mut server = Scenario::new(0);
    server.send(WATCH).wait(1000 * SECOND);
    assert_eq!(server.connection.deadline(), None, "N4");
    server.write_limit = 0;
    server.add("a.png", vec![1]);
    server.publish();
    server.wait(29 * SECOND);
    assert!(!server.connection.is_closed());
    server.wait(SECOND);
    assert!(server.connection.is_closed());
    assert_eq!(server.reason(), Some(CloseReason::Timeout(Timeout::Write)));
}

#[test]
fn n2_cancel_does_not_wait_for_all_of_many_events() {
    let mut server = Scenario::new(0);
    server.send(WATCH);
    // More than are offered at once.
    let images = 3_000_u32;
    for n in 0..images {
        server.add(&format!("{n:04}.png"), n.to_be_bytes().to_vec());
    }
    server.write_limit = 1;
    server.publish();
    server.write();
    for _ in 0..2 {
        let offered = server.connection.transmit().len();
        assert!((15 * 1024..=16 * 1024).contains(&offered), "{offered}");
        server.write_limit = offered;
        server.write();
    }
    server.write_limit = usize::MAX;
    server.input.extend_from_slice(CANCEL);
    server.run();
    let frames = server.frames();
    assert_eq!(frames.last().unwrap(), "JTPC");
    assert!(frames.len() < images as usize);
    server.send(WATCH);
    assert!(server.frames().is_empty(), "N1: a new WATCH begins now");
    // One event may be larger.
    server.add(&"x".repeat(20_000), vec![1]);
    server.publish();
    server.run();
    assert_eq!(server.frames().len(), 1);
    // A client that does not cancel receives all of them.
    for n in images..2 * images {
        server.add(&format!("{n}.png"), n.to_be_bytes().to_vec());
    }
    server.publish();
    server.run();
    assert_eq!(server.frames().len(), images as usize);
}

#[test]
fn n3_a_cancel_must_be_complete_within_10_s() {
    let mut server = Scenario::new(1);
    server.send(WATCH).wait(SECOND).send(&[3]);
    assert_eq!(server.connection.deadline(), Some(Time::ZERO + 11 * SECOND));
    server.wait(10 * SECOND);
    assert!(server.half_closed && server.frames().is_empty());
    assert_eq!(server.reason(), Some(CloseReason::Timeout(Timeout::Cancel)));
}

#[test]
fn n2_a_watch_whose_list_was_slower_than_the_history_is_disconnected() {
    let mut server = Scenario::new(1);
    server.writer.set_history(5);
    server.write_limit = 0;
    let mut input = LIST.to_vec();
    input.extend_from_slice(WATCH);
    server.send(&input);
    for n in 0..6 {
        server.add(&format!("{n}.png"), vec![n; 9]);
        server.publish();
    }
    server.write_limit = usize::MAX;
    server.run();
    assert_eq!(server.frames(), ["List 1", "000.png"]);
    assert!(server.half_closed);
    assert_eq!(server.reason(), Some(CloseReason::WatchLag));
}

#[test]
fn n2_a_watch_behind_the_history_ends_at_an_event_boundary() {
    let mut server = Scenario::new(0);
    server.writer.set_history(3);
    server.send(WATCH);
    server.write_limit = 3;
    server.add("first.png", vec![1]);
    server.publish();
    server.write();
    server.write_limit = 0;
    for n in 2..9 {
        server.add(&format!("{n}.png"), vec![n]);
        server.writer.publish();
    }
    server.write_limit = usize::MAX;
    server.run();
    assert_eq!(server.frames(), ["JTPW first.png"]);
    assert_eq!(server.reason(), Some(CloseReason::WatchLag));
}

#[test]
fn t8_a_watch_that_is_one_too_many_ends_at_an_event_boundary() {
    let mut server = Scenario::new(0);
    server.connection.end_watch(server.now); // No effect: nothing is watched.
    server.send(WATCH);
    server.write_limit = 0;
    for n in 0..2 {
        server.add(&format!("{n}.png"), vec![n]);
        server.publish();
    }
    server.connection.end_watch(server.now);
    assert_eq!(server.reason(), None, "an event is in progress");
    server.write_limit = usize::MAX;
    server.run();
    assert_eq!(server.frames(), ["JTPW 0.png"]);
    assert_eq!(server.reason(), Some(CloseReason::TooManyWatchers));
}
