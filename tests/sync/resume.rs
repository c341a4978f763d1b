//! Runs after a run, totals, observers that panic, folders that vanish.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::{fs, panic};

use jtp_sync::{Error, Fetch, Options, SyncEvent};
use jtp_tokio::Tokio;

use super::job::{Action, Job, target};
use super::log::Event;
use super::world::World;
use crate::support::TEST_TIMEOUT;
use crate::support::bytes::*;
use crate::support::files::noise;
use crate::support::stub::{Request, Stub, images, images_from, response_of};

#[test]
fn futures_of_a_sync_fit_on_small_stacks() {
    // Helper threads of jtp-blocking have 256 KiB, and a build without optimisation copies futures several times.
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    let mut sync = Job::of(address).build(&Tokio::default());
    let run = size_of_val(&sync.run());
    let follow = size_of_val(&sync.follow());
    assert!(run < 8 << 10, "run: {run} bytes");
    assert!(follow < 8 << 10, "follow: {follow} bytes");
}

#[test]
fn run_after_a_run_that_failed_completes_the_folder() {
    // The server fails for good in the middle, and works again when it is asked the next time.
    let images = images(30);
    for world in World::ALL {
        let is_healthy = Arc::new(AtomicBool::new(false));
        let (served, flag) = (images.clone(), Arc::clone(&is_healthy));
        let stub = Stub::new(move |connection| {
            while let Some(request) = connection.request() {
                if request == Request::List || flag.load(Ordering::SeqCst) {
                    connection.answer(&served, &request);
                    continue;
                }
                if let Request::All = request {
                    let (head, selected) = response_of(&served, &request);
                    let packets = joined(selected[..10].iter().map(|image| image.packet()));
                    connection.send([head, packets].concat());
                }
                connection.send(error(2, "no more"));
                return;
            }
        });
        let flag = Arc::clone(&is_healthy);
        let job = Job::of(stub.address).accelerated(50);
        let job = job.reaction(move |event| {
            // The second run scans a folder with images.
            if matches!(event, SyncEvent::Scanned { files: 10.., .. }) {
                flag.store(true, Ordering::SeqCst);
            }
        });
        let ended = job.perform(world, &[Action::Run, Action::Run]);
        assert!(matches!(ended[0], Some(Err(Error::Client(_)))), "{ended:?}");
        let totals = ended[1].as_ref().unwrap().as_ref().unwrap();
        assert_eq!(
            (totals.kept.images, totals.placed.images),
            (10, 20),
            "R8 b\n{}",
            job.log
        );
        job.assert_files(&images);
    }
}

#[test]
fn r8_second_run_does_nothing() {
    let images = images(50);
    for world in World::ALL {
        for connections in [1, 3] {
            let stub = Stub::of(images.clone());
            let mut job = Job::of(stub.address);
            job.connections = connections;
            let ended = job.perform(world, &[Action::Run, Action::Run]);
            let requests = stub.requests();
            let lists = requests.iter().filter(|r| **r == Request::List).count();
            assert_eq!(lists, 2, "{requests:?}");
            let totals = ended[1].as_ref().unwrap().as_ref().unwrap();
            assert_eq!((totals.kept.images, totals.planned.images), (50, 0));

            // A new one asks for the LIST, and for nothing else.
            let totals = job.again().run_ok(world);
            assert_eq!((totals.kept.images, totals.planned.images), (50, 0));
            assert_eq!(stub.requests()[requests.len()..], [Request::List]);
        }
    }
}

#[test]
fn totals_agree_with_the_events_when_images_come_are_renamed_replaced_and_refused() {
    // `run_ok` compares them. The folder has: an image under another name, one whose name another image gets, a file of
    // the user.
    let mut listed = images(20);
    listed[3].name = "new-name.png".to_owned();
    let moved = images(20).remove(3);
    let old = TestImage::new(&listed[5].name, noise(300, 900));
    for world in World::ALL {
        for connections in [1, 3] {
            for fetch in [Fetch::Missing, Fetch::All] {
                let mut served = listed.clone();
                // Both names are wanted: the old image is still listed, under another one.
                served.push(TestImage::new("z.png", old.bytes.clone()));
                let broken = served[7].id;
                let stub = Stub::sending(&served, move |connection, image| {
                    connection.send_image(image, image.id == broken)
                });
                let notes = TestImage::new("notes.txt", b"mine".to_vec());
                let mut job = Job::of(stub.address).holding([&moved, &old, &notes]);
                job.connections = connections;
                job.options = Options::new().with_fetch(fetch);
                let totals = job.run_ok(world);
                assert_eq!(totals.failed(), 1, "{}", job.log);
                let mut expected: Vec<_> = served.into_iter().filter(|i| i.id != broken).collect();
                expected.push(notes);
                if fetch == Fetch::All {
                    // What is there under other names stays.
                    let names: Vec<_> = job.files().iter().map(|file| file.name.clone()).collect();
                    assert!(names.len() >= expected.len(), "{names:?}");
                } else {
                    job.assert_files(&expected);
                }
            }
        }
    }
}

#[test]
fn progress_never_exceeds_what_is_planned() {
    // All images arrive twice, and one that no LIST names.
    let images = images(30);
    let served = images.clone();
    let stub = Stub::answering(move |connection, request| {
        if request != Request::All {
            connection.answer(&served, &request);
            return;
        }
        let extra = images_from(500, 1);
        let all = [&served[..], &served, &extra].concat();
        connection.send(images_of(b"JTPG", &all));
    });
    let job = Job::of(stub.address).accelerated(10);
    let ended = job.run(World::Tokio);
    let mut planned = 0;
    for event in job.log.lock().iter() {
        match event {
            Event::Planned(totals) => planned = totals.planned.bytes,
            Event::Progress(bytes) => assert!(*bytes <= planned, "{bytes} of {planned}"),
            _ => {}
        }
    }
    // A client may treat the doubled images as a violation of the protocol.
    if ended.is_ok() {
        job.assert_files(&images);
    }
}

/// The kinds of events in whose observer a panic is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Listed,
    Planned,
    Started,
    Progress,
    Placed,
}

fn is_kind(event: &SyncEvent<'_>, kind: Kind) -> bool {
    match event {
        SyncEvent::Listed { .. } => kind == Kind::Listed,
        SyncEvent::Planned(_) => kind == Kind::Planned,
        SyncEvent::Started { .. } => kind == Kind::Started,
        SyncEvent::Progress { .. } => kind == Kind::Progress,
        SyncEvent::Placed { .. } => kind == Kind::Placed,
        _ => false,
    }
}

#[test]
fn observer_that_panics_ends_the_run_and_the_next_one_completes_it() {
    let images = images(40);
    // In which events it panics: the first, the eighth, or all of them.
    let kinds = [
        Kind::Listed,
        Kind::Planned,
        Kind::Started,
        Kind::Progress,
        Kind::Placed,
    ];
    let mut cases: Vec<(Vec<Kind>, Option<usize>)> =
        vec![(vec![Kind::Progress, Kind::Placed], None)];
    cases.extend(
        kinds
            .iter()
            .flat_map(|&kind| [0, 7].map(|nth| (vec![kind], Some(nth)))),
    );
    // async-std and smol abort the process, or end the thread of their executor, if a task panics.
    for world in [World::Tokio, World::Blocking] {
        for ((kinds, nth), connections) in cases.iter().flat_map(|case| [(case, 1), (case, 3)]) {
            let stub = Stub::of(images.clone());
            let (kinds, nth) = (kinds.clone(), *nth);
            let what = format!("{world:?}, {kinds:?} {nth:?}, {connections} connections");
            let count = AtomicUsize::new(0);
            let mut job = Job::of(stub.address).reaction(move |event| {
                let is_one = kinds.iter().any(|kind| is_kind(event, *kind));
                let is_due = |nth| count.fetch_add(1, Ordering::SeqCst) == nth;
                // Without the message of a panic.
                if is_one && nth.is_none_or(is_due) {
                    panic::resume_unwind(Box::new("the observer panics"));
                }
            });
            job.connections = connections;
            let started = job.start(world, &[Action::Run]);
            let ended = started
                .recv_timeout(TEST_TIMEOUT / 3)
                .unwrap_or_else(|_| panic!("no end: {what}\n{}", job.log));
            if let Ok(ended) = ended {
                let has_failed = matches!(ended[0], Some(Err(Error::Panicked)));
                let is_ok = nth.is_some() && matches!(ended[0], Some(Ok(_)));
                assert!(has_failed || is_ok, "{what}: {ended:?}");
            }
            job.assert_only(&images);

            job.again().fetch_all(world, &images);
        }
    }
}

/// The images are where nobody looks.
#[cfg(unix)]
#[test]
fn folder_moved_meanwhile_is_an_error() {
    let stub = Stub::of(images(3));
    let (parent, folder) = target();
    let (from, to) = (folder.clone(), parent.path().join("moved"));
    let job = Job::new(stub.address, &folder).reaction(move |event| {
        if matches!(event, SyncEvent::Placed { .. }) {
            let _ = fs::rename(&from, &to);
        }
    });
    let error = job.run(World::Tokio).unwrap_err();
    assert!(matches!(error, Error::Folder(_)), "{error:?}");
}

#[test]
fn folder_removed_meanwhile_ends_the_run() {
    let images = images(200);
    for world in World::ALL {
        for connections in [1, 3] {
            let stub = Stub::of(images.clone());
            let (_parent, folder) = target();
            let removed = folder.clone();
            let mut job = Job::new(stub.address, &folder).reaction(move |event| {
                if matches!(event, SyncEvent::Placed { .. }) {
                    // It fails while files are created in it, and is done at one of the next images.
                    let _ = fs::remove_dir_all(&removed);
                }
            });
            job.connections = connections;
            let error = job.run(world).unwrap_err();
            assert!(matches!(error, Error::Folder(_)), "{error:?}");

            job.again().fetch_all(world, &images);
        }
    }
}
