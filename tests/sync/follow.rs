//! Following a server: bursts of events, restarts, files that the user deletes. // N5

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jtp_core::server::ServerConfig;
use jtp_driver::ShutdownSignal;
use jtp_kit::Stopwatch;
use jtp_sync::Error;
use jtp_tokio::store::MemoryStore;

use super::job::{Action, Job, target};
use super::log::Event;
use super::stub::{Request, Stub, images, images_from, insert};
use super::world::World;
use crate::support::TEST_TIMEOUT;
use crate::support::bytes::*;
use crate::support::process::wait_until;
use crate::support::serve::TestServer;

fn is_placed(event: &Event) -> bool {
    matches!(event, Event::Placed { .. })
}

fn is_watching(event: &Event) -> bool {
    matches!(event, Event::Watching)
}

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
            let events = events.flat_map(|image| [&b"JTPW"[..], &image.entry()].concat());
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
        job.log.wait_for(1, "watches", is_watching);
        job.log.wait_for(3, "images placed", is_placed);
        let start = Stopwatch::start();
        gallery.burst(&new);
        job.log.wait_for(403, "images placed", is_placed);
        let elapsed = start.elapsed();
        assert!(elapsed < Duration::from_secs(10), "{world:?}: {elapsed:?}");
        job.assert_files(first.iter().chain(&new));
        drop(following);
    }
}

#[test]
fn n5_image_whose_event_a_server_loses_beside_another_one_comes_without_a_reconnect() {
    let first = images(3);
    let new = images_from(100, 2);
    for world in World::ALL {
        let gallery = Gallery::new(first.clone(), new.clone(), 1);
        let job = Job::of(gallery.stub.address).accelerated(30);
        let following = job.follow(world);
        job.log.wait_for(1, "watches", is_watching);
        gallery.burst(&new);
        job.log.wait_for(5, "images placed", is_placed);
        let requests = gallery.stub.requests();
        let watches = requests.iter().filter(|r| **r == Request::Watch).count();
        assert_eq!(watches, 1, "{requests:?}");
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
                        connection.send([&b"JTPW"[..], &renamed.entry()].concat());
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
        job.log.wait_for(4, "images placed", is_placed);
        let requests = stub.requests();
        let watches = requests.iter().filter(|r| **r == Request::Watch).count();
        assert_eq!(watches, 1, "{requests:?}");
        job.assert_files(first.iter().chain([&new]));
        drop(following);
    }
}

#[test]
fn n5_files_that_the_user_deletes_come_back_at_the_next_reconcile() {
    let images = images(12);
    for world in World::ALL {
        let stub = Stub::of(images.clone());
        let (_parent, folder) = target();
        let job = Job::new(stub.address, &folder).accelerated(1_000);
        let following = job.follow_after(world, &[Action::Run]);
        job.log.wait_for(1, "watches", is_watching);
        job.assert_files(&images);
        fs::remove_file(folder.join(&images[2].name)).unwrap();
        fs::remove_file(folder.join(&images[9].name)).unwrap();
        job.log.wait_for(14, "images placed", is_placed);
        job.assert_files(&images);
        drop(following);
    }
}

#[test]
fn n5_files_that_the_user_changes_are_repaired_at_the_next_reconcile() {
    let images = images(6);
    let stub = Stub::of(images.clone());
    let (_parent, folder) = target();
    let job = Job::new(stub.address, &folder).accelerated(1_000);
    let following = job.follow(World::Tokio);
    job.log.wait_for(6, "images placed", is_placed);
    fs::write(folder.join(&images[0].name), b"other bytes").unwrap();
    fs::rename(folder.join(&images[1].name), folder.join("mine.png")).unwrap();
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
            job.log.wait_for(all.len(), "images placed", is_placed);
            let watches = job.log.count(is_watching);
            drop(server);
            all.extend(images_from(100 * round, 2));
            server = TestServer::store_on(address, store(&all), |server| server.config(config));
            job.log.wait_for(watches + 1, "watches", is_watching);
        }
        job.log.wait_for(all.len(), "images placed", is_placed);
        job.assert_files(&all);
        assert!(job.log.retries() >= 1, "{}", job.log);
        drop(following);
        drop(server);
    }
}

#[test]
fn follow_goes_on_after_watches_that_end_at_once() {
    // The server closes each WATCH: the LIST of each connection brings what is new.
    for world in World::ALL {
        let round = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&round);
        let stub = Stub::new(move |connection| {
            while let Some(request) = connection.request() {
                match request {
                    Request::Watch => return,
                    Request::List => {
                        let number = counter.fetch_add(1, Ordering::SeqCst);
                        connection.answer(&images(number + 1), &request);
                    }
                    _ => drop(connection.answer(&images(100), &request)),
                }
            }
        });
        let job = Job::of(stub.address).accelerated(100);
        let following = job.follow(world);
        job.log.wait_for(5, "images placed", is_placed);
        drop(following);
        assert!(job.log.retries() >= 4, "{}", job.log);
        job.assert_only(&images(100));
    }
}

#[test]
fn r8_image_that_takes_over_the_name_of_another_destroys_no_copy() {
    // a.png is renamed to b.png on the server, and another a.png appears.
    let old = TestImage::new("a.png", images(1).remove(0).bytes);
    let renamed = TestImage::new("b.png", old.bytes.clone());
    let new = TestImage::new("a.png", images(2).remove(1).bytes);
    for world in World::ALL {
        let store = MemoryStore::new();
        let id = store.insert("a.png", old.bytes.clone()).unwrap();
        let server = TestServer::store(store, |server| server);
        let (_parent, folder) = target();
        let job = Job::new(server.address, &folder).accelerated(20);
        let following = job.follow(world);
        job.log.wait_for(1, "images placed", is_placed);
        assert!(server.store.remove(id));
        server.store.insert("b.png", old.bytes.clone()).unwrap();
        server.store.insert("a.png", new.bytes.clone()).unwrap();
        wait_until("both images are in the folder", || {
            let has = |image: &TestImage| {
                job.files()
                    .iter()
                    .any(|f| (&f.name, f.id) == (&image.name, image.id))
            };
            has(&renamed) && has(&new)
        });
        drop(following);
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
        job.log.wait_for(1, "watches", is_watching);
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
    job.log.wait_for(1, "watches", is_watching);
    insert(&server.store, &all[2..]);
    let ended = ended.recv_timeout(TEST_TIMEOUT).unwrap().unwrap();
    let is_at_limit = matches!(ended[1], Some(Err(Error::SizeLimit { .. })));
    assert!(is_at_limit, "{ended:?}");
    job.assert_files(&all[..2]);
}
