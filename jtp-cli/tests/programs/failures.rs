//! What goes wrong on the way, and the codes for it.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use jtp_core::ImageId;

use crate::support::{CLIENT, Ended, Fake, Place, jtpe, list_response, packet, picture};

#[test]
fn nobody_there_is_code_4_and_leaves_no_folder() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    place
        .run(CLIENT, &["--addr", &address])
        .failed(4, &[&address, "refused", "running"]);
    place
        .run(CLIENT, &["--addr", "nohost.invalid"])
        .failed(4, &["nohost.invalid:8443", "--addr"]);
    assert!(!place.path("output").exists());
}

#[test]
fn r1_a_server_that_breaks_the_protocol_is_code_6() {
    let place = Place::new();
    for answer in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"JTPL\x80\x00",
        b"JTPD\x00",
    ] {
        let fake = Fake::new(move |_, _, stream| {
            let _ = stream.write_all(answer);
        });
        place
            .run(CLIENT, &["--addr", &fake.addr()])
            .failed(6, &[&fake.addr(), "broke the protocol"]);
    }
}

#[test]
fn r6_a_server_that_ends_early_is_tried_again_and_then_code_4() {
    let place = Place::new();
    let fake = Fake::new(|_, _, stream| {
        let _ = stream.write_all(b"JTPL\x05");
    });
    place
        .run(CLIENT, &["--addr", &fake.addr(), "--retries", "1"])
        .failed(4, &["early", "--batch"]);
    let silent = Fake::new(|_, _, stream| {
        let _ = std::io::Read::read(stream, &mut [0]);
    });
    let args = [
        "--addr",
        &silent.addr(),
        "--retries",
        "0",
        "--timeout",
        "200ms",
    ];
    place.run(CLIENT, &args).failed(4, &["0.2 s", "--timeout"]);
}

#[test]
fn r2_an_image_with_wrong_bytes_fails_alone_with_code_3() {
    let place = Place::new();
    let good = picture(1, 300);
    let (right, wrong) = (ImageId::of(&good), ImageId(7));
    let list = [("good.png", right, 300), ("bad.png", wrong, 300)];
    let fake = Fake::with(&list, &[packet(right, &good), packet(wrong, &good)]);
    // Asked once more by its ID: this server sends both again, which nobody asked for.
    let strict = Fake::new(move |n, request, stream| {
        let (list, packets) = (
            list_response(&list),
            [packet(right, &good), packet(wrong, &good)],
        );
        let answer = match (n, request) {
            (_, 1) => list,
            (_, 0) => [b"JTPD\x01".as_slice(), &packets[1]].concat(),
            _ => [b"JTPG\x02".as_slice(), &packets.concat()].concat(),
        };
        let _ = stream.write_all(&answer);
    });
    place
        .run(CLIENT, &["--addr", &fake.addr(), "--out", "strict"])
        .failed(6, &["broke the protocol"]);
    let ended = place.run(CLIENT, &["--addr", &strict.addr()]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    ended.says("fetched 1 image (300 B); 0 already there; 1 failed: 1 with wrong content");
    assert_eq!(ended.err.lines().count(), 1, "{ended:?}");
    assert!(
        ended
            .err
            .starts_with("failed: bad.png (0000000000000007): "),
        "{ended:?}"
    );
    assert_eq!(place.names("output"), ["good.png"]);
}

#[test]
fn r4_an_image_over_the_limit_fails_alone() {
    let place = Place::with_images();
    let server = place.serve(&[]);
    let ended = place.fetch(&server, &["--max-image-size", "100KiB"]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    ended.says("fetched 2 images (2.93 KiB); 0 already there; 1 failed: 1 too large");
    assert_eq!(place.names("output"), ["a.png", "b.jpg"]);
}

#[test]
fn what_is_listed_but_not_sent_is_told() {
    let place = Place::new();
    let image = picture(1, 300);
    let (id, never) = (ImageId::of(&image), ImageId(7));
    let fake = Fake::with(
        &[("a.png", id, 300), ("never.png", never, 300)],
        &[packet(id, &image)],
    );
    let ended = place.run(CLIENT, &["--addr", &fake.addr()]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    ended.says("fetched 1 image (300 B); 0 already there; 1 failed: 1 not sent");
    // The second list has it no more: it is gone, and that is no failure.
    let gone = Fake::new(move |n, request, stream| {
        let list = [("a.png", id, 300), ("never.png", never, 300)];
        let answer = match (n, request) {
            (0, 1) => list_response(&list),
            (_, 1) => list_response(&list[..1]),
            _ => [b"JTPG\x01".as_slice(), &packet(id, &image)].concat(),
        };
        let _ = stream.write_all(&answer);
    });
    let ended = place.run(CLIENT, &["--addr", &gone.addr()]);
    ended.well(
        "fetched 1 image (300 B); 0 already there; 0 failed; 1 gone from the server meanwhile",
    );
}

#[test]
fn s15_too_many_requests_are_tried_again_and_then_code_7() {
    let place = Place::with_images();
    let server = place.serve(&["--rate-limit", "1", "--rate-limit-window", "1h"]);
    let ended = place.fetch(&server, &["--retries", "0"]);
    ended.failed(7, &["fewer requests", "--keep-alive"]);
    ended.says("fetched 0 images (0 B); 0 already there; 0 failed; 3 not fetched");
    // With a window that passes, trying again helps.
    let server = place.serve(&["--rate-limit", "1", "--rate-limit-window", "1"]);
    place
        .fetch(&server, &[])
        .well("fetched 3 images (198.24 KiB); 0 already there; 0 failed");
}

#[test]
fn what_a_server_reports_is_escaped() {
    let place = Place::new();
    let fake = Fake::new(|_, _, stream| {
        let _ = stream.write_all(&jtpe(2, "no\x1b[31m\nerror: fake"));
    });
    place
        .run(CLIENT, &["--addr", &fake.addr()])
        .failed(1, &[r"no\u{1b}[31m\nerror: fake"]);
}

#[test]
fn an_output_folder_that_cannot_be_written_is_code_8() {
    let place = Place::with_images();
    let server = place.serve(&["--no-tls"]);
    fs::write(place.path("file"), "").unwrap();
    place
        .fetch(&server, &["--out", "file"])
        .failed(8, &["file", "--out"]);
    place
        .fetch(&server, &["--out", "/proc/here"])
        .failed(8, &["/proc/here", "--out"]);
    let folder = place.path("read-only");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    let program = place.path("client");
    fs::copy(CLIENT, &program).unwrap();
    let mut command = place.command(
        program.to_str().unwrap(),
        &["--addr", &server.address, "--out", "read-only"],
    );
    if rustix::process::geteuid().is_root() {
        // Permissions do not hold for root.
        fs::set_permissions(place.path("."), fs::Permissions::from_mode(0o755)).unwrap();
        command.uid(65534).gid(65534);
    }
    let ended = Ended::of(&mut command);
    ended.failed(8, &["read-only", "permission", "--out"]);
    assert_eq!(place.names("read-only"), [""; 0]);
}

#[test]
fn a_full_disk_is_code_8_and_leaves_nothing_partial() {
    let place = Place::new();
    place.add("a.png", &picture(1, 500));
    place.add("b.png", &picture(2, 3 << 20));
    let server = place.serve(&["--no-tls"]);
    let disk = place.path("disk");
    fs::create_dir(&disk).unwrap();
    let mounted = rustix::mount::mount(
        "tmpfs",
        &disk,
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        Some(c"size=1m"),
    );
    if mounted.is_err() {
        eprintln!("skipped: no tmpfs can be mounted here");
        return;
    }
    let ended = place.fetch(&server, &["--out", "disk"]);
    let names = place.names("disk");
    rustix::mount::unmount(&disk, rustix::mount::UnmountFlags::DETACH).unwrap();
    ended.failed(8, &["no space left", "disk", "--out"]);
    ended.says("fetched 1 image (500 B); 0 already there; 0 failed; 1 not fetched");
    assert_eq!(names, ["a.png"]);
}
