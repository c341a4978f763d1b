//! Indexes on real file systems: exFAT over FUSE, whose inodes are numbered in the order of look-ups and whose times are
//! whole seconds, and ext4 under another device number. The tests of `distrust.rs` simulate the same without root.
#![cfg(target_os = "linux")]

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::*;
use jtp_core::{FileType, Flags, Image, ImageId};
use jtp_store::{DirStore, FileName, Follow, IndexProgress, OutputFolder, ScanMode};

/// A file system in a file, which can be mounted repeatedly.
struct Disk {
    place: Temp,
    mount: &'static [&'static str],
    device: Option<String>,
}

fn run(command: &[&str]) -> Option<String> {
    let (program, arguments) = command.split_first()?;
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

impl Disk {
    /// Makes and mounts a file system. `None`, with the reason on stderr, if root or a tool is missing.
    fn new(make: &[&str], mount: &'static [&'static str]) -> Option<Disk> {
        let mut disk = Disk {
            place: temp(),
            mount,
            device: None,
        };
        let image = disk.image();
        File::create(&image).unwrap().set_len(32 << 20).unwrap();
        fs::create_dir(disk.path()).unwrap();
        let made = run(&[make, &[image.to_str().unwrap()]].concat());
        if made.is_none() || !disk.mount() {
            // Not by `eprintln!`, which the test harness captures.
            let reason = format!("skipped: {make:?} or {mount:?} is missing or not allowed here\n");
            std::io::stderr().write_all(reason.as_bytes()).unwrap();
            return None;
        }
        Some(disk)
    }

    fn exfat() -> Option<Disk> {
        Disk::new(&["mkfs.exfat"], &["mount.exfat-fuse"])
    }

    fn ext4() -> Option<Disk> {
        Disk::new(&["mkfs.ext4", "-q"], &["mount", "-t", "ext4"])
    }

    /// With inodes of 128 bytes, which have whole seconds only.
    fn ext4_with_small_inodes() -> Option<Disk> {
        let make = ["mkfs.ext4", "-q", "-I", "128"];
        Disk::new(&make, &["mount", "-t", "ext4"])
    }

    fn image(&self) -> PathBuf {
        self.place.join("image")
    }

    /// The mount point.
    fn path(&self) -> PathBuf {
        self.place.join("disk")
    }

    fn mount(&mut self) -> bool {
        let device = run(&["losetup", "-f", "--show", self.image().to_str().unwrap()]);
        self.device = device;
        let Some(device) = &self.device else {
            return false;
        };
        let path = self.path();
        run(&[self.mount, &[device, path.to_str().unwrap()]].concat()).is_some()
    }

    fn unmount(&mut self) {
        let path = self.path();
        if run(&["umount", path.to_str().unwrap()]).is_none() {
            // After a failure the folder may still be open.
            let _ = run(&["umount", "-l", path.to_str().unwrap()]);
        }
        if let Some(device) = self.device.take() {
            let _ = run(&["losetup", "-d", &device]);
        }
    }

    fn remount(&mut self) {
        self.unmount();
        assert!(self.mount());
    }

    /// Mounts it under another device number.
    fn remount_elsewhere(&mut self) {
        let before = self.device.take();
        self.unmount();
        assert!(self.mount());
        let _ = run(&["losetup", "-d", &before.unwrap()]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.unmount();
    }
}

/// Five files of one size and time. The time is not that of the test, so that no file counts as just written.
fn five_files(folder: &Path) -> Vec<(String, ImageId)> {
    let files = (1..=5).map(|n| {
        let name = format!("f{n}.png");
        let id = write(folder, &name, format!("file {n}"));
        (name, id)
    });
    let files: Vec<_> = files.collect();
    for (name, _) in &files {
        set_age(&folder.join(name), 1000);
    }
    files
}

/// A store that does not follow its folder, and what its initial index reported last.
fn open_never(folder: &Path, index: &Path) -> (Arc<DirStore>, IndexProgress) {
    let last = Arc::new(Mutex::new(IndexProgress::default()));
    let sink = Arc::clone(&last);
    let builder = DirStore::builder(folder)
        .follow(Follow::Never)
        .index_file(index)
        .progress(move |progress| *sink.lock().unwrap() = progress);
    let store = build(builder);
    let last = *last.lock().unwrap();
    (store, last)
}

#[test]
fn on_exfat_the_ids_are_right_after_one_of_five_files_was_removed_and_inodes_were_renumbered() {
    let Some(mut disk) = Disk::exfat() else {
        return;
    };
    let cache = temp();
    let index = cache.join("index");
    let mut files = five_files(&disk.path());
    // Renumbers the inodes in the order of names.
    disk.remount();
    let (store, _) = open_never(&disk.path(), &index);
    assert_eq!(entries(&store), files);
    drop(store);
    disk.remount();
    disk.path().remove("f2.png");
    files.remove(1);
    disk.remount();
    let (store, progress) = open_never(&disk.path(), &index);
    assert_eq!(entries(&store), files);
    assert_eq!(progress.bytes, 0, "the index has all files");
    for (_, id) in files {
        assert_eq!(ImageId::of(&body(&store, image(&store, id)).unwrap()), id);
    }
}

#[test]
fn on_exfat_a_scan_of_an_output_folder_misses_the_file_that_was_removed() {
    let Some(mut disk) = Disk::exfat() else {
        return;
    };
    let files = five_files(&disk.path());
    disk.remount();
    let ids = |path: PathBuf| scan(&OutputFolder::open(path).unwrap(), ScanMode::Ids);
    assert_eq!(ids(disk.path()).images.len(), 5);
    disk.remount();
    disk.path().remove("f2.png");
    disk.remount();
    let found = ids(disk.path());
    let has: Vec<_> = files.iter().map(|(_, id)| found.contains(*id)).collect();
    assert_eq!(has, [true, false, true, true, true]);
}

/// Writes two files of one size within one second of the file system, calling `between` after the first. Repeats that
/// until both have the same time.
///
/// Returns the ID of the second file, and whether the times were the same.
fn rewrite_within_a_second(folder: &Path, mut between: impl FnMut(ImageId)) -> (ImageId, bool) {
    let mut last = ImageId(0);
    for n in 0..10 {
        let path = folder.join("a.png");
        let id = write(folder, "a.png", format!("first  {n}"));
        let before = fs::metadata(&path).unwrap();
        between(id);
        let id = write(folder, "a.png", format!("second {n}"));
        let after = fs::metadata(&path).unwrap();
        if (before.mtime(), before.mtime_nsec()) == (after.mtime(), after.mtime_nsec()) {
            return (id, true);
        }
        last = id;
    }
    (last, false)
}

#[test]
fn a_scan_of_an_output_folder_finds_a_file_rewritten_within_the_second() {
    for disk in [Disk::exfat(), Disk::ext4_with_small_inodes()] {
        let Some(disk) = disk else {
            continue;
        };
        let folder = OutputFolder::open(disk.path()).unwrap();
        let (id, same_time) = rewrite_within_a_second(&disk.path(), |first| {
            assert!(scan(&folder, ScanMode::Ids).contains(first));
            std::thread::sleep(Duration::from_millis(100)); // More than the tick of a kernel.
            assert!(scan(&folder, ScanMode::Ids).contains(first));
        });
        assert!(same_time, "no two writes were within one second");
        assert!(scan(&folder, ScanMode::Ids).contains(id));
        drop(folder);
    }
}

#[test]
fn a_store_finds_a_file_rewritten_within_the_second() {
    for disk in [Disk::exfat(), Disk::ext4_with_small_inodes()] {
        let Some(disk) = disk else {
            continue;
        };
        let follow = Follow::Interval(Duration::from_millis(10));
        let store = build(DirStore::builder(disk.path()).follow(follow));
        // Without leases, as on exFAT, the store lists a file only after that second.
        let (id, _) = rewrite_within_a_second(&disk.path(), |first| {
            wait_for(&store, |catalog| catalog.contains(first));
        });
        wait_for(&store, |catalog| catalog.contains(id) && catalog.len() == 1);
        drop(store);
    }
}

#[test]
fn under_another_device_number_the_files_of_ext4_are_not_read_again() {
    let Some(mut disk) = Disk::ext4() else {
        return;
    };
    let cache = temp();
    let index = cache.join("index");
    let files = five_files(&disk.path());
    settle(&disk.path());
    drop(open_never(&disk.path(), &index));
    scan(&OutputFolder::open(disk.path()).unwrap(), ScanMode::Ids);
    let device = fs::metadata(disk.path()).unwrap().dev();
    disk.remount_elsewhere();
    assert_ne!(fs::metadata(disk.path()).unwrap().dev(), device);
    let (store, progress) = open_never(&disk.path(), &index);
    assert_eq!(entries(&store), files);
    assert_eq!(progress.bytes, 0, "the index has all files");
    drop(store);
}

#[test]
fn the_index_of_a_disk_is_used_when_the_store_was_opened_before_the_disk_was_mounted() {
    let Some(mut disk) = Disk::ext4() else {
        return;
    };
    let cache = temp();
    let index = cache.join("index");
    write(&disk.path(), "a.png", b"a");
    settle(&disk.path());
    drop(open_never(&disk.path(), &index));
    // A wrong ID in the index shows that it is used.
    make_index_lie(&index, ImageId(42));
    disk.unmount();
    let store = build(DirStore::builder(disk.path()).index_file(&index));
    assert!(listed(&store).is_empty());
    assert!(disk.mount());
    wait_for(&store, |catalog| catalog.contains(ImageId(42)));
    drop(store);
}

#[test]
fn a_disk_that_is_unmounted_and_mounted_again_while_a_store_is_open_is_not_read_again() {
    let Some(disk) = Disk::ext4() else {
        return;
    };
    let cache = temp();
    let index = cache.join("index");
    write(&disk.path(), "a.png", b"a");
    settle(&disk.path());
    drop(open_never(&disk.path(), &index));
    // A wrong ID in the index shows that it is used.
    make_index_lie(&index, ImageId(42));
    let store = build(DirStore::builder(disk.path()).index_file(&index));
    let path = disk.path();
    let device = disk.device.clone().unwrap();
    for _ in 0..2 {
        wait_for(&store, |catalog| catalog.contains(ImageId(42)));
        // The store has the folder open.
        run(&["umount", "-l", path.to_str().unwrap()]).unwrap();
        wait_for(&store, jtp_core::Catalog::is_empty);
        run(&["mount", "-t", "ext4", &device, path.to_str().unwrap()]).unwrap();
    }
    wait_for(&store, |catalog| catalog.contains(ImageId(42)));
    drop(store);
}

#[test]
fn images_committed_to_exfat_are_found_by_the_next_scan_after_a_remount() {
    let Some(mut disk) = Disk::exfat() else {
        return;
    };
    let folder = OutputFolder::open(disk.path()).unwrap();
    let ids: Vec<_> = (0..5)
        .map(|n| {
            let bytes = format!("image {n}");
            let flags = Flags::new(FileType::Png, false);
            let id = ImageId::of(bytes.as_bytes());
            let mut file = folder.begin(&Image::new(id, flags, 7));
            file.append(bytes.as_bytes()).unwrap();
            let name = FileName::new(&format!("{n}.png"), id, FileType::Png);
            file.commit(&name, verified(bytes.as_bytes())).unwrap();
            id
        })
        .collect();
    drop(folder);
    disk.remount();
    let found = scan(&OutputFolder::open(disk.path()).unwrap(), ScanMode::Ids);
    assert!(ids.iter().all(|id| found.contains(*id)));
}
