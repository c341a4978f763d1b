//! CANCEL, rule by rule. // C1 C2 C3 C4 C5 C6

use super::*;

#[test]
fn c1_c3_cancel_on_an_idle_keep_alive_connection_is_answered_at_once() {
    let mut scene = Scene::new(1);
    scene.send(LIST).send(CANCEL).send(CANCEL).send(LIST);
    assert_eq!(scene.frames(), ["JTPL 000", "JTPC", "JTPC", "JTPL 000"]);
}

#[test]
fn c2_cancel_stops_at_the_next_packet_boundary() {
    for sent_before in 0..=112 {
        let mut scene = Scene::new(3);
        scene.loads = false;
        scene.send(GET_ALL);
        scene.connection.body_loaded(100, scene.now).unwrap();
        scene.step = 1;
        for _ in 0..sent_before {
            scene.take();
        }
        scene.send(CANCEL).send(LIST);
        let first = "packet 0";
        assert_eq!(
            scene.frames(),
            ["JTPG 3", first, "JTPC", "JTPL 000 001 002"]
        );
    }
}

#[test]
fn c2_the_header_and_count_are_always_sent_first() {
    for request in [
        GET_ALL.to_vec(),
        batch(true, &[]),
        get(true, &[ImageId::of(&[0; 100])]),
    ] {
        let mut scene = Scene::new(1);
        scene.loads = false;
        scene.step = 1;
        scene.input.extend_from_slice(&request);
        scene.feed();
        scene.send(CANCEL).send(LIST);
        let frames = scene.frames();
        assert!(frames[0].ends_with(" 1"), "{frames:?}");
        assert_eq!(frames[1..], ["JTPC", "JTPL 000"]);
    }
}

#[test]
fn c2_a_catalog_is_finished_first() {
    let mut scene = Scene::new(2);
    scene.step = 1;
    scene.input.extend_from_slice(LIST);
    scene.feed();
    scene.take();
    scene.send(CANCEL).send(LIST);
    assert_eq!(scene.frames(), ["JTPL 000 001", "JTPC", "JTPL 000 001"]);
}

#[test]
fn c2_cancel_while_the_application_holds_the_request() {
    let mut scene = Scene::new(2);
    scene.decides = false;
    scene.send(GET_ALL).send(CANCEL);
    scene
        .connection
        .accept(scene.writer.snapshot(), scene.now)
        .unwrap();
    scene.run();
    assert_eq!(scene.frames(), ["JTPG 2", "JTPC"]);
}

#[test]
fn c3_c4_a_watch_is_enough_for_a_cancel_when_idle() {
    let mut scene = Scene::new(1);
    scene.send(WATCH).send(CANCEL);
    assert_eq!(scene.frames(), ["JTPC"]);
    assert!(!scene.connection.is_watching());
    scene.send(CANCEL).send(&[1, 0]);
    assert_eq!(scene.frames(), ["JTPC", "JTPL 000"]);
}

#[test]
fn c4_cancel_without_anything_to_cancel_is_invalid() {
    let mut scene = Scene::new(1);
    scene.send(CANCEL);
    assert_eq!(scene.frames(), ["JTPE InvalidRequest"]);

    let mut scene = Scene::new(3);
    scene.loads = false;
    scene.send(&[5, 0]);
    scene.connection.body_loaded(100, scene.now).unwrap();
    scene.send(CANCEL);
    assert_eq!(
        scene.frames(),
        ["JTPG 3", "packet 0", "JTPE InvalidRequest"]
    );

    let mut scene = Scene::new(1);
    scene.send(&[1, 0]).send(CANCEL);
    assert_eq!(
        scene.frames(),
        ["JTPL 000"],
        "nothing once it has half-closed"
    );
}

#[test]
fn c5_cancel_behind_another_request_waits_for_that_one() {
    let mut scene = Scene::new(2);
    scene.loads = false;
    let mut input = GET_ALL.to_vec();
    input.extend_from_slice(LIST);
    input.extend_from_slice(CANCEL);
    scene.send(&input);
    scene.loads = true;
    scene.run();
    assert_eq!(
        scene.frames(),
        ["JTPG 2", "packet 0", "packet 1", "JTPL 000 001", "JTPC"]
    );
}

#[test]
fn c6_no_more_than_one_packet_is_ever_offered() {
    let mut scene = Scene::new(3);
    scene.loads = false;
    scene.send(GET_ALL);
    scene.connection.body_loaded(100, scene.now).unwrap();
    assert_eq!(
        scene.connection.wants_body(),
        None,
        "the next one waits for this one"
    );
    assert!(scene.connection.transmit().len() <= packet::MAX_HEAD_LEN + 100);
}

#[test]
fn c1_a_cancel_that_came_before_the_decision_is_answered_for_every_request() {
    for request in [
        LIST.to_vec(),
        get(true, &[]),
        batch(true, &[]),
        GET_ALL.to_vec(),
    ] {
        let mut scene = Scene::new(1);
        scene.decides = false;
        scene.send(&request).send(CANCEL);
        assert!(
            scene.input.is_empty(),
            "the CANCEL is looked at ahead of its turn"
        );
        scene
            .connection
            .accept(scene.writer.snapshot(), scene.now)
            .unwrap();
        scene.run();
        let frames = scene.frames();
        assert_eq!(frames.len(), 2, "{frames:?}");
        assert_eq!(frames[1], "JTPC");
    }
}
