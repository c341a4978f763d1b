//! A store of a folder and its sub-folders. // W9
#![cfg(unix)]

mod mounted;
mod unreadable;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::*;
use jtp_core::ImageId;
use jtp_driver::store::ImageStore;
use jtp_store::{DirStore, DirStoreBuilder, Follow, LeftOutReason};

/// Writes a file, and the folders on the way to it.
fn put(root: &Path, path: &str, bytes: impl AsRef<[u8]>) -> ImageId {
    fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
    write(root, path, bytes)
}

fn builder(root: &Path) -> DirStoreBuilder {
    DirStore::builder(root).recursive(true)
}

/// The names in the catalog, with `/` in place of the separator, sorted.
fn paths(store: &DirStore) -> Vec<String> {
    paths_of(&store.catalog().snapshot())
}

fn paths_of(catalog: &jtp_core::Catalog) -> Vec<String> {
    let mut paths: Vec<_> = names(catalog)
        .iter()
        .map(|name| name.replace('⧸', "/"))
        .collect();
    paths.sort();
    paths
}

#[track_caller]
fn wait_for_paths(store: &DirStore, wanted: &[&str]) -> Duration {
    wait_for(store, |catalog| paths_of(catalog) == wanted)
}

#[test]
fn w9_names_are_paths_with_each_component_in_nfc() {
    let folder = temp();
    let root = &*folder;
    put(root, "2024/Cafe\u{301}/a.png", "1");
    put(root, "a⧸b/c⧸d.png", "2");
    put(root, "e⧸f.png", "3");
    put(root, "z.jpg", "4");
    let store = build(builder(root));
    let mut found = listed(&store);
    found.sort();
    let expected = ["2024⧸Café⧸a.png", "a_b⧸c_d.png", "e_f.png", "z.jpg"];
    assert_eq!(found, expected);
    for entry in store.catalog().snapshot().entries() {
        assert_eq!(body(&store, image(&store, entry.id)).unwrap().len(), 1);
    }
    // Without sub-folders, names are as before.
    drop(store);
    let store = open_store(root);
    assert_eq!(listed(&store), ["e⧸f.png", "z.jpg"]);
    assert_eq!(store.left_out().count(LeftOutReason::Folder), 2);
}

#[test]
fn w9_hidden_folders_links_to_folders_and_too_deep_folders_are_left_out_and_counted() {
    let folder = temp();
    let root = &*folder;
    put(root, "a/b.png", "1");
    put(root, "a/.thumbnails/c.png", "2");
    put(root, ".git/d.png", "3");
    put(root, "a/.e.png", "4");
    root.link("a", "inside");
    root.link("/usr", "a/outside");
    let deepest = vec!["d"; 31].join("/");
    put(root, &format!("{deepest}/x.png"), "5");
    put(root, &format!("{deepest}/d/y.png"), "6");
    let store = build(builder(root));
    assert_eq!(paths(&store), ["a/b.png", &format!("{deepest}/x.png")]);
    let left_out = store.left_out();
    let count = |reason| left_out.count(reason);
    assert_eq!(count(LeftOutReason::Hidden), 3);
    assert_eq!(count(LeftOutReason::Link), 2);
    assert_eq!(count(LeftOutReason::TooDeep), 1);
    assert_eq!(count(LeftOutReason::Folder), 0);
    assert_eq!(left_out.total(), 6);
    let too_deep: Vec<_> = left_out.examples(LeftOutReason::TooDeep).collect();
    assert_eq!(too_deep, [Path::new(&format!("{deepest}/d"))]);
}

#[test]
fn w9_a_folder_in_place_of_an_image_is_scanned_with_sub_folders_and_only_counted_without() {
    let folder = temp();
    let root = &*folder;
    put(root, "a.png", "1");
    let (tree, flat) = (build(builder(root)), open_store(root));
    root.remove("a.png");
    put(root, "a.png/b.png", "2");
    put(root, "notes", "text");
    wait_for_paths(&tree, &["a.png/b.png"]);
    wait_for_paths(&flat, &[]);
    let count = |store: &DirStore, reason| store.left_out().count(reason);
    let start = Instant::now();
    wait_until("what is left out was counted", || {
        count(&flat, LeftOutReason::Folder) == 1 && count(&tree, LeftOutReason::NotAnImage) == 1
    });
    assert!(start.elapsed() < 10 * SOON, "not only by the next scan");
    assert_eq!(count(&tree, LeftOutReason::Folder), 0);
}

#[test]
fn w9_n1_a_folder_that_is_moved_is_no_news_and_a_folder_moved_in_or_out_is() {
    std::thread::scope(|scope| {
        for follow in [Follow::Events, BY_SCANS] {
            scope.spawn(move || moves_folders(follow));
        }
    });
}

fn moves_folders(follow: Follow) {
    let place = temp();
    let (root, index) = (place.join("images"), place.join("index"));
    for n in 0..300 {
        put(&root, &format!("new/{}/{n}.png", n % 7), format!("{n}"));
    }
    put(&root, "years/old.png", "old");
    settle(&root);
    let open = || open_and_count(builder(&root).follow(follow).index_file(&index));
    drop(open());
    let (store, _) = open();
    let index_len = || fs::metadata(&index).unwrap().len();
    let (before, known) = (events(&store), index_len());
    let all = store.catalog().snapshot();
    root.rename("new", "years/2026");
    let all_in = |catalog: &jtp_core::Catalog, folder: &str| {
        let paths = paths_of(catalog);
        paths.iter().all(|path| path.starts_with(folder))
    };
    wait_for(&store, |catalog| {
        assert_eq!(catalog.len(), all.len(), "an image was unlisted");
        all_in(catalog, "years/")
    });
    assert_eq!(events(&store), before);
    drop(store);
    assert_eq!(index_len(), known, "a file that is read has a new record");
    // Once more, and back: the watches have the new paths.
    let (store, read) = open();
    assert_eq!(read, 0);
    let before = events(&store);
    root.rename("years", "a");
    wait_for(&store, |catalog| all_in(catalog, "a/"));
    put(&root, "a/2026/3/late.png", "late");
    assert!(wait_for(&store, |c| c.len() == all.len() + 1) < SOON);
    assert_eq!(events(&store), before + 1);
    place.rename("images/a/2026", "outside");
    wait_for_paths(&store, &["a/old.png"]);
    put(&place.join("outside"), "3/unseen.png", "unseen");
    place.rename("outside", "images/b");
    wait_for(&store, |c| c.len() == all.len() + 2);
}

#[test]
fn w9_after_a_restart_no_file_of_an_unchanged_tree_is_read() {
    let place = temp();
    let (root, index) = (place.join("images"), place.join("cache/index"));
    for n in 0..100 {
        put(
            &root,
            &format!("{}/{}/{n}.png", n % 3, n % 5),
            format!("image {n:03}"),
        );
        put(&root, &format!("{}/{n}.txt", n % 3), "text");
    }
    settle(&root);
    let (store, read) = open_and_count(builder(&root).index_file(&index));
    assert_eq!((paths(&store).len(), read), (100, 900));
    assert_eq!(store.counters().first_bytes_read, 100);
    let before = paths(&store);
    drop(store);
    let (store, read) = open_and_count(builder(&root).index_file(&index));
    assert_eq!((paths(&store), read), (before, 0));
    assert_eq!(store.counters().first_bytes_read, 0);
    drop(store);
    // Nor if a folder was moved meanwhile.
    root.rename("1", "2/moved");
    let (store, read) = open_and_count(builder(&root).index_file(&index));
    assert_eq!((paths(&store).len(), read), (100, 0));
    assert!(paths(&store).contains(&"2/moved/1/1.png".to_owned()));
}

#[test]
fn w9_thousands_of_folders_are_listed_and_followed() {
    let folder = temp();
    let root = &*folder;
    for n in 0..3_000 {
        put(root, &format!("{}/{n}/a.png", n / 100), format!("{n}"));
    }
    let store = build(builder(root));
    assert_eq!(store.catalog().snapshot().len(), 3_000);
    put(root, "7/777/b.png", "new");
    wait_for(&store, |c| c.len() == 3_001);
    root.rename("7", "5/7");
    wait_for(&store, |c| {
        names(c).iter().any(|name| name == "5⧸7⧸777⧸b.png")
    });
    root.remove("5");
    wait_for(&store, |c| c.len() == 2_800);
}

/// No change is noticed, as between a scan and a request.
#[test]
fn w9_a_link_that_takes_the_place_of_a_folder_leads_nowhere() {
    let place = temp();
    let root = place.join("images");
    let id = put(&root, "a/b/secret.png", "secret");
    // The same file outside: its fingerprint is the same.
    let outside = place.join("outside");
    outside.make_dir("b");
    fs::hard_link(root.join("a/b/secret.png"), outside.join("b/secret.png")).unwrap();
    let unfollowed = || build(builder(&root).follow(Follow::Never).small_image_memory(0));
    // A request that fails has the file checked, so that it may be unlisted 0.1 s later. Another store gets none of those.
    let (store, other) = (unfollowed(), unfollowed());
    let listed = image(&store, id);
    assert_eq!(paths(&store), ["a/b/secret.png"]);
    fs::rename(root.join("a"), place.join("before")).unwrap();
    root.link(&outside, "a");
    assert!(open(&store, listed).is_err());
    root.remove("a");
    // Nor one that leads to another place in the folder.
    fs::rename(&outside, root.join("y")).unwrap();
    root.link("y", "a");
    assert!(open(&store, listed).is_err());
    // The folder itself is accepted when it is back.
    root.remove("a");
    fs::rename(place.join("before"), root.join("a")).unwrap();
    assert_eq!(body(&other, listed).unwrap(), b"secret");
}

/// The link leads to a file of the same name and other bytes.
#[cfg(target_os = "linux")]
#[test]
fn w9_a_folder_that_is_swapped_for_a_link_again_and_again_never_leads_outside() {
    for follow in [Follow::Events, BY_SCANS] {
        let place = temp();
        let root = place.join("images");
        let own = put(&root, "a/b/x.png", "own");
        let secret = put(&place, "outside/b/x.png", "not to be shared");
        let new = place.join("link");
        symlink(place.join("outside"), &new).unwrap();
        let store = build(builder(&root).follow(follow).small_image_memory(0));
        let listed = image(&store, own);
        for swaps in 0..4_000 {
            exchange(&root.join("a"), &new).unwrap();
            if let Ok(bytes) = body(&store, listed) {
                assert_eq!(bytes, b"own", "after {swaps} swaps");
            }
            assert!(!store.catalog().snapshot().contains(secret));
        }
        wait_for(&store, |c| c.contains(own) && !c.contains(secret));
    }
}
