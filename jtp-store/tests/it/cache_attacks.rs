//! A cache folder that another user could write to, or that contains links, pipes and other users' files: no file
//! elsewhere is cut or written, and nothing waits for a pipe.
#![cfg(all(target_os = "linux", feature = "zstd"))]

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::common::*;
use jtp_driver::store::ImageStore;
use jtp_store::{DirStore, Follow, VariantCache, create_private_folder};

const VICTIM: &[u8] = b"a file of the victim, which nobody may cut";

/// A cache folder as another user could prepare it, and a victim's file beside it.
struct Trap {
    place: Temp,
}

impl Trap {
    fn new() -> Trap {
        let place = temp();
        place.make_dir("images");
        place.write("images/a.bmp", vec![7; 100_000]);
        settle(&place.join("images"));
        place.write("victim", VICTIM);
        create_private_folder(&place.join("cache")).unwrap();
        Trap { place }
    }

    fn victim(&self) -> PathBuf {
        self.place.join("victim")
    }

    fn cache(&self, name: &str) -> PathBuf {
        self.place.join("cache").join(name)
    }

    fn open_store(&self) -> Arc<DirStore> {
        let builder = DirStore::builder(self.place.join("images"));
        build(
            builder
                .follow(Follow::Never)
                .index_file(self.cache("index")),
        )
    }

    /// All images are listed, whatever the cache folder contains, and the victim's file is as it was.
    #[track_caller]
    fn assert_harmless(&self, what: &str) {
        let store = self.open_store();
        assert_eq!(listed(&store), ["a.bmp"], "{what}");
        drop(store); // Writes the index.
        assert_eq!(fs::read(self.victim()).unwrap(), VICTIM, "{what}");
    }
}

#[test]
fn whatever_has_the_name_of_the_index_file_or_of_its_temporary_file_is_neither_followed_nor_cut() {
    for (what, place) in OBSTACLES {
        for name in ["index", "index.part"] {
            let trap = Trap::new();
            place(&trap.victim(), &trap.cache(name));
            trap.assert_harmless(&format!("{what} as {name}"));
            assert!(!trap.place.join("made").exists(), "{what}");
            if what != "a folder" {
                let found = fs::symlink_metadata(trap.cache("index")).unwrap();
                assert!(found.is_file() && found.nlink() == 1, "{what} as {name}");
                assert_eq!(found.mode() & 0o777, 0o600, "{what} as {name}");
            }
        }
    }
}

#[test]
fn a_log_with_a_second_name_is_not_appended_to() {
    let trap = Trap::new();
    drop(trap.open_store());
    let other = trap.place.join("of another");
    fs::hard_link(trap.cache("index"), &other).unwrap();
    let before = fs::read(&other).unwrap();
    let images = trap.place.join("images");
    images.write("b.bmp", vec![8; 10]);
    settle(&images);
    drop(trap.open_store());
    assert_eq!(fs::read(&other).unwrap(), before);
    assert!(fs::read(trap.cache("index")).unwrap().len() > before.len());
}

#[test]
fn whatever_has_the_name_of_the_size_file_is_neither_followed_nor_cut() {
    for (what, place) in OBSTACLES {
        let trap = Trap::new();
        fs::create_dir(trap.cache("forms")).unwrap();
        place(&trap.victim(), &trap.cache("forms/used1"));
        let opened = VariantCache::open(trap.cache("forms"), 1 << 20);
        assert_eq!(opened.is_err(), what == "a folder", "{what}: {opened:?}");
        assert_eq!(fs::read(trap.victim()).unwrap(), VICTIM, "{what}");
        assert!(!trap.place.join("made").exists(), "{what}");
        if let Ok(cache) = opened {
            assert_eq!(cache.used().unwrap(), 0, "{what}");
            let found = fs::symlink_metadata(trap.cache("forms/used1")).unwrap();
            assert!(found.is_file() && found.nlink() == 1, "{what}");
            assert_eq!(found.mode() & 0o777, 0o600, "{what}");
        }
    }
}

#[test]
fn whatever_has_the_name_of_a_variant_is_neither_followed_nor_touched_and_the_variant_is_made() {
    for (what, place) in OBSTACLES {
        let trap = Trap::new();
        let old = std::time::SystemTime::UNIX_EPOCH;
        let victim = fs::File::options().write(true).open(trap.victim()).unwrap();
        victim.set_modified(old).unwrap();
        let open = || {
            let cache = VariantCache::open(trap.cache("forms"), 1 << 20).unwrap();
            let builder = DirStore::builder(trap.place.join("images"));
            let store = build(builder.variant_cache(cache));
            wait_for(&store, |catalog| {
                what == "a folder" || catalog.entries().all(|entry| entry.flags.is_compressed())
            });
            let image = store.catalog().snapshot().entries().next().unwrap().image();
            body(&store, image).unwrap();
        };
        let name = || {
            let names = fs::read_dir(trap.cache("forms")).unwrap();
            let mut names = names.map(|entry| entry.unwrap().path());
            names.find(|path| path.extension().is_some_and(|e| e == "form1"))
        };
        if what == "a folder" {
            continue; // The name is known only once the variant was made, and a folder cannot replace it.
        }
        open();
        let variant = name().unwrap();
        assert_eq!(fs::metadata(&variant).unwrap().mode() & 0o777, 0o600);
        fs::remove_file(&variant).unwrap();
        place(&trap.victim(), &variant);
        open();
        let found = fs::symlink_metadata(&variant).unwrap();
        assert!(found.is_file() && found.nlink() == 1, "{what}");
        let victim = fs::metadata(trap.victim()).unwrap();
        assert_eq!(victim.modified().unwrap(), old, "{what}");
        assert_eq!(fs::read(trap.victim()).unwrap(), VICTIM, "{what}");
    }
}

#[track_caller]
fn assert_refused(folder: &Path, message: &str) {
    let refused = |result: io::Result<()>| {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains(message), "{error}");
    };
    refused(create_private_folder(folder));
    refused(VariantCache::open(folder, 1 << 20).map(drop));
    let names = fs::read_dir(folder).unwrap().count();
    let images = temp();
    write(&images, "a.png", b"a");
    settle(&images);
    let builder = DirStore::builder(&images);
    let store = build(builder.index_file(folder.join("index")));
    assert_eq!(listed(&store), ["a.png"]);
    drop(store);
    assert_eq!(
        fs::read_dir(folder).unwrap().count(),
        names,
        "nothing is written"
    );
}

#[test]
fn a_folder_that_others_can_write_to_is_refused() {
    let place = temp();
    let folder = place.join("cache");
    create_private_folder(&folder).unwrap();
    for mode in [0o720, 0o770, 0o775, 0o702, 0o777, 0o1777] {
        folder.set_mode("", mode);
        assert_refused(&folder, "other users can write to the folder");
    }
    for mode in [0o700, 0o750, 0o755] {
        folder.set_mode("", mode);
        VariantCache::open(&folder, 1 << 20).unwrap();
    }
    // Its parent may be shared.
    place.set_mode("", 0o1777);
    VariantCache::open(&folder, 1 << 20).unwrap();
}

#[test]
fn a_folder_of_another_user_is_refused() {
    let place = temp();
    let folder = place.join("cache");
    create_private_folder(&folder).unwrap();
    if chown(&folder, Some(65_534), None).is_err() {
        return println!("skipped: only root can make a folder another user's");
    }
    assert_refused(&folder, "belongs to another user (uid 65534)");
}

#[test]
fn a_link_of_another_user_that_leads_to_an_own_folder_is_refused() {
    let place = temp();
    let (own, link) = (place.join("own"), place.join("link"));
    create_private_folder(&own).unwrap();
    symlink(&own, &link).unwrap();
    VariantCache::open(&link, 1 << 20).unwrap();
    own.remove("used1");
    // A link of one's own that others can replace.
    place.set_mode("", 0o777);
    assert_refused(&link, "symbolic link");
    place.set_mode("", 0o700);
    if std::os::unix::fs::lchown(&link, Some(65_534), None).is_ok() {
        assert_refused(&link, "symbolic link");
    }
}
