//! Many changes at once: the catalog becomes correct in few snapshots, and watchers miss nothing (N1, N2).
#![cfg(target_os = "linux")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::*;
use jtp_core::server::{ServerConfig, ServerConnection};
use jtp_core::{ImageId, Time};
use jtp_driver::store::ImageStore;
use jtp_store::{DirStore, Follow};

/// Held by each test, since they measure time.
static ALONE: Mutex<()> = Mutex::new(());

/// The limit for 10,000 files on a busy machine. An idle one needs less than 2 s.
const SOON: Duration = Duration::from_secs(10);

fn scanning(folder: &Path) -> Arc<DirStore> {
    let interval = Follow::Interval(Duration::from_millis(100));
    build(DirStore::builder(folder).follow(interval))
}

/// A client that watches and records the announced images: a server's connection without a socket.
struct Watcher<'a> {
    store: &'a DirStore,
    connection: ServerConnection,
    announced: Vec<ImageId>,
}

impl Watcher<'_> {
    fn new(store: &DirStore) -> Watcher<'_> {
        let mut connection = ServerConnection::new(ServerConfig::new(), Time::ZERO);
        let received = connection.receive(&[4, 0], Time::ZERO);
        assert!(received.event.is_some());
        let snapshot = store.catalog().snapshot();
        connection.accept(&snapshot, Time::ZERO).unwrap();
        Watcher {
            store,
            connection,
            announced: Vec::new(),
        }
    }

    /// Watches until the catalog passes `wanted`.
    #[track_caller]
    fn until(&mut self, wanted: impl Fn(&jtp_core::Catalog) -> bool) -> Duration {
        let begun = Instant::now();
        let mut changes = self.store.catalog().subscribe_since(0);
        loop {
            let catalog = changes.wait_timeout(PATIENCE.saturating_sub(begun.elapsed()));
            let catalog = catalog.expect("timed out");
            self.connection.catalog_changed(&catalog, Time::ZERO);
            self.receive();
            if wanted(&catalog) {
                return begun.elapsed();
            }
        }
    }

    fn receive(&mut self) {
        loop {
            let mut frames = self.connection.transmit().bytes;
            let length = frames.len();
            if length == 0 {
                assert!(self.connection.is_watching());
                return;
            }
            while let Some(rest) = frames.strip_prefix(b"JTPW") {
                let id = *rest.first_chunk::<8>().unwrap();
                self.announced.push(ImageId::from_be_bytes(id));
                let name = usize::from(u16::from_be_bytes([rest[9], rest[10]]));
                let size = &rest[11 + name..];
                let size_len = size.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
                frames = &size[size_len..];
            }
            assert!(frames.is_empty());
            self.connection.transmitted(length, Time::ZERO).unwrap();
        }
    }
}

fn add_10_000_files_and_remove_most(folder: &Path, store: &DirStore) {
    let mut watcher = Watcher::new(store);
    let before = store.catalog().snapshot().generation();
    let begun = Instant::now();
    let ids: BTreeSet<ImageId> = (0..10_000)
        .map(|n| write(folder, &format!("{n:05}.png"), format!("image {n}")))
        .collect();
    let took = watcher.until(|catalog| catalog.len() == 10_000);
    assert!(took < SOON, "{took:?}");
    // N1: each once, in the order of entering.
    assert_eq!(watcher.announced.len(), 10_000);
    assert_eq!(
        watcher.announced.iter().copied().collect::<BTreeSet<_>>(),
        ids
    );
    let snapshots = store.catalog().snapshot().generation() - before;
    // One for each 250 ms in which files were written, however slow the machine is.
    let allowed = 10 + begun.elapsed().as_millis() as u64 / 250;
    assert!(snapshots < allowed, "{snapshots} snapshots of {allowed}");
    // All but 100 are removed.
    for n in 100..10_000 {
        folder.remove(format!("{n:05}.png"));
    }
    let took = watcher.until(|catalog| catalog.len() == 100);
    assert!(took < SOON, "{took:?}");
    assert_eq!(watcher.announced.len(), 10_000);
}

#[test]
fn n1_ten_thousand_added_files_are_each_announced_once_by_events() {
    let _alone = ALONE.lock();
    let folder = temp();
    let store = open_store(&folder);
    add_10_000_files_and_remove_most(&folder, &store);
}

#[test]
fn n1_ten_thousand_added_files_are_each_announced_once_by_scans() {
    let _alone = ALONE.lock();
    let folder = temp();
    let store = scanning(&folder);
    add_10_000_files_and_remove_most(&folder, &store);
}

#[test]
fn n1_ten_thousand_files_renamed_into_the_folder_are_each_announced_once() {
    let _alone = ALONE.lock();
    let parent = temp();
    let (stage, images) = (parent.join("stage"), parent.join("images"));
    fs::create_dir(&stage).unwrap();
    fs::create_dir(&images).unwrap();
    for n in 0..10_000 {
        write(&stage, &format!("{n:05}.png"), format!("image {n}"));
    }
    let store = open_store(&images);
    let mut watcher = Watcher::new(&store);
    for n in 0..10_000 {
        let name = format!("{n:05}.png");
        fs::rename(stage.join(&name), images.join(&name)).unwrap();
    }
    assert!(watcher.until(|catalog| catalog.len() == 10_000) < SOON);
    assert_eq!(watcher.announced.len(), 10_000);
}

#[test]
fn n1_a_folder_replaced_by_rename_announces_its_new_images() {
    let _alone = ALONE.lock();
    let parent = temp();
    let path = |name: &str| parent.join(name);
    for (folder, range) in [("images", 0..2000), ("next", 1000..3000)] {
        fs::create_dir(path(folder)).unwrap();
        for n in range {
            write(&path(folder), &format!("{n}.png"), format!("image {n}"));
        }
    }
    let store = open_store(&path("images"));
    let mut watcher = Watcher::new(&store);
    fs::rename(path("images"), path("old")).unwrap();
    fs::rename(path("next"), path("images")).unwrap();
    let last = ImageId::of(b"image 2999");
    watcher.until(|catalog| catalog.contains(last) && catalog.len() == 2000);
    let announced: BTreeSet<_> = watcher.announced.iter().copied().collect();
    for n in 2000..3000 {
        assert!(
            announced.contains(&ImageId::of(format!("image {n}").as_bytes())),
            "{n}"
        );
    }
    // Back again, like a symlink that is switched between two folders.
    fs::rename(path("images"), path("next")).unwrap();
    fs::rename(path("old"), path("images")).unwrap();
    let first = ImageId::of(b"image 0");
    watcher.until(|catalog| catalog.contains(first) && catalog.len() == 2000);
    let later = write(&path("images"), "later.png", b"later");
    watcher.until(|catalog| catalog.contains(later));
    assert_eq!(watcher.announced.last(), Some(&later));
}

#[test]
fn files_rewritten_in_place_repeatedly_are_never_served_with_wrong_bytes() {
    let _alone = ALONE.lock();
    let folder = temp();
    let names: Vec<String> = (0..20).map(|n| format!("{n}.png")).collect();
    let version = |n: usize, name: &str| format!("version {n} of {name}").repeat(50);
    for name in &names {
        write(&folder, name, version(0, name));
    }
    let store = open_store(&folder);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1..=40 {
                for name in &names {
                    write(&folder, name, version(n, name));
                    // The pace of the writer, not a wait for a condition.
                    thread::sleep(Duration::from_millis(2));
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        let mut served = 0;
        while !done.load(Ordering::Relaxed) {
            for entry in store.catalog().snapshot().entries() {
                // A body has the listed ID, or is not completed. // S13
                if let Ok(bytes) = body(&store, entry.image()) {
                    assert_eq!(ImageId::of(&bytes), entry.id);
                    served += 1;
                }
            }
        }
        assert!(served > 0);
    });
    let last: Vec<ImageId> = names
        .iter()
        .map(|name| ImageId::of(version(40, name).as_bytes()))
        .collect();
    let took = wait_for(&store, |catalog| {
        catalog.len() == last.len() && last.iter().all(|id| catalog.contains(*id))
    });
    assert!(took < SOON, "{took:?}");
}

#[test]
fn without_inotify_instances_the_folder_is_scanned() {
    use rustix::fs::inotify::{CreateFlags, init};
    let _alone = ALONE.lock();
    // Takes all instances of this user; usually there are a few hundred at most.
    let mut instances = Vec::new();
    while let Ok(instance) = init(CreateFlags::CLOEXEC) {
        instances.push(instance);
        if instances.len() > 2000 {
            eprintln!("skipped: no limit of inotify instances here");
            return;
        }
    }
    let folder = temp();
    let store = open_store(&folder);
    let id = write(&folder, "a.png", b"a");
    assert!(wait_for(&store, |catalog| catalog.contains(id)) < Duration::from_secs(3));
    folder.remove("a.png");
    wait_for(&store, jtp_core::Catalog::is_empty);
    // Once there are instances again, one is used.
    drop(instances);
    let id = write(&folder, "b.png", b"b");
    wait_for(&store, |catalog| catalog.contains(id));
}

#[test]
fn a_folder_without_events_is_followed_by_scans() {
    // Like a network folder: only names and times show that others wrote to it.
    let _alone = ALONE.lock();
    let folder = temp();
    let store = scanning(&folder);
    let mut watcher = Watcher::new(&store);
    for n in 0..50 {
        write(&folder, &format!("{n}.png"), format!("image {n}"));
    }
    watcher.until(|catalog| catalog.len() == 50);
    assert_eq!(watcher.announced.len(), 50);
    for n in 0..25 {
        folder.remove(format!("{n}.png"));
        write(&folder, &format!("{}.png", n + 25), format!("new {n}"));
    }
    let last = ImageId::of(b"new 24");
    watcher.until(|catalog| catalog.len() == 25 && catalog.contains(last));
    assert_eq!(watcher.announced.len(), 75);
}
