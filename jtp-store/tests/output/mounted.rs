//! Sub-folders on which other file systems are mounted. Needs root. // W9

use std::path::PathBuf;
use std::process::Command;

use jtp_store::{FileState, MoveError};

use super::*;

/// A folder on which something is mounted.
struct Mount(PathBuf);

impl Mount {
    /// `None` if that is not possible.
    fn new(arguments: &[&str], at: PathBuf) -> Option<Mount> {
        fs::create_dir_all(&at).unwrap();
        let done = Command::new("mount").args(arguments).arg(&at).output();
        if !done.is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: nothing can be mounted here");
            return None;
        }
        Some(Mount(at))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

fn tree_name(path: &str) -> FileName {
    FileName::in_folders(&path.replace('/', "⧸"), ImageId(1), FileType::Png)
}

/// Another file system, and the same one mounted twice: files cannot be renamed into either.
fn mounts(root: &Path, other: &Path) -> Option<[Mount; 2]> {
    let other = other.to_str().unwrap();
    Some([
        Mount::new(
            &["-t", "tmpfs", "-o", "size=2m", "tmpfs"],
            root.join("tmpfs"),
        )?,
        Mount::new(&["--bind", other], root.join("bind"))?,
    ])
}

#[test]
fn w9_images_are_placed_and_renamed_across_file_systems() {
    let (temp, other) = (temp(), temp());
    let Some(_mounts) = mounts(&temp, &other) else {
        return;
    };
    let folder = open(&temp);
    for mount in ["tmpfs", "bind"] {
        for bytes in [b"small".to_vec(), noise(300_000, 1)] {
            let path = format!("{mount}/a/x.png");
            let file = temp.join(&path);
            let mut staged = stage(&folder, &bytes);
            staged
                .place(&tree_name(&path), &FileState::NOTHING)
                .unwrap();
            assert_eq!(fs::read(&file).unwrap(), bytes);
            // Over the file, and only in the state that was looked at.
            let over = folder.look(&path).unwrap();
            let mut staged = stage(&folder, &noise(300_001, 2));
            let placed = staged.place(&tree_name(&path), &FileState::NOTHING);
            assert!(matches!(placed, Err(MoveError::Changed)), "{placed:?}");
            staged.place(&tree_name(&path), &over).unwrap();
            let committed = begin(&folder, &bytes).commit(&tree_name(&path), verified(&bytes));
            assert_eq!(committed.unwrap().as_str(), path);
            assert_eq!(fs::read(&file).unwrap(), bytes);
            // Back to the root, and there again.
            let state = folder.look(&path).unwrap();
            folder
                .rename(&path, &state, &tree_name("x.png"), &FileState::NOTHING)
                .unwrap();
            assert!(!file.exists());
            assert_eq!(temp.read("x.png"), bytes);
            let state = folder.look("x.png").unwrap();
            fs::write(&file, b"in the way").unwrap();
            let moved = folder.rename("x.png", &state, &tree_name(&path), &FileState::NOTHING);
            assert!(matches!(moved, Err(MoveError::Changed)), "{moved:?}");
            fs::remove_file(&file).unwrap();
            folder
                .rename("x.png", &state, &tree_name(&path), &FileState::NOTHING)
                .unwrap();
            assert_eq!(fs::read(&file).unwrap(), bytes);
            assert_eq!(all(&temp.join(mount).join("a")), ["x.png"]);
            assert_eq!(all(&temp), ["bind", "tmpfs"]);
            fs::remove_file(&file).unwrap();
        }
    }
}

#[test]
fn w9_files_renamed_across_file_systems_keep_their_modification_times() {
    use std::time::{Duration, SystemTime};
    let (temp, other) = (temp(), temp());
    let Some(_mounts) = mounts(&temp, &other) else {
        return;
    };
    let folder = open(&temp);
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_700);
    let paths = [
        "x.png",
        "tmpfs/x.png",
        "bind/a/x.png",
        "tmpfs/b/x.png",
        "x.png",
    ];
    temp.write(paths[0], noise(300_000, 1));
    let file = fs::File::options().write(true).open(temp.join(paths[0]));
    file.unwrap().set_modified(time).unwrap();
    for pair in paths.windows(2) {
        let state = folder.look(pair[0]).unwrap();
        folder
            .rename(pair[0], &state, &tree_name(pair[1]), &FileState::NOTHING)
            .unwrap();
        let moved = fs::metadata(temp.join(pair[1])).unwrap();
        assert_eq!(moved.modified().unwrap(), time, "{pair:?}");
    }
}

#[test]
fn w9_a_full_or_read_only_file_system_below_concerns_the_images_on_it_alone() {
    let (temp, other) = (temp(), temp());
    let Some(_mounts) = mounts(&temp, &other) else {
        return;
    };
    let folder = open(&temp);
    for bytes in [noise(200_000, 1), noise(600_000, 2)] {
        let mut staged = stage(&folder, &bytes);
        let full = temp.join("tmpfs/full");
        let _ = fs::write(&full, vec![0; 4 << 20]);
        let placed = staged.place(&tree_name("tmpfs/x.png"), &FileState::NOTHING);
        assert!(
            matches!(placed, Err(MoveError::Name(OutputError::DiskFull { .. }))),
            "{placed:?}"
        );
        fs::remove_file(full).unwrap();
        let bind = temp.join("bind");
        let remount = |mode: &str| {
            let options = format!("remount,bind,{mode}");
            let mut mount = Command::new("mount");
            mount.args(["-o", &options]).arg(&bind);
            assert!(mount.status().unwrap().success());
        };
        remount("ro");
        let placed = staged.place(&tree_name("bind/new/x.png"), &FileState::NOTHING);
        assert!(
            matches!(placed, Err(MoveError::Name(OutputError::ReadOnly { .. }))),
            "{placed:?}"
        );
        remount("rw");
        staged
            .place(&tree_name("bind/new/x.png"), &FileState::NOTHING)
            .unwrap();
        bind.remove("new");
        assert_eq!(all(&temp.join("tmpfs")), Vec::<String>::new());
    }
}

#[test]
fn w9_a_scan_enters_mounted_file_systems_and_knows_their_files_again() {
    let (temp, other) = (temp(), temp());
    let Some(_mounts) = mounts(&temp, &other) else {
        return;
    };
    for path in ["tmpfs/x.png", "bind/x.png"] {
        temp.write(path, path);
        set_age(&temp.join(path), 3600);
    }
    settle(&temp);
    let folder = open(&temp);
    let scan = || {
        let (stop, mut found) = (AtomicBool::new(false), Vec::new());
        let summary = folder.scan_tree(ScanMode::Ids, &stop, &mut |file| {
            if let FileContent::Image(id) = file.content {
                found.push((file.name.to_str().unwrap().to_owned(), id));
            }
        });
        found.sort();
        (found, summary.unwrap().read)
    };
    let expected =
        ["bind/x.png", "tmpfs/x.png"].map(|path| (path.to_owned(), ImageId::of(path.as_bytes())));
    assert_eq!(scan(), (expected.to_vec(), 2));
    assert_eq!(scan(), (expected.to_vec(), 0));
}
