//! Runs after a run, totals, observers that panic, folders that vanish or are full.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, panic};

use jtp_sync::{Error, Fetch, Options, OutputError, SyncEvent};
use jtp_tokio::Tokio;
use jtp_tokio::store::MemoryStore;

use super::job::{Action, Job, target};
use super::log::Event;
use super::stub::{Request, Stub, images, images_from, insert, response_of};
use super::world::World;
use crate::support::TEST_TIMEOUT;
use crate::support::bytes::*;
use crate::support::files::noise;
use crate::support::serve::TestServer;

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
                    let packets: Vec<u8> = selected[..10].iter().flat_map(|i| i.packet()).collect();
                    connection.send([head, packets].concat());
                }
                connection.send(error(2, "no more"));
                return;
            }
        });
        let (_parent, folder) = target();
        let flag = Arc::clone(&is_healthy);
        let job = Job::new(stub.address, &folder).accelerated(50);
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
fn run_after_a_server_that_was_down_fetches_everything() {
    let images = images(5);
    for world in World::ALL {
        let unused = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let (_parent, folder) = target();
        let job = Job::new(unused, &folder).accelerated(50);
        let error = job.run(world).unwrap_err();
        assert!(matches!(error, Error::Client(_)), "{error:?}");
        assert!(!folder.exists(), "a wrong address leaves no folder behind");
        let stub = Stub::of(images.clone());
        let job = Job::new(stub.address, &folder);
        job.run_ok(world);
        job.assert_files(&images);
    }
}

#[test]
fn r8_second_run_does_nothing() {
    let images = images(50);
    for world in World::ALL {
        for connections in [1, 3] {
            let stub = Stub::of(images.clone());
            let (_parent, folder) = target();
            let mut job = Job::new(stub.address, &folder);
            job.connections = connections;
            let ended = job.perform(world, &[Action::Run, Action::Run]);
            let requests = stub.requests();
            let lists = requests.iter().filter(|r| **r == Request::List).count();
            assert_eq!(lists, 2, "{requests:?}");
            let totals = ended[1].as_ref().unwrap().as_ref().unwrap();
            assert_eq!((totals.kept.images, totals.planned.images), (50, 0));

            // A new one asks for the LIST, and for nothing else.
            let again = Job::new(stub.address, &folder);
            let totals = again.run_ok(world);
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
                let (_parent, folder) = target();
                fs::create_dir(&folder).unwrap();
                fs::write(folder.join(&moved.name), &moved.bytes).unwrap();
                fs::write(folder.join(&old.name), &old.bytes).unwrap();
                fs::write(folder.join("notes.txt"), b"mine").unwrap();
                let mut job = Job::new(stub.address, &folder);
                job.connections = connections;
                job.options = Options::new().with_fetch(fetch);
                let totals = job.run_ok(world);
                assert_eq!(totals.failed(), 1, "{}", job.log);
                let mut expected: Vec<_> = served.into_iter().filter(|i| i.id != broken).collect();
                expected.push(TestImage::new("notes.txt", b"mine".to_vec()));
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
    // async-std and smol abort the process, or end the thread of their executor, if a task panics.
    for world in [World::Tokio, World::Blocking] {
        for kind in [
            Kind::Listed,
            Kind::Planned,
            Kind::Started,
            Kind::Progress,
            Kind::Placed,
        ] {
            for (connections, nth) in [(1, 0), (1, 7), (3, 0), (3, 7)] {
                let stub = Stub::of(images.clone());
                let (_parent, folder) = target();
                let count = std::sync::atomic::AtomicUsize::new(0);
                let mut job = Job::new(stub.address, &folder).reaction(move |event| {
                    let is_it = is_kind(event, kind) && count.fetch_add(1, Ordering::SeqCst) == nth;
                    // Without the message of a panic.
                    if is_it {
                        panic::resume_unwind(Box::new("the observer panics"));
                    }
                });
                job.connections = connections;
                let what = format!("{world:?}, {kind:?} {nth}, {connections} connections");
                let started = job.start(world, &[Action::Run]);
                let ended = started
                    .recv_timeout(TEST_TIMEOUT / 3)
                    .unwrap_or_else(|_| panic!("no end: {what}\n{}", job.log));
                if let Ok(ended) = ended {
                    let has_failed = matches!(ended[0], Some(Err(Error::Panicked)));
                    let is_ok = matches!(ended[0], Some(Ok(_)));
                    assert!(has_failed || is_ok, "{what}: {ended:?}");
                }
                job.assert_only(&images);

                let again = Job::new(stub.address, &folder);
                again.run_ok(world);
                again.assert_files(&images);
            }
        }
    }
}

#[test]
fn observer_that_panics_at_every_event_of_an_image_ends_the_run() {
    let images = images(40);
    for world in [World::Tokio, World::Blocking] {
        for connections in [1, 3] {
            let stub = Stub::of(images.clone());
            let mut job = Job::of(stub.address).reaction(|event| {
                if is_kind(event, Kind::Progress) || is_kind(event, Kind::Placed) {
                    panic::resume_unwind(Box::new("the observer panics"));
                }
            });
            job.connections = connections;
            let started = job.start(world, &[Action::Run]);
            let ended = started
                .recv_timeout(TEST_TIMEOUT / 3)
                .unwrap_or_else(|_| panic!("no end: {world:?}, {connections}\n{}", job.log));
            if let Ok(ended) = ended {
                let has_failed = matches!(ended[0], Some(Err(Error::Panicked)));
                assert!(has_failed, "{world:?}, {connections}: {ended:?}");
            }
            job.assert_only(&images);
        }
    }
}

#[test]
fn folder_removed_while_it_is_followed_ends_that() {
    let first = images(5);
    for world in World::ALL {
        let store = MemoryStore::new();
        insert(&store, &first);
        let server = TestServer::store(store, |server| server);
        let (_parent, folder) = target();
        let job = Job::new(server.address, &folder).accelerated(20);
        let ended = job.start(world, &[Action::Follow]);
        job.log
            .wait_for(1, "watches", |event| matches!(event, Event::Watching));
        job.log.wait_for(5, "images placed", |event| {
            matches!(event, Event::Placed { .. })
        });
        fs::remove_dir_all(&folder).unwrap();
        insert(&server.store, &images_from(100, 1));
        let ended = ended.recv_timeout(TEST_TIMEOUT).unwrap().unwrap();
        assert!(matches!(ended[0], Some(Err(Error::Folder(_)))), "{ended:?}");
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

            let again = Job::new(stub.address, &folder);
            again.run_ok(world);
            again.assert_files(&images);
        }
    }
}

/// A small file system, unmounted when this is dropped. `None` without the rights to mount one.
struct SmallDisk<'a>(&'a Path);

impl SmallDisk<'_> {
    fn new(folder: &Path) -> Option<SmallDisk<'_>> {
        fs::create_dir(folder).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]);
        let mounted = mount.arg(folder).output().ok()?;
        mounted.status.success().then_some(SmallDisk(folder))
    }

    fn enlarge(&self) {
        let mut mount = Command::new("mount");
        mount.args(["-o", "remount,size=8m"]).arg(self.0);
        assert!(mount.status().unwrap().success());
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn full_disk_ends_the_run_and_the_next_one_goes_on_where_it_ended() {
    let images: Vec<TestImage> = (0..40)
        .map(|n| TestImage::new(&format!("{n}.png"), noise(20_000, n)))
        .collect();
    for world in World::ALL {
        let stub = Stub::of(images.clone());
        let (_parent, folder) = target();
        let Some(disk) = SmallDisk::new(&folder) else {
            println!("      skipped: mounting needs root");
            return;
        };
        let job = Job::new(stub.address, &folder);
        let error = job.run(world).unwrap_err();
        let is_full = matches!(error, Error::Folder(OutputError::DiskFull { .. }));
        assert!(is_full, "{error:?}\n{}", job.log);
        job.assert_only(&images);
        let complete = job.files().len();
        assert!(complete > 0, "{}", job.log);
        disk.enlarge();
        let again = Job::new(stub.address, &folder);
        let totals = again.run_ok(world);
        assert_eq!(totals.kept.images, u64::try_from(complete).unwrap());
        again.assert_files(&images);
    }
}
