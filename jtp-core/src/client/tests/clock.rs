//! The response timeout. // T6

use super::*;

fn at(seconds: u64) -> Time {
    Time::since_epoch(core::time::Duration::from_secs(seconds))
}

#[test]
fn t6_a_due_response_times_out_60_s_after_the_last_byte() {
    let any_byte = ClientConfig::default().with_minimum_bytes(0);
    let mut connection = ClientConnection::new(any_byte, NOW);
    assert_eq!(connection.deadline(), None);
    assert_eq!(connection.handle_timeout(at(1000)), Ok(()));
    // The timeout starts with the request, and a second request does not extend it.
    connection.request(Request::List, true, at(1000)).unwrap();
    assert_eq!(connection.deadline(), Some(at(1060)));
    connection.request(Request::List, true, at(1010)).unwrap();
    assert_eq!(connection.deadline(), Some(at(1060)));
    // Bytes in either direction extend it.
    connection.transmitted(1, at(1020)).unwrap();
    assert_eq!(connection.deadline(), Some(at(1080)));
    connection.transmitted(3, at(1021)).unwrap();
    connection.transmitted(0, at(1025)).unwrap();
    assert_eq!(connection.deadline(), Some(at(1081)));
    let answer = [&head(Header::List, 0)[..], b"J"].concat();
    let mut input = &answer[..];
    loop {
        let Received { used, event } = connection.receive(input, at(1030)).unwrap();
        input = &input[used..];
        if event.is_none() {
            break;
        }
    }
    assert_eq!(connection.deadline(), Some(at(1090)));
    // An empty input does not extend it, and an earlier time has no effect.
    assert_eq!(connection.receive(b"", at(1050)).unwrap().event, None);
    connection.wait(at(5));
    assert_eq!(connection.deadline(), Some(at(1090)));
    // The time that the application needs does not count: 20 s were spent waiting.
    connection.wait(at(1200));
    assert_eq!(connection.handle_timeout(at(1239)), Ok(()));
    assert_eq!(
        connection.handle_timeout(at(1240)),
        Err(ClientError::TimedOut)
    );
    assert_eq!(
        connection.receive(b"TPL", at(1241)),
        Err(ClientError::TimedOut)
    );

    let mut idle = ClientConnection::new(ClientConfig::default(), NOW);
    idle.request(Request::List, true, NOW).unwrap();
    idle.transmitted(2, NOW).unwrap();
    receive(&mut idle, &head(Header::List, 0)).unwrap();
    assert_eq!(idle.deadline(), None);

    let endless = ClientConfig::default().with_response_timeout(None);
    let mut endless = ClientConnection::new(endless, NOW);
    endless.request(Request::List, true, NOW).unwrap();
    assert_eq!(endless.deadline(), None);
}

#[test]
fn t6_a_watch_has_no_timeout_but_its_cancel_has() {
    let mut connection = ClientConnection::new(ClientConfig::default(), NOW);
    connection.request(Request::List, true, NOW).unwrap();
    connection.request(Request::Watch, true, NOW).unwrap();
    connection.transmitted(4, NOW).unwrap();
    assert_eq!(connection.deadline(), Some(at(60)), "LIST is due");
    receive(&mut connection, &head(Header::List, 0)).unwrap();
    assert_eq!(connection.deadline(), None);
    assert_eq!(connection.handle_timeout(at(100_000)), Ok(()));
    connection.cancel(at(100_000)).unwrap();
    assert_eq!(connection.deadline(), Some(at(100_060)));
    connection.transmitted(2, at(100_001)).unwrap();
    receive(&mut connection, b"JTPC").unwrap();
    assert_eq!(connection.deadline(), None);

    // The timeout applies until the WATCH is sent.
    let mut connection = ClientConnection::new(ClientConfig::default(), NOW);
    connection.request(Request::Watch, true, NOW).unwrap();
    assert_eq!(connection.deadline(), Some(at(60)));
}

/// A LIST that was sent at 0 s, and whose response promises `count` entries.
fn listing(config: ClientConfig, count: u32) -> ClientConnection {
    let mut connection = ClientConnection::new(config, NOW);
    connection.request(Request::List, true, NOW).unwrap();
    connection.transmitted(2, NOW).unwrap();
    receive(&mut connection, &head(Header::List, count)).unwrap();
    connection
}

/// Passes the input, and waits after each event without a pause.
fn receive_at(connection: &mut ClientConnection, mut input: &[u8], now: Time) {
    loop {
        let Received { used, event } = connection.receive(input, now).unwrap();
        input = &input[used..];
        if event.is_none() {
            return;
        }
        connection.wait(now);
    }
}

/// A time limit of 60 s for 100 bytes.
fn hundred() -> ClientConfig {
    ClientConfig::default().with_minimum_bytes(100)
}

/// The time of the timeout, if the server sends `response` behind the count in pieces of this length, one each
/// 50 s. `None` if the response is complete before.
fn timeout_of(connection: &mut ClientConnection, response: &[u8], piece: usize) -> Option<u64> {
    for (n, bytes) in response.chunks(piece).enumerate() {
        let seconds = 50 * (n as u64 + 1);
        if connection.handle_timeout(at(seconds)).is_err() {
            return Some(seconds);
        }
        receive_at(connection, bytes, at(seconds));
    }
    assert_eq!(connection.deadline(), None, "the response is complete");
    None
}

#[test]
fn t6_a_server_that_sends_a_byte_now_and_then_times_out() {
    let long_entry = entry(&"n".repeat(60_000));
    let mut connection = listing(ClientConfig::default(), 1);
    assert_eq!(timeout_of(&mut connection, &long_entry, 1), Some(100));

    // The same with an event for each piece.
    let short_entries = entry("a.png").repeat(100);
    let piece = entry("a.png").len();
    let mut connection = listing(ClientConfig::default(), 100);
    assert_eq!(
        timeout_of(&mut connection, &short_entries, piece),
        Some(100)
    );

    let mut connection = ClientConnection::new(ClientConfig::default(), NOW);
    connection.request(get(&[A]), true, NOW).unwrap();
    connection
        .transmitted(connection.transmit().len(), NOW)
        .unwrap();
    receive(&mut connection, &head(Header::Data, 1)).unwrap();
    let data = packet_of(1, id(A), &[7; 1000]);
    assert_eq!(timeout_of(&mut connection, &data, 1), Some(100));

    // An error frame begins the response here, at 50 s.
    let mut connection = ClientConnection::new(ClientConfig::default(), NOW);
    connection.request(Request::List, true, NOW).unwrap();
    connection.transmitted(2, NOW).unwrap();
    let message = error_frame(ErrorCode::ServerError, &"m".repeat(1000));
    assert_eq!(timeout_of(&mut connection, &message, 1), Some(150));
}

#[test]
fn t6_without_a_minimum_any_byte_is_enough() {
    let entries = entry("a.png").repeat(10);
    let config = ClientConfig::default().with_minimum_bytes(0);
    let mut connection = listing(config, 10);
    assert_eq!(timeout_of(&mut connection, &entries, 1), None);
}

#[test]
fn t6_a_server_that_sends_the_minimum_in_each_span_does_not_time_out() {
    let long_entry = entry(&"n".repeat(1000));
    let mut connection = listing(hundred(), 1);
    assert_eq!(timeout_of(&mut connection, &long_entry, 100), None);
    let mut connection = listing(hundred(), 1);
    // With the 5 bytes of the head, 99 within the first 60 s.
    assert_eq!(timeout_of(&mut connection, &long_entry, 94), Some(100));
}

#[test]
fn t6_the_end_of_a_small_response_counts_like_the_minimum() {
    let mut connection = ClientConnection::new(ClientConfig::default(), NOW);
    let mut now = 0;
    for _ in 0..10 {
        connection.request(Request::List, true, at(now)).unwrap();
        connection.request(Request::List, true, at(now)).unwrap();
        connection.transmitted(4, at(now)).unwrap();
        for _ in 0..2 {
            // 59 s until the response begins, 59 s until it is complete.
            for bytes in [head(Header::List, 1), entry("a.png")] {
                now += 59;
                assert_eq!(connection.handle_timeout(at(now)), Ok(()));
                receive_at(&mut connection, &bytes, at(now));
            }
        }
        assert_eq!(connection.deadline(), None);
        now += 1000;
    }
}

#[test]
fn t6_the_clock_stands_while_the_caller_does_not_read() {
    let mut connection = listing(hundred(), 100);
    let mut now = 0;
    for n in 0..3 {
        // 19 s of waiting for an entry, and a long time for the application.
        now += 19;
        assert_eq!(connection.handle_timeout(at(now)), Ok(()), "{n}");
        let entry = entry("a");
        let received = connection.receive(&entry, at(now)).unwrap();
        assert!(received.event.is_some());
        now += 100_000;
        connection.wait(at(now));
    }
    assert_eq!(connection.deadline(), Some(at(now + 3)));
    // Time before the first wait does not count either.
    let mut connection = ClientConnection::new(hundred(), NOW);
    connection.request(Request::List, true, at(5)).unwrap();
    connection.wait(at(500));
    assert_eq!(connection.deadline(), Some(at(560)));
}

#[test]
fn t6_events_of_a_watch_do_not_delay_the_timeout_of_its_cancel() {
    let mut connection = ClientConnection::new(ClientConfig::default(), NOW);
    connection.request(Request::Watch, true, NOW).unwrap();
    connection.transmitted(2, NOW).unwrap();
    let event = [&b"JTPW"[..], &entry("a.png")].concat();
    receive_at(&mut connection, &event, at(1_000));
    assert_eq!(connection.deadline(), None);
    connection.cancel(at(2_000)).unwrap();
    connection.transmitted(2, at(2_000)).unwrap();
    receive_at(&mut connection, &event, at(2_050));
    assert_eq!(connection.deadline(), Some(at(2_060)));
}

#[test]
fn t6_a_server_that_reads_a_byte_now_and_then_times_out() {
    let mut connection = ClientConnection::new(ClientConfig::default(), NOW);
    let have = HaveSet::try_from_iter((0..100).map(ImageId)).unwrap();
    connection.request(Request::Batch(have), true, NOW).unwrap();
    connection.transmitted(1, at(50)).unwrap();
    assert_eq!(connection.deadline(), Some(at(60)));
    // All of it is sent: the server has 60 s to answer.
    let rest = connection.transmit().len();
    connection.transmitted(rest, at(55)).unwrap();
    assert_eq!(connection.deadline(), Some(at(115)));
}
