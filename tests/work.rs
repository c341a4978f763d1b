//! The work of the driver and of the sync engine for each image, on one thread and without a network.
//!
//! As a test it bounds the allocations for each image. `.ci/instructions` runs it under callgrind with the name of a work
//! in `JTP_WORK`, and counts the instructions inside [`measured`].

use std::sync::Arc;

use jtp_core::client::{ClientConfig, HaveSet};
use jtp_core::{FileType, ImageId};
use jtp_driver::store::MemoryStore;
use jtp_kit::{Allocations, noise};
use jtp_sync::{FileKind, Inventory, Options, Outcome, Planner, Received, Step};
use jtp_tokio::{Client, Peer, Server};

#[global_allocator]
static MEMORY: Allocations = Allocations::new();

const IMAGES: usize = 1_000;

/// The length of an image. Some of them fit into one write.
const LENGTH: usize = 2_000;

/// Work that does the same at each call.
type Work = Box<dyn FnMut()>;

/// Prepares work with this number of images.
type Prepare = fn(usize) -> Work;

/// All work: its name, and the most allocations for each image.
const ALL: [(&str, Prepare, f64); 5] = [
    ("driver: images, served and received", images, 0.1),
    ("driver: LIST, served and received", list, 1.1),
    ("driver: BATCH of nothing, served and received", batch, 0.1),
    ("sync: images, planned and placed", place, 3.1),
    ("sync: nothing changed", unchanged, 0.1),
];

#[inline(never)]
fn measured(work: &mut Work) {
    work();
}

fn main() {
    match std::env::var("JTP_WORK") {
        Ok(name) => {
            let (_, prepare, _) = ALL.iter().find(|(known, ..)| *known == name).unwrap();
            let mut work = prepare(IMAGES);
            work();
            measured(&mut work);
        }
        Err(_) if std::env::args().any(|arg| arg == "--list") => {
            ALL.iter().for_each(|(name, ..)| println!("{name}"));
        }
        Err(_) => ALL.iter().for_each(|(name, prepare, most)| {
            let [few, many] = [IMAGES, 3 * IMAGES].map(|images| allocations(prepare(images)));
            let each = (many as f64 - few as f64) / (2 * IMAGES) as f64;
            println!("{name}: {each:.2} allocations for each image");
            assert!(
                each <= *most,
                "{name}: {each:.2} allocations for each image"
            );
        }),
    }
}

/// The allocations of a call, after a first one.
fn allocations(mut work: Work) -> usize {
    work();
    let before = MEMORY.count();
    work();
    MEMORY.count() - before
}

fn store(images: usize) -> (Arc<MemoryStore>, Vec<ImageId>) {
    let store = MemoryStore::new();
    let ids = (0..images).map(|n| {
        let bytes = noise(LENGTH, n as u64);
        let id = ImageId::of(&bytes);
        store.insert(&format!("{n:06}.png"), bytes).unwrap();
        id
    });
    let ids = ids.collect();
    (Arc::new(store), ids)
}

/// Runs requests of a client against a server, over a pipe in memory.
fn exchange(store: &Arc<MemoryStore>, requests: impl AsyncFnOnce(Client)) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().build().unwrap();
    runtime.block_on(async {
        let (ours, theirs) = tokio::io::duplex(256 * 1024);
        let server = Server::builder(Arc::clone(store)).build();
        let client = Client::from_stream(theirs, ClientConfig::new());
        let serving = server.serve_stream(ours, Peer::new(None));
        let (served, ()) = tokio::join!(serving, requests(client));
        served.unwrap();
    });
}

fn images(count: usize) -> Work {
    let (store, _) = store(count);
    Box::new(move || {
        exchange(&store, async |mut client| {
            let mut received = 0;
            let mut images = client.list_and_get();
            while let Some(image) = images.next().await.unwrap() {
                let mut image = image.undecoded().unwrap();
                while let Some(chunk) = image.chunk().await.unwrap() {
                    received += chunk.len();
                }
            }
            assert_eq!(received, count * LENGTH);
        });
    })
}

fn list(count: usize) -> Work {
    let (store, _) = store(count);
    Box::new(move || {
        exchange(&store, async |mut client| {
            let mut entries = client.entries();
            while entries.next().await.unwrap().is_some() {}
            assert_eq!(entries.received(), count as u64);
        });
    })
}

fn batch(count: usize) -> Work {
    let (store, ids) = store(count);
    let have = HaveSet::try_from(ids).unwrap();
    Box::new(move || {
        exchange(&store, async |mut client| {
            let mut images = client.batch(have.clone());
            assert!(images.next().await.unwrap().is_none());
        });
    })
}

fn names(count: usize) -> Vec<(ImageId, String)> {
    let name = |n| (ImageId(n as u64), format!("image {n:06}.png"));
    (0..count).map(name).collect()
}

fn plan(planner: &mut Planner, names: &[(ImageId, String)]) {
    planner.begin_list();
    for (id, name) in names {
        planner.entry(*id, name, FileType::Png, 100);
    }
    assert_eq!(planner.end_list(true).entries, names.len() as u64);
}

fn place(count: usize) -> Work {
    let names = names(count);
    Box::new(move || {
        let mut planner = Planner::new(Options::new());
        planner.set_folder(Inventory::new());
        plan(&mut planner, &names);
        planner.fetch_all();
        for (id, _) in &names {
            assert_eq!(planner.fetched(*id), Received::Keep);
            while let Some(step) = planner.next_move() {
                assert!(matches!(step, Step::Place { .. }));
                planner.report(*id, Outcome::Done);
            }
        }
        assert_eq!(planner.totals().placed.images, names.len() as u64);
    })
}

fn unchanged(count: usize) -> Work {
    let names = names(count);
    Box::new(move || {
        let mut inventory = Inventory::new();
        for (id, name) in &names {
            inventory.add(name, FileKind::Image(*id));
        }
        let mut planner = Planner::new(Options::new());
        planner.set_folder(inventory);
        plan(&mut planner, &names);
        assert!(planner.next_move().is_none());
        assert_eq!(planner.totals().kept.images, names.len() as u64);
    })
}
