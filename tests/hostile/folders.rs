//! W9: a server chooses folders that would do harm, in a folder with other files, folders and links in it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::{HostileImage, client, hostile_server, scale};
use crate::support::process::WorkDir;

/// Files of the user; their folders, too.
const FILES: [&str; 9] = [
    ".bashrc",
    ".ssh/authorized_keys",
    ".git/config",
    "src/main.py",
    "src/.env",
    "src/-x/notes.txt",
    "file",
    "a.png.d/Makefile",
    "CON/x.txt",
];

/// Paths below the output folder, above it, and to what is in it.
fn hostile_paths() -> Vec<String> {
    let mut paths = Vec::new();
    let folders = [
        "..",
        "../..",
        "../../../../../../tmp",
        ".",
        "./src",
        "src/..",
        "src/../..",
        "/",
        "/etc",
        "//",
        "\\",
        "C:",
        "C:\\Windows",
        ".ssh",
        ".git/hooks",
        "src",
        "src/.",
        "src/-x",
        "SRC",
        "src/main.py",
        "file",
        "file/deeper",
        "link",
        "link/sub",
        "self",
        "self/self/link",
        "src/link",
        "dangling",
        "-rf",
        "~",
        "~root",
        "con",
        "nul.txt",
        "COM1",
        " ",
        "src ",
        "src.",
        "a\0b",
        "a\nb",
        "\u{1b}[2K",
        "\u{202e}gnp",
        "\u{200d}",
        "\u{200d}.ssh",
        "e\u{301}",
        "é",
    ];
    for folder in folders {
        for file in [
            "x.png",
            "authorized_keys",
            "config",
            "",
            "..",
            ".bashrc",
            "link",
            "-rf",
        ] {
            // The separator of the client, and that of the system within a component.
            paths.push(format!("{folder}⧸{file}"));
            paths.push(format!("{}⧸{file}", folder.replace('/', "⧸")));
        }
    }
    for count in [30, 31, 32, 33, 200, 10_000] {
        paths.push("d⧸".repeat(count) + "deep.png");
        paths.push("⧸".repeat(count));
    }
    for length in [239, 240, 241, 255, 256, 5_000] {
        let long = "x".repeat(length);
        paths.push(format!("{long}⧸{long}⧸a.png"));
        paths.push(format!("{long}⧸{long}⧸{long}⧸{long}⧸{long}⧸a.png"));
        paths.push(format!(
            "{}con{}⧸a.png",
            "é".repeat(length),
            " ".repeat(length)
        ));
    }
    // Files and folders of one name.
    for name in [
        "p.png",
        "P.PNG",
        "p.png⧸q.png",
        "p.png⧸q.png⧸r.png",
        "p.png⧸Q.png",
    ] {
        paths.push(name.to_owned());
    }
    paths.sort();
    paths.dedup();
    paths
}

fn images() -> Vec<HostileImage> {
    let image = |path: &String| HostileImage::raw(path, format!("import os # {path}").as_bytes());
    let mut images: Vec<HostileImage> = hostile_paths().iter().map(image).collect();
    // Names that are made from the IDs of others.
    let (first, second) = (images[0].id, images[1].id);
    for name in [
        format!("{first:016x}.png⧸x.png"),
        format!("p-{second:016x}.png⧸x.png"),
        format!("p.png⧸q-{second:016X}.png⧸x.png"),
    ] {
        images.push(HostileImage::raw(&name, name.as_bytes()));
    }
    images
}

/// Everything below a folder: the contents of files, the targets of links, and folders, without what the client keeps.
fn contents(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path
                .strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_dir() {
                found.insert(name + "/", Vec::new());
                folders.push(path);
            } else if metadata.is_symlink() {
                let target = fs::read_link(&path).unwrap();
                found.insert(name, target.as_os_str().as_encoded_bytes().to_vec());
            } else {
                found.insert(name, fs::read(path).unwrap());
            }
        }
    }
    found.remove(".jtp-index");
    found
}

fn prepare() -> (WorkDir, BTreeMap<String, Vec<u8>>) {
    let workdir = WorkDir::of(&[]);
    let here = workdir.path().join("here");
    for file in FILES {
        let path = here.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("my own {file}")).unwrap();
    }
    let outside = workdir.path().join("outside");
    fs::create_dir_all(outside.join("sub")).unwrap();
    fs::write(outside.join("x.png"), b"my picture").unwrap();
    symlink(&outside, here.join("link")).unwrap();
    symlink("../../outside", here.join("src/link")).unwrap();
    symlink(".", here.join("self")).unwrap();
    symlink("nowhere", here.join("dangling")).unwrap();
    let before = contents(workdir.path());
    (workdir, before)
}

/// All that was there is as it was; what is new is a picture by its name, in visible folders of the output folder.
#[track_caller]
fn assert_harmless(workdir: &WorkDir, before: &BTreeMap<String, Vec<u8>>, images: usize) {
    let mut after = contents(workdir.path());
    for (name, file) in before {
        assert_eq!(after.remove(name).as_ref(), Some(file), "{name}");
    }
    after.retain(|name, _| name != "client.log" && name != "here/.jtp-index");
    let mut count = 0;
    for name in after.keys() {
        let path = name
            .strip_prefix("here/")
            .unwrap_or_else(|| panic!("{name}"));
        let folders = path.trim_end_matches('/').split('/');
        for part in folders.clone() {
            assert!(
                !part.starts_with(['.', '-', '~']) || part == "-x",
                "{name:?}"
            );
            assert!(!part.ends_with(['.', ' ']) && part.len() <= 255, "{name:?}");
            assert!(!part.chars().any(char::is_control), "{name:?}");
            assert!(!part.contains(['\\', ':', '\u{202e}']), "{name:?}");
            assert_ne!(part.to_lowercase(), "con", "{name:?}");
        }
        assert!(folders.count() <= 32, "{name}");
        if !name.ends_with('/') {
            let (_, extension) = name.rsplit_once('.').unwrap();
            assert!(["png", "img", "PNG"].contains(&extension), "{name}");
            count += 1;
        }
    }
    assert_eq!(count, images, "{:?}", after.keys());
}

#[test]
fn w9_folders_of_a_server_make_nothing_but_pictures_in_the_output_folder() {
    let images = images();
    let address = hostile_server(images.clone());
    for args in [
        &[][..],
        &["--batch"],
        &["--keep-alive", "--parallel", "3"],
        &["--batch", "--flat"],
    ] {
        let (workdir, before) = prepare();
        // The second run finds what the first one has made.
        let mut first = None;
        for _ in 0..2 {
            let args = [args, &["--out", "here"]].concat();
            client(&workdir, address, &args).0.assert_exit(0);
            assert_harmless(&workdir, &before, images.len());
            let mut now = contents(&workdir.path().join("here"));
            now.remove("client.log");
            assert_eq!(&now, first.get_or_insert_with(|| now.clone()), "{args:?}");
        }
        let flat = args.contains(&"--flat");
        let made = workdir.path().join("here/__/__/__/__/__/__/tmp/x.png");
        assert_eq!(made.exists(), !flat, "{args:?}");
    }
}

#[test]
fn w9_a_server_can_make_a_client_create_31_folders_for_an_image_at_most() {
    let count = scale(50, 2_000);
    let images: Vec<HostileImage> = (0..count)
        .map(|n| {
            let folders: String = (0..40).map(|level| format!("{n}-{level}⧸")).collect();
            let name = match n % 2 {
                0 => folders + "x.png",
                _ => folders.splitn(10, '⧸').skip(9).collect::<String>() + "x.png",
            };
            HostileImage::raw(&name, name.as_bytes())
        })
        .collect();
    let address = hostile_server(images);
    let workdir = WorkDir::of(&[]);
    client(&workdir, address, "--out here --batch")
        .0
        .assert_exit(0);
    let found = contents(&workdir.path().join("here"));
    let folders = found.keys().filter(|name| name.ends_with('/')).count();
    assert_eq!(folders, count / 2 * 31);
    assert_eq!(found.len() - folders, count);
}
