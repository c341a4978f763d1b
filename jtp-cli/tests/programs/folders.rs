//! Images in sub-folders: the client makes the folders of a server's names again, and `--flat` does not. // W9

use crate::recursive::write;
use crate::support::{Folder as _, Process, TestDir, noise, stamps, tree};

const TREE: [&str; 4] = [
    "2024/Rome/b.jpg",
    "2024/a.jpg",
    "2025/Oslo fjord/c.jpg",
    "top.png",
];

/// A server of a tree.
fn library() -> (TestDir, Process) {
    let dir = TestDir::new();
    for (seed, path) in (1..).zip(TREE) {
        write(&dir, path, seed);
    }
    let server = dir.serve("--no-tls --recursive");
    (dir, server)
}

fn paths(dir: &TestDir) -> Vec<String> {
    tree(&dir.path("output")).into_keys().collect()
}

#[test]
fn w9_folders_are_made_again_and_a_second_run_does_nothing() {
    let (dir, server) = library();
    for args in ["", "--batch", "--batch -p 3 -k"] {
        dir.fetch(&server, args).assert_no_error();
        assert_eq!(
            tree(&dir.path("output")),
            tree(&dir.path("images")),
            "{args:?}"
        );
        // The lock of a run changes the time of the folder itself.
        let state = || ["output/2024", "output/2025"].map(|name| stamps(&dir.path(name)));
        let before = state();
        dir.fetch(&server, "--batch").assert_fetched(0, 4);
        assert_eq!(state(), before, "{args:?}");
        dir.fetch(&server, "--check").assert_exit(0);
        dir.remove("output");
    }
}

#[test]
fn w9_flat_keeps_all_images_in_one_folder() {
    let (dir, server) = library();
    for args in ["--flat", "--batch --flat"] {
        dir.make_dir("output/2024");
        dir.write("output/2024/a.jpg", dir.read("images/2024/a.jpg"));
        dir.fetch(&server, args).assert_no_error();
        let names = [
            "2024/a.jpg",
            "2024⧸Rome⧸b.jpg",
            "2024⧸a.jpg",
            "2025⧸Oslo fjord⧸c.jpg",
            "top.png",
        ];
        assert_eq!(paths(&dir), names, "{args:?}");
        dir.fetch(&server, "--batch --flat").assert_fetched(0, 4);
        assert_eq!(paths(&dir), names, "{args:?}");
        // Without it they count as fetched, under whatever name.
        dir.fetch(&server, "--check").assert_exit(3);
        dir.fetch(&server, "--batch").assert_fetched(0, 4);
        dir.remove("output");
    }
}

#[test]
fn w9_patterns_see_paths_and_other_files_of_the_tree_stay() {
    let (dir, server) = library();
    dir.make_dir("output/2024/.git");
    dir.write("output/2024/.git/x.png", b"hidden");
    dir.write("output/2024/notes.txt", b"mine");
    dir.fetch(&server, "--batch --include 2024/**")
        .assert_no_error();
    let expected = ["2024/Rome/b.jpg", "2024/a.jpg", "2024/notes.txt"];
    assert_eq!(paths(&dir), expected);
    dir.write("output/2024/Rome/extra.png", b"extra");
    dir.fetch(&server, "--check --include 2024/**")
        .assert_exit(3)
        .assert_in_out("2024/Rome/extra.png");
}

/// An output folder with a link and a file in place of folders, a folder and a link in place of images.
fn obstructed() -> TestDir {
    let dir = TestDir::new();
    for (folder, first) in [("linked", 100), ("taken", 200)] {
        for number in 0..30 {
            write(&dir, &format!("{folder}/{number:02}.png"), first + number);
        }
    }
    for (seed, name) in (1..).zip(["folder.png", "link.png", "free.png"]) {
        write(&dir, name, seed);
    }
    dir.make_dir("output/folder.png");
    dir.link("folder.png", "output/linked");
    dir.link("folder.png", "output/link.png");
    dir.write("output/taken", "notes");
    dir
}

#[test]
fn w9_each_thing_in_the_way_has_one_line_that_says_what_it_is() {
    let dir = obstructed();
    let expected = "\
warning: folder.png: a folder has the name of an image and is not replaced; the image has its ID in its name
warning: link.png: a link has the name of an image and is not followed; the image has its ID in its name
warning: linked: a link is in place of this folder and is not followed; the 30 images for it have their IDs in their names
warning: taken: a file is in place of this folder and is not replaced; the 30 images for it have their IDs in their names
";
    let server = dir.serve("--no-tls --recursive");
    for mode in ["--batch", "--mirror", "--batch", "--dry-run"] {
        let output = dir.fetch(&server, &format!("--batch {mode}"));
        let begin = output.err.get(..expected.len()).unwrap_or(&output.err);
        assert_eq!((output.code, begin), (Some(0), expected), "{mode}");
    }
    let names = dir.names("output");
    let numbered = names.iter().find(|name| name.ends_with("-1.png"));
    assert_eq!(numbered, None, "{names:?}");
    assert_eq!(names.len(), 4 + 60 + 3, "{names:?}");
    assert_eq!(dir.names("output/folder.png"), [""; 0]);
    assert_eq!(dir.read("output/taken"), b"notes");
}

#[test]
fn image_whose_name_is_freed_in_the_same_run_has_no_warning() {
    let dir = TestDir::new();
    dir.add("a.png", &noise(90, 1));
    // A mirror empties this folder last.
    dir.make_dir("output/a.png");
    dir.write("output/a.png/x.png", noise(90, 2));
    let server = dir.serve("--no-tls --recursive");
    let output = dir.fetch(&server, "--mirror --max-delete 100%");
    output.assert_no_error();
    assert_eq!(dir.files("output"), dir.files("images"));
}
