//! The output folder: images appear complete and verified or not at all, and nothing is written outside.
#![cfg(target_os = "linux")]

#[path = "../common/mod.rs"]
mod common;
mod exfat;
mod index_attacks;
mod locks;
mod model;
mod mounted;
mod moves;
mod read_only;
mod refusals;
mod scan;
mod scan_tree;
mod staged;
mod stored;
mod tree;
mod untrusted;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::thread;

use common::*;
use jtp_core::{FileType, Flags, Image, ImageId};
use jtp_store::{
    FileName, FileState, MoveError, OutputError, OutputFolder, PendingFile, ScanMode, StagedFile,
};

fn begin(folder: &OutputFolder, bytes: &[u8]) -> PendingFile {
    let flags = Flags::new(FileType::Png, false);
    let image = Image::new(ImageId::of(bytes), flags, bytes.len() as u32);
    let mut file = folder.begin(&image);
    file.append(bytes).unwrap();
    file
}

fn file_name(name: &str, bytes: &[u8]) -> FileName {
    FileName::new(name, ImageId::of(bytes), FileType::Png)
}

fn put(folder: &OutputFolder, name: &str, bytes: &[u8]) -> Result<FileName, OutputError> {
    begin(folder, bytes).commit(&file_name(name, bytes), verified(bytes))
}

fn open(path: &Path) -> OutputFolder {
    OutputFolder::open(path).unwrap()
}

fn stage(folder: &OutputFolder, bytes: &[u8]) -> StagedFile {
    begin(folder, bytes).finish(verified(bytes)).unwrap()
}

fn rename(folder: &OutputFolder, from: &str, to: &str) -> Result<(), MoveError> {
    let (from_state, over) = (folder.look(from).unwrap(), folder.look(to).unwrap());
    folder.rename(from, &from_state, &file_name(to, b""), &over)
}

/// The files that are images, by their IDs.
fn ids(folder: &OutputFolder) -> BTreeMap<String, ImageId> {
    scan(folder, ScanMode::Ids).images
}

/// The name and contents of each visible file.
fn visible(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let names = all(folder)
        .into_iter()
        .filter(|name| !name.starts_with('.'));
    names
        .map(|name| {
            let bytes = folder.read(&name);
            (name, bytes)
        })
        .collect()
}

fn pair(name: &str, bytes: &[u8]) -> (String, Vec<u8>) {
    (name.to_owned(), bytes.to_vec())
}

/// All names in the folder except that of a running client's lock file.
fn all(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.retain(|name| !(name.starts_with(".jtp-") && name.ends_with(".lock")));
    names.sort();
    names
}

#[test]
fn a_committed_image_is_complete_and_replaces_the_file_of_its_name() {
    let temp = temp();
    let path = temp.join("made/when/missing");
    let folder = OutputFolder::open(&path).unwrap();
    for bytes in [&b"one"[..], b"two", b"", &noise(1_000_000, 1)] {
        assert_eq!(put(&folder, "a.png", bytes).unwrap().as_str(), "a.png");
        assert_eq!(path.read("a.png"), bytes);
        assert_eq!(all(&path), ["a.png"]);
    }
}

#[test]
fn r2_an_image_is_invisible_until_verified_and_removed_if_it_is_not() {
    let temp = temp();
    let folder = OutputFolder::open(&temp).unwrap();
    put(&folder, "a.png", b"old").unwrap();
    for bytes in [b"new".to_vec(), noise(600_000, 2)] {
        let file = begin(&folder, &bytes);
        assert!(
            all(&temp)
                .iter()
                .all(|name| name == "a.png" || name.starts_with(".jtp-"))
        );
        match file.commit(&file_name("a.png", &bytes), verified(b"other bytes")) {
            Err(OutputError::NotVerified { expected, found }) => {
                assert_eq!(expected, ImageId::of(&bytes));
                assert_eq!(found, ImageId::of(b"other bytes"));
            }
            other => panic!("{other:?}"),
        }
        let staged = begin(&folder, &bytes).finish(verified(b"other"));
        assert!(
            matches!(staged, Err(OutputError::NotVerified { .. })),
            "{staged:?}"
        );
        // An image that began to arrive, and arrived again.
        let mut twice = begin(&folder, &bytes);
        twice.append(&bytes).unwrap();
        let committed = twice.commit(&file_name("a.png", &bytes), verified(&bytes));
        assert!(
            matches!(committed, Err(OutputError::WrongLength { .. })),
            "{committed:?}"
        );
        drop(begin(&folder, &bytes));
        assert_eq!(all(&temp), ["a.png"]);
        assert_eq!(temp.read("a.png"), b"old");
    }
}

#[test]
fn small_images_are_written_only_when_committed() {
    let temp = temp();
    let folder = OutputFolder::open(&temp).unwrap();
    let mut file = begin(&folder, &noise(1000, 1));
    assert!(!file.would_block(1000) && file.would_block(1_000_000));
    assert!(all(&temp).is_empty());
    file.write_all(&noise(300_000, 2)).unwrap();
    assert_eq!(all(&temp).len(), 1);
    // Long pieces of a long image are not collected.
    assert!(!file.would_block(1000) && file.would_block(100_000));
}

#[test]
fn r5_hostile_names_stay_inside_the_folder() {
    let temp = temp();
    let inside = temp.join("out");
    let folder = OutputFolder::open(&inside).unwrap();
    let hostile = [
        "../escape.png",
        "/tmp/jtp-escape.png",
        "..",
        ".",
        "",
        "a/../../b.png",
        "a\0.png",
        "..\\..\\c.png",
        ".bashrc",
        "CON",
        "x\n.png",
        "....//d.png",
    ];
    for (n, name) in hostile.iter().enumerate() {
        let name = put(&folder, name, format!("image {n}").as_bytes()).unwrap();
        assert_eq!(inside.read(name.as_str()), format!("image {n}").as_bytes());
    }
    assert_eq!(all(&temp), ["out"]);
    assert_eq!(all(&inside).len(), hostile.len());
    assert!(all(&inside).iter().all(|name| !name.starts_with('.')));
    assert!(!Path::new("/tmp/jtp-escape.png").exists());
}

#[test]
fn r5_links_in_the_folder_are_replaced_and_never_followed() {
    let (temp, outside) = (temp(), temp());
    write(&outside, "victim.png", b"precious");
    temp.link(outside.join("victim.png"), "a.png");
    temp.link(&outside, "b.png");
    temp.link(outside.join("new.png"), "c.png");
    let folder = OutputFolder::open(&temp).unwrap();
    for name in ["a.png", "b.png", "c.png"] {
        assert_eq!(put(&folder, name, b"new").unwrap().as_str(), name);
        assert!(fs::symlink_metadata(temp.join(name)).unwrap().is_file());
    }
    assert_eq!(all(&outside), ["victim.png"]);
    assert_eq!(outside.read("victim.png"), b"precious");
}

#[test]
fn r5_a_folder_of_the_same_name_stays_and_the_image_name_gets_the_id() {
    let temp = temp();
    temp.make_dir("a.png");
    let folder = OutputFolder::open(&temp).unwrap();
    let name = put(&folder, "a.png", b"new").unwrap();
    assert_eq!(name.as_str(), format!("a-{}.png", ImageId::of(b"new")));
    assert_eq!(temp.read(name.as_str()), b"new");
    assert!(temp.join("a.png").is_dir());
    assert_eq!(all(&temp).len(), 2);
}

#[test]
fn r5_images_go_to_the_open_folder_after_it_is_renamed() {
    let temp = temp();
    let (here, away) = (temp.join("out"), temp.join("away"));
    let folder = OutputFolder::open(&here).unwrap();
    fs::rename(&here, &away).unwrap();
    symlink("/nonexistent", &here).unwrap();
    put(&folder, "a.png", b"a").unwrap();
    assert_eq!(all(&away), ["a.png"]);
}

#[test]
fn a_file_in_place_of_the_folder_is_reported_as_not_a_directory() {
    let temp = temp();
    write(&temp, "out", b"a file");
    let error = OutputFolder::open(temp.join("out")).unwrap_err();
    let path = temp.join("out");
    let text = format!("cannot read or write {}", path.display());
    assert_eq!(error.to_string(), text);
    assert_eq!(error.source().unwrap().to_string(), "not a directory");
}

fn parts(dir: &Path) -> usize {
    let names = all(dir);
    names.iter().filter(|name| name.ends_with(".part")).count()
}

#[test]
fn w9_many_threads_can_write_to_one_folder_and_create_the_same_folders() {
    let temp = temp();
    let folder = OutputFolder::open(&temp).unwrap();
    thread::scope(|scope| {
        for thread in 0..4 {
            let folder = folder.clone();
            scope.spawn(move || {
                for n in 0..100 {
                    let name = format!("{thread}-{n}.png");
                    put(&folder, &name, name.as_bytes()).unwrap();
                    put(&folder, "contended.png", name.as_bytes()).unwrap();
                    let path = format!("{n}⧸sub⧸{thread}.png");
                    let to = FileName::in_folders(&path, ImageId(1), FileType::Png);
                    let mut staged = stage(&folder, name.as_bytes());
                    staged.place(&to, &FileState::NOTHING).unwrap();
                }
            });
        }
    });
    assert_eq!(all(&temp).len(), 401 + 100);
    let folders = (0..100).map(|n| all(&temp.join(format!("{n}/sub"))).len());
    assert_eq!(folders.sum::<usize>(), 400);
}
