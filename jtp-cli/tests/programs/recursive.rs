//! `server --recursive` shares a tree, and the client makes its folders again. // W9

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::support::{Process, TestDir, random_image, wait_until};

fn write(dir: &TestDir, path: &str, seed: u64) {
    let path = dir.path("images").join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, random_image(seed, 2_000)).unwrap();
}

/// The names in the catalog, with `/` in place of the separator of W9.
fn listed(dir: &TestDir, server: &Process) -> Vec<String> {
    let output = dir.fetch(server, &["--list", "--sort", "name"]);
    assert_eq!(output.code, Some(0), "{output:?}");
    let last_word = |line: &str| line.split_whitespace().last().unwrap().replace('⧸', "/");
    output.out.lines().map(last_word).collect()
}

/// The files below a folder, by path, without hidden ones.
fn files(folder: &Path) -> Vec<String> {
    fn add(folder: &Path, prefix: &str, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if name.starts_with('.') {
                continue;
            }
            match entry.file_type().unwrap().is_dir() {
                true => add(&entry.path(), &format!("{prefix}{name}/"), found),
                false => found.push(format!("{prefix}{name}")),
            }
        }
    }
    let mut found = Vec::new();
    add(folder, "", &mut found);
    found.sort();
    found
}

#[test]
fn w9_a_tree_is_shared_and_made_again_by_the_client() {
    let dir = TestDir::new();
    let paths = ["2024/Rome/a.png", "2024/b.png", "2025/a.png", "c.png"];
    for (seed, path) in (1..).zip(paths) {
        write(&dir, path, seed);
    }
    write(&dir, ".thumbnails/x.png", 77);
    symlink("2024", dir.path("images").join("link")).unwrap();
    // Without the flag, as before.
    let server = dir.serve(&[]);
    assert_eq!(listed(&dir, &server), ["c.png"]);
    let output = server.stop();
    assert!(
        output.err.contains("share them with --recursive"),
        "{output:?}"
    );
    for flag in ["--recursive", "-r"] {
        let server = dir.serve(&[flag]);
        assert_eq!(listed(&dir, &server), paths);
        let output = server.stop();
        assert!(!output.err.contains("--recursive"), "{output:?}");
        assert!(
            output.err.contains("1 hidden file or folder (.thumbnails)"),
            "{output:?}"
        );
        assert!(
            output
                .err
                .contains("1 link that leads to no file that is shared (link)"),
            "{output:?}"
        );
    }
    let server = dir.serve(&["-r"]);
    let fetched = dir.fetch(&server, &["--out", "out"]);
    assert_eq!(fetched.code, Some(0), "{fetched:?}");
    assert_eq!(files(&dir.path("out")), paths);
    for path in paths {
        let (sent, got) = (dir.path("images").join(path), dir.path("out").join(path));
        assert_eq!(fs::read(sent).unwrap(), fs::read(got).unwrap());
    }
}

#[test]
fn w9_a_folder_that_is_moved_under_another_is_listed_there() {
    let dir = TestDir::new();
    for seed in 1..40 {
        write(&dir, &format!("new/{seed}.png"), seed);
    }
    write(&dir, "years/old.png", 100);
    let server = dir.serve(&["-r"]);
    let images = dir.path("images");
    fs::rename(images.join("new"), images.join("years/2026")).unwrap();
    wait_until("the folder is listed in its new place", || {
        let names = listed(&dir, &server);
        names.len() == 40 && names.iter().all(|name| name.starts_with("years/"))
    });
    // A folder that is made while the server runs, and one that is removed.
    write(&dir, "a/b/c/d.png", 200);
    fs::remove_dir_all(images.join("years")).unwrap();
    wait_until("only the new file is listed", || {
        listed(&dir, &server) == ["a/b/c/d.png"]
    });
    let fetched = dir.fetch(&server, &["--out", "out"]);
    assert_eq!(fetched.code, Some(0), "{fetched:?}");
    assert_eq!(files(&dir.path("out")), ["a/b/c/d.png"]);
}

#[test]
fn w9_filters_go_by_the_path_below_the_folder() {
    let dir = TestDir::new();
    for (seed, path) in (1..).zip(["2024/Rome/a.png", "2024/b.png", "2025/a.png", "c.png"]) {
        write(&dir, path, seed);
    }
    for (args, expected) in [
        (&["--only", "rome/"][..], &["2024/Rome/a.png"][..]),
        (
            &["--include", "/2024/**"],
            &["2024/Rome/a.png", "2024/b.png"],
        ),
        (&["--exclude", "a.png"], &["2024/b.png", "c.png"]),
        (&["--exclude", "2024/**"], &["2025/a.png", "c.png"]),
    ] {
        let server = dir.serve(&[&["-r"], args].concat());
        assert_eq!(listed(&dir, &server), expected, "{args:?}");
    }
}

#[test]
fn w9_a_link_in_place_of_a_folder_is_not_followed() {
    let dir = TestDir::new();
    write(&dir, "a/secret.png", 1);
    write(&dir, "b.png", 2);
    let images = dir.path("images");
    let outside = dir.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret.png"), random_image(3, 2_000)).unwrap();
    let server = dir.serve(&["-r"]);
    assert_eq!(listed(&dir, &server), ["a/secret.png", "b.png"]);
    fs::rename(images.join("a"), dir.path("before")).unwrap();
    symlink(&outside, images.join("a")).unwrap();
    let fetched = dir.fetch(&server, &["--out", "out"]);
    assert!(matches!(fetched.code, Some(0 | 3)), "{fetched:?}");
    assert!(!dir.path("out/a/secret.png").exists());
    wait_until("the file is not listed", || {
        listed(&dir, &server) == ["b.png"]
    });
}
