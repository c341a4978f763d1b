//! Dry runs and checks: they change nothing, and the run that follows does what the dry run said.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use jtp_core::ImageId;
use jtp_kit::{Folder, Rng, for_each_seed, stamps};
use jtp_sync::{Change, Difference, Fetch, Names, Options, Selection, SyncEvent};

use super::job::{Action, Job, target};
use super::log::Event;
use super::world::World;
use crate::support::bytes::*;
use crate::support::files::noise;
use crate::support::stub::{Request, Stub, images};

const NAMES: [&str; 9] = [
    "a.png", "A.png", "b.png", "c.png", "d.jpg", "é.png", "x.gif", "y.gif", "z.webp",
];

/// Images with random names. Those with one number have one content.
fn server(rng: &mut Rng) -> Vec<TestImage> {
    let mut images: Vec<TestImage> = Vec::new();
    for name in NAMES {
        let number = rng.below(9);
        let is_new = !images.iter().any(|image| image.bytes == noise(300, number));
        if rng.percent(75) && is_new {
            images.push(TestImage::new(name, noise(300, number)));
        }
    }
    images
}

/// A folder with some images of a server, its own images, and other things.
fn fill(folder: &Path, rng: &mut Rng) {
    folder.make_dir("");
    for name in NAMES {
        match rng.below(12) {
            0..=5 => folder.write(name, noise(300, rng.below(9))),
            6 => folder.write(name, noise(200, 100 + rng.below(9))),
            7 => folder.make_dir(name),
            8 => folder.link("/nowhere", name),
            _ => {}
        }
    }
    if rng.percent(30) {
        let number = rng.below(9);
        let id = ImageId::of(&noise(300, number));
        folder.write(format!("a-{id}.png"), noise(300, number));
    }
    folder.write("notes.txt", "text");
    folder.write(".jtp-0123456789abcdef-0.part", "stale");
}

fn options(rng: &mut Rng) -> Options {
    let fetch = if rng.percent(30) {
        Fetch::All
    } else {
        Fetch::Missing
    };
    let names = if rng.percent(50) {
        Names::Any
    } else {
        Names::Listed
    };
    Options::new()
        .with_fetch(fetch)
        .with_names(names)
        .with_keep_existing(rng.percent(20))
}

fn selection(rng: &mut Rng) -> Selection {
    let all = Selection::all();
    match rng.below(4) {
        0 => all.exclude("[a-c]*").unwrap(),
        1 => all.include("*.png").unwrap().exclude("a.*").unwrap(),
        _ => all,
    }
}

/// What a dry run or a run reports, as sorted lines.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn add(&self, event: &SyncEvent<'_>) {
        let line = match event {
            SyncEvent::Change(Change::Fetch {
                id, name, replaces, ..
            }) => format!("fetch {id} {name} {replaces}"),
            SyncEvent::Placed {
                id, name, replaced, ..
            } => format!("fetch {id} {name} {replaced}"),
            SyncEvent::Change(Change::Rename {
                id,
                from,
                to,
                aside,
                ..
            }) => {
                format!("rename {id} {from} {to} {aside}")
            }
            SyncEvent::Renamed {
                id,
                from,
                to,
                aside,
            } => format!("rename {id} {from} {to} {aside}"),
            SyncEvent::Refused { id, reason, .. } => format!("refuse {id} {reason:?}"),
            _ => return,
        };
        self.0.lock().unwrap().push(line);
    }

    fn take(&self) -> Vec<String> {
        let mut lines = std::mem::take(&mut *self.0.lock().unwrap());
        lines.sort();
        lines
    }
}

#[test]
fn r8_a_run_does_what_the_dry_run_said_and_the_dry_run_changes_nothing() {
    for_each_seed(160, |seed| {
        let mut rng = Rng::new(seed);
        let world = World::ALL[usize::try_from(seed % 4).unwrap()];
        let stub = Stub::of(server(&mut rng));
        let (_parent, folder) = target();
        fill(&folder, &mut rng);
        let lines = Lines::default();
        let mut job = Job::new(stub.address, &folder).reaction({
            let lines = lines.clone();
            move |event| lines.add(event)
        });
        job.options = options(&mut rng);
        job.selection = selection(&mut rng);
        let before = stamps(&folder);
        let planned = job
            .perform(world, &[Action::DryRun])
            .pop()
            .unwrap()
            .unwrap();
        let planned = planned.unwrap();
        assert_eq!(stamps(&folder), before);
        let requests = stub.requests();
        assert_eq!(requests, [Request::List]);
        let said = lines.take();
        let kept = job
            .log
            .count(|e| matches!(e, Event::Change(Change::Keep { .. })));
        let left_out = job
            .log
            .count(|e| matches!(e, Event::Change(Change::LeaveOut { .. })));
        assert_eq!(left_out as u64, planned.left_out.images);
        assert!(kept as u64 <= planned.kept.images);

        job.log.lock().clear();
        let done = job.run_ok(world);
        assert_eq!(
            lines.take(),
            said,
            "{:?}\n{}",
            job.options,
            before.join("\n")
        );
        assert_eq!(planned, done);
        // With the index of that run, another dry run finds nothing to do.
        if job.options.fetch() == Fetch::Missing {
            let before = stamps(&folder);
            let again = job
                .perform(world, &[Action::DryRun])
                .pop()
                .unwrap()
                .unwrap();
            assert_eq!(again.unwrap().planned.images, 0);
            let said = lines.take();
            assert!(
                said.iter().all(|line| line.starts_with("refuse")),
                "{said:?}"
            );
            assert_eq!(stamps(&folder), before);
        }
    });
}

#[test]
fn r8_a_check_changes_nothing_and_finds_the_differences() {
    for_each_seed(60, |seed| {
        let mut rng = Rng::new(1000 + seed);
        let world = World::ALL[usize::try_from(seed % 4).unwrap()];
        let listed = server(&mut rng);
        let stub = Stub::of(listed.clone());
        let (_parent, folder) = target();
        fill(&folder, &mut rng);
        let job = Job::new(stub.address, &folder);
        let before = stamps(&folder);
        job.perform(world, &[Action::Check])
            .pop()
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(stamps(&folder), before);
        assert_eq!(stub.requests(), [Request::List]);
        let mut found = Vec::new();
        for event in &*job.log.lock() {
            if let Event::Difference(difference) = event {
                found.push(match difference {
                    Difference::Missing { id, .. } => format!("missing {id}"),
                    Difference::Differs { id, .. } => format!("differs {id}"),
                    Difference::Renamed { id, .. } => format!("renamed {id}"),
                    Difference::Extra { name, .. } => format!("extra {name}"),
                    other => panic!("{other:?}"),
                });
            }
        }
        // The same found without the engine. The file system distinguishes case.
        let regular =
            |name: &str| fs::symlink_metadata(folder.join(name)).is_ok_and(|m| m.is_file());
        let files: Vec<(String, u64)> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with('.') && !name.ends_with(".txt") && regular(name))
            .map(|name| (name.clone(), id_of(&fs::read(folder.join(&name)).unwrap())))
            .collect();
        let (mut expected, mut differing) = (Vec::new(), Vec::new());
        let shares_name = |image: &TestImage| {
            image.name.eq_ignore_ascii_case("a.png")
                && listed
                    .iter()
                    .filter(|other| other.name.eq_ignore_ascii_case("a.png"))
                    .count()
                    == 2
        };
        for image in &listed {
            let id = ImageId(image.id);
            let name = match shares_name(image) {
                true => format!("{}-{id}.png", &image.name[..1]),
                false => image.name.clone(),
            };
            if files.contains(&(name.clone(), image.id)) {
                continue;
            }
            let has_content = files.iter().any(|(_, content)| *content == image.id);
            let has_name = fs::symlink_metadata(folder.join(&name)).is_ok();
            expected.push(match (has_content, has_name) {
                (true, _) => format!("renamed {id}"),
                (false, true) => {
                    differing.push(name);
                    format!("differs {id}")
                }
                (false, false) => format!("missing {id}"),
            });
        }
        let is_extra = |(name, id): &&(String, u64)| {
            !listed.iter().any(|image| image.id == *id) && !differing.contains(name)
        };
        expected.extend(
            files
                .iter()
                .filter(is_extra)
                .map(|(name, _)| format!("extra {name}")),
        );
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{}", before.join("\n"));
    });
}

#[test]
fn one_sync_can_run_after_a_dry_run_and_a_check_and_the_other_way_round() {
    let images = images(4);
    let stub = Stub::of(images.clone());
    let job = Job::of(stub.address);
    let actions = [
        Action::DryRun,
        Action::Check,
        Action::Run,
        Action::DryRun,
        Action::Check,
    ];
    for ended in job.perform(World::Tokio, &actions) {
        ended.unwrap().unwrap();
    }
    job.assert_files(&images);
    let planned = |event: &Event| matches!(event, Event::Change(Change::Fetch { .. }));
    let kept = |event: &Event| matches!(event, Event::Change(Change::Keep { .. }));
    assert_eq!((job.log.count(planned), job.log.count(kept)), (4, 4));
    let missing = |event: &Event| matches!(event, Event::Difference(Difference::Missing { .. }));
    assert_eq!(job.log.count(missing), 4);
}
