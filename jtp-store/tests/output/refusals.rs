//! What the system refuses: which errors are about one name, and which about the folder.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use jtp_store::{FileState, MoveError, OutputError, OutputFolder};
use rustix::thread::CapabilitySet;

use super::common::*;
use super::{all, file_name, open, put, stage, visible};

/// A file system of 64 KiB, if one can be mounted.
fn tiny(place: &Path) -> Option<(PathBuf, Mounted)> {
    let path = place.join("tiny");
    fs::create_dir(&path).unwrap();
    let mounted = Mounted::new("tmpfs", &path, c"size=64k")?;
    Some((path, mounted))
}

#[test]
fn r8_a_file_of_another_user_in_a_sticky_folder_refuses_its_name_alone() {
    let temp = temp();
    temp.set_mode("", 0o1777);
    write(&temp, "a.png", b"another user's");
    for path in [temp.join("a.png"), temp.to_owned()] {
        if chown(path, Some(12345), None).is_err() {
            return eprintln!("skipped: only root can give files to another user");
        }
    }
    without(CapabilitySet::FOWNER, || {
        let folder = open(&temp);
        let mut staged = stage(&folder, b"new");
        let over = folder.look("a.png").unwrap();
        match staged.place(&file_name("a.png", b"new"), &over) {
            Err(MoveError::Name(OutputError::Permission { path, .. })) => {
                assert_eq!(path, temp.join("a.png"));
            }
            other => panic!("{other:?}"),
        }
        let to = file_name("b.png", b"new");
        let moved = folder.rename("a.png", &over, &to, &folder.look("b.png").unwrap());
        assert!(matches!(moved, Err(MoveError::Name(_))), "{moved:?}");
        staged.place(&to, &folder.look("b.png").unwrap()).unwrap();
        put(&folder, "c.png", b"next").unwrap();
        let error = put(&folder, "a.png", b"next").unwrap_err();
        assert!(matches!(error, OutputError::Permission { .. }), "{error}");
        let names = ["a.png", "b.png", "c.png"];
        assert_eq!(all(&temp), names, "no temporary file is left");
    });
    let bytes = temp.read("a.png");
    assert_eq!(bytes, b"another user's");
}

#[test]
fn r8_an_immutable_file_refuses_its_name_alone() {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
    let temp = temp();
    write(&temp, "a.png", b"immutable");
    let file = fs::File::open(temp.join("a.png")).unwrap();
    let flags = ioctl_getflags(&file).unwrap_or(IFlags::empty());
    if ioctl_setflags(&file, flags | IFlags::IMMUTABLE).is_err() {
        eprintln!("skipped: files cannot be made immutable here");
        return;
    }
    let folder = open(&temp);
    let mut staged = stage(&folder, b"new");
    let (over, nothing) = (folder.look("a.png").unwrap(), folder.look("b.png").unwrap());
    let placed = staged.place(&file_name("a.png", b"new"), &over);
    let moved = folder.rename("a.png", &over, &file_name("b.png", b"new"), &nothing);
    let next = staged.place(&file_name("b.png", b"new"), &nothing);
    ioctl_setflags(&file, flags).unwrap();
    assert!(matches!(placed, Err(MoveError::Name(_))), "{placed:?}");
    assert!(matches!(moved, Err(MoveError::Name(_))), "{moved:?}");
    next.unwrap();
    let expected = [
        ("a.png".into(), b"immutable".into()),
        ("b.png".into(), b"new".into()),
    ];
    assert_eq!(visible(&temp), expected);
}

#[test]
fn a_folder_without_write_permission_is_reported_when_a_temporary_file_is_created() {
    let temp = temp();
    temp.set_mode("", 0o555);
    without_privileges(|| {
        let folder = open(&temp);
        let mut staged = stage(&folder, b"new");
        let error = staged.settle().unwrap_err();
        assert!(matches!(error, OutputError::Permission { .. }), "{error}");
        let placed = staged.place(&file_name("a.png", b"new"), &FileState::NOTHING);
        let is_folder = matches!(
            placed,
            Err(MoveError::Folder(OutputError::Permission { .. }))
        );
        assert!(is_folder, "{placed:?}");
    });
}

#[test]
fn a_full_or_read_only_disk_is_an_error_of_the_folder_and_a_staged_image_can_be_placed_later() {
    use rustix::mount::{MountFlags, mount_remount};
    let temp = temp();
    let Some((path, _mounted)) = tiny(&temp) else {
        return;
    };
    let folder = open(&path);
    let (bytes, name) = (noise(30_000, 1), file_name("a.png", b""));
    let nothing = folder.look("a.png").unwrap();
    let mut staged = stage(&folder, &bytes);
    write(&path, "fill", noise(50_000, 2));
    let error = staged.settle().unwrap_err();
    assert!(matches!(error, OutputError::DiskFull { .. }), "{error}");
    let error = put(&folder, "b.png", &bytes).unwrap_err();
    assert!(matches!(error, OutputError::DiskFull { .. }), "{error}");
    let placed = staged.place(&name, &nothing);
    let is_full = matches!(placed, Err(MoveError::Folder(OutputError::DiskFull { .. })));
    assert!(is_full, "{placed:?}");
    assert_eq!(all(&path), ["fill"], "no temporary file is left");
    path.remove("fill");
    staged.settle().unwrap();
    mount_remount(&path, MountFlags::RDONLY, "").unwrap();
    let error = put(&folder, "b.png", &bytes).unwrap_err();
    assert!(matches!(error, OutputError::ReadOnly { .. }), "{error}");
    let placed = staged.place(&name, &nothing);
    let is_read_only = matches!(placed, Err(MoveError::Folder(OutputError::ReadOnly { .. })));
    assert!(is_read_only, "{placed:?}");
    mount_remount(&path, MountFlags::empty(), "").unwrap();
    staged.place(&name, &nothing).unwrap();
    assert_eq!(visible(&path), [("a.png".to_owned(), bytes)]);
}

#[test]
fn a_removed_folder_is_an_error_of_the_folder() {
    let temp = temp();
    let path = temp.join("out");
    let folder = OutputFolder::open(&path).unwrap();
    let (mut settled, mut in_memory) = (stage(&folder, b"one"), stage(&folder, b"two"));
    settled.settle().unwrap();
    fs::remove_dir_all(&path).unwrap();
    let nothing = folder.look("a.png").unwrap();
    assert!(nothing.is_nothing());
    for staged in [&mut settled, &mut in_memory] {
        let placed = staged.place(&file_name("a.png", b""), &nothing);
        let is_gone = matches!(placed, Err(MoveError::Folder(OutputError::Vanished { .. })));
        assert!(is_gone, "{placed:?}");
    }
}

#[test]
fn a_removed_temporary_file_is_an_error_of_its_image_alone() {
    let temp = temp();
    let folder = open(&temp);
    let mut staged = stage(&folder, b"one");
    staged.settle().unwrap();
    for name in all(&temp) {
        temp.remove(name);
    }
    let nothing = folder.look("a.png").unwrap();
    let placed = staged.place(&file_name("a.png", b"one"), &nothing);
    assert!(matches!(placed, Err(MoveError::Name(_))), "{placed:?}");
    put(&folder, "b.png", b"two").unwrap();
}
