//! The records of requests that have ended.

use super::*;

type Record = (&'static str, u64, u64, RequestOutcome);

fn records(scene: &mut Scene) -> Vec<Record> {
    core::iter::from_fn(|| scene.connection.take_completed())
        .map(|request| {
            (
                request.kind.name(),
                request.images,
                request.body_bytes,
                request.outcome,
            )
        })
        .collect()
}

#[test]
fn answered_requests_count_their_images_and_body_bytes() {
    let mut scene = Scene::new(3);
    scene.send(LIST).send(GET_ALL);
    scene.send(&get(true, &[scene.id(1), ImageId(1)]));
    scene.send(&batch(false, &[scene.id(1)]));
    assert_eq!(
        records(&mut scene),
        [
            ("LIST", 0, 0, RequestOutcome::Answered),
            ("LIST_AND_GET", 3, 300, RequestOutcome::Answered),
            ("GET_BY_ID", 1, 100, RequestOutcome::Answered),
            ("BATCH", 2, 200, RequestOutcome::Answered),
        ]
    );
    assert_eq!(records(&mut scene), [], "each record is returned once");
}

#[test]
fn a_request_is_not_complete_before_its_last_byte_is_acknowledged() {
    let mut scene = Scene::new(1);
    scene.step = 1;
    scene.decides = false;
    scene.send(GET_ALL);
    scene
        .connection
        .accept(scene.writer.snapshot(), scene.now)
        .unwrap();
    scene.take();
    while !scene.connection.transmit().is_empty() {
        assert_eq!(records(&mut scene), []);
        scene.take();
    }
    assert_eq!(
        records(&mut scene),
        [("LIST_AND_GET", 1, 100, RequestOutcome::Answered)]
    );
}

#[test]
fn cancelled_requests_are_recorded_once_and_their_cancel_is_not() {
    let mut scene = Scene::new(2);
    scene.loads = false;
    scene.send(GET_ALL);
    scene.connection.body_loaded(100, scene.now).unwrap();
    scene.send(CANCEL);
    assert_eq!(
        records(&mut scene),
        [("LIST_AND_GET", 1, 100, RequestOutcome::Cancelled)]
    );
    scene.send(WATCH).send(CANCEL);
    assert_eq!(
        records(&mut scene),
        [("WATCH", 0, 0, RequestOutcome::Cancelled)]
    );
    scene.send(CANCEL);
    assert_eq!(records(&mut scene), [], "C3: nothing was left to cancel");
}

#[test]
fn refused_requests_are_recorded_with_their_code() {
    let mut scene = Scene::new(1);
    scene.decides = false;
    scene.send(LIST);
    scene
        .connection
        .refuse(ErrorCode::RateLimited, "", scene.now)
        .unwrap();
    let refused = RequestOutcome::Refused(ErrorCode::RateLimited);
    assert_eq!(records(&mut scene), [("LIST", 0, 0, refused)]);

    let mut scene = Scene::with(1, ServerConfig::new().with_watch(false));
    scene.send(WATCH);
    let refused = RequestOutcome::Refused(ErrorCode::UnsupportedFeature);
    assert_eq!(records(&mut scene), [("WATCH", 0, 0, refused)]);

    let mut scene = Scene::with(1, ServerConfig::new().with_max_have(1));
    scene.send(&[2, 1, 2]);
    let refused = RequestOutcome::Refused(ErrorCode::InvalidRequest);
    assert_eq!(records(&mut scene), [("BATCH", 0, 0, refused)]);

    let mut scene = Scene::new(1);
    scene.send(&[9]);
    assert_eq!(records(&mut scene), [], "not a request");
}

#[test]
fn requests_that_the_end_of_the_connection_interrupts_are_recorded_with_the_reason() {
    // S12 S13: the second image cannot be opened, or not be read to its end.
    for (loaded, bytes) in [(None, 100), (Some(40), 140)] {
        let mut scene = Scene::new(2);
        scene.loads = false;
        scene.send(GET_ALL);
        scene.connection.body_loaded(100, scene.now).unwrap();
        scene.run();
        if let Some(count) = loaded {
            scene.connection.body_loaded(count, scene.now).unwrap();
        }
        scene.connection.body_failed("", scene.now).unwrap();
        scene.run();
        let aborted = RequestOutcome::Aborted(CloseReason::BodyFailed);
        assert_eq!(records(&mut scene), [("LIST_AND_GET", 1, bytes, aborted)]);
    }

    let mut scene = Scene::new(1);
    scene.send(WATCH).eof();
    let aborted = RequestOutcome::Aborted(CloseReason::PeerClosed);
    assert_eq!(records(&mut scene), [("WATCH", 0, 0, aborted)]);

    let mut scene = Scene::new(1);
    scene.step = 0;
    scene.send(LIST).pass(30 * SECOND);
    let aborted = RequestOutcome::Aborted(CloseReason::Timeout(Timeout::Write));
    assert_eq!(records(&mut scene), [("LIST", 0, 0, aborted)]);

    let mut scene = Scene::new(1);
    scene.step = 50;
    scene.send(&[0, 1, 1]);
    scene.send(&scene.id(0).to_be_bytes());
    scene.loads = false;
    scene.send(GET_ALL);
    scene.connection.abort();
    assert!(scene.connection.is_closed() && scene.connection.transmit().is_empty());
    assert_eq!(scene.reason(), Some(CloseReason::Aborted));
    let aborted = RequestOutcome::Aborted(CloseReason::Aborted);
    assert_eq!(
        records(&mut scene),
        [
            ("GET_BY_ID", 1, 100, RequestOutcome::Answered),
            ("LIST_AND_GET", 0, 0, aborted),
        ]
    );
}

#[test]
fn an_abort_after_the_connection_has_closed_keeps_the_reason() {
    let mut scene = Scene::new(1);
    scene.send(&[1, 0]);
    scene.connection.abort();
    assert_eq!(scene.reason(), Some(CloseReason::NoKeepAlive));
}

#[test]
fn records_that_are_not_taken_are_bounded() {
    let mut scene = Scene::new(1);
    for _ in 0..40 {
        scene.send(LIST);
    }
    scene.send(GET_ALL);
    let records = records(&mut scene);
    assert_eq!(records.len(), 16);
    assert_eq!(records[15].0, "LIST_AND_GET", "the newest are kept");
}

#[test]
fn labels_are_distinct() {
    let timeouts = [
        Timeout::FirstRequest,
        Timeout::Idle,
        Timeout::Request,
        Timeout::Write,
        Timeout::Cancel,
    ];
    let reasons = [
        CloseReason::PeerClosed,
        CloseReason::TruncatedRequest,
        CloseReason::NoKeepAlive,
        CloseReason::InvalidRequest(crate::wire::WireError::Varint),
        CloseReason::TooManyIds { have: 2, max: 1 },
        CloseReason::StrayCancel,
        CloseReason::RequestDuringWatch,
        CloseReason::WatchDisabled,
        CloseReason::Refused(ErrorCode::NotFound),
        CloseReason::BodyFailed,
        CloseReason::WatchLag,
        CloseReason::Shutdown,
        CloseReason::Aborted,
    ];
    let labels: alloc::collections::BTreeSet<_> = reasons
        .into_iter()
        .chain(timeouts.map(CloseReason::Timeout))
        .map(CloseReason::as_str)
        .collect();
    assert_eq!(labels.len(), reasons.len() + timeouts.len());
}
