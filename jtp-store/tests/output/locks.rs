//! Locks of other programs never stop a client, and temporary files belong to the client that made them.

use std::fs::{self, File};
use std::path::Path;
use std::thread;

use jtp_store::{OutputFolder, PendingFile, ScanMode};
use rustix::fs::{FlockOperation, flock};

use super::common::*;
use super::{begin, file_name, open, put};

/// A large image, the first part of which is in a temporary file.
fn begin_large(folder: &OutputFolder) -> (PendingFile, Vec<u8>) {
    let bytes = noise(600_000, 1);
    (begin(folder, &bytes), bytes)
}

fn commit(file: PendingFile, bytes: &[u8], name: &str) {
    file.commit(&file_name(name, bytes), verified(bytes))
        .unwrap();
}

/// The files of clients, but for the index.
fn hidden(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| name.starts_with(".jtp-")).collect();
    names.retain(|name| name != ".jtp-index");
    names.sort();
    names
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
        let folder = open(&inside);
        assert_eq!(scan(&folder, ScanMode::Ids).images.len(), 1);
        put(&folder, "new.png", &noise(600_000, 1)).unwrap();
    });
    assert!(path.join("new.png").exists());
    // The other program may be a client without a lock file of its own.
    assert_eq!(hidden(&path), [".jtp-0123456789abcdef-0.part"]);
}

#[test]
fn a_client_does_not_lock_the_folder_and_has_a_lock_file_only_while_it_writes() {
    let folder = temp();
    let output = open(&folder);
    scan(&output, ScanMode::Ids);
    assert!(hidden(&folder).is_empty());
    for n in 0..2 {
        let (file, bytes) = begin_large(&output);
        assert_eq!(hidden(&folder).len(), 2);
        drop(lock(&folder));
        commit(file, &bytes, &format!("{n}.png"));
        drop(lock(&folder));
        output.close();
        assert!(hidden(&folder).is_empty());
    }
}

#[test]
fn the_temporary_files_of_a_running_client_stay_and_those_of_a_crashed_one_go() {
    let folder = temp();
    let path = &*folder;
    write(path, ".other.part", b"not of a client");
    for locked in [false, true] {
        let _lock = locked.then(|| lock(path));
        let running = open(path);
        let (file, bytes) = begin_large(&running);
        let mine = hidden(path);
        assert_eq!(mine.len(), 2, "{mine:?}");
        // What a crash leaves: nobody holds its lock.
        for name in ["aa.lock", "aa-0.part", "aa-7.part", "bb.lock"] {
            write(path, &format!(".jtp-00000000000000{name}"), b"half");
        }
        scan(&open(path), ScanMode::Names);
        assert_eq!(hidden(path), mine);
        if !locked {
            // What nobody knows, unless another program has locked the folder.
            write(path, ".jtp-00000000000000cc-0.part", b"half");
            path.link("/etc/passwd", ".jtp-link.part");
            scan(&open(path), ScanMode::Names);
            assert_eq!(hidden(path), mine);
        }
        commit(file, &bytes, "a.png");
        drop(running);
        assert!(hidden(path).is_empty());
    }
    assert!(path.join(".other.part").exists() && !path.join(".jtp-index").exists());
}

#[test]
fn a_pipe_or_folder_in_place_of_a_lock_file_stops_nobody() {
    let folder = temp();
    let path = folder.to_owned();
    pipe(&path.join(".jtp-00000000000000aa.lock"));
    path.make_dir(".jtp-00000000000000bb.lock");
    path.make_dir(".jtp-dir.part");
    write(&path, ".jtp-00000000000000aa-0.part", b"half");
    let inside = path.clone();
    in_time(move || scan(&open(&inside), ScanMode::Ids));
    // These are no lock files, so the client of the temporary file has none.
    assert!(!hidden(&path).contains(&".jtp-00000000000000aa-0.part".to_owned()));
    assert!(path.join(".jtp-00000000000000bb.lock").is_dir());
    assert!(path.join(".jtp-dir.part").is_dir());
}

#[test]
fn many_clients_that_start_and_end_at_once_lose_no_image() {
    let folder = temp();
    let path = &*folder;
    thread::scope(|scope| {
        for n in 0..4 {
            scope.spawn(move || {
                for round in 0..25 {
                    let output = open(path);
                    let (file, bytes) = begin_large(&output);
                    commit(file, &bytes, &format!("{n}-{round}.png"));
                }
            });
        }
    });
    assert!(hidden(path).is_empty());
    assert_eq!(fs::read_dir(path).unwrap().count(), 100);
}
