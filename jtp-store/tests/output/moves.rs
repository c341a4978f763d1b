//! Looks, reads and renames.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::AtomicBool;

use jtp_core::ImageId;
use jtp_store::{FileState, MoveError, OutputFolder, ReadError};
use rustix::fs::{CWD, Mode, mkfifoat};

use super::common::*;
use super::{all, file_name, open, visible};

fn rename(folder: &OutputFolder, from: &str, to: &str) -> Result<(), MoveError> {
    let (from_state, over) = (folder.look(from).unwrap(), folder.look(to).unwrap());
    folder.rename(from, &from_state, &file_name(to, b""), &over)
}

fn pair(name: &str, bytes: &[u8]) -> (String, Vec<u8>) {
    (name.to_owned(), bytes.to_vec())
}

#[test]
fn r5_a_look_follows_no_links_and_leaves_the_folder_in_no_way() {
    let (temp, outside) = (temp(), temp());
    write(&outside, "a.png", b"outside");
    let inside = temp.join("out");
    let folder = open(&inside);
    write(&temp, "above.png", b"above");
    write(&inside, "a.png", b"four");
    inside.link(outside.join("a.png"), "link.png");
    inside.link(&outside, "dir");
    inside.hard_link("a.png", "hard.png");
    let file = folder.look("a.png").unwrap();
    assert!(file.is_file() && !file.is_nothing() && file.length() == 4);
    assert_eq!(folder.look("a.png").unwrap(), file);
    assert!(file.is_same_file(&folder.look("hard.png").unwrap()));
    for name in ["link.png", "dir"] {
        let state = folder.look(name).unwrap();
        assert!(!state.is_file() && !state.is_nothing() && !state.is_same_file(&state));
    }
    // A link is in place of the folder.
    let below = [
        "dir/a.png",
        "link.png/a.png",
        "a.png/a.png",
        "missing/a.png",
    ];
    let long = ["x".repeat(300), "é".repeat(1000)];
    for name in below.into_iter().chain(["b.png", &*long[0], &*long[1]]) {
        let state = folder.look(name).unwrap();
        assert!(state.is_nothing() && !state.is_file() && state.length() == 0);
        assert!(!state.is_same_file(&state));
    }
    for name in [
        "",
        ".",
        "..",
        "../above.png",
        "/etc/passwd",
        "dir/../a.png",
        "dir//a.png",
        "dir/./a.png",
        "/dir/a.png",
        "a.png/",
        "./a.png",
        "a\0.png",
    ] {
        folder.look(name).unwrap_err();
        folder
            .read_id(name, &file, &AtomicBool::new(false))
            .unwrap_err();
        let nothing = folder.look("b.png").unwrap();
        folder
            .rename(name, &file, &file_name("b.png", b""), &nothing)
            .unwrap_err();
    }
    for name in below {
        let read = folder.read_id(name, &file, &AtomicBool::new(false));
        assert!(matches!(read, Err(ReadError::Changed)), "{read:?}");
        let nothing = folder.look("b.png").unwrap();
        let moved = folder.rename(name, &file, &file_name("b.png", b""), &nothing);
        assert!(matches!(moved, Err(MoveError::Changed)), "{moved:?}");
    }
    assert_eq!(all(&temp), ["above.png", "out"]);
}

#[test]
fn r8_the_id_of_a_file_is_read_only_in_the_state_that_was_looked_at() {
    let temp = temp();
    let folder = open(&temp);
    let go = AtomicBool::new(false);
    for bytes in [b"".to_vec(), b"one".to_vec(), noise(700_000, 1)] {
        let id = write(&temp, "a.png", &bytes);
        let state = folder.look("a.png").unwrap();
        assert_eq!(folder.read_id("a.png", &state, &go).unwrap(), id);
    }
    let state = folder.look("a.png").unwrap();
    let stopped = folder.read_id("a.png", &state, &AtomicBool::new(true));
    assert!(matches!(stopped, Err(ReadError::Stopped)), "{stopped:?}");
    let is_changed =
        |state: &FileState| matches!(folder.read_id("a.png", state, &go), Err(ReadError::Changed));
    let path = temp.join("a.png");
    fs::write(&path, b"other").unwrap();
    assert!(is_changed(&state), "rewritten");
    fs::remove_file(&path).unwrap();
    assert!(is_changed(&state), "removed");
    assert!(
        is_changed(&folder.look("a.png").unwrap()),
        "nothing to read"
    );
    symlink("b.png", &path).unwrap();
    write(&temp, "b.png", b"b");
    assert!(
        is_changed(&state) && is_changed(&folder.look("b.png").unwrap()),
        "a link"
    );
    assert!(
        is_changed(&folder.look("a.png").unwrap()),
        "a link that was looked at"
    );
    fs::remove_file(&path).unwrap();
    mkfifoat(CWD, &path, Mode::RWXU).unwrap();
    assert!(
        is_changed(&state) && is_changed(&folder.look("a.png").unwrap()),
        "a pipe"
    );
}

#[test]
fn a_file_is_renamed_to_a_free_name_or_over_a_file() {
    let temp = temp();
    let folder = open(&temp);
    write(&temp, "a", b"one");
    rename(&folder, "a", "b.png").unwrap();
    assert_eq!(visible(&temp), [pair("b.png", b"one")]);
    write(&temp, "c.png", b"two");
    rename(&folder, "b.png", "c.png").unwrap();
    assert_eq!(visible(&temp), [pair("c.png", b"one")]);
    rename(&folder, "c.png", "c.png").unwrap();
    assert_eq!(visible(&temp), [pair("c.png", b"one")]);
}

#[test]
fn r8_a_rename_is_refused_if_either_file_has_changed() {
    let temp = temp();
    let folder = open(&temp);
    let (a, b) = (temp.join("a.png"), temp.join("b.png"));
    let to = file_name("b.png", b"");
    let reset = || {
        let _ = fs::remove_file(&b).or_else(|_| fs::remove_dir(&b));
        let _ = fs::remove_file(&a);
        fs::write(&a, b"one").unwrap();
    };
    let change: [(bool, &dyn Fn()); 10] = [
        (false, &|| fs::write(&a, b"other").unwrap()),
        (false, &|| fs::remove_file(&a).unwrap()),
        (false, &|| {
            fs::remove_file(&a).unwrap();
            symlink("c.png", &a).unwrap();
        }),
        (false, &|| fs::write(&b, b"new").unwrap()),
        (false, &|| fs::create_dir(&b).unwrap()),
        (false, &|| symlink("a.png", &b).unwrap()),
        (false, &|| fs::hard_link(&a, &b).unwrap()),
        (true, &|| fs::write(&b, b"other").unwrap()),
        (true, &|| fs::remove_file(&b).unwrap()),
        (true, &|| {
            fs::remove_file(&b).unwrap();
            fs::create_dir(&b).unwrap();
        }),
    ];
    for (n, (replaces, change)) in change.into_iter().enumerate() {
        reset();
        if replaces {
            fs::write(&b, b"two").unwrap();
        }
        let (from_state, over) = (folder.look("a.png").unwrap(), folder.look("b.png").unwrap());
        assert_eq!(over.is_nothing(), !replaces);
        change();
        let before = (folder.look("a.png").unwrap(), folder.look("b.png").unwrap());
        let moved = folder.rename("a.png", &from_state, &to, &over);
        assert!(matches!(moved, Err(MoveError::Changed)), "{n}: {moved:?}");
        let after = (folder.look("a.png").unwrap(), folder.look("b.png").unwrap());
        assert_eq!(before, after, "{n}");
    }
}

#[test]
fn r5_only_regular_files_are_renamed_and_replaced() {
    let temp = temp();
    let folder = open(&temp);
    write(&temp, "a.png", b"a");
    temp.link("a.png", "link.png");
    temp.make_dir("dir.png");
    let before = all(&temp);
    for name in ["link.png", "dir.png"] {
        let moved = rename(&folder, name, "b.png");
        assert!(
            matches!(moved, Err(MoveError::Changed)),
            "{name}: {moved:?}"
        );
        let moved = rename(&folder, "a.png", name);
        assert!(
            matches!(moved, Err(MoveError::Name(_))),
            "{name}: {moved:?}"
        );
    }
    let moved = rename(&folder, "missing.png", "b.png");
    assert!(matches!(moved, Err(MoveError::Changed)), "{moved:?}");
    assert_eq!(all(&temp), before);
}

#[test]
fn a_file_that_is_renamed_to_its_hard_link_has_that_name_alone() {
    let temp = temp();
    let folder = open(&temp);
    let id = write(&temp, "a.png", b"one");
    for (from, to) in [("a.png", "A.png"), ("A.png", "b.png")] {
        temp.hard_link(from, to);
        rename(&folder, from, to).unwrap();
        assert_eq!(visible(&temp), [pair(to, b"one")]);
    }
    let state = folder.look("b.png").unwrap();
    let read = folder.read_id("b.png", &state, &AtomicBool::new(false));
    assert_eq!(read.unwrap(), id);
    assert_eq!(id, ImageId::of(b"one"));
    // Both names are compared with what was looked at.
    temp.hard_link("b.png", "c.png");
    let (from_state, over) = (folder.look("b.png").unwrap(), folder.look("c.png").unwrap());
    temp.remove("c.png");
    let moved = folder.rename("b.png", &from_state, &file_name("c.png", b""), &over);
    assert!(matches!(moved, Err(MoveError::Changed)), "{moved:?}");
    assert_eq!(visible(&temp), [pair("b.png", b"one")]);
}
