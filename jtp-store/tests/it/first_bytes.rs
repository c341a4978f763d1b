//! Files without an image extension: they are images by their first bytes alone.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::common::*;
use jtp_core::FileType;
use jtp_driver::store::ImageStore;
use jtp_store::{DirStore, Follow, LeftOutReason};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\nrest";
const JPEG: &[u8] = b"\xff\xd8\xff\xe0 rest";

fn reads(store: &DirStore) -> u64 {
    store.counters().first_bytes_read
}

#[test]
fn images_are_listed_whatever_their_name() {
    let folder = temp();
    let path = &*folder;
    write(path, "IMG_0001", PNG);
    write(path, "photo.bin", JPEG);
    write(path, "download", b"RIFF\x04\0\0\0WEBPVP8 ");
    write(path, "disk.img", b"GIF89a rest");
    write(path, "bitmap", b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0");
    write(path, "notes.txt", b"BMI,weight,height\n");
    write(path, "other.img", b"a disk");
    write(path, "empty", b"");
    write(path, "a.png.part", PNG);
    write(path, "b.jpg~", JPEG);
    write(path, ".hidden", PNG);
    settle(path);
    let store = open_store(path);
    let names = ["IMG_0001", "bitmap", "disk.img", "download", "photo.bin"];
    assert_eq!(listed(&store), names);
    let types: Vec<_> = store
        .catalog()
        .snapshot()
        .entries()
        .map(|entry| entry.flags.file_type())
        .collect();
    use FileType::{Bmp, Gif, Jpeg, Png, WebP};
    assert_eq!(types, [Png, Bmp, Gif, WebP, Jpeg]);
    assert_eq!(reads(&store), 8);
}

#[test]
fn files_that_are_no_images_are_not_read_again_at_a_scan_nor_at_the_next_start() {
    const COUNT: u64 = 1_000;
    let place = temp();
    let (path, index) = (place.join("images"), place.join("cache/index"));
    fs::create_dir(&path).unwrap();
    for n in 0..COUNT {
        path.write(format!("file-{n}"), b"text");
    }
    write(&path, "a.png", PNG);
    settle(&path);
    let builder = || DirStore::builder(&path).index_file(&index).follow(BY_SCANS);
    let store = build(builder());
    assert_eq!(reads(&store), COUNT);
    // Two images that appear one after the other: a whole scan is between them.
    for name in ["b.png", "c.png"] {
        write(&path, name, name);
        wait_for(&store, |catalog| catalog.entries().any(|e| e.name == name));
    }
    assert_eq!(reads(&store), COUNT);
    assert_eq!(store.left_out().count(LeftOutReason::NotAnImage), COUNT);
    drop(store);
    let store = build(builder());
    assert_eq!(reads(&store), 0);
    assert_eq!(store.left_out().count(LeftOutReason::NotAnImage), COUNT);
    // One that changed is read.
    write(&path, "file-77", JPEG);
    wait_for_names(&store, &["a.png", "b.png", "c.png", "file-77"]);
    assert!(reads(&store) <= 2, "{}", reads(&store));
    drop(store);
    assert_eq!(reads(&build(builder().rehash(true))), COUNT);
}

#[test]
fn a_text_file_that_a_program_keeps_open_is_no_image_and_an_image_is_listed_once_it_is_closed() {
    let folder = temp();
    let path = &*folder;
    let mut log = fs::File::create(path.join("server.log")).unwrap();
    std::io::Write::write_all(&mut log, b"started\n").unwrap();
    let mut image = fs::File::create(path.join("IMG")).unwrap();
    std::io::Write::write_all(&mut image, PNG).unwrap();
    let store = open_store(path);
    assert!(listed(&store).is_empty());
    let left_out = store.left_out();
    assert_eq!(left_out.count(LeftOutReason::NotAnImage), 1);
    assert_eq!(left_out.count(LeftOutReason::Changing), 1);
    drop(image);
    assert!(wait_for_names(&store, &["IMG"]) < SOON);
}

#[test]
fn of_files_with_the_same_bytes_one_with_an_image_extension_gives_the_name() {
    let folder = temp();
    let path = &*folder;
    write(path, "beach", PNG);
    write(path, "beach.png", PNG);
    path.link("beach.png", "a-link");
    let store = open_store(path);
    assert_eq!(listed(&store), ["beach.png"]);
    assert_eq!(store.left_out().count(LeftOutReason::Duplicate), 2);
    path.remove("beach.png");
    wait_for_names(&store, &["beach"]);
}

#[test]
fn a_pipe_is_not_opened() {
    use rustix::fs::OFlags;
    use std::os::unix::fs::OpenOptionsExt;
    let folder = temp();
    let path = &*folder;
    for name in ["pipe", "pipe.png"] {
        pipe(&path.join(name));
    }
    let socket = std::os::unix::net::UnixListener::bind(path.join("socket")).unwrap();
    // A writer of a pipe would notice a reader: it can be opened only while there is one.
    let is_open = || {
        let mut options = fs::OpenOptions::new();
        options
            .write(true)
            .custom_flags(OFlags::NONBLOCK.bits() as i32);
        ["pipe", "pipe.png"].map(|name| options.open(path.join(name)).is_ok())
    };
    let done = std::sync::atomic::AtomicBool::new(false);
    let store = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(is_open(), [false, false]);
            }
        });
        let store = open_store(path);
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        watcher.join().unwrap();
        store
    });
    assert_eq!(store.left_out().count(LeftOutReason::Special), 3);
    drop(socket);
}

#[test]
fn what_is_left_out_is_counted_by_reason() {
    let folder = temp();
    let path = &*folder;
    for year in 2001..2030 {
        path.make_dir(year.to_string());
    }
    write(path, "a.png", PNG);
    write(path, "b.png", PNG);
    write(path, "text", b"text");
    write(path, "new\nline", b"text");
    write(path, ".hidden", PNG);
    write(path, "c.png.tmp", PNG);
    write(path, "excluded.png", b"1");
    write(path, "secret", b"text");
    path.set_mode("secret", 0o000);
    path.link("2001", "current");
    path.link("nowhere", "dangling");
    path.link("/etc/passwd", "outside");
    path.link("text", "text.png");
    let large = fs::File::create(path.join("large.png")).unwrap();
    large.set_len(1 << 32).unwrap();
    let large = fs::File::create(path.join("large.mkv")).unwrap();
    large.set_len(1 << 32).unwrap();
    drop(large);
    let patterns = jtp_store::Patterns::new().exclude("excl*").unwrap();
    let store = without_privileges(|| build(DirStore::builder(path).patterns(patterns)));
    assert_eq!(listed(&store), ["a.png"]);
    let left_out = store.left_out();
    for (reason, count) in [
        (LeftOutReason::Folder, 29),
        (LeftOutReason::NotAnImage, 4),
        (LeftOutReason::Hidden, 1),
        (LeftOutReason::Temporary, 1),
        (LeftOutReason::Excluded, 1),
        (LeftOutReason::Duplicate, 1),
        (LeftOutReason::Unreadable, 1),
        (LeftOutReason::TooLarge, 1),
        (LeftOutReason::Link, 3),
        (LeftOutReason::Changing, 0),
    ] {
        assert_eq!(left_out.count(reason), count, "{reason:?}");
    }
    let folders: Vec<_> = left_out.examples(LeftOutReason::Folder).collect();
    assert_eq!((folders.len(), folders[0]), (20, Path::new("2001")));
    let others: Vec<_> = left_out.examples(LeftOutReason::NotAnImage).collect();
    assert_eq!(others[..2], ["large.mkv", "new\nline"].map(Path::new));
    let duplicates: Vec<_> = left_out.examples(LeftOutReason::Duplicate).collect();
    assert_eq!(duplicates, [Path::new("b.png")]);
}

#[test]
fn files_of_a_folder_that_was_away_are_not_read_again() {
    let place = temp();
    let (path, away) = (place.join("images"), place.join("away"));
    fs::create_dir(&path).unwrap();
    for n in 0..100 {
        write(&path, &format!("file-{n}"), b"text");
    }
    write(&path, "a.png", PNG);
    settle(&path);
    let store = build(DirStore::builder(&path).follow(BY_SCANS));
    assert_eq!(reads(&store), 100);
    for has_mount_point in [false, true] {
        fs::rename(&path, &away).unwrap();
        wait_for_names(&store, &[]);
        if has_mount_point {
            fs::create_dir(&path).unwrap();
            write(&path, "b.png", b"of another folder");
            wait_for_names(&store, &["b.png"]);
            fs::remove_dir_all(&path).unwrap();
            wait_for_names(&store, &[]);
        }
        fs::rename(&away, &path).unwrap();
        wait_for_names(&store, &["a.png"]);
        // The next scan finds all others unchanged, if they are known.
        write(&path, "c.png", b"c");
        wait_for_names(&store, &["a.png", "c.png"]);
        path.remove("c.png");
        wait_for_names(&store, &["a.png"]);
        assert_eq!(reads(&store), 100, "{has_mount_point}");
    }
}

#[test]
fn files_known_by_name_alone_are_not_read_again_at_the_next_start() {
    let place = temp();
    let (path, index) = (place.join("images"), place.join("cache/index"));
    fs::create_dir(&path).unwrap();
    let day_ago = std::time::SystemTime::now() - Duration::from_secs(86_400);
    for n in 0..100 {
        write(&path, &format!("file-{n}"), b"text");
        let file = fs::File::open(path.join(format!("file-{n}"))).unwrap();
        file.set_modified(day_ago).unwrap();
    }
    let open = || {
        let builder = DirStore::builder(&path).index_file(&index);
        build(builder.distrust_inodes(true).follow(Follow::Never))
    };
    assert_eq!(reads(&open()), 100);
    assert_eq!(reads(&open()), 0);
    // By its new name it is another file.
    path.rename("file-1", "file-1.txt");
    assert_eq!(reads(&open()), 1);
    path.rename("file-2", "file-2.tif");
    assert_eq!(listed(&open()), ["file-2.tif"]);
}
