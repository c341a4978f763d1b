//! The rules of CANCEL and WATCH on the client's side. // C7 N1 N3 N5

use super::*;
use ResponseKind as Kind;
use Step::{Ask, Cancel};

const JTPC: &[u8] = b"JTPC";
const JTPW: &[u8] = b"JTPW";

fn peer(error: PeerError) -> ClientError {
    error.into()
}

#[test]
fn c7_cancel_can_be_answered_before_between_and_after_packets() {
    let begun = || Log::Begin(Kind::Batch, 2);
    let cancelled = || vec![Log::Cancelled(Kind::Batch)];
    let ask = [Ask(batch(&[])), Cancel];
    let batch_head = head(Header::Batch, 2);
    let answer = |parts: &[&[u8]]| play(&[&ask[..], &[bytes(parts)]].concat());

    // Instead of the header, directly after it, and between packets.
    let run = answer(&[JTPC]);
    assert_eq!(run.sent, [2, 1, 0, 3, 0]);
    assert_eq!(run.log, cancelled());
    assert!(run.idle && run.outstanding == 0);
    let run = answer(&[&batch_head, JTPC]);
    assert_eq!(run.log, [vec![begun()], cancelled()].concat());
    let run = answer(&[&batch_head, &packet(A), JTPC]);
    let mut log = vec![begun()];
    log.extend(image_logs(A));
    assert_eq!(run.log, [log.clone(), cancelled()].concat());
    // After the last packet (R7), or after a response that was complete before (C3).
    let run = answer(&[&batch_head, &packet(A), &packet(B), JTPC]);
    log.extend(image_logs(B));
    log.push(Log::End(Kind::Batch));
    log.extend(cancelled());
    assert_eq!(run.log, log);
    // Until JTPC is received it is due.
    let run = answer(&[&batch_head, &packet(A), &packet(B)]);
    assert!(!run.idle && run.outstanding == 1);
    // A catalog is completed first. // C2
    let log = logs(&[
        Ask(Request::List),
        Cancel,
        bytes(&[&head(Header::List, 1), &entry("a"), JTPC]),
    ]);
    assert_eq!(log[2..], [Log::End(Kind::List), Log::Cancelled(Kind::List)]);
}

#[test]
fn c7_exactly_one_jtpc_answers_a_cancel() {
    let ask = [Ask(batch(&[])), Cancel];
    let steps = [&ask[..], &[bytes(&[JTPC, JTPC])]].concat();
    assert_eq!(failure(&steps), peer(PeerError::UnexpectedCancelled));
    let steps = [
        &ask[..],
        &[bytes(&[&head(Header::Batch, 0), &head(Header::Batch, 0)])],
    ]
    .concat();
    let (expected, received) = (Header::Cancelled, Header::Batch);
    assert_eq!(
        failure(&steps),
        peer(PeerError::UnexpectedResponse { expected, received })
    );
    // The CANCEL is for the second of two requests, so it cannot interrupt the first. // C5
    let steps = [Ask(Request::List), Ask(batch(&[])), Cancel, bytes(&[JTPC])];
    assert_eq!(failure(&steps), peer(PeerError::UnexpectedCancelled));
    let steps = [
        Ask(Request::List),
        Ask(batch(&[])),
        Cancel,
        bytes(&[&head(Header::List, 0), JTPC]),
    ];
    assert_eq!(logs(&steps)[2..], [Log::Cancelled(Kind::Batch)]);
}

#[test]
fn n1_n3_watch_announces_images_until_jtpc() {
    let watch_event = [JTPW, &entry("x")].concat();
    let event = || Log::NewImage(owned_entry("x"));
    let watch = [
        Ask(Request::Watch),
        bytes(&[&watch_event, &watch_event]),
        Cancel,
        // An event may precede JTPC.
        bytes(&[&watch_event, JTPC]),
    ];
    let run = play(&watch);
    assert_eq!(run.sent, [4, 0, 3, 0]);
    assert_eq!(
        run.log,
        [event(), event(), event(), Log::Cancelled(Kind::Watch)]
    );
    // Then it is a keep-alive connection again, which deployed servers do not support. // N3 R7
    assert!(run.idle && !run.reusable);
    let steps = [
        &watch[..],
        &[Ask(Request::List), bytes(&[&head(Header::List, 0)])],
    ]
    .concat();
    let run = play_with(PIPELINING, &steps);
    assert_eq!(run.sent, [4, 0, 3, 0, 1, 1]);
    assert_eq!(run.log.last(), Some(&Log::End(Kind::List)));
    assert!(run.idle && run.reusable);
    // No event after JTPC.
    let steps = [&watch[..], &[bytes(&[&watch_event])]].concat();
    assert_eq!(failure(&steps), peer(PeerError::UnexpectedWatchEvent));
}

#[test]
fn n5_list_and_watch_are_sent_in_one_write() {
    let mut connection = ClientConnection::new(ClientConfig::default(), NOW);
    connection.request(Request::List, true, NOW).unwrap();
    connection.request(Request::Watch, true, NOW).unwrap();
    assert_eq!(connection.transmit(), [1, 1, 4, 0]);
    let steps = [
        Ask(Request::List),
        Ask(Request::Watch),
        bytes(&[&head(Header::List, 1), &entry("a"), JTPW, &entry("b")]),
    ];
    assert_eq!(
        logs(&steps)[2..],
        [Log::End(Kind::List), Log::NewImage(owned_entry("b"))]
    );
    // An event cannot precede the catalog.
    let steps = [Ask(Request::List), Ask(Request::Watch), bytes(&[JTPW])];
    assert_eq!(failure(&steps), peer(PeerError::UnexpectedWatchEvent));
}
