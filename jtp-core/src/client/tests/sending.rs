//! The window of output, and misuse.

use super::*;
use crate::client::send::WINDOW;

fn connection(config: ClientConfig) -> ClientConnection {
    ClientConnection::new(config, NOW)
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

/// A call of the application.
enum Call {
    Ask(Request),
    AskLast(Request),
    Cancel,
    Eof,
}

#[test]
fn c4_n3_r7_s2_misuse_is_reported_and_changes_nothing() {
    use Call::{Ask, AskLast, Cancel, Eof};
    let list = || Ask(Request::List);
    let too_many = Request::GetById(vec![ImageId(1); 256]);
    let kind = crate::wire::request::RequestKind::GetById { count: 0 };
    assert_eq!(Request::of(kind, vec![ImageId(1); 256]), None);
    let most = Request::of(kind, vec![ImageId(1); 255]).unwrap();
    for (calls, misuse) in [
        (vec![Ask(most)], None),
        (vec![Ask(too_many)], Some(Misuse::TooManyIds(256))),
        (
            vec![AskLast(Request::List), list()],
            Some(Misuse::LastRequest),
        ),
        (vec![Ask(Request::Watch), list()], Some(Misuse::Watching)),
        (vec![Cancel], Some(Misuse::NothingToCancel)),
        (vec![list(), Cancel, Cancel], Some(Misuse::NothingToCancel)),
        (
            vec![AskLast(Request::List), Cancel],
            Some(Misuse::NotCancellable),
        ),
        (vec![AskLast(Request::Watch), Cancel], None),
        (vec![list(), Cancel, list()], Some(Misuse::AfterCancel)),
        (
            vec![Ask(get(&[])), list(), Cancel],
            Some(Misuse::RequestsQueued),
        ),
        (vec![Eof, list()], Some(Misuse::Closed)),
    ] {
        let mut connection = connection(ClientConfig::new());
        let results = calls.into_iter().map(|call| match call {
            Ask(request) => connection.request(request, true, NOW),
            AskLast(request) => connection.request(request, false, NOW),
            Cancel => connection.cancel(NOW),
            Eof => {
                connection.receive_eof(NOW).unwrap();
                Ok(())
            }
        });
        let results: Vec<_> = results.collect();
        let (last, before) = results.split_last().unwrap();
        assert!(before.iter().all(Result::is_ok), "{results:?}");
        assert_eq!(last.err(), misuse);
    }

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
    let one = |image: &[u8]| [head(Header::Data, 1), packet_of(0, id(image), image)].concat();
    for (request, answer) in [
        (get(&[A]), one(A)),
        (get(&[b""]), one(b"")),
        (Request::List, head(Header::List, 0)),
    ] {
        for undecoded in [false, true] {
            let mut connection = asked(ClientConfig::new(), core::slice::from_ref(&request));
            let mut input = &answer[..];
            while !input.is_empty() {
                let received = connection.receive(input, NOW).unwrap();
                input = &input[received.used..];
                if undecoded && matches!(received.event, Some(Event::Image(_))) {
                    connection.leave_undecoded().unwrap();
                }
            }
            assert_eq!(connection.receive_eof(NOW), Ok(()), "{request:?}");
            let events = receive(&mut connection, b"bytes after the end").unwrap();
            assert!(matches!(events.last(), Some(Event::End { .. })));
            assert_eq!(connection.outstanding(), 0);
        }
    }
}

#[test]
fn a_connection_can_be_sent_to_another_thread() {
    fn check<T: Send + Sync>() {}
    check::<ClientConnection>();
    check::<HaveSet>();
    check::<ClientError>();
}
