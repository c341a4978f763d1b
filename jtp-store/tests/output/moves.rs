//! Looks, reads and renames.

use std::sync::atomic::AtomicBool;

use jtp_core::ImageId;
use jtp_store::{MoveError, ReadError};

use super::common::*;
use super::{all, file_name, open, pair, rename, visible};

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
fn the_id_of_a_file_is_read_until_it_is_stopped() {
    let temp = temp();
    let folder = open(&temp);
    for bytes in [b"".to_vec(), b"one".to_vec(), noise(700_000, 1)] {
        let id = write(&temp, "a.png", &bytes);
        let state = folder.look("a.png").unwrap();
        let read = |stop| folder.read_id("a.png", &state, &AtomicBool::new(stop));
        assert_eq!(read(false).unwrap(), id);
        let is_stopped = matches!(read(true), Err(ReadError::Stopped));
        assert!(is_stopped || bytes.len() < 10);
    }
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
