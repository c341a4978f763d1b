//! Disks that can be mounted and unmounted. That needs root and loop devices.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use super::{Temp, temp};

/// A file system in a file, which can be mounted repeatedly.
#[derive(Debug)]
pub struct Disk {
    place: Temp,
    mount: &'static [&'static str],
    device: Option<String>,
}

/// The output of a program. `None` if it is missing or fails.
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

    pub fn exfat() -> Option<Disk> {
        Disk::new(&["mkfs.exfat"], &["mount.exfat-fuse"])
    }

    pub fn ext4() -> Option<Disk> {
        Disk::new(&["mkfs.ext4", "-q"], &["mount", "-t", "ext4"])
    }

    /// With inodes of 128 bytes, which have whole seconds only.
    pub fn ext4_with_small_inodes() -> Option<Disk> {
        let make = ["mkfs.ext4", "-q", "-I", "128"];
        Disk::new(&make, &["mount", "-t", "ext4"])
    }

    fn image(&self) -> PathBuf {
        self.place.join("image")
    }

    /// The mount point.
    pub fn path(&self) -> PathBuf {
        self.place.join("disk")
    }

    pub fn mount(&mut self) -> bool {
        if self.device.is_none() {
            self.device = run(&["losetup", "-f", "--show", self.image().to_str().unwrap()]);
        }
        let Some(device) = &self.device else {
            return false;
        };
        let path = self.path();
        run(&[self.mount, &[device, path.to_str().unwrap()]].concat()).is_some()
    }

    pub fn unmount(&mut self) {
        // After a failure the folder may still be open.
        if run(&["umount", self.path().to_str().unwrap()]).is_none() {
            self.detach();
        }
        if let Some(device) = self.device.take() {
            let _ = run(&["losetup", "-d", &device]);
        }
    }

    /// Unmounts it although the folder is open.
    pub fn detach(&self) {
        let _ = run(&["umount", "-l", self.path().to_str().unwrap()]);
    }

    pub fn remount(&mut self) {
        self.unmount();
        assert!(self.mount());
    }

    /// Mounts it under another device number.
    pub fn remount_elsewhere(&mut self) {
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
