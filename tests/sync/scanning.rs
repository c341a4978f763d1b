//! The progress of a scan.

use std::fs;
use std::time::{Duration, Instant};

use super::job::{Action, Job, target};
use super::log::Event;
use super::world::World;
use crate::support::stub::{Stub, images};

#[test]
fn a_scan_reports_how_many_files_it_has_found_and_read() {
    let images = images(70);
    for world in World::ALL {
        let stub = Stub::of(images.clone());
        let (_parent, folder) = target();
        Job::new(stub.address, &folder).run_ok(world);
        fs::create_dir(folder.join("folder")).unwrap();
        fs::write(folder.join("new.png"), "new").unwrap();
        // 100 ms pass between any two files.
        let job = Job::new(stub.address, &folder).accelerated(1_000_000);
        job.run_ok(world);
        let (mut last, mut scanned) = ((0, 0), None);
        let mut events = job.log.lock().clone().into_iter();
        let first = events.next().unwrap();
        assert!(
            matches!(first, Event::Scanning { files: 0, read: 0 }),
            "{first:?}"
        );
        for event in events {
            match event {
                Event::Scanning { files, read } => {
                    assert_eq!(scanned, None, "after the scan\n{}", job.log);
                    assert!(files >= last.0 && read >= last.1, "{}", job.log);
                    last = (files, read);
                }
                Event::Scanned { files } => scanned = Some(files),
                _ => {}
            }
        }
        assert_eq!(scanned, Some(71));
        assert!(last.0 >= 64 && last.0 <= 71, "{}", job.log);
    }
}

#[test]
fn a_scan_reports_its_progress_at_most_every_100_ms() {
    let images = images(300);
    let stub = Stub::of(images.clone());
    let (_parent, folder) = target();
    let job = Job::new(stub.address, &folder);
    job.perform(World::Tokio, &[Action::Run]);
    let job = Job::new(stub.address, &folder);
    let begun = Instant::now();
    job.run_ok(World::Tokio);
    let most = begun.elapsed().as_millis() / Duration::from_millis(100).as_millis() + 1;
    let count = job
        .log
        .count(|event| matches!(event, Event::Scanning { .. }));
    assert!(u128::try_from(count).unwrap() <= most, "{count} > {most}");
}

#[test]
fn an_image_that_begins_to_arrive_has_the_name_of_its_file() {
    let images = images(3);
    let stub = Stub::of(images.clone());
    let job = Job::of(stub.address);
    job.run_ok(World::Tokio);
    let started = |event: &Event| match event {
        Event::Started(_, name) => name.clone(),
        _ => None,
    };
    let mut names: Vec<_> = job.log.lock().iter().filter_map(started).collect();
    names.sort();
    let mut expected: Vec<_> = images.iter().map(|image| image.name.clone()).collect();
    expected.sort();
    assert_eq!(names, expected);
}
