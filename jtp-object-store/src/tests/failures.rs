//! Dead holders, stores that are down, and damaged or deleted catalogs.

use std::sync::Arc;
use std::time::Duration;

use jtp_core::{FileType, Flags, Image, ImageId};
use jtp_driver::store::{ImageStore, StoreError};

use super::world::{Faults, World, gif, listed, names};
use crate::catalog::Proposal;
use crate::clock::timeout;
use crate::error::Error;
use crate::format::{Head, LeaseState, LogRecord, MAX_CHANGES, Object, Stamp};
use crate::{IndexReport, IndexerConfig, ObjectImages};

pub(super) fn config() -> IndexerConfig {
    IndexerConfig::default().with_rescan(Duration::from_secs(1))
}

/// The process that has the lease. `World` gives the processes 0, 1, … the writers 1, 2, …
pub(super) fn holder(world: &World) -> usize {
    let (_, state) = LeaseState::decode(&world.read(".jtp/v1/lease")).unwrap();
    usize::try_from(state.holder - 1).unwrap()
}

pub(super) fn with_images(seed: u64, count: u64) -> World {
    let mut world = World::new(seed);
    for n in 0..count {
        world.put(&format!("{n}.gif"), &gif(n));
    }
    world
}

/// Servers of a bucket of images that have run for 20 s.
pub(super) fn servers(seed: u64, count: u64, processes: usize) -> World {
    let mut world = with_images(seed, count);
    for process in 0..processes {
        world.start(process, Some(config()));
    }
    world.run(20);
    world
}

/// What a pass proposes for an object that has gone.
fn removal(images: &ObjectImages, key: &str) -> Proposal {
    Proposal {
        key: key.into(),
        before: images.shared().state().get(key),
        after: None,
    }
}

#[test]
fn one_of_three_servers_lists_the_bucket() {
    let mut world = servers(1, 3, 3);
    world.run(40);
    let reads = world.store.requests("range");
    assert_eq!(
        reads, 3,
        "each image is read once: all keys have the extension of an image"
    );
    let before = world.store.requests("list");
    world.run(60);
    // A pass in about 1 s, and the heads once a minute and in each pass.
    let lists = world.store.requests("list") - before;
    assert!((80..=125).contains(&lists), "{lists}");
}

/// What a job that only indexes returns within a minute.
fn job(world: &mut World, images: &Arc<ObjectImages>) -> Option<Result<IndexReport, Error>> {
    let (indexer, clock) = (
        images.indexer(IndexerConfig::default()),
        world.executor.clock.clone(),
    );
    world.executor.block_on(async move {
        let pass = indexer.run_once();
        timeout(&clock, Duration::from_secs(60), pass).await
    })
}

#[test]
fn a_job_that_only_indexes_ends_while_a_server_holds_the_lease() {
    let mut world = with_images(4, 3);
    world.start(0, Some(config().with_rescan(Duration::from_secs(3600))));
    world.run(20);
    world.put("new.gif", &gif(9));
    let images = world.open();
    let report = job(&mut world, &images).expect("it ends").unwrap();
    assert_eq!((report.listed, report.read, report.changes), (4, 1, 1));
    assert_eq!(holder(&world), 0);
    world.run(5);
    assert_eq!(names(&world.images[&0]).len(), 4);
}

#[test]
fn a_job_that_only_indexes_takes_the_lease_of_a_dead_server() {
    let mut world = servers(5, 3, 1);
    world.kill(0);
    world.put("new.gif", &gif(9));
    let images = world.open();
    let report = job(&mut world, &images).expect("it ends").unwrap();
    assert_eq!((report.read, report.changes), (1, 1));
}

#[test]
fn a_job_that_only_indexes_fails_if_the_lease_cannot_be_taken() {
    let mut world = with_images(6, 3);
    let images = world.open();
    world.store.shared().faults.is_down = true;
    let result = job(&mut world, &images).expect("it ends");
    assert!(result.is_err(), "{result:?}");
}

#[test]
fn s12_with_the_store_down_each_call_ends_within_the_deadline_and_all_recovers() {
    let mut world = servers(3, 10, 2);
    let images = Arc::clone(&world.images[&1]);
    let image = listed(&images, &gif(3));
    world.store.shared().faults.is_down = true;
    let opens = (0..1000).map(|_| Arc::clone(&images).open(image, 1 << 20));
    let opens = futures_util::future::join_all(opens.collect::<Vec<_>>());
    let begin = world.executor.clock.elapsed();
    let results = world.executor.block_on(opens);
    assert!(world.executor.clock.elapsed() - begin < Duration::from_secs(11));
    for result in results {
        assert!(matches!(result, Err(StoreError::Unavailable { .. })));
    }
    world.run(60);
    assert_eq!(names(&images).len(), 10, "the catalog stays");
    world.store.shared().faults = Faults::default();
    world.put("new.gif", &gif(99));
    world.run(60);
    world.assert_all_list(11);
    let (opened, _) = world.open_image(&images, image, 1 << 20);
    assert_eq!(opened.unwrap().first(), &gif(3));
}

#[test]
fn an_unknown_image_is_gone() {
    let mut world = World::new(4);
    let images = world.open();
    let image = Image::new(ImageId(1), Flags::new(FileType::Gif, false), 14);
    let (opened, _) = world.open_image(&images, image, 100);
    assert!(matches!(opened, Err(StoreError::Gone(ImageId(1)))));
}

#[test]
fn a_catalog_that_was_deleted_is_made_again_while_servers_keep_theirs() {
    for keeps_indexer in [true, false] {
        let mut world = with_images(5, 8);
        world.start(0, Some(config().with_compact_after(2)));
        world.start(1, None);
        world.run(20);
        let before = ImageStore::catalog(&*world.images[&1]).snapshot();
        if !keeps_indexer {
            world.kill(0);
        }
        for key in world.keys(".jtp") {
            world.delete(&key);
        }
        world.start(2, Some(config()));
        world.run(150);
        let after = ImageStore::catalog(&*world.images[&1]).snapshot();
        assert_eq!(
            after.generation(),
            before.generation(),
            "no image disappeared"
        );
        world.put("new.gif", &gif(99));
        world.run(5);
        world.assert_all_list(9);
    }
}

#[test]
fn nothing_is_removed_if_the_catalog_has_gone_with_the_images() {
    let mut world = servers(6, 8, 1);
    world.start(1, None);
    world.run(20);
    let keys = world.keys("");
    let contents: Vec<_> = keys.iter().map(|key| world.read(key)).collect();
    for key in &keys {
        world.delete(key);
    }
    world.run(120);
    world.assert_all_list(8);
    // The file system is mounted again.
    for (key, bytes) in keys.iter().zip(contents) {
        world.put(key, &bytes);
    }
    world.delete("3.gif");
    world.run(60);
    world.assert_all_list(7);
}

#[test]
fn a_damaged_catalog_is_made_again() {
    // Both heads, a log object that is the next one for a server, or all of it.
    for folders in [
        &["head"][..],
        &["log"],
        &["part"],
        &["head", "log", "part", "lease"],
    ] {
        println!("damaged: {folders:?}");
        let mut world = with_images(7, 8);
        world.start(0, Some(config().with_compact_after(2)));
        world.start(1, None);
        for n in 0..6 {
            world.put(&format!("more{n}.gif"), &gif(100 + n));
            world.run(5);
        }
        world.kill(0);
        for folder in folders {
            for key in world.keys(&format!(".jtp/v1/{folder}")) {
                world.damage(&key);
            }
        }
        world.put("new.gif", &gif(99));
        world.start(2, Some(config()));
        world.run(200);
        let other = world.open();
        world.images.insert(3, other);
        world.assert_all_list(15);
    }
}

#[test]
fn a_writer_that_continues_after_its_log_was_deleted_changes_nothing() {
    let mut world = with_images(8, 2);
    let late = world.open();
    world.index(&late);
    // A server at the same state, which is paused, too.
    let follower = world.open();
    world.start(3, Some(config().with_compact_after(1)));
    for n in 0..6 {
        world.put(&format!("more{n}.gif"), &gif(100 + n));
        world.run(5);
    }
    world.kill(3);
    // The name of the next log object is free: the one of that name was deleted.
    let proposal = removal(&late, "0.gif");
    assert_eq!(world.commit(&late, vec![proposal]), 1);
    let fresh = world.open();
    assert_eq!(names(&fresh).len(), 7);
    assert_eq!(names(&late), names(&fresh));
    let follow = follower.follower();
    world
        .executor
        .block_on(async move { follow.follow(false).await })
        .unwrap();
    assert_eq!(names(&follower), names(&fresh));
}

#[test]
fn a_writer_whose_next_number_is_taken_in_a_replaced_catalog_begins_a_new_one() {
    let mut world = with_images(12, 2);
    let images = world.open();
    world.index(&images);
    // The catalog is deleted, and another server begins one. A writer that did not see this has made the next log object.
    for key in world.keys(".jtp") {
        world.delete(&key);
    }
    let next = images.shared().stamp().next();
    let record = LogRecord {
        writer: 9,
        complete: true,
        changes: Vec::new(),
    };
    let path = format!(".jtp/v1/log/{:016x}/{:016x}", next.epoch, next.seq);
    world.put(&path, &record.encode(next));
    let stamp = Stamp {
        epoch: 9,
        seq: next.seq,
    };
    let head = Head {
        complete: false,
        objects: 0,
        parts: Vec::new(),
    };
    world.put(
        &format!(".jtp/v1/head/{:016x}", stamp.seq),
        &head.encode(stamp),
    );

    let proposal = removal(&images, "0.gif");
    let requests = world.store.requests("get");
    assert_eq!(world.commit(&images, vec![proposal]), 1);
    assert!(world.store.requests("get") - requests < 20);
    let fresh = world.open();
    assert_eq!(names(&fresh), names(&images));
    assert_eq!(names(&fresh).len(), 1);
}

#[test]
fn more_changes_than_a_log_object_holds_are_in_several() {
    let mut world = with_images(13, 1);
    let images = world.open();
    world.index(&images);
    let object = images.shared().state().get("0.gif");
    let change = |n: usize, before: &Option<Object>, after: &Option<Object>| Proposal {
        key: format!("copy{n}.gif").into(),
        before: before.clone(),
        after: after.clone(),
    };
    let count = 2 * MAX_CHANGES + 1;
    for (before, after) in [(&None, &object), (&object, &None)] {
        let logs = world.keys(".jtp/v1/log").len();
        let changes = (0..count).map(|n| change(n, before, after)).collect();
        assert_eq!(world.commit(&images, changes), count);
        assert_eq!(world.keys(".jtp/v1/log").len() - logs, 3);
    }
    assert_eq!(images.shared().state().len(), 1);
}

#[test]
fn without_conditional_updates_each_server_indexes() {
    let mut world = with_images(9, 3);
    world.store.shared().faults.has_no_updates = true;
    for process in 0..2 {
        world.start(process, Some(config()));
    }
    world.run(40);
    let before = world.store.requests("list");
    world.put("new.gif", &gif(9));
    world.run(10);
    assert!(world.store.requests("list") - before > 20);
    world.assert_all_list(4);
    for images in world.images.values() {
        let catalog = ImageStore::catalog(&**images);
        assert_eq!(catalog.snapshot().latest().events(), 4);
    }
}

#[test]
fn without_conditional_updates_a_server_lists_the_bucket_as_often_as_with_them() {
    let lists = |has_no_updates| {
        let mut world = with_images(9, 3);
        world.store.shared().faults.has_no_updates = has_no_updates;
        world.start(0, Some(config().with_rescan(Duration::from_secs(3600))));
        world.run(2);
        let before = world.store.requests("list");
        world.run(60);
        world.store.requests("list") - before
    };
    assert_eq!(lists(true), lists(false));
}

#[test]
fn an_object_that_another_server_adds_during_a_pass_is_not_removed_at_its_end() {
    for seed in 0..10 {
        let mut world = with_images(seed, 5);
        let first = world.open();
        let other = world.open();
        world.index(&first);
        // A pass that is paused after its listing.
        world.put("slow.gif", &gif(50));
        let indexer = first.indexer(config());
        world
            .executor
            .spawn(0, async move { _ = indexer.pass().await });
        world.executor.spawn(1, Arc::clone(&first).follow());
        world.executor.run_for(Duration::from_millis(120), |_| {});
        world.executor.pause(0);
        world.put("new.gif", &gif(60));
        let indexer = other.indexer(config());
        world
            .executor
            .block_on(async move { indexer.pass().await })
            .unwrap();
        world.run(5);
        let before = ImageStore::catalog(&*first).snapshot();
        assert!(before.contains(ImageId::of(&gif(60))));
        world.executor.resume(0);
        world.run(5);
        let after = ImageStore::catalog(&*first).snapshot();
        assert!(
            after.changes_since(&before).removed.is_empty(),
            "seed {seed}"
        );
        assert_eq!(after.len(), 7);
    }
}

#[test]
fn a_store_that_ignores_conditions_is_indexed_by_a_job_alone() {
    let mut world = with_images(8, 2);
    world.store.shared().faults.ignores_conditions = true;
    for process in 0..2 {
        world.start(process, Some(config()));
    }
    world.run(60);
    assert!(names(&world.images[&0]).is_empty() && world.keys(".jtp/v1/head").is_empty());
    let images = world.open();
    let report = job(&mut world, &images).expect("it ends").unwrap();
    assert_eq!((report.read, report.changes), (2, 2));
    world.put("new.gif", &gif(9));
    world.run(10);
    world.assert_all_list(2);
    let report = job(&mut world, &images).expect("it ends").unwrap();
    assert_eq!((report.read, report.changes), (1, 1));
    world.run(10);
    world.assert_all_list(3);
}
