//! What a run has stored is not read by the next one.

use std::fs;
use std::io::{Read, Write};

use jtp_core::ImageId;
use rustix::process::Signal;

use crate::support::{
    CLIENT, FakeServer, Folder as _, Process, TestDir, images_response, list_response, noise,
    packet, wait_until,
};

/// The number of files that a run without changes finds and reads.
#[track_caller]
fn scanned(dir: &TestDir, server: &Process, args: &str) -> (u64, u64) {
    let args = format!("--batch --json --retries 0 {args}");
    let output = dir.fetch(server, &args);
    output.assert_exit(0);
    counts(&output.out)
}

fn counts(out: &str) -> (u64, u64) {
    let line = out.lines().find(|line| line.contains("\"scanned\""));
    let line = line.unwrap_or_else(|| panic!("{out}"));
    let number = |key: &str| {
        let rest = line.split_once(&format!("\"{key}\":")).unwrap().1;
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
        digits.unwrap().parse().unwrap()
    };
    (number("files"), number("read"))
}

fn tree_of_images() -> TestDir {
    let dir = TestDir::with_images();
    dir.add("large.png", &noise(700_000, 9));
    dir.make_dir("images/x/y");
    dir.add("x/y/deep.png", &noise(3000, 8));
    dir.add("x/deep.jpg", &noise(300_000, 7));
    dir
}

#[test]
fn the_first_run_after_a_fetch_reads_no_file() {
    let dir = tree_of_images();
    let plain = dir.serve("--no-tls --recursive");
    let tls = dir.serve("--recursive");
    for (server, args) in [
        (&plain, ""),
        (&plain, "--batch"),
        (&plain, "--batch --parallel 4"),
        (&plain, "--mirror"),
        (&plain, "--flat"),
        (&tls, "--tls -k"),
    ] {
        let _ = fs::remove_dir_all(dir.path("output"));
        assert_eq!(dir.fetch(server, args).code, Some(0));
        let rest = args.replace("--batch", "");
        assert_eq!(scanned(&dir, server, &rest), (6, 0), "{args:?}");
        assert_eq!(scanned(&dir, server, &rest), (6, 0), "{args:?}, again");
        // Another run that fetches all: the files are replaced.
        if !args.contains("--mirror") && !args.contains("--batch") {
            assert_eq!(dir.fetch(server, args).code, Some(0));
            assert_eq!(scanned(&dir, server, &rest), (6, 0), "{args:?}, replaced");
        }
    }
}

#[test]
fn a_file_that_is_changed_after_a_fetch_is_read_and_fetched_again() {
    let dir = TestDir::with_images();
    let server = dir.serve("--no-tls");
    assert_eq!(dir.fetch(&server, "").code, Some(0));
    let file = dir.path("output/a.png");
    let before = fs::metadata(&file).unwrap().modified().unwrap();
    fs::write(&file, noise(1000, 77)).unwrap();
    // A program that restores the mtime is seen by the ctime.
    let changed = fs::File::options().write(true).open(&file).unwrap();
    changed.set_modified(before).unwrap();
    assert_eq!(scanned(&dir, &server, ""), (3, 1));
    assert_eq!(dir.files("output"), dir.files("images"));
    assert_eq!(scanned(&dir, &server, ""), (3, 0));
}

#[test]
fn what_a_watching_client_has_stored_is_not_read() {
    let dir = TestDir::with_images();
    let server = dir.serve("--no-tls");
    let client = dir.watch(&server.address, "");
    assert!(client.out.next_line().starts_with("fetched 3 images"));
    dir.add("new.png", &noise(400, 5));
    assert_eq!(client.out.next_line(), "fetched new.png (400 B)");
    client.end(Signal::INT).assert_exit(130);
    assert_eq!(scanned(&dir, &server, ""), (4, 0));
}

#[test]
fn what_an_interrupted_run_has_stored_is_not_read() {
    let dir = TestDir::with_images();
    let images = [1, 2, 3].map(|n| noise(1000, n));
    let names = ["a.png", "b.jpg", "c.bmp"];
    let list: Vec<_> = names
        .iter()
        .zip(&images)
        .map(|(name, image)| (*name, ImageId::of(image), 1000))
        .collect();
    // Two images arrive, and the third never does.
    let listed = list_response(&list);
    let packets = [0, 1, 2].map(|n| packet(list[n].1, &images[n]));
    let fake = FakeServer::new(move |_, request, stream| match request {
        1 => stream.write_all(&listed).unwrap(),
        _ => {
            let mut arriving = images_response(request, &packets);
            arriving.truncate(arriving.len() - packets[2].len());
            stream.write_all(&arriving).unwrap();
            let _ = stream.read(&mut [0]);
        }
    });
    let address = fake.address.to_string();
    let client = dir.client(&address, "--batch");
    let path = dir.path("output/b.jpg");
    wait_until("the second image", || path.exists());
    client.end(Signal::INT).assert_exit(130);
    let output = dir.run(CLIENT, &format!("--check --json --addr {address}"));
    assert_eq!(counts(&output.out), (2, 0), "{output:?}");
}

#[test]
fn a_client_that_cannot_write_its_index_fetches_nevertheless() {
    let dir = TestDir::with_images();
    let server = dir.serve("--no-tls");
    dir.make_dir("output/.jtp-index");
    dir.fetch(&server, "")
        .assert_success("fetched 3 images (198.24 KiB); 0 already there; 0 failed");
    assert_eq!(scanned(&dir, &server, "").0, 3);
    assert!(dir.path("output/.jtp-index").is_dir());
    // One that was written stays as it is in a folder that only can be read.
    fs::remove_dir(dir.path("output/.jtp-index")).unwrap();
    dir.fetch(&server, "").assert_no_error();
    dir.set_mode("output", 0o555);
    assert_eq!(scanned(&dir, &server, ""), (3, 0));
    dir.set_mode("output", 0o755);
}
