//! Another user who can rename folders on the way to the images folder does not get another folder published. What the
//! owner does (a new folder, a link to the next release, a disk that is mounted) is followed.
#![cfg(target_os = "linux")]

use std::fs;
use std::io;
use std::os::unix::fs::{chown, lchown, symlink};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::common::*;
use jtp_core::ImageId;
use jtp_driver::store::ImageStore;
use jtp_store::{DirStore, Follow};

/// Longer than many checks of the path, and than one where events are followed.
const CHECKS: Duration = Duration::from_millis(400);
const CHECK_WITH_EVENTS: Duration = Duration::from_millis(2_500);

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
            place.0.make_dir(folder);
            write(&place.path(folder), image, folder);
        }
        place
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.canonicalize().unwrap().join(path)
    }

    fn mode(&self, path: &str, mode: u32) -> io::Result<()> {
        self.0.set_mode(path, mode);
        Ok(())
    }

    fn give(&self, path: &str) -> io::Result<()> {
        lchown(self.path(path), Some(OTHER), None)
    }

    /// Puts another folder in the place of the images folder.
    fn swap(&self, folder: &str) -> io::Result<()> {
        self.0.rename("shared/images", "shared/before");
        self.0.rename(folder, "shared/images");
        Ok(())
    }

    /// The same with a link to the folder.
    fn swap_link(&self, folder: &str) -> io::Result<()> {
        self.0.rename("shared/images", "shared/before");
        symlink(self.path(folder), self.path("shared/images"))
    }

    fn serve(&self, path: &str, follow: Follow) -> Arc<DirStore> {
        let store = build(DirStore::builder(self.path(path)).follow(follow));
        assert_eq!(listed(&store), ["public.png"]);
        store
    }
}

/// The folder counts as missing, and the other one stays unpublished for longer than a check takes.
#[track_caller]
fn assert_unpublished(store: &DirStore, what: &str, longer_than_a_check: Duration) {
    wait_for(store, jtp_core::Catalog::is_empty);
    let mut changes = store.catalog().subscribe();
    let published = changes.wait_timeout(longer_than_a_check);
    assert!(published.is_none(), "{what}: {:?}", listed(store));
}

type Act = fn(&Place) -> io::Result<()>;

/// What is done before the folder is served, and then.
const UNPUBLISHED: [(&str, Act, Act); 10] = [
    (
        "a folder of the same owner, where all can write",
        |place| place.mode("shared", 0o777),
        |place| place.swap("shared/private"),
    ),
    (
        "a folder of the same owner, where a group can write",
        |place| {
            place.mode("shared", 0o770)?;
            chown(place.path("shared"), None, Some(OTHER))
        },
        |place| place.swap("shared/private"),
    ),
    (
        "a link, where all can write",
        |place| place.mode("shared", 0o777),
        |place| place.swap_link("elsewhere/images"),
    ),
    (
        "a link in place of the parent, where all can write",
        |place| place.mode("", 0o777),
        |place| {
            place.0.rename("shared", "before");
            symlink("elsewhere", place.path("shared"))
        },
    ),
    (
        // As in /tmp, others can make entries but not replace those of the owner.
        "a link of another user",
        |place| place.mode("shared", 0o1777),
        |place| {
            place.swap_link("elsewhere/images")?;
            place.give("shared/images")
        },
    ),
    (
        "a folder of another user",
        |place| place.give("shared/private"),
        |place| place.swap("shared/private"),
    ),
    (
        "a folder of another user, where all can make entries",
        |place| {
            place.mode("shared", 0o1777)?;
            place.give("shared/private")
        },
        |place| place.swap("shared/private"),
    ),
    (
        "a folder that the owner of its parent has put there",
        |place| place.give("shared"),
        |place| place.swap("shared/private"),
    ),
    (
        // As for a server of root that serves the folder of a user.
        "a folder of root that the owner of the images has put there",
        |place| {
            place.give("shared")?;
            place.give("shared/images")
        },
        |place| place.swap("shared/private"),
    ),
    (
        "a link of the owner of the images to a folder of root",
        |place| {
            place.give("shared")?;
            place.give("shared/images")
        },
        |place| {
            place.swap_link("elsewhere/images")?;
            place.give("shared/images")
        },
    ),
];

#[test]
fn what_others_can_have_put_in_the_place_of_the_images_folder_is_not_published() {
    thread::scope(|scope| {
        for (what, before, swap) in UNPUBLISHED {
            scope.spawn(move || {
                let place = Place::new();
                if let Err(error) = before(&place) {
                    return println!("skipped: {what}: {error}");
                }
                let store = place.serve("shared/images", BY_SCANS);
                match swap(&place) {
                    Ok(()) => assert_unpublished(&store, what, CHECKS),
                    Err(error) => println!("skipped: {what}: {error}"),
                }
            });
        }
    });
}

#[test]
fn with_events_the_path_is_checked_too_and_the_folder_itself_is_accepted_when_it_is_back() {
    let place = Place::new();
    place.mode("shared", 0o777).unwrap();
    let store = place.serve("shared/images", Follow::Events);
    place.swap("shared/private").unwrap();
    assert_unpublished(&store, "a folder of the same owner", CHECK_WITH_EVENTS);
    place.0.rename("shared/images", "shared/private");
    place.0.rename("shared/before", "shared/images");
    wait_for_names(&store, &["public.png"]);
}

#[test]
fn a_link_of_the_owner_to_a_disk_of_another_user_is_not_published_and_one_to_an_own_folder_is() {
    let place = Place::new();
    for name in ["shared", "shared/images"] {
        if place.give(name).is_err() {
            return println!("skipped: only root can give files to another user");
        }
    }
    let disk = place.path("elsewhere/images");
    let store = place.serve("shared/images", BY_SCANS);
    let Some(_disk) = Mounted::new("tmpfs", &disk, c"size=1m") else {
        return;
    };
    write(&disk, "private.png", "private");
    place.swap_link("elsewhere/images").unwrap();
    place.give("shared/images").unwrap();
    assert_unpublished(&store, "a disk of another user", CHECKS);
    place.0.remove("shared/images");
    place.0.link("before", "shared/images");
    place.give("shared/images").unwrap();
    wait_for_names(&store, &["public.png"]);
}

#[test]
fn a_link_of_another_user_is_followed_once_at_the_start() {
    let place = Place::new();
    place.mode("", 0o777).unwrap();
    place.0.link("shared", "link");
    let store = place.serve("link/images", BY_SCANS);
    place.0.remove("link");
    place.0.link("elsewhere", "link");
    // What it led to is still served, and followed.
    let mut changes = store.catalog().subscribe();
    assert!(changes.wait_timeout(CHECKS).is_none());
    write(&place.path("shared/images"), "later.png", "later");
    wait_for_names(&store, &["later.png", "public.png"]);
}

#[test]
fn a_link_that_the_owner_switches_to_the_next_release_is_followed() {
    let place = Place::new();
    for n in [1, 2] {
        let release = place.path(&format!("release-{n}"));
        fs::create_dir(&release).unwrap();
        write(&release, "a.png", format!("release {n}"));
    }
    for absolute in [false, true] {
        let switch = |n: u32| {
            let target = format!("release-{n}");
            let target = if absolute {
                place.path(&target)
            } else {
                target.into()
            };
            place.0.link(target, "next");
            place.0.rename("next", "current");
        };
        switch(1);
        let store = build(DirStore::builder(place.path("current")).follow(BY_SCANS));
        for n in [2, 1] {
            switch(n);
            let id = ImageId::of(format!("release {n}").as_bytes());
            wait_for(&store, |catalog| catalog.contains(id));
        }
    }
}

#[test]
fn a_new_folder_of_the_owner_and_a_mounted_file_system_of_anyone_are_published() {
    for mode in [0o700, 0o755, 0o1777] {
        let place = Place::new();
        place.mode("shared", mode).unwrap();
        let store = place.serve("shared/images", BY_SCANS);
        place.0.rename("shared/images", "shared/before");
        wait_for_names(&store, &[]);
        place.0.make_dir("shared/images");
        write(&place.path("shared/images"), "new.png", "new");
        wait_for_names(&store, &["new.png"]);
    }
    let place = Place::new();
    let images = place.path("shared/images");
    let store = place.serve("shared/images", BY_SCANS);
    let options = c"size=1m,uid=65534,mode=755";
    if let Some(disk) = Mounted::new("tmpfs", &images, options) {
        write(&images, "disk.png", "disk");
        wait_for_names(&store, &["disk.png"]);
        drop(disk);
        wait_for_names(&store, &["public.png"]);
    }
}
