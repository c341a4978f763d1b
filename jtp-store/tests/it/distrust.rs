//! The indexes of a store and of an output folder where inodes and ctimes are not trusted, and where a folder is away for
//! a while. `mounts.rs` tests the same on real file systems, where root and the tools are available.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;

use std::time::Duration;

use crate::common::*;
use jtp_core::ImageId;
use jtp_driver::store::{ImageStore, StoreError};
use jtp_store::{DirStore, DirStoreBuilder, Follow, OutputFolder, ScanMode};

const AN_HOUR: u64 = 3600;

/// Copies all files with their mtimes, in reverse order, and puts the copy in the place of the folder: the same files,
/// with other inodes and ctimes.
fn replug(folder: &Path) {
    let copy = folder.with_file_name("copy");
    fs::create_dir(&copy).unwrap();
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    for name in names.iter().rev() {
        let (from, to) = (folder.join(name), copy.join(name));
        fs::copy(&from, &to).unwrap();
        let modified = fs::metadata(&from).unwrap().modified().unwrap();
        let file = fs::File::options().write(true).open(&to).unwrap();
        file.set_modified(modified).unwrap();
    }
    // The old folder stays: a store that still has it open must not find it empty.
    let before = (0..).map(|n| folder.with_file_name(format!("before-{n}")));
    let free = before.into_iter().find(|path| !path.exists()).unwrap();
    fs::rename(folder, free).unwrap();
    fs::rename(&copy, folder).unwrap();
}

fn distrusting(folder: &Path) -> DirStoreBuilder {
    DirStore::builder(folder).distrust_inodes(true)
}

#[test]
fn the_ids_are_right_and_no_file_is_read_after_inodes_were_renumbered() {
    let (place, cache) = (temp(), temp());
    let (folder, index) = (place.join("images"), cache.join("index"));
    fs::create_dir(&folder).unwrap();
    let mut files = five_files(&folder);
    set_age(&folder.join("f1.png"), 2 * AN_HOUR);
    let open = || {
        open_and_count(
            distrusting(&folder)
                .follow(Follow::Never)
                .index_file(&index),
        )
    };
    assert_eq!(entries(&open().0), files);
    folder.remove("f2.png");
    files.remove(1);
    replug(&folder);
    let (store, bytes) = open();
    assert_eq!((entries(&store), bytes), (files.clone(), 0));
    for (_, id) in files {
        assert_eq!(ImageId::of(&body(&store, image(&store, id)).unwrap()), id);
    }
    // The names decide: an exchange of two names is noticed if their times differ.
    drop(store);
    folder.rename("f1.png", "f");
    folder.rename("f3.png", "f1.png");
    folder.rename("f", "f3.png");
    let store = open().0;
    let catalog = store.catalog().snapshot();
    for entry in catalog.entries() {
        let bytes = folder.read(entry.name);
        assert_eq!(ImageId::of(&bytes), entry.id, "{}", entry.name);
    }
}

#[test]
fn inodes_that_are_renumbered_while_a_store_is_open_lead_to_no_event() {
    let place = temp();
    let folder = place.join("images");
    fs::create_dir(&folder).unwrap();
    let files = five_files(&folder);
    let store = build(distrusting(&folder).follow(BY_SCANS));
    let before = events(&store);
    replug(&folder);
    // The scan that finds the new file has seen the others.
    let id = write(&folder, "g.png", b"new");
    wait_for(&store, |catalog| catalog.contains(id));
    assert_eq!(events(&store), before + 1);
    for (_, id) in files {
        assert_eq!(ImageId::of(&body(&store, image(&store, id)).unwrap()), id);
    }
}

#[test]
fn files_that_exchange_their_names_are_noticed_by_events_although_size_and_time_are_equal() {
    let place = temp();
    let folder = &*place;
    let (one, other) = (write(folder, "a.png", b"1"), write(folder, "b.png", b"2"));
    for name in ["a.png", "b.png"] {
        set_age(&folder.join(name), AN_HOUR);
    }
    let store = build(distrusting(folder));
    folder.rename("a.png", "c");
    folder.rename("b.png", "a.png");
    folder.rename("c", "b.png");
    let expected = [("a.png".to_owned(), other), ("b.png".to_owned(), one)];
    wait_for(&store, |_| entries(&store) == expected);
}

#[test]
fn a_file_moved_to_a_name_is_read_although_a_file_of_that_name_size_and_time_was_away() {
    let place = temp();
    let folder = place.join("images");
    fs::create_dir(&folder).unwrap();
    write(&folder, "a.png", b"1");
    set_age(&folder.join("a.png"), AN_HOUR);
    let modified = fs::metadata(folder.join("a.png")).unwrap().modified();
    let store = build(distrusting(&folder));
    away_and_back(&folder, &store, true, |_| {
        // Shows that the store watches the new folder.
        let marker = write(&folder, "marker.png", b"marker");
        wait_for(&store, |catalog| catalog.contains(marker));
        folder.remove("marker.png");
        let new = write(&folder, "new", b"2");
        let file = fs::File::options().write(true).open(folder.join("new"));
        file.unwrap().set_modified(modified.unwrap()).unwrap();
        folder.rename("new", "a.png");
        wait_for(&store, |catalog| catalog.contains(new));
        folder.remove("a.png");
    });
}

#[test]
fn a_file_rewritten_within_the_granularity_is_listed_with_its_new_id() {
    let place = temp();
    write(&place, "a.png", b"first ");
    set_age(&place.join("a.png"), 0);
    let store = build(distrusting(&place).follow(BY_SCANS));
    let id = rewrite(&place, "a.png", b"second");
    wait_for(&store, |catalog| catalog.contains(id) && catalog.len() == 1);
}

#[test]
fn a_file_that_was_read_within_the_granularity_is_read_again_by_the_next_run() {
    let (place, cache) = (temp(), temp());
    let index = cache.join("index");
    write(&place, "a.png", b"first ");
    write(&place, "future.png", b"before");
    set_age(&place.join("a.png"), 0);
    let future = fs::File::options()
        .write(true)
        .open(place.join("future.png"));
    let time = std::time::SystemTime::now() + Duration::from_secs(AN_HOUR);
    future.unwrap().set_modified(time).unwrap();
    let open = || {
        let builder = distrusting(&place).follow(Follow::Never);
        build(builder.index_file(&index))
    };
    drop(open());
    let a = rewrite(&place, "a.png", b"second");
    let b = rewrite(&place, "future.png", b"after ");
    set_age(&place.join("a.png"), 0);
    let catalog = open().catalog().snapshot();
    assert!(catalog.contains(a) && catalog.contains(b));
}

#[test]
fn a_file_that_was_changed_a_few_seconds_ago_is_in_the_index_after_its_second_reading() {
    let (place, cache) = (temp(), temp());
    let index = cache.join("index");
    write(&place, "a.png", b"a");
    // Longer ago than the granularity, but the clock of the file system may be behind.
    set_age(&place.join("a.png"), 10);
    let has_record = || fs::metadata(&index).is_ok_and(|there| there.len() > 8);
    let open = |follow| build(distrusting(&place).follow(follow).index_file(&index));
    drop(open(Follow::Never));
    assert!(!has_record(), "read once");
    let begun = std::time::Instant::now();
    let store = open(BY_SCANS);
    while !has_record() {
        assert!(begun.elapsed() < PATIENCE, "timed out");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(store);
}

#[test]
fn s13_a_change_that_metadata_do_not_show_is_not_sent_and_corrects_the_catalog() {
    for length in [6, 100_000] {
        let place = temp();
        let old = write(&place, "a.png", noise(length, 1));
        set_age(&place.join("a.png"), AN_HOUR);
        let store = build(distrusting(&place).follow(Follow::Never));
        let listed = image(&store, old);
        // Also in memory there is no copy that hides the change.
        body(&store, listed).unwrap();
        let new = rewrite(&place, "a.png", noise(length, 2));
        match sent(&store, listed) {
            Err(StoreError::Changed(id)) => assert_eq!(id, old),
            // What a server does with bytes that it hashes on the way out.
            Ok((_, bytes)) => {
                assert!(length > 1000, "a small image is hashed when it is opened");
                assert_eq!(ImageId::of(&bytes), new);
                store.report_mismatch(&listed);
            }
            Err(other) => panic!("{other}"),
        }
        wait_for(&store, |catalog| {
            catalog.contains(new) && catalog.len() == 1
        });
    }
}

/// Moves the folder away and back; the store lists nothing in between.
fn away_and_back(
    folder: &Path,
    store: &DirStore,
    in_its_place: bool,
    while_away: impl FnOnce(&Path),
) {
    let away = folder.with_file_name("away");
    fs::rename(folder, &away).unwrap();
    if in_its_place {
        fs::create_dir(folder).unwrap();
    }
    wait_for(store, jtp_core::Catalog::is_empty);
    while_away(&away);
    if in_its_place {
        fs::remove_dir(folder).unwrap();
    }
    fs::rename(&away, folder).unwrap();
}

#[test]
fn the_files_of_a_folder_that_comes_back_are_not_read_again() {
    std::thread::scope(|scope| {
        for (distrust, in_its_place) in [(false, false), (false, true), (true, false), (true, true)]
        {
            scope.spawn(move || comes_back(distrust, in_its_place));
        }
    });
}

/// With `in_its_place`, the path leads to an empty folder meanwhile, such as the mount point of a disk.
fn comes_back(distrust: bool, in_its_place: bool) {
    let (place, cache) = (temp(), temp());
    let (folder, index) = (place.join("images"), cache.join("index"));
    fs::create_dir(&folder).unwrap();
    write(&folder, "a.png", b"a");
    set_age(&folder.join("a.png"), AN_HOUR);
    settle(&folder);
    let open = || {
        let builder = DirStore::builder(&folder).distrust_inodes(distrust);
        build(builder.follow(BY_SCANS).index_file(&index))
    };
    drop(open());
    // A wrong ID in the index shows that the file is not read.
    make_index_lie(&index, ImageId(42));
    let store = open();
    for _ in 0..2 {
        away_and_back(&folder, &store, in_its_place, |_| {});
        wait_for(&store, |catalog| catalog.contains(ImageId(42)));
    }
    // What changes meanwhile is read.
    let mut new = ImageId(0);
    away_and_back(&folder, &store, in_its_place, |away| {
        new = write(away, "a.png", b"b");
    });
    wait_for(&store, |catalog| {
        catalog.contains(new) && catalog.len() == 1
    });
}

#[test]
fn s13_a_file_that_has_the_id_of_another_in_the_index_is_read_again_and_both_are_listed() {
    let place = temp();
    let (folder, index) = (place.join("images"), place.join("index"));
    fs::create_dir(&folder).unwrap();
    let old = write(&folder, "a.png", b"a");
    set_age(&folder.join("a.png"), AN_HOUR);
    settle(&folder);
    let open = || build(DirStore::builder(&folder).index_file(&index));
    drop(open());
    make_index_lie(&index, ImageId::of(b"b"));
    let new = write(&folder, "b.png", b"b");
    let store = open();
    wait_for(&store, |catalog| {
        catalog.contains(old) && catalog.contains(new) && catalog.len() == 2
    });
}

#[test]
fn a_store_without_an_index_file_does_not_read_the_files_of_a_folder_again_that_comes_back() {
    let place = temp();
    let folder = place.join("images");
    fs::create_dir(&folder).unwrap();
    let old = write(&folder, "a.png", b"a");
    set_age(&folder.join("a.png"), AN_HOUR);
    let store = build(distrusting(&folder).follow(BY_SCANS));
    // Only reading would show this change.
    away_and_back(&folder, &store, false, |away| {
        rewrite(away, "a.png", b"b");
    });
    wait_for(&store, |catalog| catalog.contains(old));
}

#[test]
fn a_store_that_is_opened_before_the_disk_is_mounted_uses_and_keeps_its_index() {
    // More than what makes an index file overgrown if there is no file.
    const FILES: usize = 4200;
    let (place, cache) = (temp(), temp());
    let (folder, index) = (place.join("images"), cache.join("index"));
    let disk = place.join("disk");
    fs::create_dir(&disk).unwrap();
    for n in 0..FILES {
        write(&disk, &format!("{n}.png"), n.to_string());
        set_age(&disk.join(format!("{n}.png")), AN_HOUR);
    }
    settle(&disk);
    fs::rename(&disk, &folder).unwrap();
    let open = || {
        open_and_count(
            DirStore::builder(&folder)
                .follow(BY_SCANS)
                .index_file(&index),
        )
    };
    let (store, bytes) = open();
    assert!(bytes > 0);
    drop(store);
    fs::rename(&folder, &disk).unwrap();
    for mounted_while_open in [false, true] {
        fs::create_dir(&folder).unwrap();
        let (store, _) = open();
        assert!(listed(&store).is_empty());
        if mounted_while_open {
            fs::remove_dir(&folder).unwrap();
            fs::rename(&disk, &folder).unwrap();
            wait_for(&store, |catalog| catalog.len() == FILES);
        } else {
            drop(store);
            fs::remove_dir(&folder).unwrap();
            fs::rename(&disk, &folder).unwrap();
        }
        let (store, bytes) = open();
        assert_eq!((listed(&store).len(), bytes), (FILES, 0));
        drop(store);
        fs::rename(&folder, &disk).unwrap();
    }
}

fn scan(folder: &Path, mode: ScanMode) -> Found {
    let folder = OutputFolder::open_distrusting_inodes(folder).unwrap();
    crate::common::scan(&folder, mode)
}

#[test]
fn an_output_folder_misses_the_file_that_was_removed_after_inodes_were_renumbered() {
    let place = temp();
    let folder = place.join("images");
    fs::create_dir(&folder).unwrap();
    let files = five_files(&folder);
    assert_eq!(scan(&folder, ScanMode::Ids).images.len(), 5);
    // The index is used: it does not have this change, which no metadata show.
    let unseen = rewrite(&folder, "f5.png", b"file X");
    folder.remove("f2.png");
    replug(&folder);
    let found = scan(&folder, ScanMode::Ids);
    let has: Vec<_> = files.iter().map(|(_, id)| found.contains(*id)).collect();
    assert_eq!(has, [true, false, true, true, true]);
    let rehashed = scan(&folder, ScanMode::Rehash);
    assert!(rehashed.contains(unseen) && !rehashed.contains(files[4].1));
}

#[test]
fn an_output_folder_finds_a_file_rewritten_within_the_granularity() {
    let place = temp();
    let first = write(&place, "a.png", b"first ");
    set_age(&place.join("a.png"), 0);
    for _ in 0..2 {
        assert!(scan(&place, ScanMode::Ids).contains(first));
    }
    let second = rewrite(&place, "a.png", b"second");
    assert!(scan(&place, ScanMode::Ids).contains(second));
}
