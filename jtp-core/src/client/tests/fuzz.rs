//! Any bytes in any pieces, with any requests: no panic, and the result does not depend on how they are split.

use super::*;
use crate::wire::request::RequestKind;
use proptest::prelude::*;

fn request() -> impl Strategy<Value = Request> {
    let ids = proptest::collection::vec((0u64..4).prop_map(ImageId), 0..5);
    let kind = prop::sample::select(&RequestKind::ALL[..]);
    // CANCEL is a step of its own.
    let any = (kind, ids).prop_map(|(kind, ids)| Request::of(kind, ids).unwrap_or(Request::List));
    prop_oneof![5 => any, 1 => Just(many())]
}

/// A BATCH that is longer than one window of output.
fn many() -> Request {
    Request::Batch(HaveSet::try_from_iter((100..3000).map(ImageId)).unwrap())
}

/// A part of a stream, often a valid one, so that scripts reach later states.
fn part() -> impl Strategy<Value = Vec<u8>> {
    let header = prop::sample::select(&Header::ALL[..6]); // an error has a message
    let whole_head = (header.clone(), 0u32..4).prop_map(|(header, count)| match header {
        Header::Cancelled | Header::Watch => header.bytes().to_vec(),
        header => head(header, count),
    });
    let data = || proptest::collection::vec(any::<u8>(), 0..20);
    let sent = (0u8..32, 0u64..4, data())
        .prop_map(|(flags, id, data)| packet_of(flags, ImageId(id), &data));
    let good = prop::sample::select(vec![&b""[..], A, B]).prop_map(packet);
    let some_entry = "[a-zé\u{301}]{0,6}".prop_map(|name| super::entry(&name));
    prop_oneof![
        6 => whole_head,
        4 => some_entry,
        3 => sent,
        3 => good,
        1 => header.prop_map(|header| header.bytes().to_vec()),
        1 => "[a-z]{0,9}".prop_map(|text| error_frame(ErrorCode::NotFound, &text)),
        1 => data(),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => request().prop_map(Step::Ask),
        1 => request().prop_map(Step::AskLast),
        2 => Just(Step::Cancel),
        8 => proptest::collection::vec(part(), 1..6).prop_map(|parts| Step::Bytes(parts.concat())),
        1 => Just(Step::Eof),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 512 }))]

    #[test]
    fn any_script_gives_the_same_result_from_any_split(
        first in request(),
        steps in proptest::collection::vec(step(), 0..12),
        pipeline in any::<bool>(),
        cuts in proptest::collection::vec(1usize..24, 1..30),
    ) {
        let config = ClientConfig::default().with_pipeline(pipeline).with_max_image_size(18);
        let steps = [&[Step::Ask(first)][..], &steps].concat();
        let whole = run(config, &steps, &mut || usize::MAX);
        prop_assert_eq!(&run(config, &steps, &mut || 1), &whole);
        let mut pieces = cuts.into_iter().cycle();
        prop_assert_eq!(&run(config, &steps, &mut || pieces.next().unwrap()), &whole);
        let outside = run_undecoded(config, &steps, &mut || pieces.next().unwrap());
        prop_assert_eq!(&outside, &whole, "decoded outside");
    }

    #[test]
    fn any_order_of_calls_is_valid(
        calls in proptest::collection::vec((0u8..10, any::<u16>(), part(), request()), 0..40),
    ) {
        let mut connection = ClientConnection::new(ClientConfig::default(), NOW);
        let mut seconds = 0;
        for (call, number, bytes, request) in calls {
            // Time sometimes goes backwards.
            seconds = (seconds + u64::from(number % 50)).saturating_sub(10);
            let now = Time::since_epoch(core::time::Duration::from_secs(seconds));
            let before = connection.fault().cloned();
            let shown = connection.transmit().to_vec();
            match call {
                0 => drop(connection.request(request, number % 2 == 0, now)),
                1 => drop(connection.cancel(now)),
                2 => drop(connection.transmitted(usize::from(number), now)),
                3 => drop(connection.transmitted(shown.len().min(usize::from(number)), now)),
                // The unused rest of the input is dropped, so that any bytes may follow.
                4 | 5 => drop(connection.receive(&bytes, now).map(|received| received.used)),
                6 => drop(connection.handle_timeout(now)),
                7 => connection.wait(now),
                9 => drop(connection.leave_undecoded()),
                _ if number % 8 == 0 => drop(connection.receive_eof(now)),
                _ => {}
            }
            let _ = (connection.deadline(), connection.is_reusable(), connection.outstanding());
            prop_assert!(connection.transmit().len() < 20_000);
            if let Some(error) = before {
                prop_assert_eq!(connection.fault(), Some(&error), "an error is sticky");
            }
            if connection.fault().is_none() && !(2..=3).contains(&call) && call != 8 {
                prop_assert!(connection.transmit().starts_with(&shown), "output that was shown was withdrawn");
            }
        }
    }
}
