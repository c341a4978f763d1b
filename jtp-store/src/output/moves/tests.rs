use std::fs;
use std::path::Path;

use super::*;
use crate::OutputFolder;
use jtp_core::FileType;

fn name(name: &str) -> FileName {
    FileName::new(name, ImageId(1), FileType::Png)
}

/// A folder whose system cannot rename without replacing.
fn open_without_noreplace(path: &Path) -> OutputFolder {
    let folder = OutputFolder::open(path).unwrap();
    folder.0.lacks_noreplace.store(true, Ordering::Relaxed);
    folder
}

fn at<'a>(folder: &'a OutputFolder, path: &'a str) -> Located<'a> {
    folder.0.locate(path).unwrap()
}

fn rename_to_free(folder: &OutputFolder, from: &str, to: &str) -> io::Result<()> {
    folder.0.rename_to_free(&at(folder, from), &at(folder, to))
}

fn remove_linked(folder: &OutputFolder, from: &str, to: &str) -> io::Result<()> {
    folder.0.remove_linked(&at(folder, from), &at(folder, to))
}

fn rename_onto_itself(
    folder: &OutputFolder,
    from: &str,
    to: &FileName,
    over: &FileState,
) -> io::Result<()> {
    let (from, target) = (at(folder, from), at(folder, to.as_str()));
    folder.0.rename_onto_itself(&from, to, &target, over)
}

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

fn is_taken(result: io::Result<()>) -> bool {
    result.is_err_and(|e| e.kind() == io::ErrorKind::AlreadyExists)
}

#[test]
fn r8_without_noreplace_a_free_name_is_taken_by_a_hard_link() {
    let temp = tempfile::tempdir().unwrap();
    let folder = open_without_noreplace(temp.path());
    let at = |name: &str| temp.path().join(name);
    fs::write(at("a"), b"a").unwrap();
    rename_to_free(&folder, "a", "b").unwrap();
    assert_eq!(names(temp.path()), ["b"]);
    fs::write(at("taken"), b"t").unwrap();
    assert!(is_taken(rename_to_free(&folder, "b", "taken")));
    fs::create_dir(at("dir")).unwrap();
    assert!(is_taken(rename_to_free(&folder, "b", "dir")));
    assert_eq!(names(temp.path()), ["b", "dir", "taken"]);
    assert_eq!(fs::read(at("taken")).unwrap(), b"t");
    let missing = rename_to_free(&folder, "missing", "c").unwrap_err();
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
}

#[test]
fn r8_a_file_that_another_program_puts_in_place_of_a_linked_one_is_not_removed() {
    let temp = tempfile::tempdir().unwrap();
    let folder = open_without_noreplace(temp.path());
    let at = |name: &str| temp.path().join(name);
    fs::write(at("new"), b"moved").unwrap();
    remove_linked(&folder, "old", "new").unwrap();
    assert_eq!(names(temp.path()), ["new"], "removed");
    fs::write(at("old"), b"another program's").unwrap();
    remove_linked(&folder, "old", "new").unwrap();
    assert_eq!(names(temp.path()), ["new", "old"], "replaced");
}

#[test]
fn r8_without_noreplace_and_hard_links_a_free_name_is_taken_by_a_rename() {
    let temp = tempfile::tempdir().unwrap();
    let folder = open_without_noreplace(temp.path());
    // A folder cannot have hard links on any file system.
    fs::create_dir(temp.path().join("a")).unwrap();
    rename_to_free(&folder, "a", "b").unwrap();
    assert_eq!(names(temp.path()), ["b"]);
    fs::create_dir(temp.path().join("empty")).unwrap();
    assert!(is_taken(rename_to_free(&folder, "b", "empty")));
    assert_eq!(names(temp.path()), ["b", "empty"]);
}

#[test]
fn r8_without_noreplace_moves_are_refused_as_with_it() {
    let temp = tempfile::tempdir().unwrap();
    let folder = open_without_noreplace(temp.path());
    let write = |name: &str, bytes: &[u8]| fs::write(temp.path().join(name), bytes).unwrap();
    write("a.png", b"a");
    let (a, nothing) = (folder.look("a.png").unwrap(), folder.look("b.png").unwrap());
    write("b.png", b"b");
    let moved = folder.rename("a.png", &a, &name("b.png"), &nothing);
    assert!(matches!(moved, Err(MoveError::Changed)), "{moved:?}");
    let b = folder.look("b.png").unwrap();
    folder.rename("a.png", &a, &name("b.png"), &b).unwrap();
    assert_eq!(names(temp.path()), ["b.png"]);
    assert_eq!(fs::read(temp.path().join("b.png")).unwrap(), b"a");
    let b = folder.look("b.png").unwrap();
    folder
        .rename("b.png", &b, &name("c.png"), &nothing)
        .unwrap();
    assert_eq!(names(temp.path()), ["c.png"]);
}

/// The file system of this test distinguishes case, so the name in the other case is free once the file was moved
/// aside: the same as where case is ignored.
#[test]
fn r8_a_file_that_is_renamed_onto_itself_is_moved_aside_under_a_visible_name() {
    let temp = tempfile::tempdir().unwrap();
    let folder = OutputFolder::open(temp.path()).unwrap();
    fs::write(temp.path().join("a.png"), b"a").unwrap();
    let state = folder.look("a.png").unwrap();
    let to = name("A.png");
    rename_onto_itself(&folder, "a.png", &to, &state).unwrap();
    assert_eq!(names(temp.path()), ["A.png"]);
    // Another program uses the name at that moment: the file goes back.
    fs::write(temp.path().join("b.png"), b"another").unwrap();
    let taken = rename_onto_itself(&folder, "A.png", &name("b.png"), &state);
    assert!(is_taken(taken));
    assert_eq!(names(temp.path()), ["A.png", "b.png"]);
    // It is another file in the expected state, and not this one: it is replaced.
    let over = folder.look("b.png").unwrap();
    let to = name("b.png");
    rename_onto_itself(&folder, "A.png", &to, &over).unwrap();
    assert_eq!(names(temp.path()), ["b.png"]);
    assert_eq!(fs::read(temp.path().join("b.png")).unwrap(), b"a");
}

#[test]
fn r5_only_names_like_short_names_of_fat_are_searched_for() {
    for short in ["NOTES~1.PNG", "a~12.jpg", "ABCDEF~9.PNG"] {
        assert!(has_short_form(short), "{short}");
    }
    for long in [
        "notes.png",
        "a~b.png",
        "a~.png",
        "abcdefg~1.png",
        "a~1.jpeg",
        "a~1.b.png",
    ] {
        assert!(!has_short_form(long), "{long}");
    }
    assert!(is_image_spelled("notes~1.png", "NOTES~1.PNG"));
    assert!(!is_image_spelled("notes.pngx", "NOTES~1.PNG"));
}

#[test]
fn r5_an_image_with_a_name_like_a_short_name_is_replaced() {
    let temp = tempfile::tempdir().unwrap();
    let folder = OutputFolder::open(temp.path()).unwrap();
    let to = name("NOTES~1.PNG");
    fs::write(temp.path().join("NOTES~1.PNG"), b"a").unwrap();
    assert!(!folder.0.is_short_alias(&at(&folder, to.as_str())).unwrap());
    // Like a file system that ignores case: the other spelling leads to the same file.
    let (one, other) = ("NOTES~1.PNG", "nOTES~1.PNG");
    if !temp.path().join(other).exists() {
        fs::hard_link(temp.path().join(one), temp.path().join(other)).unwrap();
    }
    assert!(!folder.0.is_short_alias(&at(&folder, to.as_str())).unwrap());
}

#[test]
fn the_case_of_one_ascii_letter_is_flipped() {
    assert_eq!(flip_case("éa.png").as_deref(), Some("éA.png"));
    assert_eq!(flip_case("1.Png").as_deref(), Some("1.png"));
    assert_eq!(flip_case("é1"), None);
}
