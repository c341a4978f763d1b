//! Images in sub-folders: the client makes the folders of a server's names again, and `--flat` does not. // W9

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use jtp_core::ImageId;
use jtp_tokio::Server;
use jtp_tokio::store::MemoryStore;
use rustix::process::Signal;

use crate::support::{CLIENT, Folder as _, Output, TestDir, noise, wait_until};

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

    fn fetch(&self, dir: &TestDir, args: &str) -> Output {
        let args = format!("--addr {} --out out {args}", self.address);
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
    for args in ["", "--batch", "--batch -p 3 -k"] {
        let dir = TestDir::new();
        server.fetch(&dir, args).assert_no_error();
        assert_eq!(tree(&dir.path("out")), TREE, "{args:?}");
        for (name, bytes) in &library {
            assert_eq!(dir.read(format!("out/{name}")), *bytes);
        }
        let before = stamps(&dir.path("out"));
        server
            .fetch(&dir, "--batch")
            .assert_no_error()
            .assert_in_out("4 already there");
        assert_eq!(stamps(&dir.path("out")), before, "{args:?}");
        server.fetch(&dir, "--check").assert_exit(0);
    }
}

#[test]
fn w9_flat_keeps_all_images_in_one_folder() {
    let library = library();
    let server = serve(&library);
    for args in ["--flat", "--batch --flat"] {
        let dir = TestDir::new();
        dir.make_dir("out/2024");
        dir.write("out/2024/a.jpg", &library[1].1);
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
        server.fetch(&dir, "--batch --flat").assert_no_error();
        assert_eq!(stamps(&dir.path("out")), before);
        // Without it they count as fetched, under whatever name.
        server.fetch(&dir, "--check").assert_exit(3);
        server
            .fetch(&dir, "--batch")
            .assert_no_error()
            .assert_in_out("4 already there");
    }
}

#[test]
fn w9_after_a_month_of_changes_only_what_is_new_is_fetched() {
    let mut library = library();
    let server = serve(&library);
    let dir = TestDir::new();
    server.fetch(&dir, "--batch").assert_no_error();
    // The user has moved one image, and the server renames, replaces and adds some.
    dir.make_dir("out/best");
    dir.rename("out/2024/a.jpg", "out/best/a.jpg");
    let new = noise(800, 9);
    server.rename(&library[2].1, "2024/Roma/b.jpg");
    server.add("2025/Oslo fjord/new.jpg", &new);
    let changed = noise(900, 10);
    assert!(server.store.remove(ImageId::of(&library[0].1)));
    server.add("top.png", &changed);
    let plan = server.fetch(&dir, "--batch --dry-run");
    plan.assert_exit(0);
    plan.assert_in_out("2025/Oslo fjord/new.jpg");
    assert!(
        !plan.out.contains("Roma") && !plan.out.contains("a.jpg"),
        "{plan:?}"
    );
    assert_eq!(tree(&dir.path("out")).len(), 9, "nothing was touched");
    server.fetch(&dir, "--batch").assert_no_error();
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
    assert_eq!(dir.read("out/top.png"), changed);
    // Deleting a folder brings its images again.
    library.clear();
    dir.remove("out/2025");
    server.fetch(&dir, "--batch").assert_no_error();
    assert_eq!(tree(&dir.path("out")), expected);
}

#[test]
fn w9_new_images_arrive_in_their_folders_while_watching() {
    let server = serve(&library());
    let dir = TestDir::new();
    let client = dir.client(&server.address, "--out out --batch --watch");
    let out = dir.path("out");
    wait_until("the library is there", || {
        out.join("2025/Oslo fjord/c.jpg").exists()
    });
    let bytes = noise(600, 20);
    server.add("2026/June/d.jpg", &bytes);
    wait_until("the new image is there", || {
        out.join("2026/June/d.jpg").exists()
    });
    assert_eq!(out.read("2026/June/d.jpg"), bytes);
    client.signal(Signal::INT);
    client.wait();
}

#[test]
fn w9_links_and_files_in_place_of_folders_stay_and_the_images_get_their_ids() {
    let library = library();
    let server = serve(&library);
    let dir = TestDir::new();
    dir.make_dir("out/2025");
    dir.make_dir("outside");
    dir.link(dir.path("outside"), "out/2024");
    dir.write("out/2025/Oslo fjord", b"notes");
    for args in ["--batch", ""] {
        server.fetch(&dir, args).assert_exit(0);
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
        assert_eq!(dir.read("out/2025/Oslo fjord"), b"notes");
    }
    let before = stamps(&dir.path("out"));
    server.fetch(&dir, "--batch");
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
    dir.make_dir("out/2024/.git");
    dir.write("out/2024/.git/x.png", b"hidden");
    dir.write("out/2024/notes.txt", b"mine");
    server
        .fetch(&dir, "--batch --include 2024/**")
        .assert_no_error();
    let expected = [
        "2024/",
        "2024/Rome/",
        "2024/Rome/b.jpg",
        "2024/a.jpg",
        "2024/notes.txt",
    ];
    assert_eq!(tree(&dir.path("out")), expected);
    dir.write("out/2024/Rome/extra.png", b"extra");
    server
        .fetch(&dir, "--check --include 2024/**")
        .assert_exit(3)
        .assert_in_out("2024/Rome/extra.png");
    server
        .fetch(&dir, "--batch --flat --include 2025/**")
        .assert_no_error();
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
