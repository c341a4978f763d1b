//! Locks of other programs never stop a client, and temporary files belong to the client that made them.
#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use crate::common::*;
use jtp_core::{FileType, Flags, Image, ImageId};
use jtp_store::{FileName, OutputFolder, PendingFile, ScanMode};
use rustix::fs::{FlockOperation, flock};

/// A large image, the first part of which is in a temporary file.
fn begin(folder: &OutputFolder) -> (PendingFile, Vec<u8>) {
    let bytes = noise(600_000, 1);
    let flags = Flags::new(FileType::Png, false);
    let image = Image::new(ImageId::of(&bytes), flags, bytes.len() as u32);
    let mut file = folder.begin(&image);
    file.append(&bytes).unwrap();
    (file, bytes)
}

fn commit(file: PendingFile, bytes: &[u8], name: &str) {
    let name = FileName::new(name, ImageId::of(bytes), FileType::Png);
    file.commit(&name, verified(bytes)).unwrap();
}

fn hidden(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| name.starts_with(".jtp-")).collect();
    names.retain(|name| name != ".jtp-index");
    names.sort();
    names
}

/// Fails if `work` does not end.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, result) = mpsc::channel();
    thread::spawn(move || sender.send(work()));
    result.recv_timeout(PATIENCE).expect("it does not wait")
}

fn lock(path: &Path) -> File {
    let file = File::open(path).unwrap();
    flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
    file
}

#[test]
fn a_client_works_in_a_folder_that_another_program_has_locked() {
    let folder = temp();
    let path = folder.to_owned();
    write(&path, "old.png", b"old");
    write(
        &path,
        ".jtp-0123456789abcdef-0.part",
        b"of an unknown client",
    );
    let _lock = lock(&path);
    let inside = path.clone();
    in_time(move || {
        let folder = OutputFolder::open(&inside).unwrap();
        assert_eq!(scan(&folder, ScanMode::Ids).images.len(), 1);
        let (file, bytes) = begin(&folder);
        commit(file, &bytes, "new.png");
    });
    assert!(path.join("new.png").exists());
    // The other program may be a client without a lock file of its own.
    assert_eq!(hidden(&path), [".jtp-0123456789abcdef-0.part"]);
}

#[test]
fn a_client_does_not_lock_the_folder() {
    let folder = temp();
    let output = OutputFolder::open(&folder).unwrap();
    scan(&output, ScanMode::Ids);
    let (file, bytes) = begin(&output);
    drop(lock(&folder));
    commit(file, &bytes, "a.png");
    drop(lock(&folder));
}

#[test]
fn the_temporary_files_of_a_running_client_stay_and_those_of_a_crashed_one_go() {
    let folder = temp();
    let path = &*folder;
    for locked in [false, true] {
        let _lock = locked.then(|| lock(path));
        let running = OutputFolder::open(path).unwrap();
        let (file, bytes) = begin(&running);
        let mine = hidden(path);
        assert_eq!(mine.len(), 2, "{mine:?}");
        // What a crash leaves: nobody holds its lock.
        write(path, ".jtp-00000000000000aa.lock", b"");
        write(path, ".jtp-00000000000000aa-0.part", b"half");
        write(path, ".jtp-00000000000000aa-7.part", b"half");
        write(path, ".jtp-00000000000000bb.lock", b"");
        scan(&OutputFolder::open(path).unwrap(), ScanMode::Ids);
        assert_eq!(hidden(path), mine);
        commit(file, &bytes, "a.png");
        drop(running);
        assert!(hidden(path).is_empty());
    }
}

#[test]
fn a_closed_folder_has_no_lock_file_until_the_next_image() {
    let folder = temp();
    let output = OutputFolder::open(&folder).unwrap();
    for n in 0..2 {
        let (file, bytes) = begin(&output);
        assert_eq!(hidden(&folder).len(), 2);
        commit(file, &bytes, &format!("{n}.png"));
        output.close();
        assert!(hidden(&folder).is_empty());
    }
}

#[test]
fn a_client_that_writes_nothing_makes_no_lock_file() {
    let folder = temp();
    let output = OutputFolder::open(&folder).unwrap();
    scan(&output, ScanMode::Ids);
    assert!(hidden(&folder).is_empty());
}

#[test]
fn a_pipe_or_folder_in_place_of_a_lock_file_stops_nobody() {
    let folder = temp();
    let path = folder.to_owned();
    let fifo = rustix::fs::FileType::Fifo;
    let mode = rustix::fs::Mode::RWXU;
    let pipe = path.join(".jtp-00000000000000aa.lock");
    rustix::fs::mknodat(rustix::fs::CWD, pipe, fifo, mode, 0).unwrap();
    path.make_dir(".jtp-00000000000000bb.lock");
    write(&path, ".jtp-00000000000000aa-0.part", b"half");
    let inside = path.clone();
    in_time(move || scan(&OutputFolder::open(&inside).unwrap(), ScanMode::Ids));
    // These are no lock files, so the client of the temporary file has none.
    assert!(!hidden(&path).contains(&".jtp-00000000000000aa-0.part".to_owned()));
    assert!(path.join(".jtp-00000000000000bb.lock").is_dir());
}

#[test]
fn many_clients_that_start_and_end_at_once_lose_no_image() {
    let folder = temp();
    let path = &*folder;
    thread::scope(|scope| {
        for n in 0..4 {
            scope.spawn(move || {
                for round in 0..25 {
                    let output = OutputFolder::open(path).unwrap();
                    let (file, bytes) = begin(&output);
                    commit(file, &bytes, &format!("{n}-{round}.png"));
                }
            });
        }
    });
    assert!(hidden(path).is_empty());
    assert_eq!(fs::read_dir(path).unwrap().count(), 100);
}
