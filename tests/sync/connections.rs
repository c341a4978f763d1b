//! Servers that admit few connections. // R6

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use jtp_core::server::ServerConfig;
use jtp_tokio::store::MemoryStore;

use super::job::Job;
use super::log::Event;
use super::world::World;
use crate::support::bytes::*;
use crate::support::process::wait_until;
use crate::support::serve::TestServer;
use crate::support::stub::{Request, Stub, images, images_for, images_from, insert};

fn memory_server(images: &[TestImage], max_per_ip: usize) -> TestServer<MemoryStore> {
    let store = MemoryStore::new();
    insert(&store, images);
    // A client keeps the connection over which it has fetched.
    let config = ServerConfig::new().with_idle_timeout(Some(Duration::from_millis(100)));
    TestServer::store(store, |server| {
        server.max_connections_per_ip(max_per_ip).config(config)
    })
}

/// What a server does with a request for all images behind a LIST.
#[derive(Debug, Clone, Copy)]
enum Second {
    Answers,
    /// It closes the connection after the LIST.
    Closes,
    /// It does not know the request.
    Refuses,
}

#[test]
fn r6_s10_first_sync_requests_catalog_and_images_at_once() {
    let images = images(20);
    for (second, requests) in [
        (Second::Answers, 2),
        (Second::Closes, 3),
        (Second::Refuses, 3),
    ] {
        for world in World::ALL {
            let served = images.clone();
            let stub = Stub::new(move |connection| {
                while let Some(request) = connection.request() {
                    match (second, &request) {
                        (Second::Closes, Request::All) if connection.number == 0 => return,
                        (Second::Refuses, Request::All) => {
                            connection.send(error(UNSUPPORTED_FEATURE, "what is 5?"));
                            return;
                        }
                        _ => connection.answer(&served, &request),
                    };
                }
            });
            let job = Job::of(stub.address);
            job.fetch_all(world, &images);
            assert_eq!(job.log.retries(), 0, "{second:?}\n{}", job.log);
            let made = stub.requests();
            assert_eq!(made[..2], [Request::List, Request::All]);
            assert_eq!(made.len(), requests, "{second:?}: {made:?}");
            // Now the folder decides what is requested.
            Job::new(stub.address, &job.folder).run_ok(world);
            assert_eq!(stub.requests()[requests..], [Request::List], "{second:?}");
        }
    }
}

#[test]
fn connections_are_made_while_the_first_list_arrives_and_later_for_each_megabyte() {
    let images = images(40);
    for world in World::ALL {
        let (served, accepted) = (images.clone(), AtomicUsize::new(0));
        let stub = Stub::new(move |connection| {
            accepted.fetch_add(1, Ordering::SeqCst);
            while let Some(request) = connection.request() {
                let is_first = request == Request::List && connection.number == 0;
                wait_until("all connections", || {
                    !is_first || accepted.load(Ordering::SeqCst) == 4
                });
                connection.answer(&served, &request);
            }
        });
        let mut job = Job::of(stub.address);
        job.connections = 4;
        job.fetch_all(world, &images);
        let more = images_from(0, 50);
        let stub = Stub::of(more.clone());
        let mut again = Job::new(stub.address, &job.folder);
        again.connections = 4;
        again.fetch_all(world, &more);
        let made = stub.accepted();
        assert_eq!(made, 1, "a LIST and a few small images need one connection");
    }
}

#[test]
fn r6_each_refused_connection_is_reported_once_and_in_order() {
    let images = images_for(4);
    for world in World::ALL {
        let served = images.clone();
        let refused = AtomicUsize::new(0);
        let stub = Stub::new(move |connection| {
            if connection.open > 1 {
                refused.fetch_add(1, Ordering::SeqCst);
                return;
            }
            while let Some(request) = connection.request() {
                if request != Request::List {
                    // Until then something is left to fetch for the other connections.
                    wait_until("three refusals", || refused.load(Ordering::SeqCst) == 3);
                }
                connection.answer(&served, &request);
            }
        });
        let mut job = Job::of(stub.address).accelerated(10);
        // While the LIST arrives, no other connection is made.
        fs::create_dir(&job.folder).unwrap();
        job.connections = 4;
        job.run_ok(world);
        job.assert_files(&images);
        let log = job.log.lock();
        let fewer = log.iter().filter_map(|event| match event {
            Event::Fewer(connections) => Some(*connections),
            _ => None,
        });
        assert_eq!(fewer.collect::<Vec<_>>(), [3, 2, 1], "{world:?}");
    }
}

#[test]
fn r6_follow_manages_with_one_connection() {
    for world in World::ALL {
        let first = images(10);
        let server = memory_server(&first, 1);
        let job = Job::of(server.address).accelerated(10);
        let following = job.follow(world);
        let mut all = first;
        for round in 0..4 {
            job.log.await_placed(all.len());
            job.log.await_watches(round + 1);
            job.assert_files(&all);
            let new = images_from(100 * (round + 1), 3);
            insert(&server.store, &new);
            all.extend(new);
        }
        let (error, _) = following.cancel();
        assert!(matches!(error, jtp_sync::Error::Cancelled), "{error:?}");
    }
}

/// The server admits one connection, then is down for a moment, and admits more after that.
#[test]
fn r6_follow_uses_a_second_connection_again_after_the_watch_was_lost() {
    for world in World::ALL {
        let first = images(5);
        let new = images_from(100, 1).remove(0);
        let all = [&first[..], std::slice::from_ref(&new)].concat();
        let (event, listed) = (new.clone(), first.clone());
        let (watches, admits) = (AtomicUsize::new(0), AtomicBool::new(false));
        let fetched_beside = Arc::new(AtomicBool::new(false));
        let beside = Arc::clone(&fetched_beside);
        let stub = Stub::new(move |connection| {
            if connection.open > 1 && !admits.load(Ordering::SeqCst) {
                return;
            }
            while let Some(request) = connection.request() {
                match request {
                    Request::List => {
                        connection.answer(&listed, &request);
                    }
                    // The first one ends because the client has to fetch.
                    Request::Watch => match watches.fetch_add(1, Ordering::SeqCst) {
                        0 => {}
                        1 => {
                            admits.store(true, Ordering::SeqCst);
                            return;
                        }
                        _ => {
                            connection.send(event.event());
                        }
                    },
                    request => {
                        beside.fetch_or(connection.open > 1, Ordering::SeqCst);
                        connection.answer(&all, &request);
                    }
                }
            }
        });
        let job = Job::of(stub.address).accelerated(10);
        let following = job.follow(world);
        let count = first.len() + 1;
        job.log.await_placed(count);
        drop(following);
        assert!(fetched_beside.load(Ordering::SeqCst), "{}", job.log);
    }
}

#[test]
fn r8_follow_lists_again_over_the_only_connection_after_a_list_over_a_second_one_was_refused() {
    for world in World::ALL {
        let old = images(1).remove(0);
        let new = TestImage::new(&old.name, images_from(100, 1).remove(0).bytes);
        let moved = TestImage::new("moved.png", old.bytes.clone());
        let (first, later) = (vec![old], vec![new, moved]);
        let all = later.clone();
        let stub = Stub::new(move |connection| match connection.number {
            // The event gives the name of an image to another one, which leaves open whether the server still has it.
            0 => {
                while let Some(request) = connection.request() {
                    connection.answer(&first, &request);
                    if request == Request::Watch {
                        connection.send(later[0].event());
                    }
                }
            }
            // Over a second connection both images come, and no LIST.
            1 | 2 => {
                if let Some(request) = connection.request() {
                    connection.answer(&later, &request);
                }
            }
            // Only one connection is admitted from now on.
            _ if connection.open > 1 => {}
            _ => {
                while let Some(request) = connection.request() {
                    connection.answer(&later, &request);
                }
            }
        });
        let job = Job::of(stub.address).accelerated(10);
        let following = job.follow(world);
        job.log.await_placed(2);
        job.log.await_watches(2);
        job.assert_files(&all);
        drop(following);
    }
}

/// How a server refuses a connection.
#[derive(Debug, Clone, Copy)]
enum Refusal {
    /// It closes the connection after it has accepted it.
    Close,
    /// It answers the first request with `RateLimited`. // S15
    RateLimited,
}

/// A server that admits three connections at a time, and each may make several requests.
fn admits_three(images: &[TestImage], refusal: Refusal) -> (Stub, Arc<AtomicBool>) {
    let images = images.to_vec();
    let refused = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&refused);
    let stub = Stub::new(move |connection| {
        if connection.open > 3 {
            flag.store(true, Ordering::SeqCst);
            if matches!(refusal, Refusal::RateLimited) && connection.request().is_some() {
                connection.send(error(RATE_LIMITED, "3 connections"));
            }
            return;
        }
        while let Some(request) = connection.request() {
            connection.answer(&images, &request);
        }
    });
    (stub, refused)
}

#[test]
fn r6_images_of_refused_connections_come_over_the_admitted_ones() {
    let images = images_for(8);
    for refusal in [Refusal::Close, Refusal::RateLimited] {
        for world in World::ALL {
            let (stub, refused) = admits_three(&images, refusal);
            let mut job = Job::of(stub.address).accelerated(10);
            fs::create_dir(&job.folder).unwrap();
            job.connections = 8;
            job.fetch_all(world, &images);
            if refused.load(Ordering::SeqCst) {
                let fewer = job.log.count(|event| matches!(event, Event::Fewer(3..=7)));
                assert!(fewer > 0, "{world:?}, {refusal:?}\n{}", job.log);
            }
        }
    }
}
