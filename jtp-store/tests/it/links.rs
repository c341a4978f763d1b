//! Symbolic and hard links: a change of what they lead to is reflected within 2 s, and none leads to a file that is not
//! shared. `life.rs` changes links at random.
#![cfg(target_os = "linux")]

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use crate::common::*;
use jtp_core::ImageId;
use jtp_driver::store::{ImageStore, StoreError};
use jtp_store::{DirStore, Follow};

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

/// Makes the link `name` in one step.
fn switch(place: &Temp, target: &str, name: &str) {
    place.link(target, "new-link");
    place.rename("new-link", name);
}

/// The index file may know the links.
#[test]
fn a_change_of_what_links_lead_to_is_reflected_within_2_s() {
    thread::scope(|scope| {
        for is_known in [false, true] {
            scope.spawn(move || follows_links(is_known));
        }
    });
}

fn follows_links(is_known: bool) {
    let place = temp();
    for folder in ["images/sub", "images/one", "images/other"] {
        place.make_dir(folder);
    }
    // What links lead to, with and without a type in its name, and the other name of a hard link.
    let targets = ["images/sub/a.png", "images/sub/b.svg", "outside.png"];
    let write_all =
        |version: &str| targets.map(|path| write(&place, path, format!("{version} {path}")));
    let old = write_all("old");
    place.link("sub/a.png", "images/a.png");
    place.link("sub/b.svg", "images/b.png");
    place.hard_link("outside.png", "images/c.png");
    let on_the_way = ["one", "other"]
        .map(|folder| write(&place.join("images"), &format!("{folder}/d.png"), folder));
    place.link("one", "images/current");
    place.link("current/d.png", "images/d.png");
    let listed_too = write(&place, "images/f.png", "f");
    place.link("f.png", "images/e.png");
    let open = || build(DirStore::builder(place.join("images")).index_file(place.join("index")));
    if is_known {
        settle(&place.join("images"));
        drop(open());
    }
    let store = open();
    assert_soon(&store, &[&old[..], &[on_the_way[0], listed_too]].concat());
    // In place, of the same length.
    let new = write_all("new");
    switch(&place, "other", "images/current");
    assert_soon(&store, &[&new[..], &[on_the_way[1], listed_too]].concat());
    let replaced = [targets[0], targets[1], "images/f.png"].map(|path| {
        let id = write(&place, "replacement", format!("replaced {path}"));
        place.rename("replacement", path);
        id
    });
    assert_soon(&store, &[&replaced[..], &[new[2], on_the_way[1]]].concat());
    assert_eq!(listed(&store)[4], "e.png", "not the name of its target");
    place.remove(targets[0]);
    place.remove(targets[1]);
    let rest = [new[2], on_the_way[1], replaced[2]];
    assert_soon(&store, &rest);
    let last = write_all("last");
    assert_soon(&store, &[&last[..], &rest[1..]].concat());
}

#[test]
fn links_lead_to_shared_files_in_the_folder_alone() {
    let place = temp();
    // Absolute links are compared with the real path.
    let root = place.canonicalize().unwrap();
    let (images, in_root) = (root.join("images"), |path: &str| root.join(path));
    for folder in ["images/sub/.hidden", "outside"] {
        place.make_dir(folder);
    }
    for file in [
        "sub/a.png",
        "sub/scan",
        "sub/IMG",
        ".secret",
        ".secret.png",
        "~$secret.png",
        "notes.txt",
        "disk.img",
        "png",
        "sub/.hidden/x.png",
        "sub/.x.png",
        "../outside/x.png",
        "../images-2.png",
    ] {
        let start = if file == "sub/IMG" { "GIF89a" } else { "" };
        images.write(file, format!("{start}contents of {file}"));
    }
    pipe(&images.join("pipe.png"));
    let folders = ["sub", "sub/.hidden", "../outside"];
    for (folder, name) in folders.into_iter().zip(["current", "hidden", "out"]) {
        images.link(folder, name);
    }
    images.link("sub", ".current");
    place.link("images", "alias");
    let path = PathBuf::from;
    for (target, is_served) in [
        (path("sub/a.png"), true),
        (path("sub/IMG"), true),
        (path("current/a.png"), true),
        (path(".current/a.png"), true),
        (path("../images/sub/a.png"), true),
        (in_root("images/sub/a.png"), true),
        (in_root("images/sub/../sub/a.png"), true),
        (in_root("alias/sub/a.png"), true),
        (path("sub/scan"), false),
        (path(".secret"), false),
        (path(".secret.png"), false),
        (path("~$secret.png"), false),
        (path("notes.txt"), false),
        (path("disk.img"), false),
        (path("png"), false),
        (path("sub/.hidden/x.png"), false),
        (path("hidden/x.png"), false),
        (path("sub/.x.png"), false),
        (in_root("images/.secret.png"), false),
        (path("../images/.secret.png"), false),
        (path("../outside/x.png"), false),
        (path("out/x.png"), false),
        (in_root("outside/x.png"), false),
        (in_root("images/out/x.png"), false),
        (in_root("images/../outside/x.png"), false),
        (in_root("images-2.png"), false),
        (images.clone(), false),
        (path(".."), false),
        (path("/"), false),
        (path("sub"), false),
        (path("link-1.png"), false),
        (path("nowhere.png"), false),
        (path("pipe.png"), false),
        (path("/dev/zero"), false),
        (path("/etc/passwd"), false),
    ] {
        // Also through other links, with and without an extension.
        let chain = ["link-1.png", "link-2.png", "via", "link-3.png"];
        images.link(&target, chain[0]);
        for pair in [[0, 1], [1, 2], [2, 3]] {
            images.link(chain[pair[0]], chain[pair[1]]);
        }
        for name in chain {
            let builder = DirStore::builder(&images).only(name).follow(Follow::Never);
            let is_listed = listed(&build(builder)).contains(&name.to_owned());
            assert_eq!(is_listed, is_served, "{name} to {}", target.display());
        }
        for name in chain {
            images.remove(name);
        }
    }
}

#[test]
fn s13_a_link_changed_to_a_hidden_copy_of_its_image_is_not_opened() {
    let place = temp();
    place.make_dir("sub");
    place.write("sub/a.png", "a");
    place.link("sub", "current");
    place.link("current/a.png", "a.png");
    let store = build(DirStore::builder(&place).follow(Follow::Never));
    let listed = store.catalog().snapshot().entries().next().unwrap().image();
    // The same file, with the same times.
    place.rename("sub", ".sub");
    switch(&place, ".sub", "current");
    let opened = open(&store, listed);
    assert!(matches!(opened, Err(StoreError::Changed(_))));
}
