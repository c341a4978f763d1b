//! The progress of a scan.

use std::time::{Duration, Instant};

use jtp_kit::Folder;

use super::job::Job;
use super::log::Event;
use super::world::World;
use crate::support::stub::{Stub, images};

#[test]
fn a_scan_reports_how_many_files_it_has_found_and_read() {
    let images = images(70);
    for world in World::ALL {
        let stub = Stub::of(images.clone());
        let job = Job::of(stub.address);
        job.run_ok(world);
        job.folder.make_dir("folder");
        job.folder.write("new.png", "new");
        // 100 ms pass between any two files.
        let job = job.again().accelerated(1_000_000);
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
    let job = Job::of(stub.address);
    job.run_ok(World::Tokio);
    let job = job.again();
    let begun = Instant::now();
    job.run_ok(World::Tokio);
    let most = begun.elapsed().as_millis() / Duration::from_millis(100).as_millis() + 1;
    let count = job
        .log
        .count(|event| matches!(event, Event::Scanning { .. }));
    assert!(u128::try_from(count).unwrap() <= most, "{count} > {most}");
}
