//! The clocks, on simulated time. // T4 T5

use super::*;

#[test]
fn t4_silence_ends_a_connection() {
    let mut scene = Scene::new(1);
    scene.pass(59 * SECOND);
    assert!(!scene.half_closed);
    scene.pass(SECOND);
    assert!(scene.half_closed);
    assert_eq!(
        scene.reason(),
        Some(CloseReason::Timeout(Timeout::FirstRequest))
    );

    let mut scene = Scene::new(1);
    scene
        .pass(50 * SECOND)
        .send(LIST)
        .pass(29 * SECOND)
        .send(LIST)
        .pass(29 * SECOND);
    assert!(!scene.half_closed);
    scene.pass(SECOND);
    assert_eq!(scene.reason(), Some(CloseReason::Timeout(Timeout::Idle)));
    assert_eq!(
        scene.frames(),
        ["JTPL 000", "JTPL 000"],
        "without an error frame"
    );
}

#[test]
fn t4_a_request_must_come_at_16_kib_a_second_after_10_s() {
    let mut scene = Scene::new(1);
    scene.send(&[2, 1, 0xc0, 0x84, 0x3d]);
    // 16 KiB a second is fast enough; so is a pause of no more than the grace.
    for _ in 0..50 {
        scene.pass(SECOND).send(&vec![0; 16 * 1024]);
        assert_eq!(scene.reason(), None);
    }
    scene.pass(10 * SECOND);
    assert_eq!(scene.reason(), None);
    scene.pass(SECOND);
    assert_eq!(scene.reason(), Some(CloseReason::Timeout(Timeout::Request)));
}

#[test]
fn t4_the_request_clock_stands_while_the_application_holds_the_request() {
    let mut scene = Scene::new(1);
    scene.decides = false;
    scene.send(&get(true, &[ImageId(1)])[..5]);
    scene.pass(1000 * SECOND);
    assert_eq!(scene.connection.deadline(), None);
    scene
        .connection
        .accept(scene.writer.snapshot(), scene.now)
        .unwrap();
    scene.pass(9 * SECOND);
    assert_eq!(scene.reason(), None);
    scene.pass(2 * SECOND);
    assert_eq!(scene.reason(), Some(CloseReason::Timeout(Timeout::Request)));
}

#[test]
fn t4_output_must_move_in_30_s_but_the_disk_may_work_as_long_as_it_likes() {
    let mut scene = Scene::new(2);
    scene.loads = false;
    scene.send(GET_ALL).pass(1000 * SECOND);
    assert_eq!(scene.connection.deadline(), None);
    scene.step = 1;
    scene.connection.body_loaded(1, scene.now).unwrap();
    for _ in 0..5 {
        scene.take();
        scene.now = scene.now + 29 * SECOND;
        scene.connection.handle_timeout(scene.now);
        assert!(!scene.connection.is_closed());
    }
    assert!(!scene.connection.transmit().is_empty());
    scene.now = scene.now + 30 * SECOND;
    scene.connection.handle_timeout(scene.now);
    assert!(scene.connection.is_closed());
    // What is left is for nobody.
    assert!(scene.connection.transmit().is_empty());
}

#[test]
fn t5_a_half_close_is_no_abort() {
    let mut scene = Scene::new(2);
    scene.step = 1;
    let mut input = GET_ALL.to_vec();
    input.extend_from_slice(LIST);
    scene.input.extend_from_slice(&input);
    scene.connection.receive_eof();
    scene.run();
    assert_eq!(
        scene.frames(),
        ["JTPG 2", "packet 0", "packet 1", "JTPL 000 001"]
    );
    assert!(scene.connection.is_closed());
    assert_eq!(scene.reason(), Some(CloseReason::PeerClosed));
}
