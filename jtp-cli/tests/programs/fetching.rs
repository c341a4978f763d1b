//! Listing and fetching.

use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

use jtp_core::ImageId;
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

use crate::support::{
    CLIENT, FakeServer, Folder as _, TestDir, jtpe, list_response, noise, wait_until,
};

#[test]
fn list_prints_one_line_per_image_and_fetches_nothing() {
    let dir = TestDir::with_images();
    let server = dir.serve("--compression-threshold 0");
    let output = dir.fetch(&server, "--list");
    let id = |name: &str| ImageId::of(&dir.read(format!("images/{name}")));
    let expected = format!(
        "{}    1000  PNG         a.png\n{}    2000  JPEG        b.jpg\n{}  200002  BMP         c.bmp\n",
        id("a.png"),
        id("b.jpg"),
        id("c.bmp")
    );
    output.assert_exit(0).assert_out(&expected);
    assert!(!dir.path("output").exists());
}

#[test]
fn batch_fetches_only_missing_images() {
    let dir = TestDir::with_images();
    let server = dir.serve("");
    dir.fetch(&server, "--batch")
        .assert_success("fetched 3 images (198.24 KiB); 0 already there; 0 failed");
    dir.fetch(&server, "--batch")
        .assert_success("fetched 0 images (0 B); 3 already there; 0 failed");
    // A renamed file counts as present; damaged and deleted ones do not.
    dir.rename("output/a.png", "output/renamed.png");
    dir.remove("output/b.jpg");
    dir.write("output/c.bmp", "damaged");
    dir.fetch(&server, "--delta").assert_success(
        "fetched 2 images (197.27 KiB); 1 already there; 0 failed; 1 replaced a file",
    );
    assert_eq!(dir.names("output"), ["b.jpg", "c.bmp", "renamed.png"]);
    assert_eq!(dir.files("output")[1], dir.files("images")[2]);
    // Without --batch, all images are fetched again.
    dir.fetch(&server, "")
        .assert_success("fetched 3 images (198.24 KiB); 0 already there; 0 failed");
}

#[test]
fn all_connection_options_fetch_the_same_images() {
    let dir = TestDir::new();
    for n in 0..300_usize {
        dir.add(&format!("{n}.gif"), &noise(1 + n * 7, n as u64));
    }
    let server = dir.serve("");
    for (n, args) in [
        "--parallel 4",
        "-p 32 -k --tls",
        "-k --pipeline --repeat 2",
        "-p 3 -k --pipeline --batch",
        "--no-tcp-nodelay",
    ]
    .into_iter()
    .enumerate()
    {
        let out = format!("out{n}");
        let output = dir.fetch(&server, &format!("{args} --out {out}"));
        output.assert_success("fetched 300 images (306.88 KiB); 0 already there; 0 failed");
        assert_eq!(dir.files(&out), dir.files("images"), "{args:?}");
        let jobs = if args.contains("--repeat") { 2 } else { 1 };
        assert_eq!(output.out.lines().count(), jobs);
    }
    dir.remove("out0/7.gif");
    dir.remove("out0/8.gif");
    dir.fetch(&server, "--batch -p 2 --out out0")
        .assert_success("fetched 2 images (107 B); 298 already there; 0 failed");
    dir.fetch(&server, "--quiet --out quiet")
        .assert_exit(0)
        .assert_out("")
        .assert_err("");
}

#[test]
fn a_limited_rate_applies_to_all_connections_together() {
    let dir = TestDir::new();
    for n in 0..4 {
        dir.add(&format!("{n}.gif"), &noise(256 * 1024, n));
    }
    let server = dir.serve("");
    for args in ["", "--tls", "-p 4 -k"] {
        let start = Instant::now();
        dir.fetch(&server, &format!("--limit-rate 2MiB {args} --out limited"))
            .assert_success("fetched 4 images (1.00 MiB); 0 already there; 0 failed");
        // 0.1 s may have been read ahead, and what the system buffers.
        assert!(start.elapsed() > Duration::from_millis(300), "{args}");
        fs::remove_dir_all(dir.join("limited")).unwrap();
    }
}

#[test]
fn empty_catalog_is_a_success() {
    let dir = TestDir::new();
    let server = dir.serve("--no-tls");
    dir.fetch(&server, "")
        .assert_success("fetched 0 images (0 B); 0 already there; 0 failed");
    dir.fetch(&server, "--list").assert_exit(0).assert_out("");
}

#[test]
fn a_locked_output_folder_stops_no_mode() {
    let dir = TestDir::with_images();
    let server = dir.serve("--no-tls");
    dir.fetch(&server, "").assert_no_error();
    // As `flock output client` does.
    let _locks = ["output", "output/.jtp-index"].map(|name| {
        let file = fs::File::open(dir.path(name)).unwrap();
        flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        file
    });
    for (args, fetched) in [("", 3), ("--batch", 0), ("-k -p 2", 3)] {
        dir.fetch(&server, args)
            .assert_fetched(fetched, 3 - fetched);
    }
    let client = dir.watch(&server.address, "--batch");
    dir.add("new.png", &noise(300, 4));
    client.out.wait_for("fetched new.png");
    client.end(Signal::INT).assert_exit(130);
    assert_eq!(dir.files("output"), dir.files("images"));
}

#[test]
fn list_without_images_says_so_on_stderr_alone() {
    let dir = TestDir::new();
    let server = dir.serve("--no-tls");
    let lists = |images: &str| format!("{} lists {images}\n", server.address);
    let list = |args: &str| {
        let output = dir.fetch(&server, &format!("--list {args}"));
        output.assert_exit(0).assert_out("");
        output.err
    };
    assert_eq!(list(""), lists("no images"));
    assert_eq!(list("--quiet"), "");
    dir.add("a.png", &noise(10, 1));
    wait_until("the image is listed", || {
        let output = dir.fetch(&server, "--list");
        output.out.contains("a.png")
    });
    let unselected = lists("1 image, and none is selected");
    assert_eq!(list("--include b*"), unselected);
}

#[test]
fn r6_list_says_that_it_tries_again() {
    let dir = TestDir::new();
    let line = "closed the connection without an answer (retrying in 250 ms)\n";
    for (args, is_said) in [("", true), ("-q", false), ("--json", true)] {
        let fake = FakeServer::new(|number, _, stream| {
            if number > 0 {
                let _ = stream.write_all(&list_response(&[("a.png", ImageId(1), 5)]));
            }
        });
        let output = fake.fetch(&dir, &format!("--list {args}"));
        output.assert_exit(0).assert_in_out("a.png");
        assert_eq!(output.err.ends_with(line), is_said, "{output:?}");
        let event = output.out.contains(r#""event":"retry""#);
        assert_eq!(event, args == "--json", "{output:?}");
        // A server that was never reached is not tried again.
        dir.run(CLIENT, &format!("--list --addr 127.0.0.1:1 {args}"))
            .assert_failure(4, &["connection refused"])
            .assert_not_in_err("retrying");
    }
}

#[test]
fn bytes_of_a_server_are_escaped_once() {
    let dir = TestDir::new();
    for (bytes, expected) in [
        (b"H\0\r\n".to_vec(), "unknown response header H …;"),
        (jtpe(2, "a\x1b[2J\\b"), r"a\u{1b}[2J\\b"),
    ] {
        let server = FakeServer::answering(bytes);
        for args in ["--list --retries 0", "--retries 0"] {
            server.fetch(&dir, args).assert_in_err(expected);
        }
    }
}
