//! What a served folder lists, and that it never serves other bytes.
#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::common::*;
#[cfg(feature = "zstd")]
use jtp_core::compress::Threshold;
use jtp_core::{FileType, ImageId};
use jtp_driver::store::{ImageStore, StoreError};
use jtp_store::{DirStore, DirStoreError, Follow};

#[test]
fn s5_the_images_directly_in_the_folder_are_listed_in_order_and_served() {
    let folder = temp();
    let png = write(&folder, "b.PNG", b"\x89PNG\r\n\x1a\nrest");
    write(&folder, "a.jpeg", b"not really");
    write(&folder, ".hidden.png", b"1");
    write(&folder, "text.txt", b"2");
    write(&folder, "c.png.part", b"3");
    folder.make_dir("dir.png");
    write(&folder.join("dir.png"), "inner.png", b"4");
    let reports = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&reports);
    let store = build(
        DirStore::builder(&folder).progress(move |progress| sink.lock().unwrap().push(progress)),
    );
    assert_eq!(listed(&store), ["a.jpeg", "b.PNG"]);
    let b = image(&store, png);
    assert_eq!((b.flags.file_type(), b.length), (FileType::Png, 12));
    assert_eq!(body(&store, b).unwrap(), b"\x89PNG\r\n\x1a\nrest");
    let last = *reports.lock().unwrap().last().unwrap();
    // The text file is looked at, too.
    assert_eq!((last.files_done, last.files_total, last.bytes), (3, 3, 22));
}

#[test]
fn only_selects_files_by_a_substring_of_their_name() {
    let folder = temp();
    write(&folder, "Holiday-1.png", b"1");
    write(&folder, "work.png", b"2");
    let store = build(DirStore::builder(&folder).only("HOLIDAY"));
    assert_eq!(listed(&store), ["Holiday-1.png"]);
}

#[test]
fn a_missing_folder_is_an_error_that_names_it() {
    let folder = temp();
    let missing = folder.join("nowhere");
    let error = DirStore::open_folder(&missing).unwrap_err();
    assert!(matches!(error, DirStoreError::Folder { .. }));
    assert!(error.to_string().contains("nowhere"), "{error}");
    let file = folder.join("file");
    File::create(&file).unwrap();
    assert!(DirStore::open_folder(&file).is_err());
}

#[test]
fn w6_a_name_that_is_not_utf8_is_listed_with_replacement_characters_and_served() {
    use std::os::unix::ffi::OsStrExt;
    let folder = temp();
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9.png");
    folder.write(name, b"x");
    folder.write("e\u{301}.png", b"y");
    let store = open_store(&folder);
    assert_eq!(listed(&store), ["caf\u{fffd}.png", "é.png"]);
    for entry in store.catalog().snapshot().entries() {
        assert_eq!(body(&store, entry.image()).unwrap().len(), 1);
    }
}

#[test]
fn s14_a_file_too_long_for_a_packet_is_not_listed() {
    let folder = temp();
    write(&folder, "a.png", b"a");
    // A sparse file: it needs no disk space, and is not read.
    File::create(folder.join("huge.png"))
        .unwrap()
        .set_len(4_294_967_296)
        .unwrap();
    let store = open_store(&folder);
    assert_eq!(listed(&store), ["a.png"]);
    writing(&folder.join("huge.png")).set_len(3).unwrap();
    wait_for_names(&store, &["a.png", "huge.png"]);
}

#[test]
fn s4_files_with_the_same_bytes_are_one_image_under_the_first_remaining_name() {
    let folder = temp();
    let id = write(&folder, "b.png", b"same");
    write(&folder, "a.png", b"same");
    write(&folder, "c.png", b"same");
    folder.hard_link("c.png", "d.png");
    let store = open_store(&folder);
    assert_eq!(listed(&store), ["a.png"]);
    for next in ["b.png", "c.png", "d.png"] {
        let first = listed(&store).remove(0);
        folder.remove(first);
        wait_for_names(&store, &[next]);
        assert_eq!(body(&store, image(&store, id)).unwrap(), b"same");
    }
    assert_eq!(events(&store), 1, "N1: it was never absent");
}

#[test]
fn s4_of_two_files_with_one_id_the_later_is_refused_until_the_first_is_removed() {
    let (one, other) = collision();
    let folder = temp();
    // In the initial index the order is that of the names, whichever file is hashed first.
    let id = write(&folder, "a.png", &one);
    write(&folder, "b.png", &other);
    write(&folder, "c.png", &other);
    let store = open_store(&folder);
    assert_eq!(listed(&store), ["a.png"]);
    assert_eq!(body(&store, image(&store, id)).unwrap(), one);
    // Later the order is that of appearance, whatever the names.
    write(&folder, "0.png", &other);
    let marker = write(&folder, "marker.png", b"marker");
    wait_for(&store, |catalog| catalog.contains(marker));
    assert_eq!(listed(&store), ["a.png", "marker.png"]);
    folder.remove("a.png");
    wait_for(&store, |catalog| names(catalog)[0] != "a.png");
    wait_for(&store, |catalog| names(catalog) == ["0.png", "marker.png"]);
    assert_eq!(body(&store, image(&store, id)).unwrap(), other);
}

fn writing(path: &Path) -> File {
    File::options().write(true).open(path).unwrap()
}

type Attack = fn(&Path);

/// What can happen to a file between opening it and reading its last byte.
const ATTACKS: &[(&str, Attack)] = &[
    ("truncated", |path| writing(path).set_len(10).unwrap()),
    ("emptied and rewritten", |path| {
        fs::write(path, noise(300_000, 9)).unwrap();
    }),
    ("changed in one byte", |path| {
        writing(path).write_all_at(b"!", 299_999).unwrap();
    }),
    ("changed before the read position", |path| {
        writing(path).write_all_at(b"!", 0).unwrap();
    }),
    ("extended", |path| {
        writing(path).write_all_at(b"!", 300_000).unwrap();
    }),
    // The removal of its last name changes its ctime.
    ("replaced", |path| {
        let new = path.with_file_name("new");
        fs::write(&new, noise(300_000, 2)).unwrap();
        fs::rename(new, path).unwrap();
    }),
    ("deleted", |path| fs::remove_file(path).unwrap()),
    ("changed, with its mtime restored", |path| {
        let file = writing(path);
        let before = file.metadata().unwrap().modified().unwrap();
        file.write_all_at(b"!", 0).unwrap();
        file.set_modified(before).unwrap();
    }),
];

#[test]
fn s13_a_body_of_a_changed_file_is_never_completed() {
    for (what, attack) in ATTACKS {
        let folder = temp();
        let bytes = noise(300_000, 1);
        let id = write(&folder, "a.png", &bytes);
        let store = build(DirStore::builder(&folder).follow(Follow::Never));
        let listed = image(&store, id);
        let open_image = open(&store, listed).unwrap();
        assert_eq!(read(&open_image, 0, 100_000).unwrap(), bytes[..100_000]);
        attack(&folder.join("a.png"));
        let error = read_rest(&open_image, 100_000, 100_000).expect_err(what);
        assert!(matches!(error, StoreError::Changed(_)), "{what}: {error}");
        // The catalog is corrected although the store does not follow the folder.
        wait_for(&store, |catalog| !catalog.contains(id));
        assert!(
            matches!(
                open(&store, listed),
                Err(StoreError::Gone(_) | StoreError::Changed(_))
            ),
            "{what}"
        );
    }
}

#[test]
#[cfg(feature = "zstd")]
fn s9_s6_bmp_and_other_images_are_listed_compressed_once_ready_without_an_event() {
    let folder = temp();
    let small = vec![1; 10_000];
    let large: Vec<u8> = (0..3_000_000u32).map(|n| (n / 1000) as u8).collect();
    let ids = [
        write(&folder, "a.bmp", &small),
        write(&folder, "b.tif", &large),
    ];
    let raw_ones = [
        write(&folder, "c.png", vec![2; 10_000]),
        write(&folder, "d.bmp", noise(10_000, 3)),
        write(&folder, "e.tif", noise(3_000_000, 4)),
        write(&folder, "f.svg", b"x"),
    ];
    let store = open_store(&folder);
    let raw = image(&store, ids[0]);
    wait_for(&store, |c| {
        ids.iter()
            .all(|id| c.get(*id).unwrap().flags.is_compressed())
    });
    for (id, bytes) in ids.iter().zip([&small, &large]) {
        let variant = body(&store, image(&store, *id)).unwrap();
        assert_eq!(&zstd::decode_all(&variant[..]).unwrap(), bytes);
    }
    if !raw.flags.is_compressed() {
        assert_eq!(
            body(&store, raw).unwrap(),
            small,
            "S3: the variant of an older snapshot is still served"
        );
    }
    wait_for(&store, |c| c.len() == 6);
    assert_eq!(events(&store), 6);
    // The queue is in order, so the others were tried before this one.
    let last = write(&folder, "z.bmp", vec![9; 10_000]);
    wait_for(&store, |c| {
        c.get(last).is_some_and(|i| i.flags.is_compressed())
    });
    for id in raw_ones {
        assert!(!image(&store, id).flags.is_compressed());
    }
    // An open variant outlives its file.
    let open_image = open(&store, image(&store, ids[0])).unwrap();
    folder.remove("a.bmp");
    wait_for(&store, |c| !c.contains(ids[0]));
    let variant = read_rest(&open_image, 0, 10_000).unwrap();
    assert_eq!(zstd::decode_all(&variant[..]).unwrap(), small);
}

#[test]
#[cfg(feature = "zstd")]
fn s9_compression_is_disabled_by_a_threshold_of_0_and_limited_by_memory() {
    let folder = temp();
    let raw = vec![1; 100_000];
    let id = write(&folder, "a.bmp", &raw);
    let off = Threshold::new(0.0).unwrap();
    let builders = [
        DirStore::builder(&folder).compression(off),
        DirStore::builder(&folder).variant_memory(10),
    ];
    for builder in builders {
        let store = build(builder);
        let marker = write(&folder, "m.png", b"marker");
        wait_for(&store, |c| c.contains(marker));
        let listed = image(&store, id);
        assert!(!listed.flags.is_compressed());
        // A variant that does not exist is replaced by the raw file.
        let mut compressed = listed;
        compressed.flags = jtp_core::Flags::new(listed.flags.file_type(), true);
        compressed.length = 10;
        let (image, bytes) = sent(&store, compressed).unwrap();
        assert_eq!(image, listed);
        assert_eq!(bytes, raw);
        folder.remove("m.png");
    }
}

#[test]
fn unchanged_files_in_the_index_file_are_not_read_again() {
    let (folder, cache) = (temp(), temp());
    let index = cache.join("made/index");
    let a = write(&folder, "a.png", b"GIF89a");
    let open = |rehash| build(DirStore::builder(&folder).index_file(&index).rehash(rehash));
    drop(open(false));
    // A wrong ID in the index shows that it is used.
    make_index_lie(&index, ImageId(42));
    let store = open(false);
    assert_eq!(image(&store, ImageId(42)).flags.file_type(), FileType::Gif);
    // A changed file is read.
    let b = write(&folder, "a.png", b"GIF89b");
    wait_for(&store, |c| c.contains(b) && c.len() == 1);
    drop(store);
    fs::write(&index, b"garbage").unwrap();
    assert_eq!(image(&open(false), b).length, 6);
    assert_eq!(image(&open(true), b).length, 6);
    assert_ne!(a, b);
}

#[test]
fn dropping_a_store_joins_its_threads_and_open_bodies_stay_valid() {
    let folder = temp();
    let id = write(&folder, "a.png", b"pixels");
    let store = open_store(&folder);
    let open_image = open(&store, image(&store, id)).unwrap();
    let begun = std::time::Instant::now();
    drop(store);
    assert!(begun.elapsed() < PATIENCE / 4);
    assert_eq!(read(&open_image, 0, 6).unwrap(), b"pixels"[..]);
}
