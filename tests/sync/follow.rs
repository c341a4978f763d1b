//! Following a server: bursts of events, restarts, files that the user deletes. // N5

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jtp_core::server::ServerConfig;
use jtp_driver::ShutdownSignal;
use jtp_kit::{Folder, Stopwatch};
use jtp_sync::Error;
use jtp_tokio::store::MemoryStore;

use super::job::{Action, Job, target};
use super::log::Event;
use super::world::World;
use crate::support::TEST_TIMEOUT;
use crate::support::bytes::*;
use crate::support::process::wait_until;
use crate::support::serve::TestServer;
use crate::support::stub::{Request, Stub, images, images_from, insert};

/// A server with a catalog that the test changes, which reports only some of the new images.
struct Gallery {
    stub: Stub,
    images: Arc<Mutex<Vec<TestImage>>>,
    burst: ShutdownSignal,
}

impl Gallery {
    /// After [`Gallery::burst`], `reported` of the `new` images are sent as events.
    fn new(first: Vec<TestImage>, new: Vec<TestImage>, reported: usize) -> Gallery {
        let images = Arc::new(Mutex::new(first));
        let burst = ShutdownSignal::new();
        let (catalog, signal) = (Arc::clone(&images), burst.clone());
        let stub = Stub::answering(move |connection, request| {
            if request != Request::Watch {
                let images = catalog.lock().unwrap().clone();
                connection.answer(&images, &request);
                return;
            }
            if signal.has_begun() {
                return;
            }
            jtp_blocking::runtime::block_on(signal.wait());
            let events = new[..reported].iter();
            let events = events.flat_map(TestImage::event);
            connection.send(events.collect::<Vec<u8>>());
        });
        Gallery {
            stub,
            images,
            burst,
        }
    }

    fn burst(&self, new: &[TestImage]) {
        self.images.lock().unwrap().extend_from_slice(new);
        self.burst.begin();
    }
}

impl Drop for Gallery {
    fn drop(&mut self) {
        self.burst.begin();
    }
}

#[test]
fn n5_images_whose_events_a_server_loses_in_a_burst_come_within_seconds() {
    let first = images(3);
    let new = images_from(100, 400);
    for (world, reported) in [
        (World::Tokio, 256),
        (World::Blocking, 256),
        (World::Smol, 8),
    ] {
        let gallery = Gallery::new(first.clone(), new.clone(), reported);
        let job = Job::of(gallery.stub.address);
        let following = job.follow(world);
        job.log.await_watches(1);
        job.log.await_placed(3);
        let start = Stopwatch::start();
        gallery.burst(&new);
        job.log.await_placed(403);
        let elapsed = start.elapsed();
        assert!(elapsed < Duration::from_secs(10), "{world:?}: {elapsed:?}");
        job.assert_files(first.iter().chain(&new));
        drop(following);
    }
}

#[test]
fn n5_new_image_that_a_server_cannot_send_at_first_comes_without_a_reconnect() {
    // A server that has not found a renamed file again: the rename is no event. // N1
    let (first, new) = (images(3), images_from(100, 1).remove(0));
    for world in World::ALL {
        let (renamed, is_found) = (new.clone(), Arc::new(AtomicBool::new(false)));
        let (catalog, found) = (first.clone(), Arc::clone(&is_found));
        let stub = Stub::new(move |connection| {
            let all = [&catalog[..], std::slice::from_ref(&renamed)].concat();
            while let Some(request) = connection.request() {
                let names_new = matches!(&request, Request::Get(ids) if ids.contains(&renamed.id));
                match request {
                    Request::Watch => {
                        connection.send(renamed.event());
                    }
                    _ if names_new && !found.load(Ordering::SeqCst) => {
                        connection.send([data_head(1), error(SERVER_ERROR, "")].concat());
                        return;
                    }
                    // The LIST before the event does not have it.
                    Request::List if connection.number == 0 => {
                        connection.answer(&catalog, &request);
                    }
                    _ => {
                        connection.answer(&all, &request);
                    }
                }
            }
        });
        let job = Job::of(stub.address).accelerated(30);
        let following = job.follow(world);
        job.log.wait_for(1, "images refused", |event| {
            matches!(event, Event::Refused { .. })
        });
        is_found.store(true, Ordering::SeqCst);
        job.log.await_placed(4);
        let requests = stub.requests();
        let watches = requests.iter().filter(|r| **r == Request::Watch).count();
        assert_eq!(watches, 1, "{requests:?}");
        job.assert_files(first.iter().chain([&new]));
        drop(following);
    }
}

#[test]
fn r6_a_server_that_ends_each_watch_at_once_is_asked_less_and_less_often() {
    for world in World::ALL {
        let served = images(3);
        let stub = Stub::new(move |connection| {
            while let Some(request) = connection.request().filter(|r| *r != Request::Watch) {
                connection.answer(&served, &request);
            }
        });
        let job = Job::of(stub.address).accelerated(10);
        let following = job.follow(world);
        job.log.wait_for(
            1,
            "long pauses",
            |event| matches!(event, Event::Retrying(_, pause) if *pause >= Duration::from_secs(4)),
        );
        drop(following);
    }
}

#[test]
fn n5_files_that_the_user_deletes_come_back_at_the_next_reconcile() {
    let images = images(12);
    for world in World::ALL {
        let stub = Stub::of(images.clone());
        let job = Job::of(stub.address).accelerated(1_000);
        let following = job.begin(world, &[Action::Run, Action::Follow]);
        job.log.await_watches(1);
        job.assert_files(&images);
        job.folder.remove(&images[2].name);
        job.folder.remove(&images[9].name);
        job.log.await_placed(14);
        job.assert_files(&images);
        drop(following);
    }
}

#[test]
fn n5_files_that_the_user_changes_are_repaired_at_the_next_reconcile() {
    let images = images(6);
    let stub = Stub::of(images.clone());
    let job = Job::of(stub.address).accelerated(1_000);
    let following = job.follow(World::Tokio);
    job.log.await_placed(6);
    job.folder.write(&images[0].name, b"other bytes");
    job.folder.rename(&images[1].name, "mine.png");
    wait_until("the folder is in step again", || {
        let files = job.files();
        images.iter().all(|image| {
            files
                .iter()
                .any(|f| (&f.name, f.id) == (&image.name, image.id))
        })
    });
    drop(following);
}

#[test]
fn follow_goes_on_after_a_restart_of_the_server() {
    for world in World::ALL {
        let mut all = images(5);
        let store = |images: &[TestImage]| {
            let store = MemoryStore::new();
            insert(&store, images);
            store
        };
        // At its end it waits for clients that have not closed an idle connection.
        let config = ServerConfig::new().with_linger_timeout(Duration::from_millis(50));
        let mut server = TestServer::store(store(&all), |server| server.config(config));
        let address = server.address;
        let job = Job::of(address).accelerated(20);
        let following = job.follow(world);
        for round in 1..4 {
            job.log.await_placed(all.len());
            let watches = job.log.watches();
            drop(server);
            all.extend(images_from(100 * round, 2));
            server = TestServer::store_on(address, store(&all), |server| server.config(config));
            job.log.await_watches(watches + 1);
        }
        job.log.await_placed(all.len());
        job.assert_files(&all);
        assert!(job.log.retries() >= 1, "{}", job.log);
        drop(following);
        drop(server);
    }
}

#[test]
fn r8_five_minute_comparison_ends_if_the_folder_was_replaced() {
    let first = images(3);
    for world in World::ALL {
        let stub = Stub::of(first.clone());
        let (parent, folder) = target();
        let job = Job::new(stub.address, &folder).accelerated(200);
        let ended = job.start(world, &[Action::Run, Action::Follow]);
        job.log.await_watches(1);
        fs::rename(&folder, parent.path().join("old")).unwrap();
        fs::create_dir(&folder).unwrap();
        let ended = ended.recv_timeout(TEST_TIMEOUT).unwrap().unwrap();
        let is_replaced = matches!(ended[1], Some(Err(Error::Folder(_))));
        assert!(is_replaced, "{world:?}: {ended:?}");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }
}

#[test]
fn time_limit_bounds_run_and_watch_together() {
    let first = images(3);
    for world in World::ALL {
        let stub = Stub::of(first.clone());
        let mut job = Job::of(stub.address).accelerated(60);
        job.max_time = Some(Duration::from_secs(60));
        let ended = job.perform(world, &[Action::Run, Action::Follow]);
        assert!(matches!(ended[0], Some(Ok(_))), "{world:?}: {ended:?}");
        assert!(
            matches!(ended[1], Some(Err(Error::TimeLimit))),
            "{world:?}: {ended:?}"
        );
        job.assert_files(&first);
    }
}

#[test]
fn size_limit_bounds_run_and_watch_together() {
    let (all, world) = (images(3), World::Tokio);
    let server = TestServer::store(MemoryStore::new(), |server| server);
    insert(&server.store, &all[..2]);
    let mut job = Job::of(server.address).accelerated(50);
    let length: usize = all.iter().map(|image| image.bytes.len()).sum();
    job.max_total_size = Some(length as u64 - 1);
    let ended = job.start(world, &[Action::Run, Action::Follow]);
    job.log.await_watches(1);
    insert(&server.store, &all[2..]);
    let ended = ended.recv_timeout(TEST_TIMEOUT).unwrap().unwrap();
    let is_at_limit = matches!(ended[1], Some(Err(Error::SizeLimit { .. })));
    assert!(is_at_limit, "{ended:?}");
    job.assert_files(&all[..2]);
}
