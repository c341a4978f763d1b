//! Verified images before they get a name.

use std::fs;
use std::path::Path;
use std::thread;

use jtp_core::ImageId;
use jtp_store::{MoveError, StagedFile};

use super::common::*;
use super::{all, file_name, open, parts, stage, visible};

/// The descriptors of this process that are open in a folder.
fn descriptors(folder: &Path) -> usize {
    let open = fs::read_dir("/proc/self/fd").unwrap();
    open.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok())
        .filter(|path| path.starts_with(folder) && path != folder)
        .count()
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
fn r8_an_image_that_was_not_placed_can_get_another_name_and_a_placed_one_cannot() {
    let temp = temp();
    let folder = open(&temp);
    let nothing = folder.look("a.png").unwrap();
    write(&temp, "a.png", b"another program's");
    let mut staged = stage(&folder, b"a");
    let taken = staged.place(&file_name("a.png", b"a"), &nothing);
    assert!(matches!(taken, Err(MoveError::Changed)), "{taken:?}");
    staged.place(&file_name("b.png", b"a"), &nothing).unwrap();
    staged
        .place(&file_name("c.png", b"a"), &nothing)
        .unwrap_err();
    staged.settle().unwrap();
    assert_eq!(all(&temp), ["a.png", "b.png"]);
}

#[test]
fn r8_a_file_that_was_rewritten_with_its_length_and_mtime_is_not_replaced() {
    let temp = temp();
    let folder = open(&temp);
    write(&temp, "a.png", b"old");
    let mut staged = stage(&folder, b"new");
    let over = folder.look("a.png").unwrap();
    settle(&temp);
    rewrite(&temp, "a.png", b"OLD");
    let placed = staged.place(&file_name("a.png", b"new"), &over);
    assert!(matches!(placed, Err(MoveError::Changed)), "{placed:?}");
    assert_eq!(temp.read("a.png"), b"OLD");
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
