//! What `--mirror` never does: lose an image when it is killed or the disk is full, delete more than its bound. // R8

use std::collections::BTreeSet;
use std::fs;

use jtp_core::ImageId;
use rustix::process::Signal;

use crate::support::{CLIENT, Disk, Folder as _, Process, TestDir, noise};

/// The IDs of the images in a folder.
fn ids(dir: &TestDir, folder: &str) -> BTreeSet<ImageId> {
    dir.files(folder).into_iter().map(|(_, id)| id).collect()
}

/// A server that has deleted 3 of the 30 images in the output folder, renamed 5, changed 10 and added 10.
fn changed() -> TestDir {
    let dir = TestDir::new();
    dir.make_dir("output");
    for number in 0..30 {
        let bytes = noise(400, 1 + number);
        dir.write(format!("output/{number:02}.png"), &bytes);
        match number {
            0..3 => {}
            3..8 => dir.add(&format!("renamed{number}.png"), &bytes),
            8..18 => dir.add(&format!("{number:02}.png"), &noise(400, 1000 + number)),
            _ => dir.add(&format!("{number:02}.png"), &bytes),
        }
    }
    for number in 0..10 {
        dir.add(&format!("new{number}.png"), &noise(400, 2000 + number));
    }
    dir
}

#[test]
fn r8_mirror_that_is_killed_loses_nothing_and_the_next_run_completes_it() {
    for (event, count) in [
        ("\"renamed\"", 1),
        ("\"fetched\"", 1),
        ("\"fetched\"", 5),
        ("\"deleted\"", 1),
    ] {
        let dir = changed();
        let before = ids(&dir, "output");
        let server = dir.serve("--no-tls");
        let args = format!("--addr {} --mirror --backup-dir old --json", server.address);
        let killed = Process::start(dir.command(CLIENT, &args));
        for _ in 0..count {
            killed.out.wait_for(event);
        }
        killed.signal(Signal::KILL);
        killed.wait();
        let kept = || &ids(&dir, "output") | &ids(&dir, "old");
        assert!(before.is_subset(&kept()), "{event} {count}");
        let output = dir.run(CLIENT, &args);
        assert_eq!(output.code, Some(0), "{event} {count}: {output:?}");
        assert_eq!(dir.files("output"), dir.files("images"), "{event} {count}");
        let gone = &before - &ids(&dir, "images");
        assert_eq!(ids(&dir, "old"), gone, "{event} {count}");
        let hidden = fs::read_dir(dir.path("old")).unwrap();
        assert_eq!(hidden.count(), gone.len(), "{event} {count}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn r8_what_a_full_backup_disk_cannot_take_stays() {
    let dir = TestDir::new();
    dir.make_dir("output");
    for number in 0..20 {
        let name = format!("{number:02}.png");
        dir.write(format!("output/{name}"), noise(100_000, number));
        match number {
            0..2 => {}
            2..12 => dir.add(&name, &noise(500, 1000 + number)),
            _ => dir.add(&name, &noise(100_000, number)),
        }
    }
    let (before, server) = (ids(&dir, "output"), dir.serve("--no-tls"));
    let disk = dir.path("disk");
    let Some(mounted) = Disk::mount(&disk, "512k") else {
        return;
    };
    let args = "--mirror --backup-dir disk/old";
    let output = dir.fetch(&server, &args);
    let kept = &ids(&dir, "output") | &ids(&dir, "disk/old");
    let (backed_up, names) = (dir.files("disk/old").len(), dir.names("disk/old"));
    drop(mounted);
    output.assert_exit(8);
    output.assert_in_err("no space left");
    assert!(before.is_subset(&kept), "{output:?}");
    assert!((1..=5).contains(&backed_up), "{names:?}");
    assert!(names.iter().all(|name| !name.starts_with('.')), "{names:?}");
    // With space, the next run goes on.
    let output = dir.fetch(&server, "--mirror --backup-dir old");
    output.assert_no_error();
    assert_eq!(dir.files("output"), dir.files("images"));
}

#[test]
fn files_that_a_server_leaves_out_by_name_are_neither_deleted_nor_extra() {
    let dir = TestDir::new();
    for number in 0..20 {
        dir.add(&format!("{number:02}.png"), &noise(500, number + 1));
    }
    let server = dir.serve("--no-tls");
    dir.fetch(&server, "--mirror").assert_no_error();
    let names = [
        "05.png_original",
        "06.png~",
        "07.bak",
        "08.png.part",
        "09.png.crdownload",
        "~$10.png",
        "11.tmp",
        "12.orig",
    ];
    for (number, name) in (0..).zip(names) {
        let bytes = noise(600, 200 + number);
        // The type shows in the first bytes.
        let bytes = [b"\x89PNG\r\n\x1a\n".as_slice(), &bytes].concat();
        dir.write(format!("output/{name}"), bytes);
    }
    dir.write("output/empty.png", b"");
    let before = dir.files("output");
    let output = dir.fetch(&server, "--mirror --max-delete 100%");
    output.assert_no_error();
    assert!(!output.out.contains("deleted"), "{output:?}");
    assert_eq!(dir.files("output"), before);
    dir.fetch(&server, "--check").assert_exit(0).assert_out("");
}

#[cfg(target_os = "linux")]
#[test]
fn full_disk_names_the_room_that_unlisted_files_take() {
    let dir = TestDir::new();
    for number in 0..12 {
        dir.add(&format!("{number:02}.png"), &noise(50_000, number));
    }
    let disk = dir.path("disk");
    let Some(mounted) = Disk::mount(&disk, "704k") else {
        return;
    };
    let server = dir.serve("--no-tls");
    let args = "--mirror --out disk --max-delete 50%";
    let first = dir.fetch(&server, &args);
    server.stop();
    for number in 0..3 {
        dir.remove(format!("images/{number:02}.png"));
        dir.add(&format!("new{number}.png"), &noise(50_000, 100 + number));
    }
    let server = dir.serve("--no-tls");
    let full = dir.fetch(&server, &args);
    let plan = dir.fetch(&server, &format!("{args} --dry-run"));
    drop(mounted);
    first.assert_no_error();
    full.assert_exit(8);
    let expected = "3 images of the folder (146.48 KiB) that the server does not list can be deleted to make room: --dry-run names them";
    full.assert_in_err(expected);
    full.assert_in_err("no space left").assert_in_err("--out");
    full.assert_not_in_err("the run ended early");
    assert_eq!(plan.out.matches("delete ").count(), 3, "{plan:?}");
}
