//! Catalogs and responses that lack something, or contain what nobody asked for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jtp_kit::Folder;
use jtp_sync::{Fetch, Options, Reason};

use super::job::Job;
use super::log::Event;
use super::world::World;
use crate::support::bytes::*;
use crate::support::files::noise;
use crate::support::stub::{Request, Stub, images, images_from};

/// A LIST that announces one entry more than it sends, then the end of the connection or nothing more.
fn short_list(images: &[TestImage], stays_open: bool) -> Stub {
    let images = images.to_vec();
    Stub::new(move |connection| {
        while let Some(request) = connection.request() {
            if request != Request::List {
                connection.answer(&images, &request);
                continue;
            }
            let entries = joined(images.iter().map(TestImage::entry));
            connection.send([head(b"JTPL", images.len() + 1), entries].concat());
            if !stays_open {
                return;
            }
        }
    })
}

#[track_caller]
fn assert_short_list_is_used(job: &Job, world: World, images: &[TestImage]) {
    let totals = job.run_ok(world);
    assert_eq!(totals.fetched.images, 40, "{}", job.log);
    job.assert_files(images);
    let announced = job.log.count(
        |event| matches!(event, Event::Listed { announced: 41, report } if report.entries == 40),
    );
    assert_eq!(
        announced, 1,
        "the missing entry is reported: R8\n{}",
        job.log
    );
}

#[test]
fn entries_of_a_list_that_ends_one_short_are_used() {
    let images = images(40);
    for world in World::ALL {
        let stub = short_list(&images, false);
        let job = Job::of(stub.address).accelerated(20);
        assert_short_list_is_used(&job, world, &images);
    }
}

#[test]
fn entries_of_a_list_that_stalls_one_short_are_used_after_one_timeout() {
    let images = images(40);
    for world in World::ALL {
        let stub = short_list(&images, true);
        let mut job = Job::of(stub.address);
        job.response_timeout = Duration::from_millis(500);
        assert_short_list_is_used(&job, world, &images);
        let lists = stub
            .requests()
            .iter()
            .filter(|r| **r == Request::List)
            .count();
        // One more if it answers the request behind the LIST where the last entry is due.
        assert_eq!(lists, 2, "{}", job.log);
    }
}

#[test]
fn r8_incomplete_list_replaces_nothing_that_it_does_not_name() {
    // The folder has an image that the complete LIST named. The short one does not name it, and names another one that
    // wants its file name.
    let (old, new) = (noise(500, 1), noise(500, 2));
    let old = TestImage::new("a.png", old);
    let new = TestImage::new("a.png", new);
    let stub = short_list(std::slice::from_ref(&new), false);
    let job = Job::of(stub.address).accelerated(20).holding([&old]);
    job.run_ok(World::Tokio);
    let files = job.files();
    assert!(files.iter().any(|file| file.id == old.id), "{}", job.log);
    assert!(files.iter().any(|file| file.id == new.id), "{}", job.log);
}

#[test]
fn server_that_does_not_know_batch_or_list_and_get_is_asked_by_id() {
    let images = images(60);
    for (code, had) in [
        (UNSUPPORTED_FEATURE, 0),
        (UNSUPPORTED_FEATURE, 10),
        (INVALID_REQUEST, 0),
        (INVALID_REQUEST, 10),
    ] {
        for world in World::ALL {
            let served = images.clone();
            let stub = Stub::new(move |connection| {
                while let Some(request) = connection.request() {
                    if matches!(request, Request::All | Request::Batch(_)) {
                        connection.send(error(code, "no"));
                        return;
                    }
                    connection.answer(&served, &request);
                }
            });
            let job = Job::of(stub.address).holding(&images[..had]);
            job.fetch_all(world, &images);
            let bulk = |r: &Request| matches!(r, Request::All | Request::Batch(_));
            assert_eq!(stub.requests().iter().filter(|r| bulk(r)).count(), 1);
        }
    }
}

#[test]
fn r2_broken_image_is_requested_twice_and_reported_and_all_others_come() {
    let images = images(60);
    let broken = images[20].id;
    for world in World::ALL {
        let stub = Stub::sending(&images, move |connection, image| {
            connection.send_image(image, image.id == broken)
        });
        let job = Job::of(stub.address);
        job.run_ok(world);
        let count = job.log.count(|event| {
            matches!(event, Event::Broken { id, cause } if *id == broken && cause.starts_with("fault"))
        });
        assert_eq!(count, 2, "{}", job.log);
        let refused = job.log.refused();
        assert_eq!(refused.len(), 1, "{}", job.log);
        assert_eq!((refused[0].0, refused[0].1), (broken, Reason::NotReceived));
        assert!(refused[0].2.starts_with("fault"), "{refused:?}");
        job.assert_files(images.iter().filter(|image| image.id != broken));
    }
}

/// A server that damages this image once.
fn damages_once(images: &[TestImage], damaged: u64) -> Stub {
    let is_first = AtomicBool::new(true);
    Stub::sending(images, move |connection, image| {
        let is_damaged = image.id == damaged && is_first.swap(false, Ordering::SeqCst);
        connection.send_image(image, is_damaged)
    })
}

#[test]
fn r2_image_that_was_broken_once_and_gets_another_name_has_no_failure_as_the_cause() {
    let images = images(10);
    let stub = damages_once(&images, images[4].id);
    let job = Job::of(stub.address);
    job.folder.make_dir(&images[4].name);
    let totals = job.run_ok(World::Tokio);
    assert_eq!(totals.failed(), 0, "{}", job.log);
    let expected = (images[4].id, Reason::NameTaken, String::new());
    assert_eq!(job.log.refused(), [expected], "{}", job.log);
}

/// The catalog changes after the first LIST and before the request for images. // R8 (c) (d)
#[test]
fn r8_images_added_renamed_replaced_and_removed_after_the_list_keep_no_other_from_coming() {
    let (before, new) = (images(8), images_from(100, 3));
    let named = |image: &TestImage, name: &str| TestImage::new(name, image.bytes.clone());
    let name = |n: usize| before[n].name.as_str();
    let mut after = before[3..].to_vec();
    // 0 is gone, 1 has another name, 2 is replaced, 4 and 5 have each other's names.
    (after[1].name, after[2].name) = (name(5).to_owned(), name(4).to_owned());
    after.extend([named(&before[1], "renamed.png"), new[0].clone()]);
    after.extend([named(&new[1], name(1)), named(&new[2], name(2))]);
    for (world, connections) in World::ALL.into_iter().zip([1, 3, 1, 3]) {
        for fetch in [Fetch::Missing, Fetch::All] {
            let (listed, served) = (before.clone(), after.clone());
            let is_first = AtomicBool::new(true);
            let stub = Stub::answering(move |connection, request| {
                let is_first = is_first.swap(false, Ordering::SeqCst);
                connection.answer(if is_first { &listed } else { &served }, &request);
            });
            let mut job = Job::of(stub.address).accelerated(20);
            job.connections = connections;
            job.options = Options::new().with_fetch(fetch);
            let totals = job.run_ok(world);
            assert_eq!(totals.failed(), 0, "{}", job.log);
            let count = |image: &TestImage| {
                let files = job.files();
                files.iter().filter(|file| file.id == image.id).count()
            };
            // Over several connections only listed images are requested.
            for image in &after {
                let was_listed = before.iter().any(|listed| listed.id == image.id);
                let is_there = count(image) == 1 || !was_listed && connections > 1;
                assert!(is_there, "{}\n{}", image.name, job.log);
            }
            job.again().run_ok(world);
            assert!(after.iter().all(|image| count(image) == 1), "{}", job.log);
            let totals = job.again().run_ok(world);
            assert_eq!(totals.planned.images, 0, "{}", job.log);
        }
    }
}

#[test]
fn r8_with_fetch_all_the_only_copy_of_an_image_is_not_overwritten_by_another_one() {
    // The server cannot send b.png, whose only copy has the name of a.png.
    let images = images(2);
    let (a, b) = (images[0].clone(), images[1].clone());
    let (served, listed) = (vec![a.clone()], images.clone());
    let stub = Stub::answering(move |connection, request| {
        match request {
            Request::List => connection.answer(&listed, &request),
            _ => connection.answer(&served, &request),
        };
    });
    let copy = TestImage::new(&a.name, b.bytes.clone());
    let mut job = Job::of(stub.address).accelerated(20).holding([&copy]);
    job.options = Options::new().with_fetch(Fetch::All);
    job.run_ok(World::Tokio);
    job.assert_files(&images);
}

#[test]
fn r8_large_images_that_no_list_names_are_not_stored() {
    // 6 × 64 MiB decoded, some kilobytes on the wire.
    let listed = images(20);
    let extra: Vec<(u64, Vec<u8>)> = (0..6)
        .map(|n| {
            let raw = vec![n; 64 << 20];
            (id_of(&raw), zstd::bulk::compress(&raw, 1).unwrap())
        })
        .collect();
    let served = listed.clone();
    let stub = Stub::answering(move |connection, request| {
        if request != Request::All {
            connection.answer(&served, &request);
            return;
        }
        connection.send(head(b"JTPG", served.len() + extra.len()));
        for (id, data) in &extra {
            connection.send(packet(ZSTD | 7, *id, data));
        }
        for image in &served {
            connection.send(image.packet());
        }
    });
    let job = Job::of(stub.address).accelerated(10);
    job.run_ok(World::Tokio);
    job.assert_files(&listed);
    assert_eq!(job.folder.temporaries(), [""; 0], "{}", job.log);
}
