//! Servers that never come to an end: each run ends in time, with what is complete in the folder. // R3 R4 T6

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use jtp_kit::Stopwatch;
use jtp_sync::{Error, Reason};

use super::job::Job;
use super::log::Event;
use super::world::World;
use crate::support::bytes::*;
use crate::support::stub::{Request, Stub, images, images_from, response_of};

/// How a server ends a response early.
#[derive(Debug, Clone, Copy)]
enum End {
    Close,
    RateLimited,
    ServerError,
}

const ENDS: [End; 3] = [End::Close, End::RateLimited, End::ServerError];

impl End {
    fn bytes(self) -> Vec<u8> {
        match self {
            End::Close => Vec::new(),
            End::RateLimited => error(RATE_LIMITED, "slow down"),
            End::ServerError => error(SERVER_ERROR, "sorry"),
        }
    }
}

#[test]
fn r6_server_that_sends_one_image_a_connection_is_asked_until_all_have_come() {
    let images = images(40);
    for end in ENDS {
        for (world, connections) in [(World::Tokio, 1), (World::Blocking, 1), (World::Smol, 3)] {
            let served = images.clone();
            let stub = Stub::new(move |connection| {
                while let Some(request) = connection.request() {
                    if request == Request::List {
                        connection.answer(&served, &request);
                        continue;
                    }
                    let (head, selected) = response_of(&served, &request);
                    connection.send(head);
                    if let Some(image) = selected.first() {
                        connection.send(image.packet());
                    }
                    if selected.len() > 1 {
                        connection.send(end.bytes());
                        return;
                    }
                }
            });
            let mut job = Job::of(stub.address).accelerated(500);
            job.connections = connections;
            job.fetch_all(world, &images);
            let lost = job.log.retries() + job.log.count(|event| matches!(event, Event::Fewer(_)));
            let made = stub.accepted();
            assert!(
                made <= lost + 5 * connections,
                "{made} connections, {lost} losses"
            );
        }
    }
}

#[test]
fn server_that_sends_one_unlisted_image_a_connection_is_given_up() {
    let listed = images(5);
    for end in ENDS {
        let served = listed.clone();
        let stub = Stub::new(move |connection| {
            while let Some(request) = connection.request() {
                if request == Request::List {
                    connection.answer(&served, &request);
                    continue;
                }
                // Always another one.
                let new = images_from(1_000 + connection.number, 1);
                let header = match request {
                    Request::All => b"JTPG",
                    Request::Batch(_) => b"JTPB",
                    _ => {
                        connection.send(data_head(5));
                        connection.send(end.bytes());
                        return;
                    }
                };
                connection.send(head(header, 100));
                connection.send(new[0].packet());
                connection.send(end.bytes());
                return;
            }
        });
        let job = Job::of(stub.address).accelerated(1_000);
        let ended = job.run(World::Tokio);
        if let Ok(totals) = &ended {
            assert_eq!(totals.unfetched.images, 5, "{end:?}\n{}", job.log);
        }
        let retries = job.log.retries();
        assert!(
            (3..=200).contains(&retries),
            "{end:?}: {retries}, {ended:?}"
        );
        assert!(
            stub.accepted() <= retries + 10,
            "each loss is reported: {end:?}"
        );
        job.assert_files(&[]);
    }
}

#[test]
fn server_whose_every_list_names_another_image_that_it_does_not_send_is_given_up() {
    for world in World::ALL {
        let lists = AtomicUsize::new(0);
        let stub = Stub::answering(move |connection, request| {
            if request == Request::List {
                let number = lists.fetch_add(1, Ordering::SeqCst);
                connection.answer(&images_from(number, 1), &request);
            } else {
                connection.answer(&[], &request);
            }
        });
        let job = Job::of(stub.address).accelerated(100);
        let totals = job.run_ok(world);
        assert_eq!(totals.placed.images, 0, "{}", job.log);
        let lists = stub
            .requests()
            .iter()
            .filter(|r| **r == Request::List)
            .count();
        assert!(lists <= 7, "{lists}\n{}", job.log);
    }
}

/// Sends bytes one by one, as fast as one a second to a client whose clock runs at `rate`.
fn drip(connection: &mut crate::support::stub::Connection, bytes: &[u8], rate: u32) {
    for byte in bytes {
        if !connection.send([*byte]) || connection.has_ended_within(Duration::from_secs(1) / rate) {
            return;
        }
    }
}

const DRIP_RATE: u32 = 200;

#[test]
fn t6_image_that_comes_a_byte_a_second_is_given_up_and_all_others_come() {
    let images = images(30);
    let slow = images[10].id;
    for world in [World::Tokio, World::Blocking] {
        let stub = Stub::sending(&images, move |connection, image| {
            if image.id == slow {
                drip(connection, &image.packet(), DRIP_RATE);
                return false;
            }
            connection.send_image(image, false)
        });
        let mut job = Job::of(stub.address).accelerated(DRIP_RATE);
        job.response_timeout = Duration::from_secs(60);
        job.run_ok(world);
        job.assert_files(images.iter().filter(|image| image.id != slow));
        let refused = job.log.refused();
        assert_eq!(refused.len(), 1, "{}", job.log);
        assert_eq!((refused[0].0, refused[0].1), (slow, Reason::CannotFetch));
        assert!(refused[0].2.contains("TimedOut"), "{refused:?}");
    }
}

#[test]
fn t6_list_that_comes_a_byte_a_second_ends_the_run() {
    let images = images(200);
    for world in World::ALL {
        let served = images.clone();
        let stub = Stub::new(move |connection| {
            while connection.request().is_some() {
                drip(connection, &list_of(&served), DRIP_RATE);
            }
        });
        let mut job = Job::of(stub.address).accelerated(DRIP_RATE);
        job.response_timeout = Duration::from_secs(60);
        job.retries = 1;
        let start = Stopwatch::start();
        let ended = job.run(world);
        let clock = start.elapsed() * DRIP_RATE;
        assert!(clock < Duration::from_secs(1200), "{clock:?}: {ended:?}");
        assert!(job.log.retries() >= 1, "{}", job.log);
        job.assert_only(&images);
    }
}

/// Compressed images of `size` zeros each, which differ in their first byte.
fn bombs(count: u8, size: usize) -> Vec<(u64, Vec<u8>)> {
    (1..=count)
        .map(|n| {
            let mut raw = vec![0; size];
            raw[0] = n;
            (id_of(&raw), zstd::bulk::compress(&raw, 3).unwrap())
        })
        .collect()
}

/// Serves `images`, and compressed images before and between them.
fn bomb_server(images: &[TestImage], bombs: &[(u64, Vec<u8>)]) -> Stub {
    let (images, bombs) = (images.to_vec(), Arc::new(bombs.to_vec()));
    Stub::answering(move |connection, request| match &request {
        Request::List => {
            connection.send(head(b"JTPL", images.len() + bombs.len()));
            for (n, (id, data)) in bombs.iter().enumerate() {
                let length = u32::try_from(data.len()).unwrap();
                connection.send(entry(ZSTD | 7, *id, &format!("bomb{n}.tif"), length));
            }
            for image in &images {
                connection.send(image.entry());
            }
        }
        Request::All => {
            connection.send(head(b"JTPG", images.len() + bombs.len()));
            for (id, data) in bombs.iter() {
                connection.send(packet(ZSTD | 7, *id, data));
            }
            for image in &images {
                connection.send(image.packet());
            }
        }
        _ => drop(connection.answer(&images, &request)),
    })
}

#[test]
fn compressed_images_over_the_limit_in_all_end_the_run() {
    // 1.5 KB each, 2 MiB decoded.
    let bombs = bombs(60, 2 << 20);
    let limit = 9 << 20;
    for world in World::ALL {
        let stub = bomb_server(&images(5), &bombs);
        let mut job = Job::of(stub.address);
        job.max_total_size = Some(limit);
        let error = job.run(world).unwrap_err();
        let is_limit = matches!(error, Error::SizeLimit { limit: 9_437_184 });
        assert!(is_limit, "{error:?}\n{}", job.log);
        let files = job.files();
        let stored: u64 = files.iter().map(|file| file.bytes.len() as u64).sum();
        assert!(stored <= limit, "{stored} bytes");
        let is_complete = |file: &TestImage| {
            bombs.iter().any(|bomb| bomb.0 == file.id) || images(5).contains(file)
        };
        assert!(files.iter().all(is_complete), "only complete images");
    }
}

/// A LIST that never ends.
fn endless_list(entry: impl Fn(u64) -> Vec<u8> + Send + Sync + 'static) -> Stub {
    Stub::new(move |connection| {
        connection.request();
        connection.send(head(b"JTPL", usize::try_from(u32::MAX).unwrap()));
        let mut next = 0;
        while connection.send(joined((next..next + 500).map(&entry))) {
            next += 500;
        }
    })
}

#[test]
fn r3_endless_list_ends_the_run() {
    let long = "x".repeat(5_000);
    let distinct = |id: u64| entry(0, id, &format!("{id}.png"), 5);
    let same = |_: u64| entry(0, 1, "a.png", 5);
    for (world, stub) in [
        (World::Tokio, endless_list(distinct)),
        (World::AsyncStd, endless_list(same)),
        (
            World::Blocking,
            endless_list(move |id| entry(0, id, &long, 5)),
        ),
    ] {
        let mut job = Job::of(stub.address);
        job.catalog_limits = Some((20_000, 4 << 20));
        let error = job.run(world).unwrap_err();
        assert!(matches!(error, Error::CatalogTooLarge { .. }), "{error:?}");
        assert!(
            !job.folder.exists(),
            "no folder for a server that is of no use"
        );
        job.cancel.begin();
    }
}

#[test]
fn r3_catalog_of_exactly_the_limit_is_fetched() {
    let images = images(20);
    let stub = Stub::of(images.clone());
    let mut job = Job::of(stub.address);
    job.catalog_limits = Some((20, 4 << 20));
    job.run_ok(World::Tokio);
    job.assert_files(&images);
    let mut job = job.again();
    job.catalog_limits = Some((19, 4 << 20));
    let error = job.run(World::Tokio).unwrap_err();
    assert!(matches!(error, Error::CatalogTooLarge { .. }), "{error:?}");
}

#[test]
fn r3_folders_in_the_names_of_a_list_count_for_its_memory() {
    // 5,000 entries and their names take 1 MB, their 150,000 folders 6 MB.
    let stub = Stub::new(|connection| {
        while connection.request().is_some() {
            let entries = joined((0..5_000u64).map(|id| {
                let name = format!("{id}⧸{}a.png", "f⧸".repeat(29));
                entry(0, id, &name, 5)
            }));
            connection.send([head(b"JTPL", 5_000), entries].concat());
        }
    });
    let mut job = Job::of(stub.address);
    job.catalog_limits = Some((20_000, 4 << 20));
    let error = job.run(World::Tokio).unwrap_err();
    assert!(matches!(error, Error::CatalogTooLarge { .. }), "{error:?}");
}

#[test]
fn r6_server_that_closes_each_connection_is_given_up_after_the_retries() {
    for world in World::ALL {
        let stub = Stub::new(|_| {});
        let job = Job::of(stub.address).accelerated(10);
        let start = Instant::now();
        let error = job.run(world).unwrap_err();
        let waited = start.elapsed() * 10 + Duration::from_millis(50);
        assert!(matches!(error, Error::Client(_)), "{error:?}");
        assert_eq!(job.log.retries(), 3, "{}", job.log);
        assert!(waited >= job.log.pauses(), "{waited:?}: {}", job.log);
        assert_eq!(stub.accepted(), 4);
        assert!(!job.folder.exists());
    }
}
