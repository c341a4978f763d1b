//! Files that a mirror must not delete.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jtp_sync::{MaxDelete, SyncEvent};

use super::job::Job;
use super::world::World;
use crate::support::bytes::TestImage;
use crate::support::files::noise;
use crate::support::stub::{Request, Stub, images};

/// Only a LIST showed that the file is an image, and the next LIST does not name it.
#[test]
fn r5_disk_image_that_was_listed_before_is_not_deleted() {
    let listed = images(3);
    let disk = TestImage::new("disk.img", noise(300, 77));
    let (with_disk, without) = (
        [&listed[..], std::slice::from_ref(&disk)].concat(),
        listed.clone(),
    );
    let is_gone = Arc::new(AtomicBool::new(false));
    let gone = Arc::clone(&is_gone);
    let stub = Stub::answering(move |connection, request| {
        let images = match gone.load(Ordering::SeqCst) {
            true => &without,
            false => &with_disk,
        };
        connection.answer(images, &request);
    });
    let mut job = Job::of(stub.address)
        .holding([&disk])
        .accelerated(1000)
        .reaction(move |event| {
            is_gone.fetch_or(matches!(event, SyncEvent::Watching), Ordering::SeqCst);
        });
    job.mirror = Some(MaxDelete::Percent(100));
    let following = job.follow(World::Tokio);
    // The catalog is compared again after 5 minutes.
    job.log.await_watches(3);
    drop(following);
    job.assert_files(listed.iter().chain([&disk]));
}

/// The next server's catalog may be older than that of the first one.
#[test]
fn r8_nothing_is_deleted_after_a_change_of_the_server() {
    let listed = images(3);
    let extra = TestImage::new("extra.png", noise(300, 77));
    let first = listed.clone();
    let first = Stub::new(move |connection| {
        while let Some(request @ Request::List) = connection.request() {
            connection.answer(&first, &request);
        }
    });
    let next = Stub::of(listed.clone());
    let mut job = Job::of(first.address).accelerated(10).holding([&extra]);
    job.replicas = vec![next.address];
    job.mirror = Some(MaxDelete::Percent(100));
    let totals = job.run_ok(World::Tokio);
    assert_eq!((totals.deleted, totals.undeleted), (0, 1), "{}", job.log);
    job.assert_files(listed.iter().chain([&extra]));
}

/// Of two files with the listed image, the one under its name is changed after the scan.
#[test]
fn r8_second_copy_stays_if_the_first_one_is_gone() {
    let listed = images(1);
    let stub = Stub::of(listed.clone());
    let copy = TestImage::new("copy.png", listed[0].bytes.clone());
    let job = Job::of(stub.address).holding([&listed[0], &copy]);
    let own = job.folder.join(&listed[0].name);
    let mut job = job.reaction(move |event| {
        if matches!(event, SyncEvent::Listed { .. }) {
            fs::write(&own, noise(300, 78)).unwrap();
        }
    });
    job.mirror = Some(MaxDelete::Percent(100));
    job.run_ok(World::Tokio);
    let files = job.files();
    assert!(files.iter().any(|file| file.id == copy.id), "{}", job.log);
}
