//! Listing and fetching.

use std::fs;
use std::io::{Read, Write};
use std::process::Stdio;

use jtp_core::ImageId;
use rustix::process::Signal;

use crate::support::{
    CLIENT, FakeServer, Folder as _, TestDir, jtpe, list_response, noise, packet, varint,
    wait_until,
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
fn listed_names_are_escaped_and_closed_stdout_is_not_an_error() {
    let dir = TestDir::new();
    let fake = FakeServer::with(&[("a\x1b[2J\u{202e}\n.png", ImageId(1), 5)], &[]);
    fake.fetch(&dir, "--list")
        .assert_exit(0)
        .assert_out("0000000000000001  5  PNG         a\\u{1b}[2J\\u{202e}\\n.png\n");

    let long = "n".repeat(60_000);
    let entries: Vec<_> = (0..100).map(|n| (long.as_str(), ImageId(n), 1)).collect();
    let fake = FakeServer::with(&entries, &[]);
    let mut command = dir.command(CLIENT, &format!("--list --addr {}", fake.addr()));
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut err = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut err)
        .unwrap();
    assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""));
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
fn renamed_and_replaced_names_on_the_server_lose_no_image() {
    let dir = TestDir::with_images();
    dir.serve("--no-tls").stop();
    let server = dir.serve("--no-tls");
    dir.fetch(&server, "--batch");
    server.stop();
    dir.rename("images/a.png", "images/z.png");
    dir.add("a.png", &noise(500, 9));
    let server = dir.serve("--no-tls");
    dir.fetch(&server, "--batch")
        .assert_success("fetched 1 image (500 B); 3 already there; 0 failed; 1 renamed");
    assert_eq!(dir.files("output"), dir.files("images"));
}

#[test]
fn s14_a_file_longer_than_any_image_is_not_read_and_not_replaced_unnoticed() {
    let dir = TestDir::with_images();
    let server = dir.serve("");
    dir.make_dir("output");
    // A sparse file: reading it would take minutes.
    let long = fs::File::create(dir.path("output/a.png")).unwrap();
    long.set_len(1 << 40).unwrap();
    let length = || fs::metadata(dir.path("output/a.png")).unwrap().len();
    let id = ImageId::of(&dir.read("images/a.png"));
    let with_id = format!("a-{id}.png");
    for already_there in [0, 3] {
        let output = dir.fetch(&server, "--batch");
        output.assert_exit(0);
        let warning = "warning: cannot read a.png: it is longer than 4,294,967,295 bytes";
        output.assert_in_err(warning);
        let there = format!("{already_there} already there");
        output.assert_in_out(&there);
        assert_eq!(
            (dir.names("output").len(), length()),
            (4, 1 << 40),
            "{output:?}"
        );
        assert!(dir.names("output").contains(&with_id));
    }
    // Without --batch, all files with the names of images are replaced.
    dir.fetch(&server, "")
        .assert_exit(0)
        .assert_in_out("1 replaced a file");
    assert_eq!(length(), 1000);
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
fn empty_catalog_is_a_success() {
    let dir = TestDir::new();
    let server = dir.serve("--no-tls");
    dir.fetch(&server, "")
        .assert_success("fetched 0 images (0 B); 0 already there; 0 failed");
    dir.fetch(&server, "--list").assert_exit(0).assert_out("");
}

#[test]
fn received_images_are_stored_while_the_server_stalls() {
    let dir = TestDir::new();
    let (small, large) = (noise(500, 1), ImageId(7));
    let list = list_response(&[
        ("small.png", ImageId::of(&small), 500),
        ("large.png", large, 2 << 20),
    ]);
    let first = packet(ImageId::of(&small), &small);
    // The partial or complete head of a large packet, after which the server stalls.
    let heads = [
        vec![0],
        [
            vec![0],
            varint(2 << 20),
            large.to_be_bytes().to_vec(),
            vec![9; 5],
        ]
        .concat(),
    ];
    for head in heads {
        let (list, first) = (list.clone(), first.clone());
        let fake = FakeServer::new(move |_, request, stream| {
            if request == 1 {
                let _ = stream.write_all(&list);
                return;
            }
            let _ = stream.write_all(&[b"JTPG\x02", first.as_slice(), &head].concat());
            let _ = stream.read(&mut [0]);
        });
        let client = dir.client(&fake.addr(), "");
        wait_until("the first image", || {
            dir.names("output").contains(&"small.png".to_owned())
        });
        client.signal(Signal::INT);
        let output = client.wait();
        output.assert_exit(130);
        output.assert_summary("fetched 1 image (500 B); 0 already there; 0 failed; 1 not fetched");
        assert_eq!(dir.names("output"), ["small.png"]);
        dir.remove("output/small.png");
    }
}

#[test]
fn a_locked_output_folder_stops_no_mode() {
    let dir = TestDir::with_images();
    let server = dir.serve("--no-tls");
    dir.make_dir("output");
    // As the usual `flock output client` does.
    let folder = fs::File::open(dir.path("output")).unwrap();
    rustix::fs::flock(
        &folder,
        rustix::fs::FlockOperation::NonBlockingLockExclusive,
    )
    .unwrap();
    for (args, fetched) in [("", 3), ("--batch", 0), ("-k -p 2", 3)] {
        let summary = format!("fetched {fetched} image");
        let output = dir.fetch(&server, args);
        output.assert_exit(0);
        assert!(output.out.starts_with(&summary), "{output:?}");
        assert_eq!(dir.files("output"), dir.files("images"));
    }
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
fn bytes_of_a_server_are_escaped_once() {
    let dir = TestDir::new();
    let garbage = FakeServer::new(|_, _, stream| {
        let _ = stream.write_all(b"H\0\r\n");
    });
    let message = FakeServer::new(|_, _, stream| {
        let frame = jtpe(2, "a\x1b[2J\\b");
        let _ = stream.write_all(&frame);
    });
    for (server, expected) in [
        (garbage.addr(), "unknown response header H …;"),
        (message.addr(), r"a\u{1b}[2J\\b"),
    ] {
        for args in ["--list --retries 0", "--retries 0"] {
            dir.run(CLIENT, &format!("--addr {server} {args}"))
                .assert_in_err(expected);
        }
    }
}
