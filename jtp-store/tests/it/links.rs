//! Symbolic and hard links: a change of what they lead to is reflected within 2 s, and none leads out of the folder.
#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::common::*;
use jtp_core::ImageId;
use jtp_driver::store::ImageStore;
use jtp_store::DirStore;

const SOON: Duration = Duration::from_secs(2);

/// A folder `images` with a folder `sub` in it, and a folder `outside` beside it.
struct Folders {
    parent: Temp,
}

impl Folders {
    fn new() -> Folders {
        let parent = temp();
        for name in ["images/sub", "outside"] {
            parent.make_dir(name);
        }
        Folders { parent }
    }

    fn path(&self, path: &str) -> PathBuf {
        // Absolute links are compared with the real path.
        self.parent.canonicalize().unwrap().join(path)
    }

    fn images(&self) -> PathBuf {
        self.path("images")
    }

    fn write(&self, path: &str, bytes: &str) -> ImageId {
        write(&self.parent, path, bytes)
    }

    fn link(&self, target: impl AsRef<Path>, name: &str) {
        self.images().link(target, name);
    }

    fn replace(&self, path: &str, bytes: &str) -> ImageId {
        let id = self.write("outside/new", bytes);
        fs::rename(self.path("outside/new"), self.path(path)).unwrap();
        id
    }
}

/// Waits until these images alone are listed, each of which can be opened.
#[track_caller]
fn assert_soon(store: &Arc<DirStore>, ids: &[ImageId]) {
    let took = wait_for(store, |c| {
        c.len() == ids.len() && ids.iter().all(|id| c.contains(*id))
    });
    assert!(took < SOON, "{took:?}");
    for id in ids {
        let bytes = body(store, image(store, *id)).unwrap();
        assert_eq!(ImageId::of(&bytes), *id);
    }
}

#[test]
fn a_change_of_the_target_of_a_link_is_reflected_within_2_s() {
    for target in ["sub/a.png", "sub/b.svg"] {
        let folders = Folders::new();
        let path = format!("images/{target}");
        let old = folders.write(&path, "old");
        folders.link(target, "a.png");
        let store = open_store(&folders.images());
        assert_soon(&store, &[old]);
        let new = folders.write(&path, "new"); // In place, of the same length.
        assert_soon(&store, &[new]);
        let newer = folders.replace(&path, "newer");
        assert_soon(&store, &[newer]);
        fs::remove_file(folders.path(&path)).unwrap();
        assert_soon(&store, &[]);
        let last = folders.write(&path, "last");
        assert_soon(&store, &[last]);
    }
}

#[test]
fn a_change_of_a_listed_target_unlists_the_old_image_of_its_link() {
    let folders = Folders::new();
    let old = folders.write("images/a.png", "old");
    folders.link("a.png", "0.png");
    let store = open_store(&folders.images());
    assert_soon(&store, &[old]);
    let new = folders.replace("images/a.png", "new");
    assert_soon(&store, &[new]);
    assert_eq!(listed(&store), ["0.png"]);
}

#[test]
fn a_hard_link_that_is_written_under_its_other_name_is_reflected_within_2_s() {
    let folders = Folders::new();
    let first = folders.write("outside/first", "first");
    fs::hard_link(folders.path("outside/first"), folders.path("images/a.png")).unwrap();
    let store = open_store(&folders.images());
    assert_soon(&store, &[first]);
    let other = folders.write("outside/second", "second");
    fs::hard_link(folders.path("outside/second"), folders.path("images/b.png")).unwrap();
    assert_soon(&store, &[first, other]);
    let (first, other) = (
        folders.write("outside/first", "FIRST"),
        folders.write("outside/second", "SECOND"),
    );
    assert_soon(&store, &[first, other]);
    // While a program writes it under the other name, it is not listed with half of its contents.
    let mut file = File::create(folders.path("outside/first")).unwrap();
    file.write_all(b"the third").unwrap();
    let mut changes = store.catalog().subscribe();
    assert!(changes.wait_timeout(Duration::from_secs(1)).is_none());
    file.write_all(b" picture").unwrap();
    drop(file);
    assert_soon(&store, &[ImageId::of(b"the third picture"), other]);
}

#[test]
fn links_that_the_index_file_knows_are_followed_too() {
    let folders = Folders::new();
    let first = folders.write("outside/first", "first");
    fs::hard_link(folders.path("outside/first"), folders.path("images/a.png")).unwrap();
    let second = folders.write("images/sub/second.png", "second");
    folders.link("sub/second.png", "b.png");
    for round in 0..2 {
        let index = folders.path("index");
        let store = build(DirStore::builder(folders.images()).index_file(index));
        assert_soon(&store, &[first, second]);
        if round == 1 {
            let first = folders.write("outside/first", "FIRST");
            let second = folders.write("images/sub/second.png", "SECOND");
            assert_soon(&store, &[first, second]);
        }
    }
}

#[test]
fn a_folder_on_the_way_that_is_replaced_is_reflected_within_2_s() {
    let folders = Folders::new();
    fs::create_dir(folders.path("images/other")).unwrap();
    let old = folders.write("images/sub/a.png", "old");
    let new = folders.write("images/other/a.png", "new");
    folders.link("sub", "current");
    folders.link("current/a.png", "a.png");
    let store = open_store(&folders.images());
    assert_soon(&store, &[old]);
    folders.link("other", ".next");
    fs::rename(folders.path("images/.next"), folders.path("images/current")).unwrap();
    assert_soon(&store, &[new]);
}

#[test]
fn links_that_lead_out_and_back_into_the_folder_are_served() {
    let folders = Folders::new();
    folders.write("images/sub/a.png", "a");
    folders.write("images/sub/b.png", "b");
    let images = folders.images();
    symlink(&images, folders.path("alias")).unwrap();
    folders.link(images.join("sub/a.png"), "absolute.png");
    folders.link(images.join("sub/../sub/a.png"), "dots.png");
    folders.link("../images/sub/b.png", "relative.png");
    folders.link(images.join("sub"), "folder");
    folders.link("folder/b.png", "two.png");
    folders.link(images.join("two.png"), "three.png");
    folders.link(folders.path("alias/sub/b.png"), "alias.png");
    let store = open_store(&images);
    let all = ["a", "b"].map(|bytes| ImageId::of(bytes.as_bytes()));
    assert_soon(&store, &all);
    for name in [
        "alias.png",
        "dots.png",
        "relative.png",
        "three.png",
        "two.png",
    ] {
        let store = build(DirStore::builder(&images).only(name));
        assert_eq!(listed(&store), [name]);
        let catalog = store.catalog().snapshot();
        let id = catalog.entries().next().unwrap().id;
        assert_soon(&store, &[id]);
    }
    let changed = folders.write("images/sub/a.png", "A");
    assert_soon(&store, &[changed, all[1]]);
}

#[test]
fn links_that_lead_out_of_the_folder_are_not_served() {
    let folders = Folders::new();
    folders.write("outside/secret.png", "secret");
    folders.write("images-2.png", "not in the folder");
    folders.link(folders.path("outside"), "out");
    folders.link(folders.path("outside/secret.png"), "a.png");
    folders.link("../outside/secret.png", "b.png");
    folders.link("out/secret.png", "c.png");
    folders.link(folders.path("images/../outside/secret.png"), "d.png");
    folders.link(folders.images().join("out/secret.png"), "e.png");
    folders.link(folders.path("images-2.png"), "f.png");
    folders.link(folders.images().join("g.png"), "g.png");
    folders.link(folders.images(), "h.png");
    folders.link("..", "i.png");
    folders.link("/", "j.png");
    let marker = folders.write("images/marker.png", "marker");
    let store = open_store(&folders.images());
    assert_soon(&store, &[marker]);
    // Nor once the catalog follows the folder.
    folders.link(folders.path("outside/secret.png"), "k.png");
    let later = folders.write("images/later.png", "later");
    assert_soon(&store, &[marker, later]);
}
