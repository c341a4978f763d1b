//! `--watch` while another folder, or another disk, takes the place of the output folder.

use std::fs;

use jtp_core::ImageId;
use rustix::mount::{MountFlags, UnmountFlags, mount_bind, mount_remount, unmount};
use rustix::process::Signal;

use crate::support::{Disk, Folder as _, Output, TestDir, noise};

#[track_caller]
fn assert_ended(dir: &TestDir, output: &Output) {
    output.assert_exit(8);
    let last = output.err.lines().last().unwrap_or_default();
    let words = "output was moved, removed or replaced while it was in use";
    assert!(last.contains(words), "{output:?}");
    assert!(!output.out.contains("new.png"), "{output:?}");
    assert!(dir.names("output").is_empty(), "{output:?}");
}

#[test]
fn r8_watch_ends_once_the_folder_was_replaced_or_removed() {
    for (job, is_removed, at_reconnect) in [
        ("--batch", false, false),
        ("--mirror", false, false),
        ("--batch", false, true),
        ("--batch", true, true),
    ] {
        let dir = TestDir::with_images();
        let server = dir.serve("--no-tls");
        let address = server.address.clone();
        let client = dir.watch(&address, job);
        dir.rename("output", "old");
        if !is_removed {
            dir.make_dir("output");
        }
        let mut server = Some(server);
        if at_reconnect {
            drop(server.take());
            client.err.wait_for("retrying in");
            server = Some(dir.serve_on(&address, "--no-tls"));
        } else {
            dir.add("new.png", &noise(400, 5));
        }
        assert_ended(&dir, &client.wait());
        drop(server);
        assert_eq!(dir.path("output").exists(), !is_removed);
        assert_eq!(dir.names("old"), ["a.png", "b.jpg", "c.bmp"], "{job}");
    }
}

#[test]
fn r8_watch_ends_when_a_disk_is_mounted_over_the_folder() {
    let dir = TestDir::with_images();
    let server = dir.serve("--no-tls");
    let client = dir.watch(&server.address, "--batch");
    let output = dir.path("output");
    let Some(disk) = Disk::mount(&output, "1m") else {
        return;
    };
    dir.add("new.png", &noise(400, 5));
    let ended = client.wait();
    let names = dir.names("output");
    drop(disk);
    ended.assert_exit(8);
    assert!(names.is_empty(), "{names:?}");
    assert_eq!(dir.names("output"), ["a.png", "b.jpg", "c.bmp"]);
}

#[test]
fn watch_goes_on_when_the_path_still_leads_to_the_folder() {
    let dir = TestDir::with_images();
    dir.make_dir("first");
    dir.link("first", "output");
    let server = dir.serve("--no-tls");
    let client = dir.watch(&server.address, "--batch");
    dir.rename("first", "second");
    dir.remove("output");
    dir.link("second", "output");
    dir.add("new.png", &noise(400, 5));
    client.out.wait_for("fetched new.png");
    client.end(Signal::INT).assert_exit(130);
    assert_eq!(dir.names("second").len(), 4);
}

#[test]
fn w9_sub_folder_that_is_replaced_by_a_link_meanwhile_is_reported_as_in_a_plain_run() {
    let dir = TestDir::new();
    dir.make_dir("images/sub");
    dir.add("sub/a.png", &noise(400, 1));
    let server = dir.serve("--no-tls --recursive");
    let client = dir.watch(&server.address, "--batch");
    dir.rename("output/sub", "elsewhere");
    dir.link(dir.path("elsewhere"), "output/sub");
    let image = noise(400, 2);
    dir.add("sub/b.png", &image);
    client
        .out
        .wait_for(&format!("sub⧸b-{}.png", ImageId::of(&image)));
    let line = client.err.wait_for("sub");
    let expected = "warning: sub: a link is in place of this folder and is not followed";
    assert!(line.starts_with(expected), "{line}");
    client.signal(Signal::INT);
    client.wait().assert_not_in_err("failed");
    assert_eq!(fs::read_dir(dir.path("elsewhere")).unwrap().count(), 1);
}

#[test]
fn w9_sub_folder_that_cannot_be_written_is_named_with_the_name_that_the_image_has_instead() {
    let dir = TestDir::new();
    dir.make_dir("images/sub");
    dir.add("sub/a.png", &noise(400, 1));
    let server = dir.serve("--no-tls --recursive");
    dir.fetch(&server, "--batch").assert_no_error();
    let sub = dir.path("output/sub");
    let flags = MountFlags::BIND | MountFlags::RDONLY;
    let is_read_only = mount_bind(&sub, &sub).is_ok() && mount_remount(&sub, flags, "").is_ok();
    if !is_read_only {
        eprintln!("skipped: nothing can be mounted here");
        return;
    }
    let image = noise(400, 2);
    dir.add("sub/b.png", &image);
    server.stop();
    let server = dir.serve("--no-tls --recursive");
    let output = dir.fetch(&server, "--batch");
    unmount(&sub, UnmountFlags::DETACH).unwrap();
    let id = ImageId::of(&image);
    let expected = format!(
        "failed: sub/b.png ({id}): a file of this name cannot be written (Read-only file system (os error 30)); the image is stored as sub⧸b-{id}.png\n"
    );
    output.assert_in_err(&expected);
    output.assert_exit(8);
    assert!(dir.path("output").join(format!("sub⧸b-{id}.png")).exists());
}
