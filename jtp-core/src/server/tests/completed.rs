//! The records of requests that have ended.

use super::*;

type Record = (&'static str, u64, u64, RequestOutcome);

fn records(server: &mut Scenario) -> Vec<Record> {
    core::iter::from_fn(|| server.connection.take_completed())
        .map(|request| {
            let label = format!("{:?}", request.outcome).to_lowercase();
            assert_eq!(label.split('(').next(), Some(request.outcome.as_str()));
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
    let mut server = Scenario::new(3);
    server.send(LIST).send(GET_ALL);
    server.send(&get(true, &[server.id(1), ImageId(1)]));
    server.send(&batch(false, &[server.id(1)]));
    assert_eq!(
        records(&mut server),
        [
            ("LIST", 0, 0, RequestOutcome::Answered),
            ("LIST_AND_GET", 3, 300, RequestOutcome::Answered),
            ("GET_BY_ID", 1, 100, RequestOutcome::Answered),
            ("BATCH", 2, 200, RequestOutcome::Answered),
        ]
    );
    assert_eq!(records(&mut server), [], "each record is returned once");
}

#[test]
fn the_ids_of_get_by_id_are_recorded_on_request() {
    let ids = |server: &mut Scenario| -> Vec<Vec<ImageId>> {
        core::iter::from_fn(|| server.connection.take_completed())
            .map(|request| request.ids)
            .collect()
    };
    let config = ServerConfig::new().with_record_ids(true);
    let mut server = Scenario::with(3, config);
    let (known, unknown) = (server.id(1), ImageId(1));
    let requested = [known, unknown, known];
    let request = get(true, &requested);
    server.send(&request).send(LIST);
    server.send(&batch(true, &[known]));
    for byte in &request {
        server.send(&[*byte]);
    }
    assert_eq!(
        ids(&mut server),
        [requested.to_vec(), vec![], vec![], requested.to_vec()]
    );
    // The end of the stream inside the third ID.
    server.send(&request[..3 + 16 + 4]).eof();
    assert_eq!(ids(&mut server), [requested[..2].to_vec()]);

    let mut server = Scenario::new(3);
    server.send(&request);
    assert_eq!(ids(&mut server), [vec![]], "off by default");
}

#[test]
fn a_request_is_not_complete_before_its_last_byte_is_acknowledged() {
    let mut server = Scenario::new(1);
    server.write_limit = 1;
    server.auto_accept = false;
    server.send(GET_ALL);
    server
        .connection
        .accept(server.writer.snapshot(), server.now)
        .unwrap();
    server.write();
    while !server.connection.transmit().is_empty() {
        assert_eq!(records(&mut server), []);
        server.write();
    }
    assert_eq!(
        records(&mut server),
        [("LIST_AND_GET", 1, 100, RequestOutcome::Answered)]
    );
}

#[test]
fn cancelled_requests_are_recorded_once_and_their_cancel_is_not() {
    let mut server = Scenario::new(2);
    server.auto_load = false;
    server.send(GET_ALL);
    server.connection.body_loaded(100, server.now).unwrap();
    server.send(CANCEL);
    assert_eq!(
        records(&mut server),
        [("LIST_AND_GET", 1, 100, RequestOutcome::Cancelled)]
    );
    server.send(WATCH).send(CANCEL);
    assert_eq!(
        records(&mut server),
        [("WATCH", 0, 0, RequestOutcome::Cancelled)]
    );
    server.send(CANCEL);
    assert_eq!(records(&mut server), [], "C3: nothing was left to cancel");
}

#[test]
fn refused_requests_are_recorded_with_their_code() {
    let mut server = Scenario::new(1);
    server.auto_accept = false;
    server.send(LIST);
    server
        .connection
        .refuse(ErrorCode::RateLimited, "", server.now)
        .unwrap();
    let refused = RequestOutcome::Refused(ErrorCode::RateLimited);
    assert_eq!(records(&mut server), [("LIST", 0, 0, refused)]);

    let mut server = Scenario::with(1, ServerConfig::new().with_watch(false));
    server.send(WATCH);
    let refused = RequestOutcome::Refused(ErrorCode::UnsupportedFeature);
    assert_eq!(records(&mut server), [("WATCH", 0, 0, refused)]);

    let mut server = Scenario::with(1, ServerConfig::new().with_max_have(1));
    server.send(&[2, 1, 2]);
    let refused = RequestOutcome::Refused(ErrorCode::InvalidRequest);
    assert_eq!(records(&mut server), [("BATCH", 0, 0, refused)]);

    let mut server = Scenario::new(1);
    server.send(&[9]);
    assert_eq!(records(&mut server), [], "not a request");
}

#[test]
fn requests_that_the_end_of_the_connection_interrupts_are_recorded_with_the_reason() {
    // S12 S13: the second image cannot be opened, or not be read to its end.
    for (loaded, bytes) in [(None, 100), (Some(40), 140)] {
        let mut server = Scenario::new(2);
        server.auto_load = false;
        server.send(GET_ALL);
        server.connection.body_loaded(100, server.now).unwrap();
        server.run();
        if let Some(count) = loaded {
            server.connection.body_loaded(count, server.now).unwrap();
        }
        server.connection.body_failed("", server.now).unwrap();
        server.run();
        let aborted = RequestOutcome::Aborted(CloseReason::BodyFailed);
        assert_eq!(records(&mut server), [("LIST_AND_GET", 1, bytes, aborted)]);
    }

    let mut server = Scenario::new(1);
    server.send(WATCH).eof();
    let aborted = RequestOutcome::Aborted(CloseReason::PeerClosed);
    assert_eq!(records(&mut server), [("WATCH", 0, 0, aborted)]);

    let mut server = Scenario::new(1);
    server.write_limit = 0;
    server.send(LIST).wait(30 * SECOND);
    let aborted = RequestOutcome::Aborted(CloseReason::Timeout(Timeout::Write));
    assert_eq!(records(&mut server), [("LIST", 0, 0, aborted)]);

    let mut server = Scenario::new(1);
    server.write_limit = 50;
    server.send(&[0, 1, 1]);
    server.send(&server.id(0).to_be_bytes());
    server.auto_load = false;
    server.send(GET_ALL);
    server.connection.abort();
    assert!(server.connection.is_closed() && server.connection.transmit().is_empty());
    assert_eq!(server.reason(), Some(CloseReason::Aborted));
    let aborted = RequestOutcome::Aborted(CloseReason::Aborted);
    assert_eq!(
        records(&mut server),
        [
            ("GET_BY_ID", 1, 100, RequestOutcome::Answered),
            ("LIST_AND_GET", 0, 0, aborted),
        ]
    );
}

#[test]
fn an_abort_after_the_connection_has_closed_keeps_the_reason() {
    let mut server = Scenario::new(1);
    server.send(&[1, 0]);
    server.connection.abort();
    assert_eq!(server.reason(), Some(CloseReason::NoKeepAlive));
}

#[test]
fn records_that_are_not_taken_are_bounded() {
    let mut server = Scenario::new(1);
    for _ in 0..40 {
        server.send(LIST);
    }
    server.send(GET_ALL);
    let records = records(&mut server);
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
