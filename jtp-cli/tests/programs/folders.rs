//! Images in sub-folders: the client makes the folders of a server's names again, and `--flat` does not. // W9

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::Arc;

use jtp_core::ImageId;
use jtp_tokio::Server;
use jtp_tokio::store::MemoryStore;
use rustix::process::Signal;

use crate::support::{CLIENT, Process, ProcessOutput, TestDir, noise, wait_until};

/// A server whose catalog the test chooses.
struct TreeServer {
    store: Arc<MemoryStore>,
    address: String,
    _runtime: tokio::runtime::Runtime,
}

impl TreeServer {
    /// Folders are joined by `/` here.
    fn with(images: &[(&str, &[u8])]) -> TreeServer {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let store = Arc::new(MemoryStore::new());
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = Server::builder(Arc::clone(&store)).build();
        runtime.spawn(async move { server.serve(listener, std::future::pending()).await });
        let server = TreeServer {
            store,
            address,
            _runtime: runtime,
        };
        for (name, bytes) in images {
            server.add(name, bytes);
        }
        server
    }

    fn add(&self, name: &str, bytes: &[u8]) -> ImageId {
        let name = name.replace('/', "⧸");
        self.store.insert(&name, bytes.to_vec()).unwrap()
    }

    /// The same image under another name.
    fn rename(&self, bytes: &[u8], name: &str) {
        assert!(self.store.remove(ImageId::of(bytes)));
        self.add(name, bytes);
    }

    fn fetch(&self, dir: &TestDir, args: &[&str]) -> ProcessOutput {
        let args = [&["--addr", &self.address, "--out", "out"], args].concat();
        dir.run(CLIENT, &args)
    }
}

/// The paths of all files and folders (with a `/` at their end) that are not hidden.
fn tree(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap();
            if entry.file_type().unwrap().is_dir() {
                found.push(format!("{name}/"));
                folders.push(path);
            } else {
                found.push(name.to_owned());
            }
        }
    }
    found.sort();
    found
}

/// What shows that nothing was touched: the inode and times of everything.
fn stamps(root: &Path) -> Vec<(String, u64, i64, i64)> {
    let stamp = |name: String| {
        let found = fs::symlink_metadata(root.join(&name)).unwrap();
        let (mtime, ctime) = (found.mtime_nsec(), found.ctime_nsec());
        (name, found.ino(), mtime, ctime)
    };
    tree(root).into_iter().map(stamp).collect()
}

fn library() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("top.png", noise(500, 1)),
        ("2024/a.jpg", noise(3000, 2)),
        ("2024/Rome/b.jpg", noise(400_000, 3)),
        ("2025/Oslo fjord/c.jpg", noise(700, 4)),
    ]
}

fn serve(library: &[(&str, Vec<u8>)]) -> TreeServer {
    let images: Vec<(&str, &[u8])> = library.iter().map(|(n, b)| (*n, &**b)).collect();
    TreeServer::with(&images)
}

const TREE: [&str; 8] = [
    "2024/",
    "2024/Rome/",
    "2024/Rome/b.jpg",
    "2024/a.jpg",
    "2025/",
    "2025/Oslo fjord/",
    "2025/Oslo fjord/c.jpg",
    "top.png",
];

#[test]
fn w9_folders_are_made_again_and_a_second_run_does_nothing() {
    let library = library();
    let server = serve(&library);
    for args in [&[][..], &["--batch"], &["--batch", "-p", "3", "-k"]] {
        let dir = TestDir::new();
        server.fetch(&dir, args).assert_no_error();
        assert_eq!(tree(&dir.path("out")), TREE, "{args:?}");
        for (name, bytes) in &library {
            assert_eq!(fs::read(dir.path("out").join(name)).unwrap(), *bytes);
        }
        let before = stamps(&dir.path("out"));
        let again = server.fetch(&dir, &["--batch"]);
        again.assert_no_error();
        assert!(again.out.contains("4 already there"), "{again:?}");
        assert_eq!(stamps(&dir.path("out")), before, "{args:?}");
        let check = server.fetch(&dir, &["--check"]);
        assert_eq!(check.code, Some(0), "{check:?}");
    }
}

#[test]
fn w9_flat_keeps_all_images_in_one_folder() {
    let library = library();
    let server = serve(&library);
    for args in [&["--flat"][..], &["--batch", "--flat"]] {
        let dir = TestDir::new();
        fs::create_dir_all(dir.path("out/2024")).unwrap();
        fs::write(dir.path("out/2024/a.jpg"), &library[1].1).unwrap();
        server.fetch(&dir, args).assert_no_error();
        let names = [
            "2024/",
            "2024/a.jpg",
            "2024⧸Rome⧸b.jpg",
            "2024⧸a.jpg",
            "2025⧸Oslo fjord⧸c.jpg",
            "top.png",
        ];
        assert_eq!(tree(&dir.path("out")), names, "{args:?}");
        let before = stamps(&dir.path("out"));
        server.fetch(&dir, &["--batch", "--flat"]).assert_no_error();
        assert_eq!(stamps(&dir.path("out")), before);
        // Without it they count as fetched, under whatever name.
        let check = server.fetch(&dir, &["--check"]);
        assert_eq!(check.code, Some(3), "{check:?}");
        let output = server.fetch(&dir, &["--batch"]);
        output.assert_no_error();
        assert!(output.out.contains("4 already there"), "{output:?}");
    }
}

#[test]
fn w9_after_a_month_of_changes_only_what_is_new_is_fetched() {
    let mut library = library();
    let server = serve(&library);
    let dir = TestDir::new();
    server.fetch(&dir, &["--batch"]).assert_no_error();
    // The user has moved one image, and the server renames, replaces and adds some.
    fs::create_dir(dir.path("out/best")).unwrap();
    fs::rename(dir.path("out/2024/a.jpg"), dir.path("out/best/a.jpg")).unwrap();
    let new = noise(800, 9);
    server.rename(&library[2].1, "2024/Roma/b.jpg");
    server.add("2025/Oslo fjord/new.jpg", &new);
    let changed = noise(900, 10);
    assert!(server.store.remove(ImageId::of(&library[0].1)));
    server.add("top.png", &changed);
    let plan = server.fetch(&dir, &["--batch", "--dry-run"]);
    assert_eq!(plan.code, Some(0), "{plan:?}");
    assert!(plan.out.contains("2025/Oslo fjord/new.jpg"), "{plan:?}");
    assert!(
        !plan.out.contains("Roma") && !plan.out.contains("a.jpg"),
        "{plan:?}"
    );
    assert_eq!(tree(&dir.path("out")).len(), 9, "nothing was touched");
    let output = server.fetch(&dir, &["--batch"]);
    output.assert_no_error();
    let expected = [
        "2024/",
        "2024/Rome/",
        "2024/Rome/b.jpg",
        "2025/",
        "2025/Oslo fjord/",
        "2025/Oslo fjord/c.jpg",
        "2025/Oslo fjord/new.jpg",
        "best/",
        "best/a.jpg",
        "top.png",
    ];
    assert_eq!(tree(&dir.path("out")), expected);
    assert_eq!(fs::read(dir.path("out/top.png")).unwrap(), changed);
    // Deleting a folder brings its images again.
    library.clear();
    fs::remove_dir_all(dir.path("out/2025")).unwrap();
    server.fetch(&dir, &["--batch"]).assert_no_error();
    assert_eq!(tree(&dir.path("out")), expected);
}

#[test]
fn w9_new_images_arrive_in_their_folders_while_watching() {
    let server = serve(&library());
    let dir = TestDir::new();
    let args = [
        "--addr",
        &server.address,
        "--out",
        "out",
        "--batch",
        "--watch",
    ];
    let client = Process::start(dir.command(CLIENT, &args));
    let out = dir.path("out");
    wait_until("the library is there", || {
        out.join("2025/Oslo fjord/c.jpg").exists()
    });
    let bytes = noise(600, 20);
    server.add("2026/June/d.jpg", &bytes);
    wait_until("the new image is there", || {
        out.join("2026/June/d.jpg").exists()
    });
    assert_eq!(fs::read(out.join("2026/June/d.jpg")).unwrap(), bytes);
    client.signal(Signal::INT);
    client.wait();
}

#[test]
fn w9_links_and_files_in_place_of_folders_stay_and_the_images_get_their_ids() {
    let library = library();
    let server = serve(&library);
    let dir = TestDir::new();
    fs::create_dir_all(dir.path("out/2025")).unwrap();
    fs::create_dir(dir.path("outside")).unwrap();
    symlink(dir.path("outside"), dir.path("out/2024")).unwrap();
    fs::write(dir.path("out/2025/Oslo fjord"), b"notes").unwrap();
    for args in [&["--batch"][..], &[]] {
        let output = server.fetch(&dir, args);
        assert_eq!(output.code, Some(0), "{output:?}");
        let id = |n: usize| ImageId::of(&library[n].1);
        let expected = [
            "2024".to_owned(),
            format!("2024⧸Rome⧸b-{}.jpg", id(2)),
            format!("2024⧸a-{}.jpg", id(1)),
            "2025/".to_owned(),
            "2025/Oslo fjord".to_owned(),
            format!("2025⧸Oslo fjord⧸c-{}.jpg", id(3)),
            "top.png".to_owned(),
        ];
        assert_eq!(tree(&dir.path("out")), expected, "{args:?}");
        assert_eq!(tree(&dir.path("outside")), Vec::<String>::new());
        assert_eq!(fs::read(dir.path("out/2025/Oslo fjord")).unwrap(), b"notes");
    }
    let before = stamps(&dir.path("out"));
    server.fetch(&dir, &["--batch"]);
    assert_eq!(
        stamps(&dir.path("out")),
        before,
        "a second run does nothing"
    );
}

#[test]
fn w9_patterns_see_paths_and_other_files_of_the_tree_stay() {
    let server = serve(&library());
    let dir = TestDir::new();
    fs::create_dir_all(dir.path("out/2024/.git")).unwrap();
    fs::write(dir.path("out/2024/.git/x.png"), b"hidden").unwrap();
    fs::write(dir.path("out/2024/notes.txt"), b"mine").unwrap();
    server
        .fetch(&dir, &["--batch", "--include", "2024/**"])
        .assert_no_error();
    let expected = [
        "2024/",
        "2024/Rome/",
        "2024/Rome/b.jpg",
        "2024/a.jpg",
        "2024/notes.txt",
    ];
    assert_eq!(tree(&dir.path("out")), expected);
    fs::write(dir.path("out/2024/Rome/extra.png"), b"extra").unwrap();
    let check = server.fetch(&dir, &["--check", "--include", "2024/**"]);
    assert_eq!(check.code, Some(3), "{check:?}");
    assert!(check.out.contains("2024/Rome/extra.png"), "{check:?}");
    let flat = server.fetch(&dir, &["--batch", "--flat", "--include", "2025/**"]);
    flat.assert_no_error();
    assert!(dir.path("out/2025⧸Oslo fjord⧸c.jpg").exists());
}

/// An output folder with a link and a file in place of folders, a folder and a link in place of images.
fn obstructed() -> TestDir {
    let dir = TestDir::new();
    for folder in ["linked", "taken"] {
        fs::create_dir(dir.path("images").join(folder)).unwrap();
        for number in 0..30 {
            let seed = number + if folder == "linked" { 100 } else { 200 };
            dir.add(&format!("{folder}/{number:02}.png"), &noise(90, seed));
        }
    }
    for (seed, name) in ["folder.png", "link.png", "free.png"].iter().enumerate() {
        dir.add(name, &noise(80, u64::try_from(seed).unwrap()));
    }
    fs::create_dir_all(dir.path("output/folder.png")).unwrap();
    symlink("folder.png", dir.path("output/linked")).unwrap();
    symlink("folder.png", dir.path("output/link.png")).unwrap();
    fs::write(dir.path("output/taken"), "notes").unwrap();
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
    let server = dir.serve(&["--no-tls", "--recursive"]);
    for mode in ["--batch", "--mirror", "--batch", "--dry-run"] {
        let output = dir.fetch(&server, &["--batch", mode]);
        let begin = output.err.get(..expected.len()).unwrap_or(&output.err);
        assert_eq!((output.code, begin), (Some(0), expected), "{mode}");
    }
    let names = dir.names("output");
    let numbered = names.iter().find(|name| name.ends_with("-1.png"));
    assert_eq!(numbered, None, "{names:?}");
    assert_eq!(names.len(), 4 + 60 + 3, "{names:?}");
}

#[test]
fn image_whose_name_is_freed_in_the_same_run_has_no_warning() {
    let dir = TestDir::new();
    dir.add("a.png", &noise(90, 1));
    // A mirror empties this folder last.
    fs::create_dir_all(dir.path("output/a.png")).unwrap();
    fs::write(dir.path("output/a.png/x.png"), noise(90, 2)).unwrap();
    let server = dir.serve(&["--no-tls", "--recursive"]);
    let output = dir.fetch(&server, &["--mirror", "--max-delete", "100%"]);
    output.assert_no_error();
    assert_eq!(dir.files("output"), dir.files("images"));
}
