//! Images in sub-folders. // W9

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::atomic::Ordering;

use jtp_store::{FileState, MoveError};

use super::*;

/// The name of a catalog whose folders are joined by `/` here.
fn tree_name(path: &str, bytes: &[u8]) -> FileName {
    let name = path.replace('/', "⧸");
    FileName::in_folders(&name, ImageId::of(bytes), FileType::Png)
}

fn place(folder: &OutputFolder, path: &str, bytes: &[u8]) -> Result<(), MoveError> {
    stage(folder, bytes).place(&tree_name(path, bytes), &FileState::NOTHING)
}

/// The paths and contents of all files below a folder, without lock files.
fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if path.extension().is_none_or(|e| e != "lock") {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap();
                found.insert(name.to_owned(), fs::read(&path).unwrap_or_default());
            }
        }
    }
    found
}

fn sizes() -> [Vec<u8>; 3] {
    [b"small".to_vec(), noise(300_000, 1), noise(700_000, 2)]
}

#[test]
fn w9_missing_folders_are_created_and_images_appear_in_them() {
    let temp = temp();
    let folder = open(&temp);
    for (n, bytes) in sizes().iter().enumerate() {
        let path = format!("{n}/a/b/x.png");
        place(&folder, &path, bytes).unwrap();
        assert_eq!(temp.read(&path), *bytes);
        let committed = begin(&folder, bytes)
            .commit(&tree_name(&format!("{n}/c/y.png"), bytes), verified(bytes))
            .unwrap();
        assert_eq!(committed.as_str(), format!("{n}/c/y.png"));
        let state = folder.look(&path).unwrap();
        assert!(state.is_file() && folder.is_image(&path).unwrap());
        let id = folder.read_id(&path, &state, &AtomicBool::new(false));
        assert_eq!(id.unwrap(), ImageId::of(bytes));
        assert!(folder.look(&format!("{n}/a")).unwrap().is_folder());
    }
    assert_eq!(tree(&temp).len(), 6, "no temporary file is left");
    // The mode is that of a folder that this program creates elsewhere.
    let plain = temp.join("plain");
    fs::create_dir(&plain).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&temp.join("0/a/b")), mode(&plain));
}

#[test]
fn w9_a_file_that_has_vanished_is_renamed_nowhere_and_creates_no_folder() {
    let temp = temp();
    let folder = open(&temp);
    place(&folder, "a/x.png", b"x").unwrap();
    let state = folder.look("a/x.png").unwrap();
    temp.remove("a/x.png");
    let to = tree_name("new/z.png", b"");
    let gone = folder.rename("a/x.png", &state, &to, &FileState::NOTHING);
    assert!(matches!(gone, Err(MoveError::Changed)), "{gone:?}");
    assert!(!temp.join("new").exists());
}

#[test]
fn w9_a_link_a_file_or_a_pipe_in_place_of_a_folder_is_refused_and_other_images_are_placed() {
    let (temp, outside) = (temp(), temp());
    outside.make_dir("sub");
    write(&outside, "sub/x.png", b"precious");
    let folder = open(&temp);
    temp.link(&outside, "out");
    temp.link(".", "self");
    temp.link("/nonexistent", "dangling");
    write(&temp, "file", b"not a folder");
    temp.make_dir("in");
    temp.link(outside.join("sub"), "in/sub");
    pipe(&temp.join("pipe"));
    for bytes in sizes() {
        let mut staged = stage(&folder, &bytes);
        for path in [
            "out/sub/x.png",
            "out/x.png",
            "self/x.png",
            "self/in/x.png",
            "dangling/x.png",
            "file/x.png",
            "file/new/x.png",
            "pipe/x.png",
            "in/sub/x.png",
            "in/sub/new/x.png",
        ] {
            assert!(folder.look(path).unwrap().is_nothing(), "{path}");
            folder.is_image(path).unwrap_err();
            let to = tree_name(path, &bytes);
            let placed = staged.place(&to, &FileState::NOTHING);
            assert!(
                matches!(placed, Err(MoveError::Name(_))),
                "{path}: {placed:?}"
            );
            begin(&folder, &bytes)
                .commit(&to, verified(&bytes))
                .unwrap_err();
            place(&folder, "in/source.png", b"s").unwrap();
            let source = folder.look("in/source.png").unwrap();
            let moved = folder.rename("in/source.png", &source, &to, &FileState::NOTHING);
            assert!(
                matches!(moved, Err(MoveError::Name(_))),
                "{path}: {moved:?}"
            );
            temp.remove("in/source.png");
        }
        staged
            .place(&tree_name("in/x.png", &bytes), &FileState::NOTHING)
            .unwrap();
        temp.remove("in/x.png");
    }
    assert_eq!(
        tree(&outside),
        BTreeMap::from([("sub/x.png".to_owned(), b"precious".to_vec())])
    );
    assert_eq!(temp.read("file"), b"not a folder");
    assert!(!temp.join("new").exists());
}

#[test]
fn w9_a_folder_that_cannot_be_entered_concerns_the_images_in_it_alone() {
    let temp = temp();
    let folder = open(&temp);
    temp.make_dir("locked");
    without_privileges(|| {
        for mode in [0o000, 0o555] {
            temp.set_mode("locked", mode);
            let placed = place(&folder, "locked/x.png", b"x");
            assert!(matches!(placed, Err(MoveError::Name(_))), "{placed:?}");
        }
        place(&folder, "open/x.png", b"x").unwrap();
    });
    temp.set_mode("locked", 0o755);
}

#[test]
fn w9_folders_that_are_swapped_for_links_at_any_time_lead_nowhere() {
    let (temp, outside) = (temp(), temp());
    outside.make_dir("b");
    let folder = open(&temp);
    temp.make_dir("a/b");
    temp.link(&outside, "link");
    let done = AtomicBool::new(false);
    let mut placed = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                exchange(&temp.join("a"), &temp.join("link")).unwrap();
            }
        });
        for n in 0..200 {
            let bytes = if n % 10 == 0 {
                noise(300_000, n)
            } else {
                noise(10, n)
            };
            let path = format!("a/b/{n}/x.png");
            placed += usize::from(place(&folder, &path, &bytes).is_ok());
            let path = format!("a/b/{n}-moved.png");
            place(&folder, "source.png", &bytes).unwrap();
            let source = folder.look("source.png").unwrap();
            let to = tree_name(&path, &bytes);
            let moved = folder.rename("source.png", &source, &to, &FileState::NOTHING);
            if moved.is_err() {
                temp.remove("source.png");
            }
            let _ = begin(&folder, &bytes).commit(&to, verified(&bytes));
            let _ = folder.look(&path);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(tree(&outside), BTreeMap::new(), "written outside");
    assert_eq!(fs::read_dir(outside.join("b")).unwrap().count(), 0);
    assert!(placed > 0, "the folder is there half of the time");
}

#[test]
fn w9_a_replaced_file_in_a_folder_keeps_its_mode() {
    let temp = temp();
    let folder = open(&temp);
    place(&folder, "a/x.png", b"old").unwrap();
    temp.set_mode("a/x.png", 0o640);
    for bytes in sizes() {
        let over = folder.look("a/x.png").unwrap();
        let mut staged = stage(&folder, &bytes);
        staged.place(&tree_name("a/x.png", &bytes), &over).unwrap();
        let mode = fs::metadata(temp.join("a/x.png")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert_eq!(temp.read("a/x.png"), bytes);
    }
}
