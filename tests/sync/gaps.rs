//! Servers that fail in the place of certain images: all others come, and those are reported with the cause. // R6 R8

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use jtp_sync::Reason;

use super::job::Job;
use super::world::World;
use crate::support::bytes::*;
use crate::support::stub::{Stub, images};

/// How a server fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// It closes the connection between two packets.
    Close,
    /// It closes the connection within the packet.
    CloseWithin,
    /// It sends JTPE ServerError in place of the packet. // S12
    ServerError,
}

const FAILURES: [Failure; 3] = [Failure::Close, Failure::CloseWithin, Failure::ServerError];

/// Serves images, and fails in the place of each of `bad`.
fn failing(images: &[TestImage], bad: Vec<u64>, failure: Failure) -> Stub {
    Stub::sending(images, move |connection, image| {
        if !bad.contains(&image.id) {
            return connection.send_image(image, false);
        }
        match failure {
            Failure::Close => {}
            Failure::CloseWithin => {
                let packet = image.packet();
                connection.send(&packet[..packet.len() - 10]);
            }
            Failure::ServerError => drop(connection.send(error(SERVER_ERROR, "bad disk"))),
        }
        false
    })
}

#[track_caller]
fn check(world: World, positions: &[usize], failure: Failure, connections: usize) {
    let what = format!("{world:?}, {positions:?}, {failure:?}, {connections} connections");
    let images = images(60);
    let mut bad: Vec<u64> = positions.iter().map(|n| images[*n].id).collect();
    let stub = failing(&images, bad.clone(), failure);
    let mut job = Job::of(stub.address).accelerated(100);
    job.connections = connections;
    let totals = job.run_ok(world);
    job.assert_files(images.iter().filter(|image| !bad.contains(&image.id)));
    let count = bad.len() as u64;
    assert_eq!(totals.unfetched.images, count, "{what}\n{}", job.log);
    let refused = job.log.refused();
    bad.sort_unstable();
    let ids: Vec<u64> = refused.iter().map(|refused| refused.0).collect();
    assert_eq!(ids, bad, "{what}\n{}", job.log);
    for (_, reason, cause) in refused {
        assert_eq!(reason, Reason::CannotFetch, "{what}\n{}", job.log);
        assert!(cause.starts_with("connection"), "{what}: {cause}");
    }
    assert!(
        job.log.retries() > 0,
        "each loss is reported: {what}\n{}",
        job.log
    );

    // The next run tries them again, and fetches nothing else. // R8 (b)
    let again = job.again().accelerated(100);
    let totals = again.run_ok(world);
    assert_eq!(totals.planned.images, count, "{what}\n{}", again.log);
    assert_eq!(totals.placed.images, 0, "{what}\n{}", again.log);
}

#[test]
fn r6_images_that_cannot_be_sent_keep_no_other_from_coming() {
    let (several, every_second) = (
        [0, 1, 2, 30, 58, 59],
        (0..60).step_by(2).collect::<Vec<_>>(),
    );
    for failure in FAILURES {
        for world in World::ALL {
            check(world, &[0], failure, 1);
        }
        check(World::Tokio, &[0], failure, 3);
        check(World::Tokio, &[30], failure, 1);
        check(World::Blocking, &[30], failure, 3);
        check(World::Smol, &[59], failure, 1);
        check(World::Tokio, &[59], failure, 3);
        check(World::Tokio, &several, failure, 1);
        check(World::AsyncStd, &several, failure, 3);
    }
    check(World::Tokio, &every_second, Failure::Close, 1);
    check(World::Blocking, &every_second, Failure::CloseWithin, 2);
    check(World::Smol, &every_second, Failure::ServerError, 1);
}

#[test]
fn r8_many_images_in_a_row_that_cannot_be_sent_keep_no_other_from_coming() {
    // More than the engine tries in a row.
    let images = images(300);
    for (world, connections) in [(World::Tokio, 1), (World::Blocking, 3)] {
        let bad: Vec<u64> = images[20..150].iter().map(|image| image.id).collect();
        let stub = failing(&images, bad.clone(), Failure::Close);
        let mut job = Job::of(stub.address).accelerated(200);
        job.connections = connections;
        let totals = job.run_ok(world);
        job.assert_files(images.iter().filter(|image| !bad.contains(&image.id)));
        assert_eq!(totals.unfetched.images, 130, "{}", job.log);
    }
}

#[test]
fn r6_images_that_the_server_reports_as_unreadable_cost_little_time_each() {
    let images = images(300);
    let bad: Vec<u64> = images[100..200].iter().map(|image| image.id).collect();
    let stub = failing(&images, bad.clone(), Failure::ServerError);
    let job = Job::of(stub.address).accelerated(100);
    let totals = job.run_ok(World::Tokio);
    job.assert_files(images.iter().filter(|image| !bad.contains(&image.id)));
    assert_eq!(totals.unfetched.images, 100, "{}", job.log);
    // A folder without permission, for example. Each image is requested twice at most after the first ones.
    let pauses = job.log.pauses();
    assert!(pauses < Duration::from_secs(15), "{pauses:?}: {}", job.log);
}

#[test]
fn r6_images_that_a_server_cannot_read_for_a_while_are_waited_for_as_long_as_the_retries_last() {
    let images = images(5);
    for (retries, failures, unfetched) in [(8, 10, 0), (3, 100, 5)] {
        let left = AtomicUsize::new(failures);
        let stub = Stub::sending(&images, move |connection, image| {
            let is_down = |left: usize| left.checked_sub(1);
            if left.fetch_update(SeqCst, SeqCst, is_down).is_err() {
                return connection.send_image(image, false);
            }
            connection.send(error(SERVER_ERROR, "no answer"));
            false
        });
        let mut job = Job::of(stub.address).accelerated(100);
        job.retries = retries;
        let totals = job.run_ok(World::Tokio);
        assert_eq!(totals.unfetched.images, unfetched, "{}", job.log);
    }
}
