//! Random schedules of crashes, pauses, failures and lost answers. `JTP_SEED=N` repeats one, `JTP_SEEDS=N` runs more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jtp_core::{Catalog, FileType, ImageId};
use jtp_driver::store::ImageStore;
use jtp_kit::{Rng, bmp, for_each_seed};

use super::world::{Faults, SimStore, World, fetch, gif, names};
use crate::IndexerConfig;

const PROCESSES: usize = 3;
const STEPS: u64 = 40;
/// Schedules by default.
const SEEDS: u64 = 30;

/// What the watchers of a process were notified of.
struct Watcher {
    seen: Arc<Catalog>,
    notified: BTreeSet<ImageId>,
}

/// The folder of the variants.
const VARIANTS: &str = ".jtp/v1/variant";

/// Images with other bytes for each number. One of two has a variant.
fn image(number: u64) -> Vec<u8> {
    match number % 2 {
        0 => gif(number),
        _ => bmp(300 + usize::try_from(number).unwrap(), 1),
    }
}

struct Schedule {
    world: World,
    rng: Rng,
    watchers: BTreeMap<usize, Watcher>,
    /// The contents of the bucket.
    objects: BTreeMap<String, u64>,
    /// Names and the images that they no longer have.
    ended: BTreeSet<(String, ImageId)>,
    contents: u64,
    log: Vec<String>,
}

impl Schedule {
    fn new(seed: u64) -> Schedule {
        Schedule {
            world: World::new(seed),
            rng: Rng::new(seed ^ 0xabcd),
            watchers: BTreeMap::new(),
            objects: BTreeMap::new(),
            ended: BTreeSet::new(),
            contents: 0,
            log: Vec::new(),
        }
    }

    fn config(&mut self) -> IndexerConfig {
        IndexerConfig::default()
            .with_rescan(Duration::from_secs(1 + self.rng.below(4)))
            .with_lease_expiry(Duration::from_secs(8))
            .with_compact_after(2 + self.rng.below(4))
            .with_reads(2)
    }

    fn start(&mut self, process: usize) {
        let config = self.config();
        self.world.start(process, Some(config));
        let catalog = ImageStore::catalog(&*self.world.images[&process]);
        let seen = catalog.snapshot();
        let notified = BTreeSet::new();
        self.watchers.insert(process, Watcher { seen, notified });
    }

    fn run(&mut self, duration: Duration) {
        let World {
            executor,
            images,
            history,
            ..
        } = &mut self.world;
        executor.run_for(duration, |process| {
            let Some(images) = images.get(&process) else {
                return;
            };
            let watcher = self.watchers.get_mut(&process).unwrap();
            let now = ImageStore::catalog(&**images).snapshot();
            if now.generation() == watcher.seen.generation() {
                return;
            }
            let changes = now.changes_since(&watcher.seen);
            let names = changes.added.iter().map(|entry| (entry.name, entry.id));
            for (name, id) in names.chain(changes.renamed.iter().map(|new| (new.to, new.id))) {
                assert!(
                    history[name].contains(&id),
                    "{name} never had the image {id}"
                );
            }
            let events = now.latest().events() - watcher.seen.latest().events();
            let added = changes.added.len() as u64;
            // The first catalog of a process is no event; an image that was added and removed in one step is one.
            assert!(events >= added || watcher.seen.generation() == 0);
            for entry in &changes.removed {
                let ended = (entry.name.to_owned(), entry.id);
                assert!(
                    self.ended.contains(&ended),
                    "{} was removed in process {process}",
                    entry.name
                );
                watcher.notified.remove(&entry.id);
            }
            for entry in &changes.added {
                let is_new = watcher.notified.insert(entry.id);
                assert!(
                    is_new,
                    "process {process} was notified of {} twice",
                    entry.name
                );
            }
            drop(changes);
            watcher.seen = now;
        });
    }

    fn mutate(&mut self) {
        let key = format!("{}.gif", self.rng.below(8));
        let mut replaced = Vec::new();
        match self.rng.below(4) {
            0 => {
                replaced.push((key.clone(), self.objects.remove(&key)));
                self.world.delete(&key);
            }
            // Another name for an image, while the image keeps its own.
            1 if !self.objects.is_empty() => {
                let at = self.rng.below(self.objects.len() as u64);
                let contents = *self
                    .objects
                    .values()
                    .nth(usize::try_from(at).unwrap())
                    .unwrap();
                let copy = format!("copy{}", self.rng.below(3));
                self.world.put(&copy, &image(contents));
                replaced.push((copy.clone(), self.objects.insert(copy, contents)));
            }
            _ => {
                self.contents += 1;
                self.world.put(&key, &image(self.contents));
                replaced.push((key.clone(), self.objects.insert(key, self.contents)));
            }
        }
        for (key, contents) in replaced {
            let id = contents.map(|contents| ImageId::of(&image(contents)));
            self.ended.extend(id.map(|id| (key, id)));
        }
    }

    fn step(&mut self) {
        let process = usize::try_from(self.rng.below(PROCESSES as u64)).unwrap();
        let action = self.rng.below(14);
        self.log.push(format!(
            "{:?}: action {action}, process {process}",
            self.world.executor.clock.elapsed()
        ));
        match action {
            0..5 => self.mutate(),
            5 if self.rng.percent(50) => self.end(process),
            5 => self.world.kill(process),
            6 if !self.world.images.contains_key(&process) => self.start(process),
            7 => self.world.executor.pause(process),
            8 => self.world.executor.resume(process),
            9 => {
                let faults = Faults {
                    fails: self.rng.below(3) * 10,
                    answer_lost: self.rng.below(3) * 10,
                    late: self.rng.below(3) * 10,
                    slow: self.rng.below(2) * 10,
                    ..Faults::default()
                };
                self.world.store.shared().faults = faults;
            }
            10 => self.carry_out_late(),
            11 => self.fetch(),
            12 => self.damage(),
            _ => {}
        }
        let duration = Duration::from_millis(self.rng.below(4000));
        let duration = if self.rng.percent(5) {
            duration * 10
        } else {
            duration
        };
        self.run(duration);
    }

    /// Ends a process as SIGTERM does: its lease is released.
    fn end(&mut self, process: usize) {
        let Some(images) = self.world.images.get(&process).cloned() else {
            return;
        };
        self.world.kill(process);
        let indexer = images.indexer(IndexerConfig::default());
        self.world
            .executor
            .spawn(usize::MAX, async move { _ = indexer.release().await });
    }

    /// Requests some images of each process.
    fn fetch(&mut self) {
        for process in 0..PROCESSES {
            if let Some(images) = self.world.images.get(&process) {
                let snapshot = ImageStore::catalog(&**images).snapshot();
                let ids: Vec<_> = snapshot.entries().map(|entry| entry.id).collect();
                for _ in 0..3 {
                    if let Some(id) = self.rng.pick_any(&ids) {
                        self.fetch_one(process, id);
                    }
                }
            }
        }
    }

    /// What comes as a whole is the image. // S13
    fn fetch_one(&mut self, process: usize, id: ImageId) {
        if let Some(images) = self.world.images.get(&process).cloned() {
            let fetch = fetch(images, id, 20 + self.rng.below(400));
            self.world.executor.spawn(process, async move {
                if let Ok((_, verdict)) = fetch.await {
                    verdict.unwrap();
                }
            });
        }
    }

    /// Deletes or changes a variant, and requests the image.
    fn damage(&mut self) {
        let Some(key) = self.rng.pick_any(&self.world.keys(VARIANTS)) else {
            return;
        };
        match self.rng.below(3) {
            0 => self.world.delete(&key),
            1 => self.world.damage(&key),
            _ => self.world.replace(&key, b"a part"),
        }
        let id = key.rsplit('/').next().unwrap().parse().unwrap();
        (0..PROCESSES).for_each(|process| self.fetch_one(process, id));
    }

    fn carry_out_late(&mut self) {
        let store: SimStore = self.world.store.clone();
        self.world
            .executor
            .spawn(usize::MAX, async move { store.carry_out_late().await });
    }

    /// Nothing fails any more. All processes and a new one reach the contents of the bucket.
    fn finish(&mut self) {
        for _ in 0..64 {
            self.carry_out_late();
        }
        self.world.store.shared().faults = Faults::default();
        for process in 0..=PROCESSES {
            self.world.executor.resume(process);
            if !self.world.images.contains_key(&process) {
                self.start(process);
            }
        }
        self.run(Duration::from_secs(120));
        let mut expected: BTreeMap<ImageId, &String> = BTreeMap::new();
        for (key, contents) in &self.objects {
            expected
                .entry(ImageId::of(&image(*contents)))
                .or_insert(key);
        }
        let mut expected: Vec<_> = expected
            .into_iter()
            .map(|(id, name)| (name.clone(), id))
            .collect();
        expected.sort();
        for (process, images) in &self.world.images {
            assert_eq!(names(images), expected, "process {process}");
            assert!(images.is_complete());
        }
        self.finish_variants();
    }
}

impl Schedule {
    /// All processes send all images, and the same variants at last.
    fn finish_variants(&mut self) {
        for _ in 0..2 {
            for process in 0..=PROCESSES {
                for id in ImageStore::catalog(&*self.world.images[&process])
                    .snapshot()
                    .entries()
                    .map(|entry| entry.id)
                {
                    let images = Arc::clone(&self.world.images[&process]);
                    let fetched = self.world.executor.block_on(fetch(images, id, 100));
                    fetched.unwrap().1.unwrap();
                }
            }
            self.world.settle();
        }
        let lists = self.world.images.values();
        let lists = lists.map(|images| ImageStore::catalog(&**images).snapshot());
        let lists: Vec<Vec<_>> = lists
            .map(|list| list.entries().map(|entry| entry.image()).collect())
            .collect();
        for list in &lists {
            assert_eq!(list, &lists[0]);
        }
        for image in &lists[0] {
            let is_bmp = image.flags.file_type() == FileType::Bmp;
            assert_eq!(image.flags.is_compressed(), is_bmp, "{image:?}");
        }
    }
}

fn run(seed: u64) {
    let mut schedule = Schedule::new(seed);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for process in 0..PROCESSES {
            schedule.start(process);
        }
        for _ in 0..STEPS {
            schedule.step();
        }
        schedule.finish();
    }));
    if let Err(panic) = result {
        eprintln!("{}", schedule.log.join("\n"));
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn catalogs_agree_with_the_bucket_after_crashes_pauses_and_lost_answers() {
    for_each_seed(SEEDS, run);
}
