use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use jtp_core::FileType::Png;
use jtp_core::{BodyReceiver, Flags, Image, ImageId};
use jtp_store::{OutputFolder, StagedFile};
use tempfile::tempdir;

use super::super::event::Silent;
use super::super::session::Session;
use super::Obstacle;
use crate::inventory::{FileKind, Inventory};
use crate::options::Options;
use crate::planner::Planner;

/// A session in a folder whose inodes prove nothing, of which a scan has found these files, and in step with a LIST.
fn session(folder: &Path, files: &[(&str, &[u8])], listed: &[(&str, &[u8])]) -> Session {
    let mut inventory = Inventory::new();
    for (name, bytes) in files {
        inventory.add(name, FileKind::Image(ImageId::of(bytes)));
    }
    let mut planner = Planner::new(Options::new());
    planner.set_folder(inventory);
    planner.begin_list();
    for (name, bytes) in listed {
        planner.entry(ImageId::of(bytes), name, Png, 3);
    }
    assert_eq!(planner.end_list(true).entries, listed.len() as u64);
    let session = Session::of_test(planner, Silent);
    session.set_folder(OutputFolder::open_distrusting_inodes(folder).unwrap());
    session
}

fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let files = entries.map(|entry| {
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read(entry.path()).unwrap())
    });
    let mut files: Vec<_> = files.collect();
    files.retain(|(name, _)| !name.starts_with('.'));
    files.sort();
    files
}

#[test]
fn r8_file_gets_its_name_in_another_case_where_inodes_prove_nothing() {
    let temp = tempdir().unwrap();
    fs::write(temp.path().join("x00.png"), b"one").unwrap();
    if !temp.path().join("X00.png").exists() {
        // Like a file system that ignores case: both spellings lead to one file.
        fs::hard_link(temp.path().join("x00.png"), temp.path().join("X00.png")).unwrap();
    }
    let session = session(temp.path(), &[("x00.png", b"one")], &[("X00.png", b"one")]);
    session.run_moves().unwrap();
    assert_eq!(
        contents(temp.path()),
        [("X00.png".to_owned(), b"one".to_vec())]
    );
    assert!(session.state().planner.is_finished());
    assert_eq!(session.state().planner.totals().failed(), 0);
}

#[test]
fn r8_other_image_of_the_same_size_and_time_is_not_taken_for_the_same_file_in_another_case() {
    let temp = tempdir().unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for (name, bytes) in [("X00.png", b"two"), ("x00.png", b"one")] {
        fs::write(temp.path().join(name), bytes).unwrap();
        let file = fs::File::options().write(true).open(temp.path().join(name));
        file.unwrap().set_modified(time).unwrap();
    }
    if fs::read(temp.path().join("X00.png")).unwrap() != b"two" {
        eprintln!("skipped: the file system ignores case");
        return;
    }
    let listed: [(&str, &[u8]); 2] = [("X00.png", b"one"), ("z.png", b"two")];
    // The second file came after the scan.
    let session = session(temp.path(), &[("x00.png", b"one")], &listed);
    session.run_moves().unwrap();
    let expected = [
        ("X00.png".to_owned(), b"one".to_vec()),
        ("z.png".to_owned(), b"two".to_vec()),
    ];
    assert_eq!(contents(temp.path()), expected);
}

fn staged(folder: &OutputFolder, bytes: &[u8]) -> StagedFile {
    let image = Image::new(ImageId::of(bytes), Flags::new(Png, false), 3);
    let mut body = BodyReceiver::default();
    body.begin(image);
    assert_eq!(body.receive(bytes).used, bytes.len());
    let mut file = folder.begin(&image);
    file.append(bytes).unwrap();
    file.finish(body.verdict().unwrap().unwrap()).unwrap()
}

#[test]
fn r8_step_that_an_event_has_overtaken_is_not_made() {
    let (one, two): (&[u8], &[u8]) = (b"one", b"two");
    for renames in [false, true] {
        let temp = tempdir().unwrap();
        let mut files = vec![("a.png", one)];
        files.extend(renames.then_some(("b.png", two)));
        for (name, bytes) in &files {
            fs::write(temp.path().join(name), bytes).unwrap();
        }
        let session = session(temp.path(), &files, &[("a.png", two)]);
        if !renames {
            let file = staged(session.folder().unwrap(), two);
            let state = &mut *session.state();
            let _ = state.planner.fetched(file.id());
            state.staged.insert(file.id(), Arc::new(Mutex::new(file)));
        }
        let step = session.state().planner.next_move().unwrap();
        let planned = session.next_move_of(step).unwrap();
        assert_eq!(planned.from.is_some(), renames);
        // The server still has the image that is to be replaced.
        let kept = ImageId::of(one);
        session.state().planner.announce(kept, "c.png", Png, 3);
        let made = session.try_move(&planned);
        assert!(matches!(made, Err(Obstacle::Stale)));
        assert_eq!(fs::read(temp.path().join("a.png")).unwrap(), one);
    }
}
