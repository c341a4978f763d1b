//! Several servers with one catalog, of which some fail. // R6 R8

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use jtp_driver::client;
use jtp_kit::Stopwatch;
use jtp_sync::{Error, Fetch, Options};

use super::job::Job;
use super::log::Event;
use super::world::World;
use crate::support::bytes::*;
use crate::support::process::wait_until;
use crate::support::stub::{Connection, Request, Stub, images, response_of};

/// A server that sends this many images, half of the next one, and after that closes each connection at once.
fn mortal(served: &[TestImage], images: usize) -> Stub {
    let (served, left) = (served.to_vec(), AtomicUsize::new(images));
    let is_dead = AtomicBool::new(false);
    Stub::new(move |connection| {
        while let Some(request) = connection.request() {
            if is_dead.load(Ordering::SeqCst) {
                return;
            }
            if matches!(request, Request::List | Request::Watch) {
                connection.answer(&served, &request);
                continue;
            }
            let (head, selected) = response_of(&served, &request);
            connection.send(head);
            for image in selected {
                let packet = image.packet();
                let take = |left: usize| left.checked_sub(1);
                if left
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
                    .is_err()
                {
                    is_dead.store(true, Ordering::SeqCst);
                    connection.send(&packet[..packet.len() / 2]);
                    return;
                }
                connection.send(packet);
            }
        }
    })
}

fn unused_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn changes(job: &Job) -> Vec<(String, String)> {
    let change = |event: &Event| match event {
        Event::ServerChanged { failed, address } => Some((failed.clone(), address.clone())),
        _ => None,
    };
    job.log.lock().iter().filter_map(change).collect()
}

/// How often each image began to arrive.
fn starts(job: &Job) -> BTreeMap<u64, usize> {
    let mut starts = BTreeMap::new();
    for event in job.log.lock().iter() {
        if let Event::Started(id) = event {
            *starts.entry(*id).or_default() += 1;
        }
    }
    starts
}

#[test]
fn r6_next_server_goes_on_where_the_last_one_broke_off() {
    let images = images(90);
    for world in World::ALL {
        for fetch in [Fetch::Missing, Fetch::All] {
            for connections in [1, 3] {
                let stubs = [
                    mortal(&images, 30),
                    mortal(&images, 25),
                    Stub::of(images.clone()),
                ];
                let mut job = Job::of(stubs[0].address);
                job.replicas = vec![stubs[1].address, stubs[2].address];
                job.connections = connections;
                job.options = Options::new().with_fetch(fetch);
                let totals = job.fetch_all(world, &images);
                assert_eq!(totals.placed.images, 90, "{}", job.log);
                // No pause: another server was left each time.
                assert_eq!(job.log.retries(), 0, "{}", job.log);
                let expected = [&stubs[1], &stubs[2]].map(|stub| stub.address.to_string());
                let addresses: Vec<_> = changes(&job).into_iter().map(|change| change.1).collect();
                assert_eq!(addresses, expected, "{}", job.log);
                // Only images under way are sent again: one for each connection that was lost.
                let again: usize = starts(&job).values().map(|count| count - 1).sum();
                assert!(again <= 2 * connections, "{again}: {:?}", starts(&job));
                if connections == 1 {
                    let batch = |r: &Request| matches!(r, Request::Batch(have) if have.len() >= 30);
                    assert!(
                        stubs[1].requests().iter().any(batch),
                        "{:?}",
                        stubs[1].requests()
                    );
                }
            }
        }
    }
}

/// How a server fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    ConnectionRefused,
    ClosesAtOnce,
    ClosesInTheCatalog,
    IsSilent,
    IsNoServer,
    IsRateLimited,
    HasAnError,
    RequiresTls,
    KnowsNoList,
}

impl Failure {
    const ALL: [Failure; 9] = [
        Failure::ConnectionRefused,
        Failure::ClosesAtOnce,
        Failure::ClosesInTheCatalog,
        Failure::IsSilent,
        Failure::IsNoServer,
        Failure::IsRateLimited,
        Failure::HasAnError,
        Failure::RequiresTls,
        Failure::KnowsNoList,
    ];

    fn is_permanent(self) -> bool {
        matches!(
            self,
            Failure::IsNoServer | Failure::RequiresTls | Failure::KnowsNoList
        )
    }

    fn serve(self, connection: &mut Connection, images: &[TestImage]) {
        if connection.request().is_none() {
            return;
        }
        let list = list_of(images);
        match self {
            Failure::ConnectionRefused | Failure::ClosesAtOnce => true,
            Failure::ClosesInTheCatalog => connection.send(&list[..list.len() / 2]),
            Failure::IsSilent => {
                connection.await_end();
                true
            }
            Failure::IsNoServer => connection.send("HTTP/1.1 400 Bad Request\r\n\r\n"),
            Failure::IsRateLimited => connection.send(error(5, "slower")),
            Failure::HasAnError => connection.send(error(3, "the disk is gone")),
            Failure::RequiresTls => connection.send([0x15, 3, 3, 0, 2, 2, 70]),
            Failure::KnowsNoList => connection.send(error(4, "no list")),
        };
    }

    fn stub(self, images: &[TestImage]) -> (SocketAddr, Option<Stub>) {
        if self == Failure::ConnectionRefused {
            return (unused_address(), None);
        }
        let images = images.to_vec();
        let stub = Stub::new(move |connection| self.serve(connection, &images));
        (stub.address, Some(stub))
    }
}

#[test]
fn r6_each_way_to_fail_at_the_start_leads_to_the_next_server_without_a_pause() {
    let images = images(10);
    for (index, failure) in Failure::ALL.into_iter().enumerate() {
        let world = World::ALL[index % 4];
        let (address, _stub) = failure.stub(&images);
        let good = Stub::of(images.clone());
        let mut job = Job::of(address);
        if failure == Failure::IsSilent {
            job.response_timeout /= 100;
        }
        job.replicas = vec![good.address];
        let totals = job.fetch_all(world, &images);
        assert_eq!(totals.placed.images, 10, "{failure:?}");
        assert_eq!(job.log.retries(), 0, "{failure:?}: {}", job.log);
        let changes = changes(&job);
        assert_eq!(changes.len(), 1, "{failure:?}: {changes:?}");
        assert!(
            changes[0].0.starts_with(&address.to_string()),
            "{changes:?}"
        );
    }
}

#[test]
fn r6_a_round_over_all_servers_is_one_attempt() {
    let images = images(10);
    for (world, failure) in World::ALL.into_iter().zip([
        Failure::ClosesAtOnce,
        Failure::IsRateLimited,
        Failure::HasAnError,
        Failure::ClosesAtOnce,
    ]) {
        let servers = [0; 3].map(|_| failure.stub(&images));
        let mut job = Job::of(servers[0].0).accelerated(50);
        job.replicas = vec![servers[1].0, servers[2].0];
        job.retries = 2;
        let error = job.run(world).unwrap_err();
        let Error::Client(client::Error::Replicas(errors)) = &error else {
            panic!("{failure:?}: {error:?}");
        };
        let named: Vec<_> = errors
            .iter()
            .map(|error| error.address().to_owned())
            .collect();
        assert_eq!(named, servers.each_ref().map(|server| server.0.to_string()));
        let accepted = servers
            .each_ref()
            .map(|server| server.1.as_ref().unwrap().accepted());
        assert_eq!(accepted, [3; 3], "{failure:?}");
        assert_eq!(job.log.retries(), 2, "{}", job.log);
    }
}

#[test]
fn r6_servers_that_all_fail_for_good_are_asked_once() {
    let images = images(10);
    for failure in Failure::ALL
        .into_iter()
        .filter(|failure| failure.is_permanent())
    {
        let servers = [0; 2].map(|_| failure.stub(&images));
        let mut job = Job::of(servers[0].0);
        job.replicas = vec![servers[1].0];
        let error = job.run(World::Tokio).unwrap_err();
        assert!(
            matches!(&error, Error::Client(client::Error::Replicas(errors)) if errors.len() == 2),
            "{error:?}"
        );
        let accepted = servers
            .each_ref()
            .map(|server| server.1.as_ref().unwrap().accepted());
        assert_eq!(accepted, [1; 2], "{failure:?}");
        assert!(!job.folder.exists());
    }
}

#[test]
fn r6_a_server_that_fails_for_good_does_not_end_a_run_that_another_one_repairs() {
    // The first round finds a server that violates the protocol and one that is not up yet.
    let images = images(10);
    for world in World::ALL {
        let (bad, _stub) = Failure::IsNoServer.stub(&images);
        let served = images.clone();
        let late = Stub::new(move |connection| {
            while let Some(request) = connection.request() {
                if connection.number > 0 {
                    connection.answer(&served, &request);
                } else {
                    return;
                }
            }
        });
        let mut job = Job::of(bad).accelerated(50);
        job.replicas = vec![late.address];
        job.run_ok(world);
        job.assert_files(&images);
        assert_eq!(job.log.retries(), 1, "{}", job.log);
    }
}

#[test]
fn r8_images_that_the_next_server_lacks_are_gone_and_what_has_arrived_stays() {
    let images = images(40);
    for world in World::ALL {
        for connections in [1, 3] {
            // Of the first ten, some have arrived; the last ones have not.
            let behind: Vec<_> = images[5..35].to_vec();
            let first = mortal(&images, 10);
            let second = Stub::of(behind.clone());
            let mut job = Job::of(first.address).accelerated(20);
            job.replicas = vec![second.address];
            job.connections = connections;
            let totals = job.run_ok(world);
            assert_eq!(totals.failed(), 0, "{}", job.log);
            job.assert_only(&images);
            let files = job.files();
            for image in &behind {
                assert!(files.iter().any(|file| file.id == image.id), "{}", job.log);
            }
            let placed = job.log.placed();
            assert_eq!(
                files.len(),
                placed,
                "nothing that came is lost\n{}",
                job.log
            );
        }
    }
}

#[test]
fn r8_each_server_sends_the_names_of_its_own_catalog() {
    // The second one has other names for the same images: its LIST decides.
    let images = images(20);
    let mut renamed = images.clone();
    for image in &mut renamed {
        image.name = format!("new-{}", image.name);
    }
    for world in World::ALL {
        let first = mortal(&images, 10);
        let second = Stub::of(renamed.clone());
        let mut job = Job::of(first.address).accelerated(20);
        job.replicas = vec![second.address];
        job.run_ok(world);
        let starts = starts(&job);
        assert_eq!(starts.len(), 20);
        assert!(starts.values().sum::<usize>() <= 21, "{starts:?}");
        job.assert_files(&renamed);
    }
}

#[test]
fn r8_list_of_the_next_server_is_requested_without_a_pause() {
    // The LISTs that a server's own faults lead to take a twentieth of the time: there would be a pause of 10 s here.
    let images = images(20);
    let served = images.clone();
    let first = Stub::new(move |connection| {
        if connection.request() == Some(Request::List) {
            thread::sleep(Duration::from_millis(500));
            connection.answer(&served, &Request::List);
            // It answers no request for images.
            connection.request();
        }
    });
    let second = Stub::of(images.clone());
    let mut job = Job::of(first.address);
    job.replicas = vec![second.address];
    let start = Stopwatch::start();
    job.run_ok(World::Tokio);
    assert!(start.elapsed() < Duration::from_secs(8), "{}", job.log);
    job.assert_files(&images);
}

#[test]
fn image_that_one_server_cannot_send_comes_from_another() {
    // The first closes the connection in its place each time.
    let images = images(20);
    for world in World::ALL {
        for connections in [1, 3] {
            let missing = images[7].id;
            let first = Stub::sending(&images, move |connection, image| {
                image.id != missing && connection.send_image(image, false)
            });
            let second = Stub::of(images.clone());
            let mut job = Job::of(first.address);
            job.replicas = vec![second.address];
            job.connections = connections;
            job.retries = 0;
            job.fetch_all(world, &images);
        }
    }
}

#[test]
fn r2_image_that_arrives_broken_comes_from_another_server() {
    let images = images(20);
    for world in World::ALL {
        for connections in [1, 3] {
            // Each has another broken image.
            let stubs = [3, 12].map(|broken| {
                let mut served = images.clone();
                served[broken].bytes[0] ^= 1;
                Stub::of(served)
            });
            let mut job = Job::of(stubs[0].address).accelerated(20);
            job.replicas = vec![stubs[1].address];
            job.connections = connections;
            let totals = job.fetch_all(world, &images);
            assert_eq!(totals.placed.images, 20, "{}", job.log);
            let changes = changes(&job);
            let id = jtp_core::ImageId(images[3].id).to_string();
            let first = stubs[0].address;
            let expected = format!("{first}: the image {id} arrived broken");
            assert!(
                changes.iter().any(|change| change.0 == expected),
                "{changes:?}"
            );
            assert_eq!(job.log.retries(), 0, "{}", job.log);
        }
    }
}

#[test]
fn r2_image_that_each_server_sends_broken_fails_and_all_others_come() {
    let images = images(20);
    for world in World::ALL {
        let stubs = [(); 2].map(|()| {
            let mut served = images.clone();
            served[3].bytes[0] ^= 1;
            Stub::of(served)
        });
        let mut job = Job::of(stubs[0].address).accelerated(20);
        job.replicas = vec![stubs[1].address];
        let totals = job.run_ok(world);
        assert_eq!(
            (totals.placed.images, totals.failed()),
            (19, 1),
            "{}",
            job.log
        );
        // From each server, and once more.
        assert_eq!(starts(&job)[&images[3].id], 3, "{}", job.log);
    }
}

#[test]
fn n5_follow_watches_the_server_that_it_fetches_from() {
    // The first one lists and watches, and does not send images: they are fetched from the second, which is watched then.
    let images = images(10);
    for world in World::ALL {
        let served = images.clone();
        let first = Stub::new(move |connection| {
            while let Some(request) = connection.request() {
                match request {
                    Request::List | Request::Watch => connection.answer(&served, &request),
                    _ => return,
                };
            }
        });
        let second = Stub::of(images.clone());
        let mut job = Job::of(first.address).accelerated(20);
        job.replicas = vec![second.address];
        let following = job.follow(world);
        wait_until("the second is watched", || {
            second.requests().contains(&Request::Watch)
        });
        wait_until("all are placed", || job.files().len() == 10);
        job.assert_files(&images);
        wait_until("the first has no connection", || first.open() == 0);
        drop(following);
    }
}

#[test]
fn dry_run_and_check_go_on_with_the_next_server() {
    use super::job::Action;
    let images = images(10);
    for world in World::ALL {
        let (address, _stub) = Failure::ClosesInTheCatalog.stub(&images);
        let good = Stub::of(images.clone());
        let mut job = Job::of(address);
        job.replicas = vec![good.address];
        for ended in job.perform(world, &[Action::DryRun, Action::Check]) {
            ended.unwrap().unwrap();
        }
        let missing = job.log.count(|event| matches!(event, Event::Difference(_)));
        assert_eq!(missing, 10, "{}", job.log);
        // Each begins with the server that the last one ended with.
        assert_eq!(changes(&job).len(), 1, "{}", job.log);
    }
}
