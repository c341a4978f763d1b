//! Another user who can rename folders on the way to the images folder does not get another folder published. What the
//! owner does (a new folder, a link to the next release, a disk that is mounted) is followed.
#![cfg(target_os = "linux")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::common::*;
use jtp_driver::store::ImageStore;
use jtp_store::DirStore;

const SOON: Duration = Duration::from_secs(3);

/// The ID of another user. Only root can give files to it.
const OTHER: u32 = 65_534;

/// `shared/images` with one image, and `shared/private` of the same owner.
struct Place(Temp);

impl Place {
    fn new() -> Place {
        let place = Place(temp());
        for (folder, image) in [
            ("shared/images", "public.png"),
            ("shared/private", "private.png"),
            ("elsewhere/images", "private.png"),
        ] {
            fs::create_dir_all(place.path(folder)).unwrap();
            write(&place.path(folder), image, folder);
        }
        place
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.canonicalize().unwrap().join(path)
    }

    fn set_mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.path(path), Permissions::from_mode(mode)).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn serve(&self, path: &str) -> Arc<DirStore> {
        let store = open_store(&self.path(path));
        assert_eq!(listed(&store), ["public.png"]);
        store
    }
}

/// The folder counts as missing, and the other one stays unpublished for longer than a check takes.
#[track_caller]
fn assert_unpublished(store: &DirStore, what: &str) {
    let took = wait_for(store, jtp_core::Catalog::is_empty);
    assert!(took < SOON, "{what}: {took:?}");
    let mut changes = store.catalog().subscribe();
    let published = changes.wait_timeout(Duration::from_millis(2_500));
    assert!(published.is_none(), "{what}: {:?}", listed(store));
}

/// Whether this test may give files to another user.
fn can_chown(path: &Path) -> bool {
    let link = path.join("probe");
    symlink("nowhere", &link).unwrap();
    let can = lchown(&link, Some(OTHER), None).is_ok();
    fs::remove_file(link).unwrap();
    can
}

#[test]
fn a_folder_that_others_renamed_to_the_name_of_the_images_folder_is_not_published() {
    for mode in [0o777, 0o770] {
        let place = Place::new();
        place.set_mode("shared", mode);
        if mode == 0o770 && chown(place.path("shared"), None, Some(OTHER)).is_err() {
            continue;
        }
        let store = place.serve("shared/images");
        place.rename("shared/images", "shared/before");
        place.rename("shared/private", "shared/images");
        assert_unpublished(&store, "a folder of the same owner");
        // The folder itself is accepted when it is back.
        place.rename("shared/images", "shared/private");
        place.rename("shared/before", "shared/images");
        assert!(wait_for_names(&store, &["public.png"]) < SOON);
    }
}

#[test]
fn a_parent_that_others_replaced_by_a_link_is_not_followed() {
    let place = Place::new();
    place.set_mode("", 0o777);
    let store = place.serve("shared/images");
    place.rename("shared", "before");
    symlink("elsewhere", place.path("shared")).unwrap();
    assert_unpublished(&store, "a link in a folder that others can write to");
    fs::remove_file(place.path("shared")).unwrap();
    place.rename("before", "shared");
    assert!(wait_for_names(&store, &["public.png"]) < SOON);
}

#[test]
fn a_link_in_place_of_the_images_folder_is_not_followed_if_others_can_have_made_it() {
    let place = Place::new();
    place.set_mode("shared", 0o777);
    let store = place.serve("shared/images");
    place.rename("shared/images", "shared/before");
    symlink(place.path("elsewhere/images"), place.path("shared/images")).unwrap();
    assert_unpublished(&store, "a link in a folder that others can write to");
}

#[test]
fn a_link_of_another_user_is_not_followed_even_in_a_folder_of_the_owner() {
    let place = Place::new();
    if !can_chown(&place.0) {
        return println!("skipped: only root can give files to another user");
    }
    // As in /tmp, others can make entries but not replace those of the owner.
    place.set_mode("shared", 0o1777);
    let store = place.serve("shared/images");
    place.rename("shared/images", "shared/before");
    symlink(place.path("elsewhere/images"), place.path("shared/images")).unwrap();
    lchown(place.path("shared/images"), Some(OTHER), None).unwrap();
    assert_unpublished(&store, "a link of another user");
}

#[test]
fn a_folder_of_another_user_is_not_published() {
    let place = Place::new();
    if !can_chown(&place.0) {
        return println!("skipped: only root can give files to another user");
    }
    for mode in [0o755, 0o1777] {
        let place = Place::new();
        place.set_mode("shared", mode);
        let store = place.serve("shared/images");
        chown(place.path("shared/private"), Some(OTHER), None).unwrap();
        place.rename("shared/images", "shared/before");
        place.rename("shared/private", "shared/images");
        assert_unpublished(&store, "a folder of another user");
    }
}

#[test]
fn a_folder_below_one_of_another_user_is_not_published() {
    let place = Place::new();
    if !can_chown(&place.0) {
        return println!("skipped: only root can give files to another user");
    }
    chown(place.path("shared"), Some(OTHER), None).unwrap();
    let store = place.serve("shared/images");
    place.rename("shared/images", "shared/before");
    place.rename("shared/private", "shared/images");
    assert_unpublished(
        &store,
        "a folder that the owner of its parent has put there",
    );
}

#[test]
fn the_owner_of_the_images_folder_does_not_get_folders_of_others_published() {
    let place = Place::new();
    if !can_chown(&place.0) {
        return println!("skipped: only root can give files to another user");
    }
    // As for a server of root that serves the folder of a user.
    for name in ["shared", "shared/images"] {
        chown(place.path(name), Some(OTHER), None).unwrap();
    }
    let link = |target: &str| {
        let link = place.path("shared/images");
        symlink(place.path(target), &link).unwrap();
        lchown(&link, Some(OTHER), None).unwrap();
    };
    let store = place.serve("shared/images");
    place.rename("shared/images", "shared/before");
    link("elsewhere/images");
    assert_unpublished(&store, "a link to a folder of root");
    fs::remove_file(place.path("shared/images")).unwrap();
    place.rename("shared/private", "shared/images");
    assert_unpublished(&store, "a folder of root");
    place.rename("shared/images", "shared/private");
    // A link to a folder of their own is followed.
    link("shared/before");
    assert!(wait_for_names(&store, &["public.png"]) < SOON);
}

#[test]
fn a_link_of_the_owner_to_a_disk_of_another_user_is_not_published() {
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    let place = Place::new();
    if !can_chown(&place.0) {
        return println!("skipped: only root can give files to another user");
    }
    for name in ["shared", "shared/images"] {
        chown(place.path(name), Some(OTHER), None).unwrap();
    }
    let disk = place.path("elsewhere/images");
    let store = place.serve("shared/images");
    if mount(
        "tmpfs",
        &disk,
        "tmpfs",
        MountFlags::empty(),
        Some(c"size=1m"),
    )
    .is_err()
    {
        return println!("skipped: mounting is not allowed here");
    }
    write(&disk, "private.png", "private");
    place.rename("shared/images", "shared/before");
    symlink(&disk, place.path("shared/images")).unwrap();
    lchown(place.path("shared/images"), Some(OTHER), None).unwrap();
    let took = wait_for(&store, jtp_core::Catalog::is_empty);
    let mut changes = store.catalog().subscribe();
    let published = changes.wait_timeout(Duration::from_millis(2_500));
    unmount(&disk, UnmountFlags::DETACH).unwrap();
    assert!(took < SOON && published.is_none());
}

#[test]
fn a_link_of_another_user_is_followed_once_at_the_start() {
    let place = Place::new();
    place.set_mode("", 0o777);
    symlink("shared", place.path("link")).unwrap();
    let store = place.serve("link/images");
    fs::remove_file(place.path("link")).unwrap();
    symlink("elsewhere", place.path("link")).unwrap();
    // What it led to is still served, and followed.
    let mut changes = store.catalog().subscribe();
    assert!(changes.wait_timeout(Duration::from_millis(2_500)).is_none());
    write(&place.path("shared/images"), "later.png", "later");
    assert!(wait_for_names(&store, &["later.png", "public.png"]) < SOON);
}

#[test]
fn a_link_that_the_owner_switches_to_the_next_release_is_followed() {
    let place = Place::new();
    for n in [1, 2] {
        fs::create_dir(place.path(&format!("release-{n}"))).unwrap();
        write(
            &place.path(&format!("release-{n}")),
            "a.png",
            format!("release {n}"),
        );
    }
    let switch = |to: &str| {
        symlink(to, place.path("next")).unwrap();
        place.rename("next", "current");
    };
    for absolute in [false, true] {
        let target = |n: u32| match absolute {
            true => place.path(&format!("release-{n}")).display().to_string(),
            false => format!("release-{n}"),
        };
        switch(&target(1));
        let store = open_store(&place.path("current"));
        for n in [2, 1] {
            switch(&target(n));
            let id = jtp_core::ImageId::of(format!("release {n}").as_bytes());
            assert!(wait_for(&store, |catalog| catalog.contains(id)) < SOON);
        }
    }
}

#[test]
fn a_new_folder_of_the_owner_is_published() {
    for mode in [0o700, 0o755, 0o1777] {
        let place = Place::new();
        place.set_mode("shared", mode);
        let store = place.serve("shared/images");
        place.rename("shared/images", "shared/before");
        assert!(wait_for_names(&store, &[]) < SOON);
        fs::create_dir(place.path("shared/images")).unwrap();
        write(&place.path("shared/images"), "new.png", "new");
        assert!(wait_for_names(&store, &["new.png"]) < SOON);
    }
}

#[test]
fn a_mounted_file_system_is_published_whoever_owns_it() {
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    let place = Place::new();
    let options = Some(c"size=1m,uid=65534,mode=755");
    let images = place.path("shared/images");
    let store = place.serve("shared/images");
    if mount("tmpfs", &images, "tmpfs", MountFlags::empty(), options).is_err() {
        return println!("skipped: mounting is not allowed here");
    }
    write(&images, "disk.png", "disk");
    let found = wait_for_names(&store, &["disk.png"]);
    unmount(&images, UnmountFlags::DETACH).unwrap();
    assert!(found < SOON);
    assert!(wait_for_names(&store, &["public.png"]) < SOON);
}
