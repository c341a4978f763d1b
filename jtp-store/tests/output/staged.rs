//! Verified images before they get a name.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;

use jtp_core::ImageId;
use jtp_store::{MoveError, OutputError, StagedFile};

use super::common::*;
use super::{all, begin, file_name, open, parts, put, stage, visible};

/// The descriptors of this process that are open in a folder.
fn descriptors(folder: &Path) -> usize {
    let open = fs::read_dir("/proc/self/fd").unwrap();
    open.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok())
        .filter(|path| path.starts_with(folder) && path != folder)
        .count()
}

fn is_changed(result: Result<(), MoveError>) -> bool {
    match result {
        Err(MoveError::Changed) => true,
        other => panic!("{other:?}"),
    }
}

#[test]
fn r2_a_staged_image_is_hidden_until_it_is_placed_and_removed_if_it_is_not() {
    let temp = temp();
    let folder = open(&temp);
    for bytes in [b"".to_vec(), b"small".to_vec(), noise(600_000, 1)] {
        let name = file_name("a.png", &bytes);
        let mut staged = stage(&folder, &bytes);
        assert_eq!(
            (staged.id(), staged.length()),
            (ImageId::of(&bytes), bytes.len() as u64)
        );
        assert!(visible(&temp).is_empty());
        assert!(
            descriptors(&temp) <= 1,
            "only the client's lock has a descriptor"
        );
        staged.place(&name, &folder.look("a.png").unwrap()).unwrap();
        assert_eq!(visible(&temp), [("a.png".to_owned(), bytes.clone())]);
        drop(staged);
        assert_eq!(all(&temp), ["a.png"]);
        temp.remove("a.png");

        let mut staged = stage(&folder, &bytes);
        staged.settle().unwrap();
        staged.settle().unwrap();
        // The descriptor is that of the client's lock.
        assert_eq!((parts(&temp), descriptors(&temp)), (1, 1));
        drop(staged);
        drop(stage(&folder, &bytes));
        assert!(all(&temp).is_empty());
    }
}

#[test]
fn a_small_staged_image_is_in_memory_until_it_is_settled() {
    let temp = temp();
    let folder = open(&temp);
    let staged = stage(&folder, &noise(1000, 1));
    assert!(all(&temp).is_empty());
    drop(staged);
    let bytes = noise(1000, 2);
    let mut staged: Vec<StagedFile> = (0..100).map(|_| stage(&folder, &bytes)).collect();
    for staged in &mut staged {
        staged.settle().unwrap();
    }
    assert_eq!((parts(&temp), descriptors(&temp)), (100, 1));
}

#[test]
fn r2_an_image_that_is_not_the_verified_one_cannot_be_staged() {
    let temp = temp();
    let folder = open(&temp);
    for bytes in [b"new".to_vec(), noise(600_000, 2)] {
        let error = begin(&folder, &bytes)
            .finish(verified(b"other"))
            .unwrap_err();
        assert!(matches!(error, OutputError::NotVerified { .. }), "{error}");
        assert!(all(&temp).is_empty());
    }
}

#[test]
fn a_placed_image_cannot_be_placed_again() {
    let temp = temp();
    let folder = open(&temp);
    let mut staged = stage(&folder, b"a");
    let nothing = folder.look("a.png").unwrap();
    staged.place(&file_name("a.png", b"a"), &nothing).unwrap();
    staged
        .place(&file_name("b.png", b"a"), &nothing)
        .unwrap_err();
    staged.settle().unwrap();
    assert_eq!(all(&temp), ["a.png"]);
}

#[test]
fn r8_an_image_for_a_free_name_never_replaces_what_appears_there() {
    let (temp, outside) = (temp(), temp());
    let folder = open(&temp);
    let path = temp.join("a.png");
    let appear: [&dyn Fn(); 4] = [
        &|| fs::write(&path, b"another program's").unwrap(),
        &|| fs::create_dir(&path).unwrap(),
        &|| symlink(outside.join("new.png"), &path).unwrap(),
        &|| drop(put(&folder, "a.png", b"another image").unwrap()),
    ];
    for appear in appear {
        let mut staged = stage(&folder, b"new");
        let nothing = folder.look("a.png").unwrap();
        assert!(nothing.is_nothing());
        appear();
        let before = folder.look("a.png").unwrap();
        assert!(is_changed(
            staged.place(&file_name("a.png", b"new"), &nothing)
        ));
        assert_eq!(folder.look("a.png").unwrap(), before);
        // The same image can still get another name.
        staged.place(&file_name("b.png", b"new"), &nothing).unwrap();
        assert_eq!(temp.read("b.png"), b"new");
        assert_eq!(all(&temp), ["a.png", "b.png"]);
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
        temp.remove("b.png");
    }
    assert!(all(&outside).is_empty());
}

#[test]
fn r8_a_file_is_replaced_only_in_the_state_that_was_looked_at() {
    let temp = temp();
    let folder = open(&temp);
    let path = temp.join("a.png");
    let rewrite = || {
        let before = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, b"OLD").unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(before).unwrap();
    };
    let change: [&dyn Fn(); 6] = [
        &rewrite,
        &|| fs::write(&path, b"longer").unwrap(),
        &|| drop(put(&folder, "a.png", b"new").unwrap()),
        &|| fs::remove_file(&path).unwrap(),
        &|| {
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
        },
        &|| {
            fs::remove_file(&path).unwrap();
            symlink("elsewhere.png", &path).unwrap();
        },
    ];
    for change in change {
        fs::write(&path, b"old").unwrap();
        let mut staged = stage(&folder, b"new");
        let over = folder.look("a.png").unwrap();
        assert!(over.is_file() && over.length() == 3);
        settle(&temp);
        change();
        let before = folder.look("a.png").unwrap();
        assert!(is_changed(staged.place(&file_name("a.png", b"new"), &over)));
        assert_eq!(folder.look("a.png").unwrap(), before);
        drop(staged);
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
        assert!(all(&temp).is_empty());
    }
    fs::write(&path, b"old").unwrap();
    let mut staged = stage(&folder, b"new");
    let over = folder.look("a.png").unwrap();
    staged.place(&file_name("a.png", b"new"), &over).unwrap();
    assert_eq!(visible(&temp), [("a.png".to_owned(), b"new".to_vec())]);
}

#[test]
fn r5_folders_links_and_devices_are_never_replaced() {
    use rustix::fs::{CWD, Mode, mkfifoat};
    let temp = temp();
    let folder = open(&temp);
    write(&temp, "victim.png", b"precious");
    temp.make_dir("dir.png");
    temp.link("victim.png", "link.png");
    temp.link("nowhere.png", "dangling.png");
    mkfifoat(CWD, temp.join("pipe.png"), Mode::RWXU).unwrap();
    let before = all(&temp);
    let mut staged = stage(&folder, b"new");
    for name in ["dir.png", "link.png", "dangling.png", "pipe.png"] {
        let over = folder.look(name).unwrap();
        assert!(!over.is_nothing() && !over.is_file() && over.length() == 0);
        let placed = staged.place(&file_name(name, b"new"), &over);
        assert!(
            matches!(placed, Err(MoveError::Name(_))),
            "{name}: {placed:?}"
        );
        assert_eq!(folder.look(name).unwrap(), over);
        temp.rename(name, "away");
        assert!(is_changed(staged.place(&file_name(name, b"new"), &over)));
        temp.rename("away", name);
    }
    drop(staged);
    assert_eq!(all(&temp), before);
    let bytes = temp.read("victim.png");
    assert_eq!(bytes, b"precious");
}

#[test]
fn r8_of_many_images_for_one_free_name_exactly_one_is_placed() {
    let temp = temp();
    let folder = open(&temp);
    for n in 0..50 {
        let name = format!("{n}.png");
        let nothing = folder.look(&name).unwrap();
        let place = |thread: u64| {
            let bytes = noise(100, thread);
            let mut staged = stage(&folder, &bytes);
            staged.place(&file_name(&name, &bytes), &nothing)
        };
        let placed = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|n| scope.spawn(move || place(n))).collect();
            let results = threads.into_iter().map(|thread| thread.join().unwrap());
            results
                .filter(|result| match result {
                    Ok(()) => true,
                    Err(MoveError::Changed) => false,
                    Err(e) => panic!("{e}"),
                })
                .count()
        });
        assert_eq!(placed, 1);
    }
    assert_eq!(all(&temp).len(), 50);
}
