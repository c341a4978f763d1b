//! Sub-folders on which other file systems are mounted. Needs root. // W9

use jtp_store::{FileState, MoveError};
use rustix::mount::{MountFlags, mount_remount};

use super::scan::{Of, found, scan_with};
use super::*;

fn tree_name(path: &str) -> FileName {
    FileName::in_folders(&path.replace('/', "⧸"), ImageId(1), FileType::Png)
}

/// Another file system, and the same one mounted twice: files cannot be renamed into either.
fn mounts(root: &Path, other: &Path) -> Option<[Mounted; 2]> {
    for name in ["tmpfs", "bind"] {
        root.make_dir(name);
    }
    Some([
        Mounted::new("tmpfs", &root.join("tmpfs"), c"size=2m")?,
        Mounted::bind(other, &root.join("bind"))?,
    ])
}

#[test]
fn w9_large_files_renamed_across_file_systems_keep_their_contents_and_times() {
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
        assert_eq!(temp.read(pair[1]), noise(300_000, 1));
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
        let remount = |flags| mount_remount(&bind, MountFlags::BIND | flags, "").unwrap();
        remount(MountFlags::RDONLY);
        let placed = staged.place(&tree_name("bind/new/x.png"), &FileState::NOTHING);
        assert!(
            matches!(placed, Err(MoveError::Name(OutputError::ReadOnly { .. }))),
            "{placed:?}"
        );
        remount(MountFlags::empty());
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
        let (found, summary) = scan_with(&folder, ScanMode::Ids, Of::Tree, &mut |_| {});
        (found, summary.read)
    };
    let id = |path: &str| ImageId::of(path.as_bytes()).to_string();
    let expected = found(&[
        ("bind", "folder"),
        ("bind/x.png", &id("bind/x.png")),
        ("tmpfs", "folder"),
        ("tmpfs/x.png", &id("tmpfs/x.png")),
    ]);
    assert_eq!(scan(), (expected.clone(), 2));
    assert_eq!(scan(), (expected, 0));
}
