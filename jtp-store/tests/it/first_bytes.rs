//! Files without an image extension: they are images by their first bytes alone.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::common::*;
use jtp_core::FileType;
use jtp_driver::store::ImageStore;
use jtp_store::{DirStore, DirStoreBuilder, Follow, LeftOutReason};

const SOON: Duration = Duration::from_secs(2);
const PNG: &[u8] = b"\x89PNG\r\n\x1a\nrest";
const JPEG: &[u8] = b"\xff\xd8\xff\xe0 rest";

fn reads(store: &DirStore) -> u64 {
    store.counters().first_bytes_read
}

/// Waits until the time of a file's last change identifies its contents.
fn wait_until_settled(file: &Path) {
    let written = fs::metadata(file).unwrap().modified().unwrap();
    while written.elapsed().unwrap() < Duration::from_millis(60) {
        std::thread::yield_now();
    }
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
    wait_until_settled(&path.join(".hidden"));
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
    const COUNT: u64 = 10_000;
    let place = temp();
    let (path, index) = (place.join("images"), place.join("cache/index"));
    fs::create_dir(&path).unwrap();
    for n in 0..COUNT {
        path.write(format!("file-{n}"), b"text");
    }
    write(&path, "a.png", PNG);
    wait_until_settled(&path.join("a.png"));
    let builder = || {
        DirStore::builder(&path)
            .index_file(&index)
            .follow(Follow::Interval(Duration::from_millis(10)))
    };
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

fn each_way_to_follow(mut test: impl FnMut(DirStoreBuilder, &Path)) {
    for follow in [Follow::Events, Follow::Interval(Duration::from_millis(20))] {
        for distrust in [false, true] {
            let folder = temp();
            let builder = DirStore::builder(&folder);
            test(builder.follow(follow).distrust_inodes(distrust), &folder);
        }
    }
}

#[test]
fn a_file_that_becomes_an_image_or_ceases_to_be_one_is_noticed() {
    each_way_to_follow(|builder, path| {
        write(path, "text", b"text");
        write(path, "empty", b"");
        let store = build(builder);
        assert!(listed(&store).is_empty());
        write(path, "text", PNG);
        wait_for_names(&store, &["text"]);
        write(path, "empty", JPEG);
        wait_for_names(&store, &["empty", "text"]);
        write(path, "text", b"text again");
        wait_for_names(&store, &["empty"]);
        path.rename("empty", "renamed");
        wait_for_names(&store, &["renamed"]);
        path.remove("renamed");
        wait_for_names(&store, &[]);
    });
}

#[test]
fn a_download_appears_when_it_gets_its_name() {
    each_way_to_follow(|builder, path| {
        let store = build(builder);
        write(path, "IMG_0001.part", PNG);
        write(path, "a.png.crdownload", JPEG);
        // Shows that the others were seen.
        write(path, "b.png", b"1");
        wait_for_names(&store, &["b.png"]);
        path.rename("IMG_0001.part", "IMG_0001");
        path.rename("a.png.crdownload", "a.png");
        wait_for_names(&store, &["IMG_0001", "a.png", "b.png"]);
        path.rename("a.png", "a.png~");
        wait_for_names(&store, &["IMG_0001", "b.png"]);
    });
}

#[test]
fn a_rename_changes_whether_a_file_is_an_image() {
    each_way_to_follow(|builder, path| {
        write(path, "scan", b"not known by its bytes");
        let store = build(builder);
        path.rename("scan", "scan.tif");
        wait_for_names(&store, &["scan.tif"]);
        path.rename("scan.tif", "scan");
        wait_for_names(&store, &[]);
    });
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
fn a_link_to_a_file_is_listed_if_that_is_an_image_by_its_own_name_or_bytes() {
    let folder = temp();
    let path = &*folder;
    path.make_dir("sub");
    write(path, "sub/IMG", PNG);
    write(path, "sub/text", b"secret");
    path.link("sub/IMG", "link");
    path.link("sub/text", "text.png");
    path.link("sub", "current");
    path.link("nowhere", "dangling");
    path.link("/etc/passwd", "outside");
    let store = open_store(path);
    assert_eq!(listed(&store), ["link"]);
    let left_out = store.left_out();
    let links: Vec<_> = left_out.examples(LeftOutReason::Link).collect();
    let expected = ["current", "dangling", "outside"].map(Path::new);
    assert_eq!(links, expected);
    assert_eq!(left_out.count(LeftOutReason::NotAnImage), 1);
    // Its target is written under its other name.
    write(path, "sub/text", JPEG);
    wait_for_names(&store, &["link", "text.png"]);
}

#[test]
fn a_pipe_is_not_opened() {
    use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
    use std::os::unix::fs::OpenOptionsExt;
    let folder = temp();
    let path = &*folder;
    for name in ["pipe", "pipe.png"] {
        mknodat(CWD, path.join(name), FileType::Fifo, Mode::RWXU, 0).unwrap();
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
    let is_readable = fs::read(path.join("secret")).is_ok();
    let large = fs::File::create(path.join("large.png")).unwrap();
    large.set_len(1 << 32).unwrap();
    let large = fs::File::create(path.join("large.mkv")).unwrap();
    large.set_len(1 << 32).unwrap();
    drop(large);
    let patterns = jtp_store::Patterns::new().exclude("excl*").unwrap();
    let store = build(DirStore::builder(path).patterns(patterns.clone()));
    assert_eq!(listed(&store), ["a.png"]);
    let left_out = store.left_out();
    let (unreadable, others) = if is_readable { (0, 4) } else { (1, 3) };
    for (reason, count) in [
        (LeftOutReason::Folder, 29),
        (LeftOutReason::NotAnImage, others),
        (LeftOutReason::Hidden, 1),
        (LeftOutReason::Temporary, 1),
        (LeftOutReason::Excluded, 1),
        (LeftOutReason::Duplicate, 1),
        (LeftOutReason::Unreadable, unreadable),
        (LeftOutReason::TooLarge, 1),
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
fn a_file_that_is_renamed_into_or_out_of_the_selection_appears_or_disappears() {
    for follow in [Follow::Events, Follow::Interval(Duration::from_millis(20))] {
        let folder = temp();
        let path = &*folder;
        let patterns = jtp_store::Patterns::new().include("holiday-*").unwrap();
        let patterns = patterns.exclude("*.png").unwrap();
        let builder = DirStore::builder(path).patterns(patterns).only("BEACH");
        write(path, "holiday-beach.jpg", b"1");
        write(path, "holiday-beach.png", b"2");
        write(path, "holiday.jpg", b"3");
        write(path, "beach.jpg", b"4");
        let store: Arc<DirStore> = build(builder.follow(follow));
        assert_eq!(listed(&store), ["holiday-beach.jpg"]);
        assert_eq!(store.left_out().count(LeftOutReason::Excluded), 3);
        let rename = |from: &str, to: &str| path.rename(from, to);
        rename("beach.jpg", "holiday-beach-2.jpg");
        wait_for_names(&store, &["holiday-beach-2.jpg", "holiday-beach.jpg"]);
        rename("holiday-beach.jpg", "holiday-beach-2.png");
        wait_for_names(&store, &["holiday-beach-2.jpg"]);
    }
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
    wait_until_settled(&path.join("a.png"));
    let store = open_store(&path);
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
fn an_image_that_becomes_readable_is_listed() {
    each_way_to_follow(|builder, path| {
        write(path, "IMG", PNG);
        path.set_mode("IMG", 0o000);
        let is_readable = fs::read(path.join("IMG")).is_ok();
        let store = build(builder);
        if !is_readable {
            assert_eq!(store.left_out().count(LeftOutReason::Unreadable), 1);
        }
        path.set_mode("IMG", 0o600);
        wait_for_names(&store, &["IMG"]);
    });
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

#[test]
fn a_known_file_that_is_renamed_is_an_image_by_its_new_name() {
    let place = temp();
    let (path, index) = (place.join("images"), place.join("cache/index"));
    fs::create_dir(&path).unwrap();
    write(&path, "scan", b"a scan");
    write(&path, "other.tif", b"another");
    write(&path, "photo", JPEG);
    wait_until_settled(&path.join("photo"));
    let open = || build(DirStore::builder(&path).index_file(&index));
    assert_eq!(listed(&open()), ["other.tif", "photo"]);
    for (from, to) in [
        ("scan", "scan.tif"),
        ("other.tif", "other"),
        ("photo", "photo.x"),
    ] {
        path.rename(from, to);
    }
    assert_eq!(listed(&open()), ["photo.x", "scan.tif"]);
}
