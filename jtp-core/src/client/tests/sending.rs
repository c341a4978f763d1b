//! The rules of the sending half, misuse, and timeouts.

use super::*;
use crate::client::send::WINDOW;
use Step::{Ask, AskLast, Cancel, Eof};
use core::time::Duration;

fn connection(config: ClientConfig) -> ClientConnection {
    ClientConnection::new(config, NOW)
}

fn at(seconds: u64) -> Time {
    Time::since_epoch(Duration::from_secs(seconds))
}

/// A number of IDs that needs more than one window of output. Miri needs minutes for many.
const LONG: u64 = if cfg!(miri) { 5_000 } else { 100_000 };

fn many(count: u64) -> Request {
    Request::Batch(HaveSet::try_from_iter((0..count).map(ImageId)).unwrap())
}

#[test]
fn s8_a_long_batch_is_encoded_while_it_is_sent() {
    let steps: &[usize] = if cfg!(miri) {
        &[1000, WINDOW]
    } else {
        &[1000, WINDOW, 7]
    };
    let mut expected = if cfg!(miri) {
        vec![2, 1, 0x88, 0x27]
    } else {
        vec![2, 1, 0xa0, 0x8d, 0x06]
    };
    (0..LONG).for_each(|id| expected.extend(id.to_be_bytes()));
    expected.extend([1, 1, 3, 0]);
    for &step in steps {
        let mut connection = connection(ClientConfig::default());
        connection.request(many(LONG), true, NOW).unwrap();
        connection.request(Request::List, true, NOW).unwrap();
        let mut sent = Vec::new();
        let mut cancelled = false;
        while !connection.transmit().is_empty() {
            let shown = connection.transmit().to_vec();
            assert!(shown.len() <= 2 * WINDOW);
            assert_eq!(shown, connection.transmit(), "a second call shows the same");
            let some = step.min(shown.len());
            sent.extend_from_slice(&shown[..some]);
            connection.transmitted(some, NOW).unwrap();
            // Bytes that were shown stay first, and more are encoded before they run out.
            assert!(connection.transmit().starts_with(&shown[some..]));
            let left = expected.len().saturating_sub(2 + sent.len());
            assert!(connection.transmit().len() >= (WINDOW / 2).min(left));
            if !cancelled && sent.len() > expected.len() - WINDOW {
                cancelled = connection.cancel(NOW).is_ok();
            }
        }
        assert_eq!(sent, expected);
    }
}

#[test]
fn r1_jtpe_stops_a_request_that_is_being_sent() {
    let mut connection = connection(ClientConfig::default());
    connection.request(many(LONG), true, NOW).unwrap();
    connection.transmitted(10_000, NOW).unwrap();
    let frame = error_frame(ErrorCode::InvalidRequest, "no");
    let error = server_error(ErrorCode::InvalidRequest, "no");
    assert!(connection.receive(&frame, NOW).is_err());
    assert!(connection.transmit().is_empty());
    // A write that was in progress may still be acknowledged.
    assert_eq!(connection.transmitted(5000, NOW), Ok(()));
    // The error is sticky.
    assert_eq!(connection.receive(b"JTPB", NOW), Err(error.clone()));
    assert_eq!(connection.receive(b"", NOW), Err(error.clone()));
    assert_eq!(connection.receive_eof(NOW), Err(error.clone()));
    assert_eq!(connection.handle_timeout(at(1000)), Err(error.clone()));
    assert_eq!(
        connection.request(Request::List, true, NOW),
        Err(Misuse::Closed)
    );
    assert_eq!(connection.cancel(NOW), Err(Misuse::Closed));
    assert_eq!(
        (connection.fault(), connection.deadline()),
        (Some(&error), None)
    );
    assert!(!connection.is_idle() && !connection.is_reusable());
    assert_eq!(connection.outstanding(), 1);
}

#[test]
fn r1_a_response_before_its_request_is_sent_is_an_error() {
    let mut connection = connection(ClientConfig::default());
    connection.request(many(LONG), true, NOW).unwrap();
    let error = connection.receive(b"JTPB\0", NOW).unwrap_err();
    assert_eq!(error, PeerError::UnexpectedData.into());
}

#[test]
fn r7_only_cancel_is_sent_behind_an_unfinished_get_by_id() {
    let answer = || bytes(&[&head(Header::Data, 0)]);
    let run = play(&[Ask(get(&[A])), Ask(Request::List)]);
    assert_eq!(run.sent.len(), 3 + 8);
    assert_eq!(run.outstanding, 2);
    let run = play(&[Ask(get(&[A])), Ask(Request::List), answer()]);
    assert_eq!(run.sent[11..], [1, 1]);
    let run = play(&[Ask(get(&[A])), Cancel]);
    assert_eq!(run.sent[11..], [3, 0]);
    // LIST, BATCH and LIST_AND_GET do not delay later requests, nor does GET_BY_ID with the option.
    let run = play(&[
        Ask(Request::List),
        Ask(batch(&[])),
        Ask(Request::ListAndGet),
        Ask(get(&[])),
    ]);
    assert_eq!(run.sent, [1, 1, 2, 1, 0, 5, 1, 0, 1, 0]);
    let run = play_with(
        PIPELINING,
        &[Ask(get(&[])), Ask(Request::List), AskLast(get(&[]))],
    );
    assert_eq!(run.sent, [0, 1, 0, 1, 1, 0, 0, 0]);
}

#[test]
fn r7_a_request_follows_a_cancel_only_with_the_option() {
    let steps = [Ask(batch(&[])), Cancel, Ask(Request::List)];
    let run = play(&steps);
    assert_eq!(run.log, [Log::Misuse(Misuse::AfterCancel)]);
    assert!(!run.reusable);
    // With the option the request waits for JTPC.
    let run = play_with(PIPELINING, &steps);
    assert_eq!((run.sent, run.log.len()), (vec![2, 1, 0, 3, 0], 0));
    let steps = [&steps[..], &[bytes(&[b"JTPC"])]].concat();
    let run = play_with(PIPELINING, &steps);
    assert_eq!(run.sent, [2, 1, 0, 3, 0, 1, 1]);
    assert!(run.reusable);
    // Requests behind the cancelled one wait too; without the option they would wait forever.
    let steps = [
        Ask(Request::Watch),
        Cancel,
        Ask(get(&[])),
        Ask(Request::List),
        Cancel,
    ];
    let run = play_with(PIPELINING, &steps);
    assert_eq!(run.log, [Log::Misuse(Misuse::NothingToCancel)]);
    let run = play(&[Ask(get(&[])), Ask(Request::List), Cancel]);
    assert_eq!(run.log, [Log::Misuse(Misuse::RequestsQueued)]);
}

#[test]
fn misuse_is_reported_and_changes_nothing() {
    let misuse_of = |steps: &[Step]| match play(steps).log.pop() {
        Some(Log::Misuse(misuse)) => misuse,
        other => panic!("{other:?}"),
    };
    let too_many = Request::GetById(vec![ImageId(1); 256]);
    assert_eq!(misuse_of(&[Ask(too_many)]), Misuse::TooManyIds(256));
    let kind = crate::wire::request::RequestKind::GetById { count: 0 };
    assert_eq!(Request::of(kind, vec![ImageId(1); 256]), None);
    let most = Request::of(kind, vec![ImageId(1); 255]).unwrap();
    assert_eq!(
        connection(ClientConfig::default()).request(most, true, NOW),
        Ok(())
    );
    assert_eq!(
        misuse_of(&[AskLast(Request::List), Ask(Request::List)]),
        Misuse::LastRequest
    ); // S2
    assert_eq!(
        misuse_of(&[Ask(Request::Watch), Ask(Request::List)]),
        Misuse::Watching
    ); // N3
    assert_eq!(misuse_of(&[Cancel]), Misuse::NothingToCancel);
    assert_eq!(
        misuse_of(&[Ask(Request::List), Cancel, Cancel]),
        Misuse::NothingToCancel
    );
    assert_eq!(
        misuse_of(&[AskLast(Request::List), Cancel]),
        Misuse::NotCancellable
    ); // C4
    assert_eq!(misuse_of(&[Eof, Ask(Request::List)]), Misuse::Closed);
    // WATCH keeps the connection open without keep-alive. // S2
    assert_eq!(play(&[AskLast(Request::Watch), Cancel]).sent, [4, 0, 3, 0]);

    let mut connection = connection(ClientConfig::default());
    connection.request(get(&[]), true, NOW).unwrap();
    let (acknowledged, shown) = (4, 3);
    let misuse = Misuse::Overacknowledged {
        acknowledged,
        shown,
    };
    assert_eq!(connection.transmitted(4, NOW), Err(misuse));
    assert_eq!(connection.transmit(), [0, 1, 0]);
    assert_eq!(connection.transmitted(0, NOW), Ok(()));
    assert!(connection.is_reusable());
    if cfg!(miri) {
        return; // Miri needs minutes for a million IDs.
    }
    assert!(HaveSet::try_from_iter((0..=1_000_000).map(ImageId)).is_err()); // S8
    assert_eq!(
        HaveSet::try_from_iter((0..1_000_000).map(ImageId))
            .unwrap()
            .len(),
        HaveSet::MAX
    );
    let one = HaveSet::try_from_iter([ImageId(1)]).unwrap();
    assert!(HaveSet::new().is_empty() && !one.is_empty());
}

#[test]
fn eof_is_valid_while_the_last_events_are_not_returned() {
    let one = |image| {
        (
            get(&[image]),
            [&head(Header::Data, 1)[..], &packet(image)].concat(),
        )
    };
    let list = (Request::List, head(Header::List, 0));
    for ((request, answer), undecoded) in [
        (one(A), false),
        (one(A), true),
        (one(b""), false),
        (list, false),
    ] {
        let mut connection = connection(ClientConfig::default());
        connection.request(request.clone(), false, NOW).unwrap();
        let mut input = &answer[..];
        while !input.is_empty() {
            let received = connection.receive(input, NOW).unwrap();
            input = &input[received.used..];
            if undecoded && matches!(received.event, Some(Event::Image(_))) {
                connection.leave_undecoded().unwrap();
            }
        }
        assert_eq!(connection.receive_eof(NOW), Ok(()), "{request:?}");
        let after = b"bytes after the end";
        let mut ends = Vec::new();
        while let Some(event) = connection.receive(after, NOW).unwrap().event {
            ends.push(match event {
                Event::ImageEnd { verdict, .. } => verdict.is_ok(),
                Event::PacketEnd { .. } => undecoded,
                event => matches!(event, Event::End { .. }),
            });
        }
        assert_eq!(
            ends,
            vec![true; if request == Request::List { 1 } else { 2 }]
        );
        assert_eq!(connection.receive_eof(NOW), Ok(()));
    }

    // It is early while JTPC is due after them.
    let mut connection = ClientConnection::new(ClientConfig::default(), NOW);
    connection.request(Request::List, true, NOW).unwrap();
    connection.cancel(NOW).unwrap();
    let answer = head(Header::List, 0);
    assert_eq!(connection.receive(&answer, NOW).unwrap().used, 5);
    assert_eq!(connection.receive_eof(NOW), Err(ClientError::EarlyEof));
}

#[test]
fn a_connection_can_be_sent_to_another_thread() {
    fn check<T: Send + Sync>() {}
    check::<ClientConnection>();
    check::<HaveSet>();
    check::<ClientError>();
}
