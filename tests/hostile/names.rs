//! R5: a server chooses names that would do harm in a folder with other files in it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::{HostileImage, ParsedRequest, client, hostile_server, read_request, scripted_server};
use crate::support::bytes::*;
use crate::support::process::{WorkDir, wait_until};

/// Files of a working folder, with their modes.
const FILES: [(&str, u32); 16] = [
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

fn hostile_names() -> Vec<String> {
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
    names.push("picture.png".to_owned());
    names.push("drawing.svg".to_owned());
    names.push("paper.pdf".to_owned());
    names.sort();
    names.dedup();
    names
}

fn hostile_images() -> Vec<HostileImage> {
    let names = hostile_names();
    let image = |name: &String| HostileImage::raw(name, format!("import os # {name}").as_bytes());
    names.iter().map(image).collect()
}

type Contents = BTreeMap<String, (u32, Vec<u8>)>;

/// Each file with its mode and contents. A client may be renaming some.
fn contents(folder: &Path) -> Contents {
    let mut found = Contents::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let (Ok(metadata), Ok(bytes)) = (entry.metadata(), fs::read(entry.path())) else {
            continue;
        };
        let mode = metadata.permissions().mode() & 0o7777;
        let name = entry.file_name().into_string().unwrap();
        found.insert(name, (mode, bytes));
    }
    found
}

/// The output folder, in which the user has other files, too.
fn folder(workdir: &WorkDir) -> PathBuf {
    workdir.path().join("here")
}

fn prepare() -> (WorkDir, Contents) {
    let workdir = WorkDir::of(&[]);
    fs::create_dir(folder(&workdir)).unwrap();
    for (name, mode) in FILES {
        let path = folder(&workdir).join(name);
        fs::write(&path, format!("my own {name}")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let before = contents(&folder(&workdir));
    (workdir, before)
}

/// The files from before are as they were, and all others are pictures by their names.
#[track_caller]
fn assert_harmless(workdir: &WorkDir, before: &Contents, images: usize) {
    let mut after = contents(&folder(workdir));
    for (name, file) in before {
        assert_eq!(after.remove(name).as_ref(), Some(file), "{name}");
    }
    after.remove(".jtp-index");
    for name in after.keys() {
        let extension = name
            .rsplit_once('.')
            .map(|(_, extension)| extension.to_lowercase());
        let extension = extension.unwrap_or_default();
        assert!(
            ["png", "svg", "pdf", "img"].contains(&&*extension),
            "{name:?}"
        );
        assert!(!name.starts_with(['-', '~', '.']), "{name:?}");
        let is_invisible = |c: char| {
            c.is_control()
                || matches!(c, '\u{ad}' | '\u{200b}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
                || matches!(c, '\u{feff}' | '\u{3164}')
        };
        assert!(!name.chars().any(is_invisible), "{name:?}");
        assert!(name.len() <= 255);
    }
    assert_eq!(after.len(), images, "{:?}", after.keys());
    let beside = contents(workdir.path());
    let is_own = |name: &String| name != "client.log";
    assert!(!beside.keys().any(is_own), "{:?}", beside.keys());
}

#[test]
fn r5_names_of_a_server_replace_and_make_nothing_but_pictures() {
    for args in [&[][..], &["--batch"], &["--keep-alive", "--parallel", "3"]] {
        let (workdir, before) = prepare();
        let images = hostile_images();
        let address = hostile_server(images.clone());
        // The second run finds what the first one has made.
        for _ in 0..2 {
            let args = [args, &["--out", "here"]].concat();
            client(&workdir, address, &args).0.assert_exit(0);
            assert_harmless(&workdir, &before, images.len());
        }
    }
}

#[test]
fn r5_names_in_events_of_a_server_replace_and_make_nothing_but_pictures() {
    // Two events with one name are a change of that image, so no name is there in two normal forms.
    let mut images = hostile_images();
    images.retain(|image| !image.name.contains('\u{301}'));
    let count = images.len();
    // What was announced is listed from then on.
    let is_announced = AtomicBool::new(false);
    let entries: Vec<u8> = images
        .iter()
        .flat_map(|image| {
            let length = u32::try_from(image.data.len()).unwrap();
            entry(image.flags, image.id, &image.name, length)
        })
        .collect();
    let list = [head(b"JTPL", count), entries].concat();
    let address = scripted_server(move |mut stream| {
        while let Some(request) = read_request(&mut stream) {
            let sent = match request {
                ParsedRequest::List if is_announced.load(Ordering::Relaxed) => {
                    stream.write_all(&list)
                }
                ParsedRequest::List => stream.write_all(&head(b"JTPL", 0)),
                ParsedRequest::All => stream.write_all(&head(b"JTPG", 0)),
                ParsedRequest::Watch => {
                    is_announced.store(true, Ordering::Relaxed);
                    images.iter().try_for_each(|image| {
                        let length = u32::try_from(image.data.len()).unwrap();
                        let entry = entry(image.flags, image.id, &image.name, length);
                        stream.write_all(&[&b"JTPW"[..], &entry].concat())
                    })
                }
                ParsedRequest::Get(ids) => {
                    let packets = ids.iter().flat_map(|id| {
                        let image = images.iter().find(|image| image.id == *id).unwrap();
                        packet(image.flags, image.id, &image.data)
                    });
                    let count = data_head(u8::try_from(ids.len()).unwrap());
                    let packets: Vec<u8> = packets.collect();
                    stream.write_all(&[count, packets].concat())
                }
                other => panic!("{other:?}"),
            };
            if sent.is_err() {
                return;
            }
        }
    });
    for args in [&["--watch"][..], &["--watch", "--batch"]] {
        let (workdir, before) = prepare();
        let args = [args, &["--out", "here"]].concat();
        let watcher = workdir.start_client(address, &args);
        wait_until("all images have come", || {
            let is_visible = |name: &String| !name.starts_with(".jtp-");
            let found = contents(&folder(&workdir));
            found.keys().filter(|name| is_visible(name)).count() == count + before.len()
        });
        watcher.signal(rustix::process::Signal::INT);
        watcher.wait();
        assert_harmless(&workdir, &before, count);
    }
}

#[test]
fn r5_a_replaced_picture_keeps_its_mode() {
    for mode in [0o600, 0o640, 0o444, 0o666] {
        // The second one is written in pieces.
        for length in [10, 1 << 20] {
            let workdir = WorkDir::of(&[]);
            let path = workdir.path().join("a.png");
            fs::write(&path, b"old").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let image = HostileImage::raw("a.png", &vec![7; length]);
            let address = hostile_server(vec![image]);
            client(&workdir, address, "--out .").0.assert_exit(0);
            let found = &contents(workdir.path())["a.png"];
            assert_eq!((found.0, found.1.len()), (mode, length), "{mode:o}");
        }
    }
}

#[test]
fn r5_a_disk_image_stays_and_an_image_of_its_name_gets_its_id_as_a_suffix() {
    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n an old picture";
    for args in [&[][..], &["--batch"]] {
        let workdir = WorkDir::of(&[]);
        let write = |name: &str, bytes: &[u8]| fs::write(workdir.path().join(name), bytes).unwrap();
        write("disk.img", b"my disk");
        write("photo.img", PNG);
        let (disk, photo) = (
            HostileImage::raw("disk", b"of the server"),
            HostileImage::raw("photo", b"a new picture"),
        );
        let suffixed = format!("disk-{:016x}.img", disk.id);
        let address = hostile_server(vec![disk.clone(), photo.clone()]);
        let args = [args, &["--out", "."]].concat();
        let expected = |name: &str| match name {
            "disk.img" => b"my disk".to_vec(),
            "photo.img" => photo.data.clone(),
            name => {
                assert_eq!(name, suffixed);
                disk.data.clone()
            }
        };
        for _ in 0..3 {
            client(&workdir, address, &args).0.assert_exit(0);
            let mut found = contents(workdir.path());
            found.retain(|name, _| name.ends_with(".img"));
            assert_eq!(found.len(), 3, "{args:?}: {:?}", found.keys());
            for (name, (_, bytes)) in found {
                assert_eq!(bytes, expected(&name), "{args:?}: {name}");
            }
        }
    }
}

#[test]
fn r5_a_disk_image_longer_than_any_image_stays() {
    for args in [&[][..], &["--batch"]] {
        let workdir = WorkDir::of(&[]);
        let path = workdir.path().join("disk.img");
        // Sparse: it takes no space.
        fs::File::create(&path).unwrap().set_len(5 << 30).unwrap();
        let image = HostileImage::raw("disk", b"of the server");
        let address = hostile_server(vec![image]);
        let args = [args, &["--out", "."]].concat();
        client(&workdir, address, &args).0.assert_exit(0);
        assert_eq!(fs::metadata(path).unwrap().len(), 5 << 30, "{args:?}");
    }
}
