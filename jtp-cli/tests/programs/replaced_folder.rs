//! `--watch` while another folder, or another disk, takes the place of the output folder.

use std::fs;

use jtp_core::ImageId;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};
use rustix::process::Signal;

use crate::support::{CLIENT, Process, ProcessOutput, TestDir, noise};

const PLAIN: &str = "--no-tls";

fn watch(dir: &TestDir, address: &str, args: &[&str]) -> Process {
    let args = [&["--watch", "--addr", address], args].concat();
    let client = Process::start(dir.command(CLIENT, &args));
    client.err.wait_for("watching");
    client
}

#[track_caller]
fn assert_ended(dir: &TestDir, output: &ProcessOutput) {
    assert_eq!(output.code, Some(8), "{output:?}");
    let last = output.err.lines().last().unwrap_or_default();
    let words = "output was moved, removed or replaced while it was in use";
    assert!(last.contains(words), "{output:?}");
    assert!(!output.out.contains("new.png"), "{output:?}");
    assert!(dir.names("output").is_empty(), "{output:?}");
}

#[test]
fn r8_watch_ends_at_the_next_image_after_the_folder_was_replaced() {
    for job in ["--batch", "--mirror"] {
        let dir = TestDir::with_images();
        let server = dir.serve(&[PLAIN]);
        let client = watch(&dir, &server.address, &[job]);
        fs::rename(dir.path("output"), dir.path("old")).unwrap();
        fs::create_dir(dir.path("output")).unwrap();
        dir.add("new.png", &noise(400, 5));
        assert_ended(&dir, &client.wait());
        assert_eq!(dir.names("old"), ["a.png", "b.jpg", "c.bmp"], "{job}");
    }
}

#[test]
fn r8_watch_ends_at_a_reconnect_after_the_folder_was_replaced_or_removed() {
    for is_removed in [false, true] {
        let dir = TestDir::with_images();
        let server = dir.serve(&[PLAIN]);
        let address = server.address.clone();
        let client = watch(&dir, &address, &["--batch"]);
        fs::rename(dir.path("output"), dir.path("old")).unwrap();
        if !is_removed {
            fs::create_dir(dir.path("output")).unwrap();
        }
        server.stop();
        client.err.wait_for("retrying in");
        let _server = dir.serve_on(&address, &[PLAIN]);
        assert_ended(&dir, &client.wait());
        assert_eq!(dir.path("output").exists(), !is_removed);
        assert_eq!(dir.names("old"), ["a.png", "b.jpg", "c.bmp"]);
    }
}

#[test]
fn r8_watch_ends_when_a_disk_is_mounted_over_the_folder() {
    let dir = TestDir::with_images();
    let server = dir.serve(&[PLAIN]);
    let client = watch(&dir, &server.address, &["--batch"]);
    let output = dir.path("output");
    if mount("tmpfs", &output, "tmpfs", MountFlags::empty(), None).is_err() {
        eprintln!("skipped: cannot mount a tmpfs");
        client.signal(Signal::INT);
        client.wait();
        return;
    }
    dir.add("new.png", &noise(400, 5));
    let ended = client.wait();
    let names = dir.names("output");
    unmount(&output, UnmountFlags::DETACH).unwrap();
    assert_eq!((ended.code, names.len()), (Some(8), 0), "{ended:?}");
    assert_eq!(dir.names("output"), ["a.png", "b.jpg", "c.bmp"]);
}

#[test]
fn watch_goes_on_when_the_path_still_leads_to_the_folder() {
    let dir = TestDir::with_images();
    fs::create_dir(dir.path("first")).unwrap();
    std::os::unix::fs::symlink("first", dir.path("output")).unwrap();
    let server = dir.serve(&[PLAIN]);
    let client = watch(&dir, &server.address, &["--batch"]);
    fs::rename(dir.path("first"), dir.path("second")).unwrap();
    fs::remove_file(dir.path("output")).unwrap();
    std::os::unix::fs::symlink("second", dir.path("output")).unwrap();
    dir.add("new.png", &noise(400, 5));
    client.out.wait_for("fetched new.png");
    client.signal(Signal::INT);
    assert_eq!(client.wait().code, Some(130));
    assert_eq!(dir.names("second").len(), 4);
}

#[test]
fn w9_sub_folder_that_is_replaced_by_a_link_meanwhile_is_reported_as_in_a_plain_run() {
    let dir = TestDir::new();
    fs::create_dir(dir.path("images/sub")).unwrap();
    dir.add("sub/a.png", &noise(400, 1));
    let server = dir.serve(&[PLAIN, "--recursive"]);
    let client = watch(&dir, &server.address, &["--batch"]);
    fs::rename(dir.path("output/sub"), dir.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(dir.path("elsewhere"), dir.path("output/sub")).unwrap();
    let image = noise(400, 2);
    dir.add("sub/b.png", &image);
    client
        .out
        .wait_for(&format!("sub⧸b-{}.png", ImageId::of(&image)));
    let line = client.err.wait_for("sub");
    let expected = "warning: sub: a link is in place of this folder and is not followed";
    assert!(line.starts_with(expected), "{line}");
    client.signal(Signal::INT);
    let output = client.wait();
    assert!(!output.err.contains("failed"), "{output:?}");
    assert_eq!(fs::read_dir(dir.path("elsewhere")).unwrap().count(), 1);
}

#[test]
fn w9_sub_folder_that_cannot_be_written_is_named_with_the_name_that_the_image_has_instead() {
    let dir = TestDir::new();
    fs::create_dir(dir.path("images/sub")).unwrap();
    dir.add("sub/a.png", &noise(400, 1));
    let server = dir.serve(&[PLAIN, "--recursive"]);
    dir.fetch(&server, &["--batch"]).assert_no_error();
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
    let server = dir.serve(&[PLAIN, "--recursive"]);
    let output = dir.fetch(&server, &["--batch"]);
    unmount(&sub, UnmountFlags::DETACH).unwrap();
    let id = ImageId::of(&image);
    let expected = format!(
        "failed: sub/b.png ({id}): a file of this name cannot be written (Read-only file system (os error 30)); the image is stored as sub⧸b-{id}.png\n"
    );
    assert!(output.err.contains(&expected), "{output:?}");
    assert_eq!(output.code, Some(8), "{output:?}");
    assert!(dir.path("output").join(format!("sub⧸b-{id}.png")).exists());
}
