//! What is kept between runs: `--cache-dir`, `--cache-size`, `--checksum`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use jtp_core::ImageId;

use crate::support::{CLIENT, Place, Running, SERVER, eventually};

/// Changes the ID in an index of one file, checksum and all: who asks the index finds this one.
fn make_lie(index: &Path) {
    let mut bytes = fs::read(index).unwrap();
    assert_eq!(bytes.len(), 71, "one record");
    bytes[60..68].copy_from_slice(&ImageId(42).to_be_bytes());
    let checksum = ImageId::of(&bytes[20..]).to_be_bytes();
    bytes[12..20].copy_from_slice(&checksum);
    fs::write(index, &bytes).unwrap();
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

const LIE: &str = "000000000000002a";

#[test]
fn a_server_asks_its_index_unless_told_to_read_all() {
    let place = Place::with_images();
    let listed = |args: &[&str]| {
        let server = place.serve(&[&["--only", "a.png", "--no-tls"], args].concat());
        let listed = place.fetch(&server, &["--list"]).out;
        server.stop();
        listed.split_whitespace().next().unwrap().to_owned()
    };
    let id = listed(&[]);
    let index = files_in(&place.path("cache/jtp/index"));
    assert_eq!(index.len(), 1, "{index:?}");
    make_lie(&index[0]);
    assert_eq!(listed(&[]), LIE);
    assert_eq!(listed(&["--checksum"]), id);
    assert_eq!(listed(&[]), id, "it was written anew");
    // A broken one, an older one, and what is none at all.
    for broken in ["", "garbage", "JTPidx\0\x01 and so on"] {
        fs::write(&index[0], broken).unwrap();
        assert_eq!(listed(&[]), id, "{broken:?}");
    }
    fs::remove_file(&index[0]).unwrap();
    fs::create_dir(&index[0]).unwrap();
    assert_eq!(listed(&[]), id);
    // Another folder of its own.
    assert_eq!(listed(&["--cache-dir", "mine"]), id);
    assert_eq!(files_in(&place.path("mine/index")).len(), 1);
}

#[test]
fn several_servers_share_a_cache_folder() {
    let place = Place::with_images();
    let other = place.path("other");
    fs::create_dir(&other).unwrap();
    fs::copy(place.path("images/c.bmp"), other.join("same.bmp")).unwrap();
    let servers: Vec<Running> = [
        &["--images", "images"],
        &["--images", "other"],
        &["--only", "c"],
    ]
    .map(|args| place.serve(&[args.as_slice(), &["--no-tls"]].concat()))
    .into_iter()
    .collect();
    for server in &servers {
        eventually("the image travels compressed", || {
            let listed = place.fetch(server, &["--list"]).out;
            let bmp = listed.lines().find(|line| line.ends_with(".bmp")).unwrap();
            !bmp.contains("200002")
        });
        assert_eq!(place.fetch(server, &["--out", "out"]).code, Some(0));
    }
    let forms = files_in(&place.path("cache/jtp/forms"));
    let is_form = |path: &&PathBuf| path.extension().is_some_and(|e| e == "form1");
    assert_eq!(forms.iter().filter(is_form).count(), 1, "{forms:?}");
    for server in servers {
        assert_eq!(server.stop().code, Some(0));
    }
    assert_eq!(files_in(&place.path("cache/jtp/index")).len(), 3);
}

#[test]
fn a_server_works_without_a_cache_folder_and_says_so_once() {
    let place = Place::with_images();
    fs::write(place.path("file"), "").unwrap();
    let server = place.serve(&["--no-tls", "--cache-dir", "file/cache"]);
    place
        .fetch(&server, &[])
        .well("fetched 3 images (198.24 KiB); 0 already there; 0 failed");
    place.add("late.png", b"late");
    let ended = server.stop();
    let said: Vec<_> = ended
        .err
        .lines()
        .filter(|line| line.contains("cache"))
        .collect();
    assert_eq!(said.len(), 1, "{ended:?}");
    assert!(
        said[0].contains("file/cache") && said[0].contains("--cache-dir"),
        "{said:?}"
    );
    // Nobody's home.
    let mut command = place.command(SERVER, &["--no-tls", "--bind", "127.0.0.1:0"]);
    command.env_remove("XDG_CACHE_HOME").env_remove("HOME");
    let server = Running::start(command);
    assert!(server.out.line().starts_with("listening on"));
    assert!(server.err.until("cache").contains("--cache-dir"));
}

#[test]
fn a_client_asks_its_index_unless_told_to_read_all() {
    let place = Place::with_images();
    let server = place.serve(&["--no-tls", "--only", "a.png"]);
    let batch = |args: &[&str]| place.fetch(&server, &[&["--batch"], args].concat());
    assert_eq!(batch(&[]).code, Some(0));
    // What was just written is not known for good before the clock has moved on.
    let index = place.path("output/.jtp-index");
    eventually("an index", || {
        batch(&[]).says("fetched 0 images (0 B); 1 already there; 0 failed");
        index.exists()
    });
    make_lie(&index);
    batch(&["--checksum"]).says("fetched 0 images (0 B); 1 already there; 0 failed");
    make_lie(&index);
    batch(&[]).says("fetched 1 image (1000 B); 0 already there; 0 failed");
    for broken in ["", "garbage"] {
        fs::write(&index, broken).unwrap();
        batch(&[]).says("fetched 0 images (0 B); 1 already there; 0 failed");
    }
}

#[test]
fn with_few_open_files_the_server_serves_and_says_how_many_connections_it_takes() {
    let place = Place::with_images();
    let mut command = Command::new("sh");
    let script = format!("ulimit -n 64; exec {SERVER} --no-tls --bind 127.0.0.1:0");
    let few = place.command("sh", &["-c", &script]);
    command.args(few.get_args()).current_dir(place.path(""));
    command.env("XDG_CACHE_HOME", place.path("cache"));
    let server = Running::start(command);
    let line = server.out.line();
    let address = line.strip_prefix("listening on ").unwrap();
    let said = server.err.until("connections at a time");
    assert!(said.contains("ulimit -n"), "{said}");
    let fetched = place.run(CLIENT, &["--addr", address, "--parallel", "8"]);
    fetched.well("fetched 3 images (198.24 KiB); 0 already there; 0 failed");
}
