//! Cancelling a sync, and dropping its future, at any moment.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jtp_driver::ShutdownSignal;
use jtp_kit::Stopwatch;
use jtp_sync::Error;

use super::job::{Action, Job, Running};
use super::log::Event;
use super::world::World;
use crate::support::bytes::*;
use crate::support::process::wait_until;
use crate::support::stub::{Request, Stub, images, response_of};

/// Where the test cancels: the stub has reached this point, and sends nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Point {
    Connected,
    ListBegun,
    ImageBegun,
    ImagesComplete,
    Watching,
}

/// A server that gives a signal when it has fallen silent.
fn silent_server(images: &[TestImage], point: Point) -> (Stub, ShutdownSignal) {
    let images = images.to_vec();
    let reached = ShutdownSignal::new();
    let signal = reached.clone();
    let stub = Stub::new(move |connection| {
        if point == Point::Connected {
            signal.begin();
            return connection.await_end();
        }
        while let Some(request) = connection.request() {
            match (&request, point) {
                (Request::List, Point::ListBegun) => {
                    connection.send(&list_of(&images)[..50]);
                }
                (Request::List, _) => {
                    connection.answer(&images, &request);
                    continue;
                }
                (Request::Watch, _) => {}
                (_, Point::ImageBegun) => {
                    let (head, selected) = response_of(&images, &request);
                    let packets = joined(selected.iter().map(|image| image.packet()));
                    connection.send([&head, &packets[..packets.len() - 20]].concat());
                }
                (_, Point::ImagesComplete) => {
                    let (head, selected) = response_of(&images, &request);
                    let some = &selected[..selected.len() - 1];
                    let packets = joined(some.iter().map(|image| image.packet()));
                    connection.send([head, packets].concat());
                }
                _ => {
                    connection.answer(&images, &request);
                    continue;
                }
            }
            signal.begin();
            return connection.await_end();
        }
    });
    (stub, reached)
}

/// Cancels a sync, which has to end soon.
#[track_caller]
fn cancel(running: Running, what: &str) {
    let (error, elapsed) = running.cancel();
    assert!(matches!(error, Error::Cancelled), "{what}: {error:?}");
    assert!(elapsed < Duration::from_secs(1), "{what}: {elapsed:?}");
}

#[test]
fn cancel_from_another_thread_ends_the_run_within_a_second_against_a_silent_server() {
    let images = images(30);
    for point in [
        Point::Connected,
        Point::ListBegun,
        Point::ImageBegun,
        Point::ImagesComplete,
    ] {
        for (world, connections) in World::ALL.into_iter().zip([1, 3, 1, 3]) {
            let (stub, reached) = silent_server(&images, point);
            let mut job = Job::of(stub.address);
            job.connections = connections;
            let running = job.begin(world, &[Action::Run]);
            jtp_blocking::runtime::block_on(reached.wait());
            cancel(running, &format!("{world:?}, {point:?}"));
            job.assert_only(&images);
            assert_eq!(
                job.files().len(),
                job.log.placed(),
                "what is complete stays"
            );
        }
    }
}

#[test]
fn time_limit_ends_the_run_wherever_the_server_falls_silent() {
    let images = images(20);
    for point in [
        Point::Connected,
        Point::ListBegun,
        Point::ImageBegun,
        Point::ImagesComplete,
    ] {
        for (world, connections) in World::ALL.into_iter().zip([1, 2, 3, 1]) {
            let (stub, _) = silent_server(&images, point);
            let mut job = Job::of(stub.address);
            job.connections = connections;
            job.max_time = Some(Duration::from_millis(50));
            let start = Stopwatch::start();
            let error = job.run(world).unwrap_err();
            let elapsed = start.elapsed();
            assert!(matches!(error, Error::TimeLimit), "{error:?}");
            assert!(elapsed < Duration::from_secs(2), "{point:?}: {elapsed:?}");
            job.assert_only(&images);
        }
    }
}

#[test]
fn cancel_ends_a_watch_within_a_second() {
    let images = images(10);
    for world in World::ALL {
        let (stub, reached) = silent_server(&images, Point::Watching);
        let job = Job::of(stub.address);
        let following = job.follow(world);
        jtp_blocking::runtime::block_on(reached.wait());
        job.log.await_placed(10);
        cancel(following, &format!("{world:?}"));
        job.assert_files(&images);
    }
}

#[test]
fn cancel_ends_the_pause_before_a_retry_within_a_second() {
    for world in World::ALL {
        let stub = Stub::new(|connection| {
            connection.request();
            connection.send(error(RATE_LIMITED, "later"));
        });
        let mut job = Job::of(stub.address);
        job.retries = 20;
        let running = job.begin(world, &[Action::Run]);
        // The second pause takes 2 s.
        job.log
            .wait_for(2, "retries", |event| matches!(event, Event::Retrying(..)));
        cancel(running, &format!("{world:?}"));
    }
}

#[test]
fn cancel_at_each_event_leaves_only_complete_images_and_the_next_run_fetches_the_rest() {
    let images = images(12);
    for (world, connections) in [(World::Tokio, 1), (World::Blocking, 3), (World::Smol, 2)] {
        for at in 0.. {
            let stub = Stub::of(images.clone());
            let mut job = Job::of(stub.address);
            let (events, signal) = (AtomicUsize::new(0), job.cancel.clone());
            job = job.reaction(move |_| {
                if events.fetch_add(1, Ordering::SeqCst) == at {
                    signal.begin();
                }
            });
            job.connections = connections;
            let ended = job.run(world);
            job.assert_only(&images);
            let complete = job.files().len();
            assert_eq!(complete, job.log.placed(), "what is complete stays");

            let again = job.again();
            let totals = again.fetch_all(world, &images);
            let missing = u64::try_from(images.len() - complete).unwrap();
            assert_eq!(totals.fetched.images, missing, "R8 b\n{}", again.log);
            if !job.cancel.has_begun() {
                assert!(ended.is_ok(), "{ended:?}");
                break;
            }
        }
    }
}

#[test]
fn cancelled_before_it_begins_a_run_does_nothing() {
    for world in World::ALL {
        let stub = Stub::of(images(3));
        let job = Job::of(stub.address);
        job.cancel.begin();
        let ended = job.perform(world, &[Action::Run, Action::Follow]);
        let cancelled = |ended: &Option<_>| matches!(ended, Some(Err(Error::Cancelled)));
        assert!(ended.iter().all(cancelled), "{ended:?}");
        assert_eq!(stub.requests(), []);
        assert!(!job.folder.exists());
    }
}

#[test]
fn future_dropped_at_each_poll_leaves_only_complete_images_and_the_next_run_fetches_the_rest() {
    let images = images(12);
    for (world, connections) in [
        (World::Tokio, 1),
        (World::AsyncStd, 3),
        (World::Blocking, 2),
    ] {
        for polls in 0.. {
            let stub = Stub::of(images.clone());
            let mut job = Job::of(stub.address);
            job.connections = connections;
            let ended = job.perform(world, &[Action::DropRun(polls), Action::Run]);
            assert!(
                matches!(ended[1], Some(Ok(_))),
                "{polls}: {ended:?}\n{}",
                job.log
            );
            job.assert_files(&images);

            let again = job.again();
            let totals = again.run_ok(world);
            assert_eq!(totals.planned.images, 0, "R8 b: {polls}\n{}", again.log);
            if ended[0].is_some() {
                break;
            }
        }
    }
}

#[test]
fn follow_dropped_at_each_poll_leaves_only_complete_images() {
    let images = images(8);
    for world in [World::Tokio, World::Smol, World::Blocking] {
        for polls in 0..40 {
            let stub = Stub::of(images.clone());
            let job = Job::of(stub.address);
            // It may wait for events, and is then cancelled.
            let ended = job.start(world, &[Action::DropFollow(polls)]);
            while ended.recv_timeout(Duration::from_millis(1)).is_err() {
                if job.log.count(|event| matches!(event, Event::Watching)) > 0
                    && job.log.placed() == images.len()
                {
                    job.cancel.begin();
                }
            }
            job.assert_only(&images);
            job.again().fetch_all(world, &images);
        }
    }
}

#[test]
fn future_dropped_while_the_server_is_silent_closes_all_connections() {
    let images = images(30);
    for world in World::ALL {
        let (stub, reached) = silent_server(&images, Point::ImageBegun);
        let mut job = Job::of(stub.address);
        job.connections = 3;
        let dropped = job.perform(world, &[Action::DropRunAt(reached)]);
        assert!(dropped[0].is_none(), "{dropped:?}");
        wait_until("all connections are closed", || stub.open() == 0);
        job.assert_only(&images);

        let stub = Stub::of(images.clone());
        Job::new(stub.address, &job.folder).fetch_all(world, &images);
    }
}

#[test]
fn cancel_ends_the_decoding_of_an_image_that_expands_to_a_gibibyte_within_a_second() {
    let raw = vec![0; 1 << 30];
    let id = id_of(&raw);
    let data = zstd::bulk::compress(&raw, 1).unwrap();
    drop(raw);
    let length = u32::try_from(data.len()).unwrap();
    for world in [World::Tokio, World::Blocking] {
        let data = data.clone();
        let stub = Stub::answering(move |connection, request| {
            connection.send(match request {
                Request::List => [head(b"JTPL", 1), entry(ZSTD | 7, id, "a.tif", length)].concat(),
                _ => [head(b"JTPG", 1), packet(ZSTD | 7, id, &data)].concat(),
            });
        });
        let job = Job::of(stub.address);
        let running = job.begin(world, &[Action::Run]);
        let all = u64::from(length);
        job.log.wait_for(
            1,
            "bytes",
            |event| matches!(event, Event::Progress(n) if *n == all),
        );
        cancel(running, &format!("{world:?}"));
        assert!(job.files().is_empty());
    }
}
