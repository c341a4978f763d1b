//! WATCH, rule by rule. // N1 N2 N3 N4 N5 N6

use super::*;

#[test]
fn n1_each_new_image_is_told_once_and_none_from_before() {
    let mut scene = Scene::new(2);
    scene.send(WATCH);
    scene.add("b.png", vec![1]);
    scene.add("a.png", vec![2]);
    scene.publish();
    scene.run();
    scene.add("c.png", vec![3]);
    scene.publish();
    scene.run();
    assert_eq!(scene.frames(), ["JTPW b.png", "JTPW a.png", "JTPW c.png"]);
}

#[test]
fn n2_a_watcher_that_falls_too_far_behind_is_disconnected() {
    let mut scene = Scene::with(0, ServerConfig::new().with_max_watch_lag(2));
    scene.send(WATCH);
    scene.step = 0;
    for n in 0..4 {
        scene.add(&format!("{n}.png"), vec![n]);
        scene.publish();
    }
    assert_eq!(scene.reason(), None, "first the event that is on its way");
    scene.step = usize::MAX;
    scene.run();
    assert_eq!(scene.frames(), ["JTPW 0.png"]);
    assert_eq!(scene.reason(), Some(CloseReason::WatchLag));
}

#[test]
fn n2_a_watch_that_begins_too_far_behind_is_disconnected() {
    let mut scene = Scene::with(0, ServerConfig::new().with_max_watch_lag(2));
    scene.step = 0;
    let mut input = LIST.to_vec();
    input.extend_from_slice(WATCH);
    scene.send(&input);
    for n in 0..4 {
        scene.add(&format!("{n}.png"), vec![n]);
        scene.publish();
    }
    // It begins at the LIST's snapshot (N5), and nothing is published after that.
    scene.step = usize::MAX;
    scene.run();
    assert_eq!(scene.frames(), ["JTPL "]);
    assert_eq!(scene.reason(), Some(CloseReason::WatchLag));
}

#[test]
fn n2_a_watcher_that_takes_nothing_for_30_s_is_disconnected() {
    let mut scene = Scene::new(0);
    scene.send(WATCH).pass(1000 * SECOND);
    assert_eq!(scene.connection.deadline(), None, "N4");
    scene.step = 0;
    scene.add("a.png", vec![1]);
    scene.publish();
    scene.pass(29 * SECOND);
    assert!(!scene.connection.is_closed());
    scene.pass(SECOND);
    assert!(scene.connection.is_closed());
    assert_eq!(scene.reason(), Some(CloseReason::Timeout(Timeout::Write)));
}

#[test]
fn n2_many_events_at_once_are_all_told_and_cancel_need_not_wait_for_all() {
    let mut scene = Scene::new(0);
    scene.send(WATCH);
    // More than is encoded ahead.
    let images: u32 = if cfg!(miri) { 1_000 } else { 2_000 };
    for n in 0..images {
        scene.add(&format!("{n:04}.png"), n.to_be_bytes().to_vec());
    }
    scene.step = 1;
    scene.publish();
    scene.take();
    assert!(scene.connection.transmit().len() <= 16 * 1024);
    scene.step = usize::MAX;
    scene.input.extend_from_slice(CANCEL);
    scene.run();
    let frames = scene.frames();
    assert_eq!(frames.last().unwrap(), "JTPC");
    assert!(frames.len() < 1_000);
    scene.send(WATCH);
    assert!(scene.frames().is_empty(), "N1: a new WATCH begins now");
}

#[test]
fn n3_cancel_ends_a_watch_and_the_connection_is_an_ordinary_one_again() {
    let mut scene = Scene::new(1);
    scene
        .send(WATCH)
        .send(&[3])
        .send(&[0])
        .send(LIST)
        .send(CANCEL);
    assert_eq!(scene.frames(), ["JTPC", "JTPL 000", "JTPC"]);
}

#[test]
fn n3_anything_but_cancel_during_watch_is_invalid() {
    for bytes in [LIST, &[4], &[3, 4], &[0xff]] {
        let mut scene = Scene::new(1);
        scene.send(WATCH).send(bytes);
        assert_eq!(scene.frames(), ["JTPE InvalidRequest"], "{bytes:?}");
    }
}

#[test]
fn n3_a_cancel_begun_must_be_whole_within_10_s() {
    let mut scene = Scene::new(1);
    scene.send(WATCH).pass(SECOND).send(&[3]);
    assert_eq!(scene.connection.deadline(), Some(Time::ZERO + 11 * SECOND));
    scene.pass(10 * SECOND);
    assert!(scene.half_closed && scene.frames().is_empty());
    assert_eq!(scene.reason(), Some(CloseReason::Timeout(Timeout::Cancel)));
}

#[test]
fn n5_a_watch_in_the_input_begins_at_the_snapshot_of_the_list_before_it() {
    let mut scene = Scene::new(1);
    scene.step = 0;
    let mut input = LIST.to_vec();
    input.extend_from_slice(WATCH);
    scene.send(&input);
    scene.add("between.png", vec![1]);
    scene.publish();
    scene.step = usize::MAX;
    scene.run();
    assert_eq!(scene.frames(), ["JTPL 000", "JTPW between.png"]);

    // One that comes later begins when it is read.
    let mut scene = Scene::new(1);
    scene.step = 0;
    scene.send(LIST);
    scene.add("between.png", vec![1]);
    scene.publish();
    scene.step = usize::MAX;
    scene.send(WATCH);
    assert_eq!(scene.frames(), ["JTPL 000"]);
}

#[test]
fn n5_another_request_between_list_and_watch_ends_the_bond() {
    let mut scene = Scene::new(1);
    scene.send(LIST);
    scene.step = 0;
    let mut input = LIST.to_vec();
    input.extend_from_slice(CANCEL);
    input.extend_from_slice(WATCH);
    scene.send(&input);
    scene.add("between.png", vec![1]);
    scene.publish();
    scene.step = usize::MAX;
    scene.run();
    assert_eq!(scene.frames(), ["JTPL 000", "JTPL 000", "JTPC"]);
}

#[test]
fn n6_eof_ends_a_watch_after_the_event_begun() {
    let mut scene = Scene::new(0);
    scene.send(WATCH);
    scene.step = 3;
    scene.add("a.png", vec![1]);
    scene.publish();
    scene.take();
    scene.eof();
    scene.add("b.png", vec![2]);
    scene.publish();
    scene.run();
    assert_eq!(scene.frames(), ["JTPW a.png"]);
    assert!(scene.connection.is_closed());
}

#[test]
fn n5_a_watch_behind_a_cancelled_list_does_not_directly_follow_it() {
    let mut scene = Scene::new(1);
    scene.decides = false;
    scene.send(&[1, 1, 3, 0, 4, 0]).run();
    scene
        .connection
        .accept(scene.writer.snapshot(), scene.now)
        .unwrap();
    scene.add("new.png", vec![9; 10]);
    scene.writer.publish();
    scene.decides = true;
    scene.run();
    assert_eq!(
        scene.frames(),
        ["JTPL 000", "JTPC"],
        "it is in the catalog already"
    );
    scene.add("newer.png", vec![8; 10]);
    scene.publish();
    scene.run();
    assert_eq!(scene.frames(), ["JTPW newer.png"]);
}

#[test]
fn n2_a_watch_whose_list_crawled_beyond_the_history_is_disconnected_and_keeps_nothing() {
    let mut scene = Scene::new(1);
    scene.writer.set_history(5);
    scene.step = 0;
    let mut input = LIST.to_vec();
    input.extend_from_slice(WATCH);
    scene.send(&input);
    for n in 0..6 {
        scene.add(&format!("{n}.png"), vec![n; 9]);
        scene.publish();
    }
    scene.step = usize::MAX;
    scene.run();
    assert_eq!(scene.frames(), ["JTPL 000"]);
    assert!(scene.half_closed);
    assert_eq!(scene.reason(), Some(CloseReason::WatchLag));
}

#[test]
fn n2_a_watcher_behind_the_history_ends_at_an_event_boundary() {
    let mut scene = Scene::new(0);
    scene.writer.set_history(3);
    scene.send(WATCH);
    scene.step = 3;
    scene.add("first.png", vec![1]);
    scene.publish();
    scene.take();
    scene.step = 0;
    for n in 2..9 {
        scene.add(&format!("{n}.png"), vec![n]);
        scene.writer.publish();
    }
    scene.step = usize::MAX;
    scene.run();
    assert_eq!(scene.frames(), ["JTPW first.png"]);
    assert_eq!(scene.reason(), Some(CloseReason::WatchLag));
}

#[test]
fn n5_a_watch_of_another_catalog_than_the_list_starts_at_its_own_catalog() {
    let mut scene = Scene::new(1);
    let mut other = CatalogWriter::new();
    other
        .insert(
            "other.png",
            Image::new(ImageId(1), Flags::new(FileType::Png, false), 1),
        )
        .unwrap();
    other.publish();

    // Both requests are in the input, so the position of the LIST is remembered.
    scene.decides = false;
    scene.send(&[1, 1, 4, 0]);
    scene
        .connection
        .accept(scene.writer.snapshot(), scene.now)
        .unwrap();
    scene.add("listed catalog.png", vec![1]);
    scene.publish();
    scene.run();
    scene
        .connection
        .accept(other.snapshot(), scene.now)
        .unwrap();
    scene.run();
    assert_eq!(
        scene.frames(),
        ["JTPL 000"],
        "events of the listed catalog do not belong to this WATCH"
    );

    other
        .insert(
            "new.png",
            Image::new(ImageId(2), Flags::new(FileType::Png, false), 1),
        )
        .unwrap();
    let catalog = other.publish();
    scene.connection.catalog_changed(&catalog, scene.now);
    scene.run();
    assert_eq!(scene.frames(), ["JTPW new.png"]);
}
