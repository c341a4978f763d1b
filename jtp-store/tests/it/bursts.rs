//! Many changes at once: the catalog becomes correct in few snapshots, and watchers miss nothing (N1, N2).
#![cfg(target_os = "linux")]

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::*;
use jtp_core::ImageId;
use jtp_driver::store::ImageStore;
use jtp_store::{DirStore, DirStoreBuilder, Follow};

/// Held by each test, since they measure time.
static ALONE: Mutex<()> = Mutex::new(());

/// The limit for 10,000 files on a busy machine. An idle one needs less than 2 s.
const SOON: Duration = Duration::from_secs(10);

/// The images that enter are each announced once: N1.
fn add_files_and_remove_most(builder: DirStoreBuilder, folder: &Path, count: usize) {
    let _alone = ALONE.lock();
    let store = build(builder);
    let before = store.catalog().snapshot().generation();
    let begun = Instant::now();
    for n in 0..count {
        write(folder, &format!("{n:05}.png"), format!("image {n}"));
    }
    let took = wait_for(&store, |catalog| catalog.len() == count);
    assert!(took < SOON, "{took:?}");
    assert_eq!(events(&store), count as u64);
    let snapshots = store.catalog().snapshot().generation() - before;
    // One for each 250 ms in which files were written, however slow the machine is.
    let allowed = 10 + begun.elapsed().as_millis() as u64 / 250;
    assert!(snapshots < allowed, "{snapshots} snapshots of {allowed}");
    // All but 100 are removed.
    for n in 100..count {
        folder.remove(format!("{n:05}.png"));
    }
    let took = wait_for(&store, |catalog| catalog.len() == 100);
    assert!(took < SOON, "{took:?}");
    assert_eq!(events(&store), count as u64);
}

#[test]
fn n1_ten_thousand_added_files_are_each_announced_once_by_events() {
    let folder = temp();
    add_files_and_remove_most(DirStore::builder(&folder), &folder, 10_000);
}

#[test]
fn n1_thousands_of_added_files_are_each_announced_once_by_scans() {
    let folder = temp();
    let interval = Follow::Interval(Duration::from_millis(100));
    add_files_and_remove_most(DirStore::builder(&folder).follow(interval), &folder, 3_000);
}

#[test]
fn n1_a_folder_replaced_by_rename_announces_its_new_images() {
    let _alone = ALONE.lock();
    let parent = temp();
    for (folder, range) in [("images", 0..2000), ("next", 1000..3000)] {
        parent.make_dir(folder);
        for n in range {
            write(
                &parent.join(folder),
                &format!("{n}.png"),
                format!("image {n}"),
            );
        }
    }
    let store = open_store(&parent.join("images"));
    parent.rename("images", "old");
    parent.rename("next", "images");
    let last = ImageId::of(b"image 2999");
    wait_for(&store, |catalog| {
        catalog.contains(last) && catalog.len() == 2000
    });
    // Those that both have may have been missing for a moment.
    assert!((3000..=4000).contains(&events(&store)));
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
