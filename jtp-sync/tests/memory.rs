//! The memory of a planner.
//!
//! `JTP_IMAGES=1000000 cargo test -p jtp-sync --test memory -- --nocapture` prints the figures for a million images.

use std::time::Instant;

use jtp_core::{FileType, ImageId};
use jtp_kit::Allocations;
use jtp_store::NamePlan;
use jtp_sync::{FetchFailure, FileKind, Inventory, Options, Outcome, Planner, Received, Step};

#[global_allocator]
static MEMORY: Allocations = Allocations::new();

const NAME_LEN: usize = 20;
const LIMIT: f64 = 100.0;

struct Meter {
    what: &'static str,
    images: usize,
    before: usize,
    begun: Instant,
}

impl Meter {
    fn start(what: &'static str, images: usize) -> Meter {
        let before = MEMORY.reset_peak();
        let begun = Instant::now();
        Meter {
            what,
            images,
            before,
            begun,
        }
    }

    /// Checks the peak, with some room for what does not depend on the number of images.
    fn check(&self, limit: f64) {
        let each = |bytes: usize| (bytes - self.before) as f64 / self.images as f64;
        let (now, peak) = (each(MEMORY.live()), each(MEMORY.peak()));
        println!(
            "{}: {:?}; {now:.1} bytes per image and its name of {NAME_LEN} bytes, at most {peak:.1}",
            self.what,
            self.begun.elapsed()
        );
        let fixed = 3_000_000.0 / self.images as f64;
        assert!(peak <= limit + fixed, "{peak}");
    }
}

fn name(n: usize) -> String {
    let name = format!("img_{n:012}.png");
    assert_eq!(name.len(), NAME_LEN);
    name
}

fn list(planner: &mut Planner, images: usize) {
    planner.begin_list();
    for n in 0..images {
        planner.entry(ImageId(n as u64), &name(n), FileType::Png, 100);
    }
    assert_eq!(planner.end_list(true).entries, images as u64);
}

/// A planner for a folder with the first of the images.
fn planner(images: usize) -> Planner {
    let mut planner = Planner::new(Options::new());
    planner.set_folder(inventory(images));
    planner
}

fn inventory(images: usize) -> Inventory {
    let mut inventory = Inventory::new();
    for n in 0..images {
        inventory.add(&name(n), FileKind::Image(ImageId(n as u64)));
    }
    inventory
}

/// Carries out all steps.
fn run(planner: &mut Planner) {
    loop {
        match planner.next_move() {
            Some(Step::Place { id, .. }) => planner.report(id, Outcome::Done),
            Some(other) => panic!("{other:?}"),
            None => match planner.next_fetch() {
                Some((id, _)) => assert_eq!(planner.fetched(id), Received::Keep),
                None => break,
            },
        }
    }
    assert!(planner.is_finished());
}

/// The only test of this file: it counts all allocations of the process.
#[test]
fn a_planner_takes_at_most_100_bytes_for_an_image_and_its_name() {
    let images: usize = std::env::var("JTP_IMAGES").map_or(50_000, |n| n.parse().unwrap());
    let meter = Meter::start("names alone", images);
    let mut names = NamePlan::new();
    for n in 0..images {
        names.add(ImageId(n as u64), &name(n), FileType::Png);
    }
    meter.check(LIMIT);
    drop(names);

    let meter = Meter::start("an empty folder", images);
    let mut planner = planner(0);
    list(&mut planner, images);
    run(&mut planner);
    assert_eq!(planner.totals().placed.images, images as u64);
    meter.check(LIMIT);
    drop(planner);

    let meter = Meter::start("a folder that has all images", images);
    let mut planner = self::planner(images);
    list(&mut planner, images);
    run(&mut planner);
    assert_eq!(planner.totals().kept.images, images as u64);
    meter.check(LIMIT);

    let meter = Meter::start("the same LIST again, in addition", images);
    list(&mut planner, images);
    run(&mut planner);
    meter.check(1.0);

    // The inventory of the scan, which is dropped when it has been compared.
    let meter = Meter::start("a later scan that finds the same, in addition", images);
    planner.set_folder(inventory(images));
    run(&mut planner);
    meter.check(50.0);
    drop(planner);

    let meter = Meter::start("one request for everything, which fails", images);
    let mut planner = self::planner(0);
    list(&mut planner, images);
    assert_eq!(planner.fetch_all().images, images as u64);
    assert_eq!(planner.have().count(), 0);
    planner.requests_ended(FetchFailure::Interrupted);
    assert_eq!(planner.wanted().images, images as u64);
    assert_eq!(planner.fetch_all().images, images as u64);
    planner.requests_ended(FetchFailure::Final);
    while planner.next_move().is_some() {}
    assert!(planner.is_finished());
    meter.check(LIMIT);
    drop(planner);

    count_allocations_without_changes(images);
}

/// The folder has all images under their names, as it has each time but the first: no name is copied for that.
fn count_allocations_without_changes(images: usize) {
    let inventory = inventory(images);
    let names: Vec<String> = (0..images).map(name).collect();
    let before = MEMORY.count();
    let mut planner = Planner::new(Options::new());
    planner.begin_list();
    for (n, name) in (0..).zip(&names) {
        planner.entry(ImageId(n), name, FileType::Png, 100);
    }
    planner.set_folder(inventory);
    let _ = planner.end_list(true);
    assert!(planner.next_move().is_none() && planner.is_finished());
    assert_eq!(planner.totals().kept.images, images as u64);
    let count = MEMORY.count() - before;
    println!("allocations for {images} images that the folder has: {count}");
    assert!(count <= images / 100, "{count}");
}
