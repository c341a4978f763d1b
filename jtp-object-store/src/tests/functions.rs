//! What the crate does while nothing fails.

use std::sync::Arc;
use std::time::Duration;

use jtp_core::{FileType, ImageId};
use jtp_driver::store::{ImageStore, StoreError};

use super::world::{World, gif, listed, names};
use crate::catalog::Proposal;
use crate::format::{Contents, Identity, Object};
use crate::{IndexerConfig, StoreConfig};

fn config() -> IndexerConfig {
    IndexerConfig::default()
}

#[test]
fn w9_images_below_the_prefix_are_listed_and_others_are_not() {
    let mut world = World::new(1);
    world.put("a.png", &gif(1));
    world.put("2024/Rome/b.gif", &gif(2));
    world.put("raw.tiff", b"any bytes");
    world.put("README", b"text");
    world.put("image without extension", &gif(3));
    world.put("empty.png", b"");
    world.put(".hidden.png", &gif(4));
    let images = world.open();
    let report = world.index(&images);
    assert_eq!((report.listed, report.read, report.failed), (6, 6, 0));
    assert_eq!(report.changes, 6);
    let expected = [
        ("2024⧸Rome⧸b.gif", ImageId::of(&gif(2))),
        ("a.png", ImageId::of(&gif(1))),
        ("image without extension", ImageId::of(&gif(3))),
        ("raw.tiff", ImageId::of(b"any bytes")),
    ];
    let found = names(&images);
    assert!(
        found.iter().map(|(name, id)| (&**name, *id)).eq(expected),
        "{found:?}"
    );
    let image = listed(&images, &gif(1));
    assert_eq!(image.flags.file_type(), FileType::Gif);
}

#[test]
fn a_second_pass_and_a_second_server_read_no_object_again() {
    let mut world = World::new(2);
    for n in 0..50 {
        world.put(&format!("{n}.gif"), &gif(n));
    }
    let images = world.open();
    let report = world.index(&images);
    assert_eq!(report.read, 50);
    let lists = world.store.requests("list");
    let other = world.open();
    assert_eq!(names(&other), names(&images));
    assert!(other.is_complete());
    // The heads were listed, before and after the log was read; the bucket was not.
    assert_eq!(world.store.requests("list") - lists, 2);
    let report = world.index(&other);
    assert_eq!((report.listed, report.read, report.changes), (50, 0, 0));
}

#[test]
fn n1_a_change_is_published_on_each_server_within_the_poll_interval() {
    let mut world = World::new(3);
    world.put("a.gif", &gif(1));
    let rescan = Duration::from_secs(1);
    world.start(0, Some(config().with_rescan(rescan)));
    world.start(1, None);
    world.run(10);
    world.assert_all_list(1);
    world.put("b.gif", &gif(2));
    world.delete("a.gif");
    // The next pass 1 s, the log 2 s, the requests.
    world.run(4);
    for images in world.images.values() {
        let expected = [("b.gif".to_owned(), ImageId::of(&gif(2)))];
        assert_eq!(names(images), expected);
        assert!(images.catalog().snapshot().latest().events() <= 2);
    }
}

#[test]
fn n1_a_record_of_the_log_is_published_within_the_poll_interval_while_objects_are_read_again() {
    let mut world = World::new(3);
    world.put("a.gif", &gif(1));
    world.start(0, None);
    world.start(1, None);
    let writer = Arc::clone(&world.images[&0]);
    world.index(&writer);
    world.run(10);
    let reader = Arc::clone(&world.images[&1]);
    let wrong = listed(&reader, &gif(1));
    world.store.shared().faults.slow_ranges = true;
    for n in 2..12 {
        reader.report_mismatch(&wrong);
        world
            .executor
            .run_for(Duration::from_millis(n * 370), |_| {});
        let id = ImageId(n);
        let file_type = FileType::Gif;
        let image = Object::new(Identity::default(), Contents::Image { id, file_type });
        let proposal = Proposal {
            key: format!("{n}.gif").into(),
            before: None,
            after: Some(image),
        };
        world.commit(&writer, vec![proposal]);
        let committed = world.executor.clock.elapsed();
        while reader.catalog().snapshot().get(id).is_none() {
            world.executor.run_for(Duration::from_millis(10), |_| {});
        }
        let delay = world.executor.clock.elapsed() - committed;
        assert!(delay <= StoreConfig::default().poll, "{n}: {delay:?}");
    }
}

#[test]
fn s13_an_object_that_was_replaced_ends_the_image_and_is_corrected() {
    let mut world = World::new(4);
    let long = [gif(1), vec![1; 1000]].concat();
    world.put("a.gif", &long);
    world.put("b.gif", &gif(7));
    let images = world.open();
    world.index(&images);
    let image = listed(&images, &long);
    let opened = world.open_image(&images, image, 100).0.unwrap();
    assert_eq!(opened.first(), &long[..100]);
    let body = Arc::clone(opened.body().unwrap());
    let read = Arc::clone(&body).read(100, 200);
    assert_eq!(world.executor.block_on(read).unwrap(), long[100..300]);
    world.put("a.gif", &[gif(2), vec![2; 1000]].concat());
    world.delete("b.gif");
    // A request that began before gives the bytes of the object that it found.
    let read = Arc::clone(&body).read(300, 100);
    assert_eq!(world.executor.block_on(read).unwrap(), long[300..400]);
    let read = Arc::clone(&body).read(500, 100);
    let error = world.executor.block_on(read).unwrap_err();
    assert!(matches!(error, StoreError::Changed(found) if found == image.id));
    let gone = listed(&images, &gif(7));
    assert!(world.open_image(&images, gone, 100).0.is_err());
    world.executor.spawn(0, Arc::clone(&images).follow());
    world.run(2);
    let replaced = [gif(2), vec![2; 1000]].concat();
    assert_eq!(
        names(&images),
        [("a.gif".to_owned(), ImageId::of(&replaced))]
    );
}

#[test]
fn s13_an_object_whose_bytes_have_another_hash_is_read_again() {
    let mut world = World::new(5);
    world.put("a.gif", &gif(1));
    let images = world.open();
    world.index(&images);
    let image = listed(&images, &gif(1));
    let reads = world.store.requests("range");
    images.report_mismatch(&image);
    world.executor.spawn(0, Arc::clone(&images).follow());
    world.run(1);
    assert!(
        world.store.requests("get") >= reads + 2,
        "the log and the object"
    );
    assert_eq!(names(&images).len(), 1);
}

#[test]
fn compaction_keeps_two_snapshots_and_the_log_after_the_older_one() {
    let mut world = World::new(6);
    let rescan = Duration::from_secs(1);
    world.start(0, Some(config().with_rescan(rescan).with_compact_after(3)));
    for n in 0..20 {
        world.put(&format!("{n}.gif"), &gif(n));
        world.run(3);
    }
    let heads = world.keys(".jtp/v1/head");
    assert_eq!(heads.len(), 2);
    assert!(world.keys(".jtp/v1/log").len() < 8);
    assert_eq!(world.keys(".jtp/v1/part").len(), 2);
    let other = world.open();
    assert_eq!(names(&other).len(), 20);
    world.kill(0);
    // A server whose newest snapshot is damaged uses the older one, and the log.
    world.damage(heads.last().unwrap());
    let other = world.open();
    assert_eq!(names(&other).len(), 20);
}
