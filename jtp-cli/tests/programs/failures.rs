//! Failures and their exit codes.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::thread;

use jtp_core::ImageId;

use crate::support::{
    CLIENT, FakeServer, Folder as _, Output, TestDir, copy_program, images_response, list_response,
    noise, packet,
};

#[test]
fn connect_failure_exits_4_and_creates_no_folder() {
    let dir = TestDir::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    dir.run(CLIENT, &format!("--addr {address}"))
        .assert_failure(4, &[&address, "refused", "running"]);
    dir.run(CLIENT, "--addr nohost.invalid")
        .assert_failure(4, &["nohost.invalid:8443", "--addr"]);
    assert!(!dir.path("output").exists());
}

#[test]
fn r6_early_close_is_retried_then_exits_4() {
    let dir = TestDir::new();
    let fake = FakeServer::answering(b"JTPL\x05");
    fake.fetch(&dir, "--retries 1")
        .assert_failure(4, &["early", "--batch"]);
    let silent = FakeServer::silent();
    silent
        .fetch(&dir, "--retries 0 --timeout 200ms")
        .assert_failure(4, &["0.2 s", "--timeout"]);
}

#[test]
fn r6_verbose_client_logs_why_it_tries_again() {
    let dir = TestDir::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // Ends one connection early, and accepts no other.
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        drop(listener);
        stream.read_exact(&mut [0; 2]).unwrap();
        stream.write_all(b"JTPL\x05").unwrap();
    });
    let output = dir.run(CLIENT, &format!("-v --addr {address} --retries 2"));
    output.assert_failure(4, &["refused"]);
    let retries = output
        .err
        .lines()
        .filter(|line| line.contains("retrying in"))
        .collect::<Vec<_>>();
    assert_eq!(retries.len(), 2, "{output:?}");
    assert!(retries[1].contains("cannot connect to"), "{output:?}");
    assert!(retries[1].contains("connection refused"), "{output:?}");
    server.join().unwrap();
}

#[test]
fn r2_an_image_with_wrong_content_fails_alone_and_exits_3() {
    let dir = TestDir::new();
    let good = noise(300, 1);
    let (right, wrong) = (ImageId::of(&good), ImageId(7));
    let list = [("good.png", right, 300), ("bad.png", wrong, 300)];
    // Answers the retry, which requests one ID, with both images again.
    let careless = FakeServer::with(&list, &[packet(right, &good), packet(wrong, &good)]);
    let strict = FakeServer::new(move |_, request, stream| {
        let packets = [packet(right, &good), packet(wrong, &good)];
        let answer = match request {
            1 => list_response(&list),
            0 => images_response(request, &packets[1..]),
            _ => images_response(request, &packets),
        };
        let _ = stream.write_all(&answer);
    });
    careless
        .fetch(&dir, "--out careless")
        .assert_failure(6, &["protocol error by"]);
    let output = strict.fetch(&dir, "");
    output.assert_exit(3);
    output
        .assert_summary("fetched 1 image (300 B); 0 already there; 1 failed: 1 with wrong content");
    assert_eq!(output.err.lines().count(), 1, "{output:?}");
    assert!(
        output
            .err
            .starts_with("failed: bad.png (0000000000000007): "),
        "{output:?}"
    );
    assert_eq!(dir.names("output"), ["good.png"]);
}

#[test]
fn r4_an_image_over_the_size_limit_fails_alone() {
    let dir = TestDir::with_images();
    let server = dir.serve("");
    let output = dir.fetch(&server, "--max-image-size 100KiB");
    output.assert_exit(3);
    output.assert_summary("fetched 2 images (2.93 KiB); 0 already there; 1 failed: 1 too large");
    assert_eq!(dir.names("output"), ["a.png", "b.jpg"]);
}

#[test]
fn s15_rate_limited_requests_are_retried_then_exit_7() {
    let dir = TestDir::with_images();
    let server = dir.serve("--rate-limit 1 --rate-limit-window 1h");
    dir.fetch(&server, "--retries 0")
        .assert_failure(7, &["rate limit", "--keep-alive"])
        .assert_summary("fetched 0 images (0 B); 0 already there; 0 failed; 3 not fetched");
    // With a short window, a retry succeeds.
    let server = dir.serve("--rate-limit 1 --rate-limit-window 1");
    dir.fetch(&server, "")
        .assert_exit(0)
        .assert_summary("fetched 3 images (198.24 KiB); 0 already there; 0 failed")
        .assert_in_err("retrying in 1.0 s");
}

#[test]
fn unwritable_output_folder_exits_8() {
    let dir = TestDir::with_images();
    let server = dir.serve("--no-tls");
    dir.write("file", "");
    dir.fetch(&server, "--out file")
        .assert_failure(8, &["file", "--out"]);
    dir.fetch(&server, "--out /proc/here")
        .assert_failure(8, &["/proc/here", "--out"]);
    dir.make_dir("read-only");
    dir.set_mode("read-only", 0o555);
    let program = dir.path("client");
    copy_program(CLIENT.as_ref(), &program);
    let mut command = dir.command(
        program.to_str().unwrap(),
        &["--addr", &server.address, "--out", "read-only"],
    );
    if rustix::process::geteuid().is_root() {
        // root ignores permissions.
        dir.set_mode(".", 0o755);
        command.uid(65534).gid(65534);
    }
    Output::of(&mut command).assert_failure(8, &["read-only", "permission", "--out"]);
    assert_eq!(dir.names("read-only"), [""; 0]);
}
