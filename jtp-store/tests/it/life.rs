//! The life of a served folder: users change it at random, and the store follows it by events or by scans, is restarted, and
//! is left without its folder for a while. When all pause, its catalog is that of a store that is opened then.
#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::common::*;
use jtp_core::compress::Threshold;
use jtp_core::{Catalog, ImageId};
use jtp_driver::store::ImageStore;
use jtp_kit::{Rng, for_each_seed};
use jtp_store::{DirStore, Follow, Patterns};

const FOLDERS: [&str; 5] = ["", "a", "a/b", "c", ".hidden"];
const NAMES: [&str; 9] = [
    "1.png",
    "2.jpg",
    "3.svg",
    "IMG",
    "text",
    ".4.png",
    "5.png.part",
    "6.not.png",
    "a0.png",
];
const STARTS: [&[u8]; 3] = [b"\x89PNG\r\n\x1a\n", b"GIF89a", b"text"];
const SECRET: &[u8] = b"\x89PNG\r\n\x1a\na file that is not shared";

struct Life {
    rng: Rng,
    place: Temp,
    root: PathBuf,
    /// The number of different contents.
    contents: usize,
}

impl Life {
    fn new(seed: u64) -> Life {
        let place = temp();
        let root = place.canonicalize().unwrap().join("images");
        place.write("secret.png", SECRET);
        for folder in FOLDERS {
            root.make_dir(folder);
        }
        Life {
            rng: Rng::new(seed),
            place,
            root,
            contents: 0,
        }
    }

    fn folder(&mut self) -> PathBuf {
        self.root.join(self.rng.pick(&FOLDERS))
    }

    fn path(&mut self) -> PathBuf {
        self.folder().join(self.rng.pick(&NAMES))
    }

    /// New contents, or those of another file.
    fn contents(&mut self) -> Vec<u8> {
        self.contents += 1;
        let number = match self.rng.one_in(3) {
            true => self.rng.below(self.contents),
            false => self.contents,
        };
        [STARTS[number % 3], number.to_string().as_bytes()].concat()
    }

    /// One step of a user. What is not possible is not done.
    fn step(&mut self) {
        let (path, other, folder) = (self.path(), self.path(), self.folder());
        let step = self.rng.below(13);
        println!("{step}: {path:?} {other:?} {folder:?}");
        let done = match step {
            0..=3 => fs::write(path, self.contents()),
            4 => {
                let new = self.place.join("new");
                fs::write(&new, self.contents()).unwrap();
                fs::rename(new, path)
            }
            5 => fs::remove_file(path),
            6 => fs::rename(path, other),
            7 => exchange(&path, &other),
            // No event says that a file has a second name which is not followed.
            8 => fs::hard_link(&path, path.with_file_name("7.png")),
            9 => symlink(other, path.with_file_name("8.png")),
            10 => symlink(self.place.join("secret.png"), path.with_file_name("8.png")),
            11 => fs::rename(folder, path.parent().unwrap().join("b")),
            _ => fs::remove_dir_all(&folder).and_then(|()| fs::create_dir(folder)),
        };
        if let Err(error) = done {
            println!("   {error}");
        }
    }

    fn steps(&mut self) {
        for _ in 0..=self.rng.below(8) {
            self.step();
            if self.rng.one_in(4) {
                // The pace of the user, not a wait for a condition.
                thread::sleep(Duration::from_millis(self.rng.below(200)));
            }
        }
    }
}

/// What a store lists.
fn listing(catalog: &Catalog) -> Vec<(String, ImageId, u8)> {
    let entries = catalog.entries();
    entries
        .map(|entry| (entry.name.to_owned(), entry.id, entry.flags.bits()))
        .collect()
}

fn live(seed: u64, follow: Follow, is_recursive: bool, distrusts: bool) {
    println!("{follow:?}, recursive: {is_recursive}, distrusts inodes: {distrusts}");
    let mut life = Life::new(seed);
    let builder = |life: &Life| {
        let builder = DirStore::builder(&life.root).recursive(is_recursive);
        let patterns = Patterns::new().exclude("*.not.png").unwrap();
        let builder = builder.patterns(patterns).distrust_inodes(distrusts);
        builder.compression(Threshold::new(0.0).unwrap())
    };
    let open = |life: &Life| {
        let index = life.place.join("index");
        build(builder(life).index_file(index).follow(follow))
    };
    let mut store = open(&life);
    for _ in 0..10 {
        life.steps();
        match life.rng.below(6) {
            0 => {
                drop(store);
                life.steps();
                store = open(&life);
            }
            1 => {
                let away = life.place.join("away");
                fs::rename(&life.root, &away).unwrap();
                if life.rng.one_in(2) {
                    wait_for(&store, Catalog::is_empty);
                }
                fs::rename(&away, &life.root).unwrap();
                life.steps();
            }
            _ => {}
        }
        let fresh = build(builder(&life).follow(Follow::Never));
        let due = listing(&fresh.catalog().snapshot());
        println!("{due:#?}");
        wait_for(&store, |catalog| {
            assert!(!catalog.contains(ImageId::of(SECRET)));
            listing(catalog) == due
        });
        for (name, id, _) in due {
            // Not at once if one of its hard links was removed.
            wait_until(&name, || {
                let bytes = body(&store, image(&store, id));
                bytes.is_ok_and(|bytes| ImageId::of(&bytes) == id)
            });
        }
    }
}

#[test]
fn r8_s13_once_a_folder_is_left_alone_its_catalog_is_that_of_a_store_that_is_opened_then() {
    for_each_seed(1, |seed| {
        thread::scope(|scope| {
            for n in 0..8 {
                let follow = [Follow::Events, BY_SCANS][n % 2];
                let seed = seed * 8 + n as u64;
                scope.spawn(move || live(seed, follow, n & 2 == 0, n & 4 == 0));
            }
        });
    });
}
