//! A store of a folder and its sub-folders. // W9
#![cfg(unix)]

mod mounted;
mod unreadable;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::common::*;
use jtp_core::ImageId;
use jtp_driver::store::ImageStore;
use jtp_store::{DirStore, DirStoreBuilder, Follow, LeftOutReason};

const SOON: Duration = Duration::from_secs(2);

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

fn each_way_to_follow(mut test: impl FnMut(DirStoreBuilder, &Path)) {
    for follow in [Follow::Events, Follow::Interval(Duration::from_millis(20))] {
        for distrust in [false, true] {
            let folder = temp();
            let builder = builder(&folder).follow(follow);
            test(builder.distrust_inodes(distrust), &folder);
        }
    }
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
fn w9_changes_in_sub_folders_are_followed() {
    each_way_to_follow(|builder, root| {
        put(root, "a/b.png", "1");
        let store = build(builder);
        let old = put(root, "a/c.png", "2");
        assert!(wait_for_paths(&store, &["a/b.png", "a/c.png"]) < SOON);
        let new = put(root, "a/c.png", "other");
        wait_for(&store, |c| c.contains(new) && !c.contains(old));
        // Folders in folders, all new.
        put(root, "x/y/z/d.png", "3");
        wait_for_paths(&store, &["a/b.png", "a/c.png", "x/y/z/d.png"]);
        put(root, "x/y/z/e.png", "4");
        assert!(wait_for(&store, |c| c.len() == 4) < SOON);
        root.rename("a/b.png", "x/b.png");
        wait_for_paths(
            &store,
            &["a/c.png", "x/b.png", "x/y/z/d.png", "x/y/z/e.png"],
        );
        root.remove("x/y");
        wait_for_paths(&store, &["a/c.png", "x/b.png"]);
        // A folder in the place of a file, and a file in the place of a folder.
        root.remove("a");
        root.remove("x/b.png");
        put(root, "x/b.png/c.png", "5");
        put(root, "a", b"\x89PNG\r\n\x1a\nrest");
        wait_for_paths(&store, &["a", "x/b.png/c.png"]);
        let replaced = put(root, "new/c.png", "6");
        root.remove("x");
        root.rename("new", "x");
        wait_for_paths(&store, &["a", "x/c.png"]);
        assert_eq!(body(&store, image(&store, replaced)).unwrap(), b"6");
    });
}

#[test]
fn w9_n1_a_folder_that_is_moved_is_no_news_and_a_folder_moved_in_or_out_is() {
    for follow in [Follow::Events, Follow::Interval(Duration::from_millis(20))] {
        let place = temp();
        let root = place.join("images");
        for n in 0..300 {
            put(&root, &format!("new/{}/{n}.png", n % 7), format!("{n}"));
        }
        put(&root, "years/old.png", "old");
        let store = build(builder(&root).follow(follow));
        let before = events(&store);
        let all = store.catalog().snapshot();
        root.rename("new", "years/2026");
        wait_for(&store, |catalog| {
            assert_eq!(catalog.len(), all.len(), "an image was unlisted");
            paths_of(catalog)
                .iter()
                .all(|path| path.starts_with("years/"))
        });
        assert_eq!(events(&store), before);
        // Once more, and back: the watches have the new paths.
        root.rename("years", "a");
        wait_for(&store, |c| {
            paths_of(c).iter().all(|path| path.starts_with("a/"))
        });
        put(&root, "a/2026/3/late.png", "late");
        assert!(wait_for(&store, |c| c.len() == all.len() + 1) < SOON);
        assert_eq!(events(&store), before + 1);
        fs::rename(root.join("a/2026"), place.join("outside")).unwrap();
        wait_for_paths(&store, &["a/old.png"]);
        put(&place.join("outside"), "3/unseen.png", "unseen");
        fs::rename(place.join("outside"), root.join("b")).unwrap();
        wait_for(&store, |c| c.len() == all.len() + 2);
    }
}

/// Waits until the time of a file's last change identifies its contents.
fn wait_until_settled(file: &Path) {
    let written = fs::metadata(file).unwrap().modified().unwrap();
    while written.elapsed().unwrap() < Duration::from_millis(60) {
        std::thread::yield_now();
    }
}

/// Opens a store with an index file. Returns it and the bytes that it read.
fn counted(builder: DirStoreBuilder, index: &Path) -> (Arc<DirStore>, u64) {
    let bytes = Arc::new(AtomicU64::new(0));
    let total = Arc::clone(&bytes);
    let builder = builder
        .index_file(index)
        .progress(move |progress| total.store(progress.bytes, Ordering::Relaxed));
    let store = build(builder);
    let bytes = bytes.load(Ordering::Relaxed);
    (store, bytes)
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
    wait_until_settled(&root.join("0/99.txt"));
    let (store, read) = counted(builder(&root), &index);
    assert_eq!((paths(&store).len(), read), (100, 900));
    assert_eq!(store.counters().first_bytes_read, 100);
    let before = paths(&store);
    drop(store);
    let (store, read) = counted(builder(&root), &index);
    assert_eq!((paths(&store), read), (before, 0));
    assert_eq!(store.counters().first_bytes_read, 0);
    drop(store);
    // Nor if a folder was moved meanwhile.
    root.rename("1", "2/moved");
    let (store, read) = counted(builder(&root), &index);
    assert_eq!((paths(&store).len(), read), (100, 0));
    assert!(paths(&store).contains(&"2/moved/1/1.png".to_owned()));
}

#[test]
fn w9_the_files_of_a_moved_folder_are_not_read_again() {
    for follow in [Follow::Events, Follow::Interval(Duration::from_millis(20))] {
        let place = temp();
        let (root, index) = (place.join("images"), place.join("cache/index"));
        for n in 0..100 {
            put(&root, &format!("a/{}/{n}.png", n % 5), format!("{n:03}"));
        }
        wait_until_settled(&root.join("a/4/99.png"));
        drop(counted(builder(&root), &index));
        let before = fs::metadata(&index).unwrap().len();
        let (store, read) = counted(builder(&root).follow(follow), &index);
        assert_eq!(read, 0);
        root.rename("a", "b");
        wait_for(&store, |c| {
            paths_of(c).iter().all(|path| path.starts_with("b/"))
        });
        drop(store);
        // A file that is read has a new record.
        assert_eq!(fs::metadata(&index).unwrap().len(), before);
    }
}

#[test]
fn w9_ten_thousand_folders_are_listed_and_followed() {
    let folder = temp();
    let root = &*folder;
    for n in 0..10_000 {
        put(root, &format!("{}/{n}/a.png", n / 100), format!("{n}"));
    }
    let store = build(builder(root));
    assert_eq!(store.catalog().snapshot().len(), 10_000);
    put(root, "77/7777/b.png", "new");
    wait_for(&store, |c| c.len() == 10_001);
    root.rename("77", "5/77");
    wait_for(&store, |c| {
        names(c).iter().any(|name| name == "5⧸77⧸7777⧸b.png")
    });
    root.remove("5");
    wait_for(&store, |c| c.len() == 9_800);
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

#[test]
fn w9_links_to_files_lead_from_their_own_folder() {
    each_way_to_follow(|builder, root| {
        put(root, "a/b/one.png", "1");
        put(root, ".hidden/two.png", "2");
        root.make_dir("links");
        root.link("../a/b/one.png", "links/0.png");
        root.link("../.hidden/two.png", "links/hidden.png");
        root.link("../../outside.png", "links/outside.png");
        let store = build(builder);
        wait_for_paths(&store, &["a/b/one.png"]);
        // The initial index does not wait longer than 2 s for files that were just written.
        wait_until("a duplicate is left out", || {
            store.left_out().count(LeftOutReason::Duplicate) == 1
        });
        root.rename("a", ".a");
        wait_for(&store, jtp_core::Catalog::is_empty);
        root.rename(".a", "z");
        root.link("../../z/b/one.png", "z/b/0.png");
        wait_for_paths(&store, &["z/b/0.png"]);
    });
}

#[test]
fn w9_of_files_with_the_same_bytes_the_first_path_is_listed_whenever_it_appears() {
    let folder = temp();
    let root = &*folder;
    for path in ["a/x.png", "a0.png", "b/x.png"] {
        put(root, path, "same");
    }
    // U+29F8 comes after the digits.
    let store = build(builder(root));
    assert_eq!(paths(&store), ["a0.png"]);
    drop(store);
    root.remove("a0.png");
    let store = build(builder(root));
    assert_eq!(paths(&store), ["a/x.png"]);
    put(root, "a0.png", "same");
    wait_for_paths(&store, &["a0.png"]);
}

#[test]
fn w9_the_patterns_apply_to_the_path() {
    let folder = temp();
    let root = &*folder;
    for path in ["2024/a.png", "2024/draft/b.png", "2025/c.png"] {
        put(root, path, path);
    }
    let store = build(builder(root).only("DRAFT/"));
    assert_eq!(paths(&store), ["2024/draft/b.png"]);
    assert_eq!(store.left_out().count(LeftOutReason::Excluded), 2);
}

/// The link leads to a file of the same name and other bytes.
#[cfg(target_os = "linux")]
#[test]
fn w9_a_folder_that_is_swapped_for_a_link_again_and_again_never_leads_outside() {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    for follow in [Follow::Events, Follow::Interval(Duration::from_millis(10))] {
        let place = temp();
        let root = place.join("images");
        let own = put(&root, "a/b/x.png", "own");
        let secret = put(&place, "outside/b/x.png", "not to be shared");
        let new = place.join("link");
        symlink(place.join("outside"), &new).unwrap();
        let store = build(builder(&root).follow(follow).small_image_memory(0));
        let listed = image(&store, own);
        for swaps in 0..4_000 {
            renameat_with(CWD, root.join("a"), CWD, &new, RenameFlags::EXCHANGE).unwrap();
            if let Ok(bytes) = body(&store, listed) {
                assert_eq!(bytes, b"own", "after {swaps} swaps");
            }
            assert!(!store.catalog().snapshot().contains(secret));
        }
        wait_for(&store, |c| c.contains(own) && !c.contains(secret));
    }
}

#[test]
fn w9_a_tree_that_was_away_is_listed_and_followed_again() {
    each_way_to_follow(|builder, root| {
        for path in ["a/1.png", "a/b/2.png"] {
            put(root, path, path);
        }
        let store = build(builder);
        let away = root.with_extension("away");
        fs::rename(root, &away).unwrap();
        wait_for(&store, jtp_core::Catalog::is_empty);
        away.rename("a", "c");
        fs::rename(&away, root).unwrap();
        wait_for_paths(&store, &["c/1.png", "c/b/2.png"]);
        put(root, "c/b/3.png", "3");
        wait_for_paths(&store, &["c/1.png", "c/b/2.png", "c/b/3.png"]);
    });
}
