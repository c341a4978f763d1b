//! A file that a program has open for writing is not read, however long it stays unchanged, and an empty one may be a
//! placeholder. An image that is changed meanwhile stays listed.
#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::common::*;
use jtp_core::ImageId;
use jtp_driver::store::{ImageStore, StoreError};
use jtp_store::DirStore;

/// Longer than any time after which an unchanged file without writers is listed.
const PAUSE: Duration = Duration::from_secs(2);

/// Creates a file with half of its bytes, and keeps it open.
fn half(folder: &Path, name: &str) -> File {
    let mut file = File::create(folder.join(name)).unwrap();
    file.write_all(b"the first half of ").unwrap();
    file.write_all(name.as_bytes()).unwrap();
    file
}

/// Asserts that the catalog does not change for longer than a pause of a writer.
#[track_caller]
fn assert_nothing_new(store: &DirStore) {
    let mut changes = store.catalog().subscribe();
    if let Some(catalog) = changes.wait_timeout(PAUSE) {
        panic!("the catalog lists {:?}", names(&catalog));
    }
}

/// Asserts that an image is listed, and cannot be opened now.
#[track_caller]
fn assert_changing(store: &Arc<DirStore>, id: ImageId) {
    let error = body(store, image(store, id)).unwrap_err();
    assert!(matches!(error, StoreError::Changed(_)), "{error:?}");
}

type Begin = fn(&Path) -> File;

/// How a program can begin to write an image. It keeps the file open.
const WRITERS: [(&str, Begin); 8] = [
    ("paused.png", |folder| half(folder, "paused.png")),
    ("past.png", |folder| {
        let file = half(folder, "past.png");
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        file
    }),
    ("future.png", |folder| {
        let file = half(folder, "future.png");
        let day = Duration::from_secs(86_400);
        file.set_modified(SystemTime::now() + day).unwrap();
        file
    }),
    ("second writer.png", |folder| {
        let first = half(folder, "second writer.png");
        let mut second = File::options();
        let second = second.append(true).open(folder.join("second writer.png"));
        drop(first);
        second.unwrap()
    }),
    ("allocated.png", |folder| {
        let file = File::create(folder.join("allocated.png")).unwrap();
        let flags = rustix::fs::FallocateFlags::empty();
        rustix::fs::fallocate(&file, flags, 0, 100_000).unwrap();
        file
    }),
    ("renamed.png", |folder| {
        let file = half(folder, ".renamed.part");
        folder.rename(".renamed.part", "renamed.png");
        file
    }),
    ("hard link.png", |folder| {
        let file = half(folder, "../outside");
        folder.hard_link("../outside", "hard link.png");
        file
    }),
    ("listed.png", |folder| half(folder, "listed.png")),
];

#[test]
fn r8_s13_a_file_is_listed_once_and_only_after_its_last_writer_has_closed_it() {
    each_way_to_follow(|builder, folder| {
        let listed_one = write(folder, "listed.png", b"listed");
        let emptied = write(folder, "emptied.png", b"emptied");
        let mut early = half(folder, "before the start.png");
        early.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let store = build(builder);
        let before = ["emptied.png", "listed.png"];
        assert_eq!(listed(&store), before);
        let mut writers = WRITERS.map(|(_, begin)| begin(folder));
        for name in ["emptied.png", "empty.png", "placeholder.png"] {
            drop(File::create(folder.join(name)).unwrap());
        }
        assert_nothing_new(&store);
        assert_eq!(listed(&store), before);
        assert_changing(&store, listed_one);
        for file in writers.iter_mut().chain([&mut early]) {
            file.write_all(b", and the second").unwrap();
        }
        drop((writers, early));
        write(folder, ".placeholder.part", b"placeholder");
        folder.rename(".placeholder.part", "placeholder.png");
        let names = WRITERS.map(|(name, _)| name);
        let names = [&names[..], &["before the start.png", "placeholder.png"]].concat();
        let took = wait_for(&store, |catalog| {
            let ids = names.iter().map(|name| ImageId::of(&folder.read(name)));
            ids.into_iter().all(|id| catalog.contains(id))
        });
        assert!(took < SOON, "{took:?}");
        // An empty file is listed if it was no image.
        let empty = ImageId::of(b"");
        let took = wait_for(&store, |catalog| catalog.contains(empty));
        assert!(took > Duration::from_secs(1), "{took:?}");
        assert_changing(&store, emptied);
        let open = open(&store, image(&store, empty)).unwrap();
        assert!(open.first().is_empty() && open.body().is_none());
        let new = write(folder, "emptied.png", b"filled");
        wait_for(&store, |catalog| catalog.contains(new));
        let catalog = store.catalog().snapshot();
        assert!(!catalog.contains(listed_one) && !catalog.contains(emptied));
        assert_eq!(events(&store), 2 + 10 + 2);
    });
}

#[test]
fn a_closed_file_that_is_moved_into_place_is_listed_at_once() {
    each_way_to_follow(|builder, folder| {
        let store = build(builder);
        for (n, target) in ["a.png", "a.png", "b.png"].into_iter().enumerate() {
            let id = write(folder, ".a.part", format!("picture {n}"));
            folder.rename(".a.part", target);
            assert!(wait_for(&store, |c| c.contains(id)) < SOON);
        }
        let id = write(folder, ".b.part", b"linked picture");
        folder.hard_link(".b.part", "c.png");
        folder.remove(".b.part");
        assert!(wait_for(&store, |c| c.contains(id)) < SOON);
        assert_eq!(events(&store), 4);
    });
}

#[test]
fn an_image_that_was_truncated_while_no_store_was_open_is_not_listed_as_an_empty_one() {
    let place = temp();
    let (folder, index) = (place.join("images"), place.join("index"));
    fs::create_dir(&folder).unwrap();
    write(&folder, "a.png", b"picture");
    write(&folder, "b.png", b"other picture");
    settle(&folder);
    let open = || build(DirStore::builder(&folder).index_file(&index));
    drop(open());
    File::create(folder.join("a.png")).unwrap();
    write(&folder, "empty.png", b"");
    for _ in 0..2 {
        let store = open();
        wait_for(&store, |c| c.contains(ImageId::of(b"")));
        assert_eq!(listed(&store), ["b.png", "empty.png"]);
    }
}

#[test]
fn without_leases_a_file_is_not_listed_before_its_close_event_or_a_minute() {
    use rustix::thread::CapabilitySet;
    let folder = temp();
    let file = half(&folder, "a.png");
    if std::os::unix::fs::fchown(&file, Some(12345), None).is_err() {
        eprintln!("skipped: only root can make another user's file");
        return;
    }
    drop(file);
    let store = without(CapabilitySet::LEASE, || open_store(&folder));
    // The file was unchanged long enough, also at the start.
    let first = ImageId::of(&folder.read("a.png"));
    assert!(store.catalog().snapshot().contains(first));
    let mut options = File::options();
    let mut file = options.append(true).open(folder.join("a.png")).unwrap();
    file.write_all(b" second").unwrap();
    assert_nothing_new(&store);
    assert_changing(&store, first); // R8 S13
    file.write_all(b" half").unwrap();
    drop(file);
    let id = ImageId::of(&folder.read("a.png"));
    assert!(wait_for(&store, |c| c.contains(id)) < SOON);
    assert_eq!(events(&store), 2);
}
