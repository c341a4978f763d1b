//! What the system refuses: which errors are about one name, and which about the folder.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;

use jtp_store::{MoveError, OutputError, OutputFolder};

use super::common::*;
use super::{all, file_name, open, put, stage, visible};

/// Mounts a file system of 64 KiB; `None` where that is not allowed.
fn tiny(path: &Path) -> Option<Mounted<'_>> {
    use rustix::mount::{MountFlags, mount};
    fs::create_dir(path).unwrap();
    mount(
        "tmpfs",
        path,
        "tmpfs",
        MountFlags::empty(),
        Some(c"size=64k"),
    )
    .ok()?;
    Some(Mounted(path))
}

struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_or_read_only_disk_is_reported_and_no_file_is_left() {
    use rustix::mount::{MountFlags, mount_remount};
    let temp = temp();
    let path = temp.join("tiny");
    let Some(mounted) = tiny(&path) else {
        eprintln!("skipped: mounting is not allowed here");
        return;
    };
    let folder = OutputFolder::open(&path).unwrap();
    let error = put(&folder, "a.png", &noise(100_000, 1)).unwrap_err();
    assert!(matches!(error, OutputError::DiskFull { .. }), "{error}");
    assert!(all(&path).is_empty());
    put(&folder, "b.png", b"small").unwrap();
    mount_remount(&path, MountFlags::RDONLY, "").unwrap();
    let error = put(&folder, "c.png", b"small").unwrap_err();
    assert!(matches!(error, OutputError::ReadOnly { .. }), "{error}");
    drop(mounted);
}

/// Runs on a thread without privileges; `false` if that is not possible here.
fn as_nobody(run: impl FnOnce() + Send) -> bool {
    use rustix::fs::{Gid, Uid};
    use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
    let (uid, gid) = (Uid::from_raw(65_534), Gid::from_raw(65_534));
    let work = || {
        let changed = set_thread_groups(&[])
            .and_then(|()| set_thread_res_gid(gid, gid, gid))
            .and_then(|()| set_thread_res_uid(uid, uid, uid));
        if changed.is_err() {
            eprintln!("skipped: the user of a thread cannot be changed here");
            return false;
        }
        run();
        true
    };
    thread::scope(|scope| scope.spawn(work).join().unwrap())
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn r8_a_file_of_another_user_in_a_sticky_folder_refuses_its_name_alone() {
    let temp = temp();
    set_mode(&temp, 0o1777);
    write(&temp, "a.png", b"another user's");
    as_nobody(|| {
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
    set_mode(&temp, 0o755);
    as_nobody(|| {
        let folder = open(&temp);
        let mut staged = stage(&folder, b"new");
        let error = staged.settle().unwrap_err();
        assert!(matches!(error, OutputError::Permission { .. }), "{error}");
        let nothing = folder.look("a.png").unwrap();
        let placed = staged.place(&file_name("a.png", b"new"), &nothing);
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
    let path = temp.join("tiny");
    let Some(mounted) = tiny(&path) else {
        eprintln!("skipped: mounting is not allowed here");
        return;
    };
    let folder = open(&path);
    let (bytes, name) = (noise(30_000, 1), file_name("a.png", b""));
    let nothing = folder.look("a.png").unwrap();
    let mut staged = stage(&folder, &bytes);
    write(&path, "fill", noise(50_000, 2));
    let error = staged.settle().unwrap_err();
    assert!(matches!(error, OutputError::DiskFull { .. }), "{error}");
    let placed = staged.place(&name, &nothing);
    let is_full = matches!(placed, Err(MoveError::Folder(OutputError::DiskFull { .. })));
    assert!(is_full, "{placed:?}");
    assert_eq!(all(&path), ["fill"], "no temporary file is left");
    path.remove("fill");
    staged.settle().unwrap();
    mount_remount(&path, MountFlags::RDONLY, "").unwrap();
    let placed = staged.place(&name, &nothing);
    let is_read_only = matches!(placed, Err(MoveError::Folder(OutputError::ReadOnly { .. })));
    assert!(is_read_only, "{placed:?}");
    mount_remount(&path, MountFlags::empty(), "").unwrap();
    staged.place(&name, &nothing).unwrap();
    assert_eq!(visible(&path), [("a.png".to_owned(), bytes)]);
    drop(mounted);
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
