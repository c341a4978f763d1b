//! Links in the served folder that lead to files which the server does not share: hidden ones, and those that are no
//! images.
#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::common::*;
use jtp_driver::store::{ImageStore, StoreError};
use jtp_store::{DirStore, Follow};

const SOON: Duration = Duration::from_secs(2);

/// Files that are not shared, below the served folder.
const UNSHARED: [&str; 8] = [
    ".secret",
    ".secret.png",
    "~$secret.png",
    "notes.txt",
    "disk.img",
    "png",
    "sub/.hidden/x.png",
    "sub/.x.png",
];

fn folder_with(files: &[&str]) -> Temp {
    let folder = temp();
    for file in files {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("secret of {file}")).unwrap();
    }
    folder
}

/// Makes `folder/name` a link, in one step.
fn link(folder: &Path, target: impl AsRef<Path>, name: &str) {
    let new = folder.join(".new-link");
    symlink(target, &new).unwrap();
    fs::rename(new, folder.join(name)).unwrap();
}

#[test]
fn links_to_hidden_files_and_to_files_that_are_no_images_are_not_served() {
    let folder = folder_with(&UNSHARED);
    let path = folder.canonicalize().unwrap();
    write(&path, "shared.png", b"shared");
    for (n, target) in UNSHARED.iter().enumerate() {
        link(&path, target, &format!("relative-{n}.png"));
        link(&path, path.join(target), &format!("absolute-{n}.png"));
        let around = Path::new("..").join(path.file_name().unwrap());
        link(&path, around.join(target), &format!("around-{n}.png"));
        // Through other links, with and without an extension.
        link(
            &path,
            format!("relative-{n}.png"),
            &format!("second-{n}.png"),
        );
        link(&path, format!("second-{n}.png"), &format!("third-{n}.png"));
        link(&path, target, &format!("plain-{n}"));
        link(&path, format!("plain-{n}"), &format!("fourth-{n}.png"));
    }
    link(&path, "sub/.hidden", "folder");
    link(&path, "folder/x.png", "through a folder.png");
    let store = open_store(&path);
    assert_eq!(listed(&store), ["shared.png"]);
    // Nor once the catalog follows the folder.
    link(&path, ".secret", "later.png");
    write(&path, "shared-too.png", b"shared too");
    wait_for_names(&store, &["shared-too.png", "shared.png"]);
}

#[test]
fn links_to_shared_files_are_served_whatever_leads_to_them() {
    let folder = folder_with(&["sub/a.png", "b.jpg"]);
    let path = folder.canonicalize().unwrap();
    link(&path, "sub/a.png", "1.png");
    link(&path, path.join("b.jpg"), "2.png");
    link(&path, "sub", ".current");
    link(&path, ".current/a.png", "3.png");
    link(&path, "3.png", "4.png");
    for name in ["1.png", "2.png", "3.png", "4.png"] {
        let store = build(DirStore::builder(&path).only(name));
        assert_eq!(listed(&store), [name]);
        let image = store.catalog().snapshot().entries().next().unwrap().image();
        let bytes = body(&store, image).unwrap();
        assert!(bytes.starts_with(b"secret of"));
    }
}

#[test]
fn a_served_link_that_is_changed_to_an_unshared_file_is_not_served_any_more() {
    for target in UNSHARED {
        let folder = folder_with(&UNSHARED);
        let path = &*folder;
        write(path, "sub/a.png", b"picture");
        link(path, "sub/a.png", "a.png");
        let store = open_store(path);
        assert_eq!(listed(&store), ["a.png"]);
        link(path, target, "a.png");
        assert!(wait_for_names(&store, &[]) < SOON, "{target}");
        link(path, "sub/a.png", "a.png");
        assert!(wait_for_names(&store, &["a.png"]) < SOON, "{target}");
    }
}

#[test]
fn a_link_on_the_way_that_is_changed_to_a_hidden_folder_is_not_followed() {
    let folder = folder_with(&["sub/a.png", ".private/a.png"]);
    let path = &*folder;
    link(path, "sub", "current");
    link(path, "current/a.png", "a.png");
    let store = open_store(path);
    assert_eq!(listed(&store), ["a.png"]);
    link(path, ".private", "current");
    assert!(wait_for_names(&store, &[]) < SOON);
}

#[test]
fn s13_a_link_changed_to_a_hidden_copy_of_its_image_is_not_opened() {
    let folder = folder_with(&["sub/a.png"]);
    let path = &*folder;
    link(path, "sub", "current");
    link(path, "current/a.png", "a.png");
    let store: Arc<DirStore> = build(DirStore::builder(path).follow(Follow::Never));
    let listed = store.catalog().snapshot().entries().next().unwrap().image();
    // The same file, with the same times.
    path.rename("sub", ".sub");
    link(path, ".sub", "current");
    let opened = open(&store, listed);
    assert!(matches!(opened, Err(StoreError::Changed(_))));
}

#[test]
fn an_index_file_does_not_list_a_link_to_an_unshared_file() {
    let (folder, cache) = (temp(), temp());
    let path = &*folder;
    write(path, "a.png", b"picture");
    link(path, "a.png", "0.png");
    settle(path);
    let index = cache.join("index");
    let open = || build(DirStore::builder(path).index_file(&index));
    assert_eq!(listed(&open()), ["0.png"]);
    path.rename("a.png", ".hidden.png");
    link(path, ".hidden.png", "0.png");
    settle(path);
    assert!(listed(&open()).is_empty());
}
