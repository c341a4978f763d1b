//! R5 W9: a server chooses names and folders that would do harm, in a folder with other files, folders and links in it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use jtp_kit::Folder;

use super::{client, is_full};
use crate::support::bytes::*;
use crate::support::process::{WorkDir, wait_until};
use crate::support::stub::{Request, Stub};

/// Files of the user in the output folder, with their modes; their folders, too.
const FILES: [(&str, u32); 24] = [
    ("cert.pem", 0o644),
    ("key.pem", 0o600),
    ("Makefile", 0o644),
    (".bashrc", 0o644),
    ("sitecustomize.py", 0o644),
    ("desktop.ini", 0o644),
    ("x.lnk", 0o644),
    ("run.sh", 0o755),
    ("photo.png.exe", 0o755),
    ("-rf", 0o644),
    ("~", 0o644),
    ("disk.img", 0o600),
    ("notes.txt", 0o400),
    ("README", 0o644),
    ("index.html", 0o644),
    ("é.pem", 0o600),
    (".ssh/authorized_keys", 0o600),
    (".git/config", 0o644),
    ("src/main.py", 0o644),
    ("src/.env", 0o600),
    ("src/-x/notes.txt", 0o644),
    ("file", 0o644),
    ("a.png.d/Makefile", 0o644),
    ("CON/x.txt", 0o644),
];

/// Names that a file system or a careless client could treat as one of these.
fn variants(name: &str) -> Vec<String> {
    let stem = name.trim_end_matches(".img");
    [
        name.to_owned(),
        name.to_uppercase(),
        name.to_lowercase(),
        name.replace('é', "e\u{301}"),
        format!("{name}."),
        format!("{name} . ."),
        format!(" {name}"),
        format!("{name}\0"),
        format!("{name}\0.png"),
        format!("./{name}"),
        format!("../{name}"),
        format!("sub\\{name}"),
        format!("C:{name}"),
        format!("{name}::$DATA"),
        format!("{name}:png"),
        format!("{name}\u{200b}"),
        format!("{name}\u{200d}"),
        format!("{name}\u{feff}"),
        format!("{name}\u{ad}"),
        format!("{name}\u{3164}"),
        format!("\u{202e}{name}"),
        format!("gnp\u{202e}.{name}"),
        format!("{name}\n"),
        format!("{name}\u{1b}[2K"),
        format!("{name}.png/../{name}"),
        stem.to_owned(),
    ]
    .into()
}

fn names_of_files() -> Vec<String> {
    let mut names: Vec<String> = FILES.iter().flat_map(|(name, _)| variants(name)).collect();
    for name in ["cert.pem", "x.py", "x.png.exe"] {
        // Cut at the limit of a name, the dangerous extension would be the last one, or a harmless one.
        for length in 225..=256 {
            names.push(format!("{}{name}", "x".repeat(length - name.len())));
            names.push(format!("{}{name}.png", "x".repeat(length - name.len())));
            names.push(format!("{name}{}.png", " ".repeat(length)));
        }
    }
    for name in [
        "-o.png",
        "~.png",
        "~root.png",
        "--checkpoint-action=exec=sh x.png",
    ] {
        names.push(name.to_owned());
    }
    for name in ["picture.png", "drawing.svg", "paper.pdf"] {
        names.push(name.to_owned());
    }
    names.sort();
    names.dedup();
    names
}

/// Harmful names of every kind, and harmless ones that collide.
fn other_names() -> Vec<String> {
    let mut names: Vec<String> = [
        "",
        ".",
        "..",
        "/",
        "\\",
        "../x.png",
        "..\\x.png",
        "../../../../tmp/x.png",
        "/etc/passwd",
        "/tmp/absolute.png",
        "a/b.png",
        "a\\b.png",
        "C:x.png",
        "C:\\x.png",
        "\\\\host\\share\\x.png",
        "\\\\?\\C:\\x.png",
        "x.png:stream",
        "~",
        "~/x.png",
        "-rf",
        "--out=x",
        ".hidden",
        ".jtp-index",
        ".jtp-0000000000000001",
        "...",
        ". .",
        " ",
        "x.png.",
        "x.png ",
        "x.png. .",
        "a\0b.png",
        "\0",
        "a\nb.png",
        "a\r.png",
        "\u{1b}[2J\u{1b}[31m.png",
        "\u{7f}.png",
        "\u{85}.png",
        "a\u{202e}gnp.exe",
        "\u{feff}x.png",
        "\u{200b}.png",
        "\u{200d}.jtp-index",
        "CON",
        "con.png",
        "PRN.png",
        "aux",
        "NUL.tar.gz",
        "COM1",
        "com9.png",
        "COM\u{b9}.png",
        "LPT\u{b3}",
        "CONIN$",
        "CLOCK$.png",
        "a<b>.png",
        "a|b?.png",
        "a*.png",
        "\"q\".png",
        "%2e%2e%2fx.png",
        "$(reboot).png",
        "`id`.png",
        "x;y.png",
        "a'b.png",
        "same.png",
        "SAME.png",
        "Same.PNG",
        "caf\u{e9}.png",
        "cafe\u{301}.png",
        "CAF\u{c9}.PNG",
        "stra\u{df}e.png",
        "STRASSE.png",
        "\u{fb01}x.png",
        "fix.png",
        "x.png/",
        "x.png/..",
        "./x.png",
        "output",
        "../output/x.png",
        "link.png",
        "folder.png",
        "\u{1f4a9}.png",
        "\u{fffd}.png",
        "\u{ffff}.png",
        "\u{10ffff}.png",
    ]
    .map(str::to_owned)
    .to_vec();
    names.push("x".repeat(255));
    names.push("x".repeat(65_535));
    names.push(format!("{}.png", "\u{e9}".repeat(20_000)));
    names.push(format!("a.{}", "x".repeat(5_000)));
    names.push("../".repeat(21_845));
    names.push(format!("{}{}", "e", "\u{301}".repeat(500)));
    // Every one-byte character, alone and inside a name.
    for c in (0..0x80u8).map(char::from) {
        names.push(c.to_string());
        names.push(format!("n{c}n.png"));
    }
    if is_full() {
        let all = (0x80..0x11_0000).filter_map(char::from_u32);
        names.extend(all.step_by(97).map(|c| format!("{c}.{c}")));
    }
    names
}

/// Paths below the output folder, above it, and to what is in it.
fn paths() -> Vec<String> {
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
    paths
}

/// Images of these names, which no other one equals.
fn images_of_names(mut names: Vec<String>) -> Vec<TestImage> {
    names.sort();
    names.dedup();
    let image = |name: &String| TestImage::new(name, format!("import os # {name}").into_bytes());
    names.iter().map(image).collect()
}

/// Everything below a folder: files with their modes and contents, the targets of links, and folders.
type Contents = BTreeMap<String, (u32, Vec<u8>)>;

/// Finds it. A client may be renaming some files.
fn contents(root: &Path) -> Contents {
    let mut found = Contents::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let Ok(metadata) = fs::symlink_metadata(&path) else {
                continue;
            };
            let name = path
                .strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            let mode = metadata.permissions().mode() & 0o7777;
            if metadata.is_dir() {
                found.insert(name + "/", (mode, Vec::new()));
                folders.push(path);
            } else if metadata.is_symlink() {
                let target = fs::read_link(&path).unwrap().into_os_string();
                found.insert(name, (0, target.into_encoded_bytes()));
            } else if let Ok(bytes) = fs::read(path) {
                found.insert(name, (mode, bytes));
            }
        }
    }
    found
}

/// The output folder, in which the user has other files, too.
fn folder(workdir: &WorkDir) -> PathBuf {
    workdir.path().join("here")
}

fn prepare() -> (WorkDir, Contents) {
    let workdir = WorkDir::of(&[]);
    let here = folder(&workdir);
    for (name, mode) in FILES {
        here.make_dir(Path::new(name).parent().unwrap());
        here.write(name, format!("my own {name}"));
        here.set_mode(name, mode);
    }
    here.make_dir("folder.png");
    workdir.path().make_dir("outside/sub");
    workdir.path().write("outside/x.png", "my picture");
    for (target, name) in [
        ("../outside", "link"),
        ("../outside/x.png", "link.png"),
        ("../../outside", "src/link"),
        (".", "self"),
        ("nowhere", "dangling"),
        ("/etc", "a"),
    ] {
        here.link(target, name);
    }
    let before = contents(workdir.path());
    (workdir, before)
}

/// All that was there is as it was; what is new is a picture by its name, in visible folders of the output folder.
#[track_caller]
fn assert_harmless(workdir: &WorkDir, before: &Contents, images: usize) {
    let mut after = contents(workdir.path());
    for (name, file) in before {
        assert_eq!(after.remove(name).as_ref(), Some(file), "{name}");
    }
    after.remove("client.log");
    after.remove("here/.jtp-index");
    let mut count = 0;
    for name in after.keys() {
        let path = name.strip_prefix("here/");
        let path = path.unwrap_or_else(|| panic!("{name:?} is not in the output folder"));
        let parts = path.trim_end_matches('/').split('/');
        assert!(parts.clone().count() <= 32, "{name:?}");
        for part in parts {
            let is_own = part == "-x"; // A folder of the user.
            assert!(is_own || !part.starts_with(['.', '-', '~']), "{name:?}");
            assert!(!part.ends_with(['.', ' ']) && part.len() <= 255, "{name:?}");
            let is_harmful = |c: char| {
                c.is_control()
                    || "\\:<>\"|?*".contains(c)
                    || matches!(c, '\u{ad}' | '\u{200b}' | '\u{202a}'..='\u{202e}')
                    || matches!(c, '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{3164}')
            };
            assert!(!part.contains(is_harmful), "{name:?}");
            assert_ne!(part.to_lowercase(), "con", "{name:?}");
        }
        if !name.ends_with('/') {
            let extension = path.rsplit_once('.').unwrap().1.to_lowercase();
            let is_picture = ["png", "svg", "pdf", "img"].contains(&&*extension);
            assert!(is_picture, "{name:?}");
            count += 1;
        }
    }
    assert_eq!(count, images, "{:?}", after.keys());
}

#[test]
fn r5_w9_names_of_a_server_make_nothing_but_pictures_in_the_output_folder() {
    let images = images_of_names([names_of_files(), other_names(), paths()].concat());
    // Names that are made from the IDs of others.
    let [first, second] = [0, 1].map(|n: usize| images[n].id);
    let of_ids = images_of_names(vec![
        format!("{first:016x}.png⧸x.png"),
        format!("p-{second:016x}.png⧸x.png"),
        format!("p.png⧸q-{second:016X}.png⧸x.png"),
    ]);
    let images = [images, of_ids].concat();
    let stub = Stub::of(images.clone());
    for args in [
        &[][..],
        &["--batch"],
        &["--keep-alive", "--parallel", "3"],
        &["--batch", "--flat"],
    ] {
        let (workdir, before) = prepare();
        let args = [args, &["--out", "here"]].concat();
        // The second run finds what the first one has made.
        let mut first = None;
        for _ in 0..2 {
            let (ended, _) = client(&workdir, stub.address, &args);
            ended.assert_exit(0);
            // Printed names contain no escape sequences.
            assert!(
                !ended.err.contains('\u{1b}'),
                "{}",
                ended.err.escape_debug()
            );
            assert_harmless(&workdir, &before, images.len());
            let mut now = contents(&folder(&workdir));
            now.remove(".jtp-index");
            assert!(now == *first.get_or_insert_with(|| now.clone()), "{args:?}");
        }
        let is_flat = args.contains(&"--flat");
        let made = folder(&workdir).join("__/__/__/__/__/__/tmp/x.png");
        assert_eq!(made.exists(), !is_flat, "{args:?}");
    }
}

#[test]
fn r5_names_in_events_of_a_server_make_nothing_but_pictures_in_the_output_folder() {
    // Two events with one name are a change of that image, so no name is there in two normal forms.
    let mut images = images_of_names(names_of_files());
    images.retain(|image| !image.name.contains('\u{301}'));
    let count = images.len();
    for args in ["--watch --out here", "--watch --batch --out here"] {
        let images = images.clone();
        // What was announced is listed from then on.
        let is_announced = AtomicBool::new(false);
        let stub = Stub::answering(move |connection, request| {
            let listed = match is_announced.load(Ordering::Relaxed) {
                true => &images[..],
                false => &[],
            };
            match request {
                Request::Watch => {
                    is_announced.store(true, Ordering::Relaxed);
                    for image in &images {
                        connection.send(image.event());
                    }
                }
                Request::Get(_) => drop(connection.answer(&images, &request)),
                _ => drop(connection.answer(listed, &request)),
            }
        });
        let (workdir, before) = prepare();
        let visible = |contents: &Contents| {
            let is_visible = |name: &&String| !name.starts_with(".jtp-");
            contents.keys().filter(is_visible).count()
        };
        let own = visible(&contents(&folder(&workdir)));
        let watcher = workdir.start_client(stub.address, args);
        wait_until("all images have come", || {
            visible(&contents(&folder(&workdir))) == count + own
        });
        watcher.end(rustix::process::Signal::INT);
        assert_harmless(&workdir, &before, count);
    }
}

#[test]
fn r5_a_replaced_picture_keeps_its_mode() {
    // The second one is written in pieces.
    for length in [10, 1 << 20] {
        let stub = Stub::of(vec![TestImage::new("a.png", vec![7; length])]);
        for mode in [0o600, 0o640, 0o444, 0o666] {
            let workdir = WorkDir::of(&[]);
            workdir.path().write("a.png", "old");
            workdir.path().set_mode("a.png", mode);
            client(&workdir, stub.address, "--out .").0.assert_exit(0);
            let found = &contents(workdir.path())["a.png"];
            assert_eq!((found.0, found.1.len()), (mode, length), "{mode:o}");
        }
    }
}

#[test]
fn r5_a_disk_image_stays_and_an_image_of_its_name_gets_its_id_as_a_suffix() {
    let disk = TestImage::new("disk", b"of the server".into());
    let photo = TestImage::new("photo", b"a new picture".into());
    let stub = Stub::of(vec![disk.clone(), photo.clone()]);
    for args in ["--out .", "--batch --out ."] {
        let workdir = WorkDir::of(&[]);
        workdir.path().write("disk.img", "my disk");
        workdir
            .path()
            .write("photo.img", b"\x89PNG\r\n\x1a\n an old picture");
        let expected = [
            (format!("disk-{:016x}.img", disk.id), disk.bytes.clone()),
            ("disk.img".to_owned(), b"my disk".to_vec()),
            ("photo.img".to_owned(), photo.bytes.clone()),
        ];
        for _ in 0..3 {
            client(&workdir, stub.address, args).0.assert_exit(0);
            let mut found = contents(workdir.path());
            found.retain(|name, _| name.ends_with(".img"));
            let found: Vec<_> = found
                .into_iter()
                .map(|(name, file)| (name, file.1))
                .collect();
            assert_eq!(found, expected, "{args}");
        }
    }
}

#[test]
fn r5_a_disk_image_longer_than_any_image_stays() {
    let stub = Stub::of(vec![TestImage::new("disk", b"of the server".into())]);
    for args in ["--out .", "--batch --out ."] {
        let workdir = WorkDir::of(&[]);
        let path = workdir.path().join("disk.img");
        // Sparse: it takes no space.
        fs::File::create(&path).unwrap().set_len(5 << 30).unwrap();
        client(&workdir, stub.address, args).0.assert_exit(0);
        assert_eq!(fs::metadata(path).unwrap().len(), 5 << 30, "{args}");
    }
}
