//! What a run has stored is not read by the next one.

use std::fs;
use std::io::{Read, Write};

use jtp_core::ImageId;
use rustix::process::Signal;
use serde_json::Value;

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
    let mut events = out.lines().map(|line| serde_json::from_str(line).unwrap());
    let scanned: Option<Value> = events.find(|event: &Value| event["event"] == "scanned");
    let scanned = scanned.unwrap_or_else(|| panic!("{out}"));
    let number = |key: &str| scanned[key].as_u64().unwrap();
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
