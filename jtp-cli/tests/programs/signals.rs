//! Ctrl-C, SIGTERM, SIGHUP, job control, and what a parent process has done to signals.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use jtp_core::ImageId;
use rustix::process::Signal;

use crate::progress::stalling_server;
use crate::support::{
    CLIENT, FakeServer, Folder as _, Process, SERVER, TestDir, list_response, noise, varint,
    wait_until,
};

#[test]
fn s16_server_exits_0_on_sigint_and_sigterm() {
    let dir = TestDir::with_images();
    for signal in [Signal::INT, Signal::TERM] {
        let server = dir.serve("");
        let idle = TcpStream::connect(&server.address).unwrap();
        server.signal(signal);
        server.wait().assert_exit(0).assert_in_err("stopped");
        drop(idle);
    }
}

#[test]
fn s16_requests_in_progress_finish_unless_a_second_signal_arrives() {
    let dir = TestDir::new();
    let image = noise(30 << 20, 1);
    dir.add("a.png", &image);
    for graceful in [true, false] {
        let server = dir.serve("--no-tls");
        let mut peer = TcpStream::connect(&server.address).unwrap();
        peer.write_all(&[5, 0]).unwrap();
        let mut header = [0; 4];
        peer.read_exact(&mut header).unwrap();
        assert_eq!(&header, b"JTPG");
        server.signal(Signal::TERM);
        server.err.wait_for("stopping");
        if graceful {
            let mut rest = Vec::new();
            peer.read_to_end(&mut rest).unwrap();
            assert!(
                rest.ends_with(&image[image.len() - 100..]),
                "the response is incomplete"
            );
            server.wait().assert_exit(0);
        } else {
            server.end(Signal::TERM).assert_exit(1);
        }
    }
}

#[test]
fn interrupted_client_leaves_no_partial_file_and_exits_130() {
    let dir = TestDir::new();
    let id = ImageId(7);
    let fake = FakeServer::new(move |_, request, stream| {
        if request == 1 {
            let _ = stream.write_all(&list_response(&[("a.png", id, 2 << 20)]));
            return;
        }
        // Sends half of the packet, then stalls.
        let head = [
            b"JTPG\x01\x00".to_vec(),
            varint(2 << 20),
            id.to_be_bytes().to_vec(),
        ]
        .concat();
        let _ = stream.write_all(&head);
        let _ = stream.write_all(&vec![0; 1 << 20]);
        let _ = stream.read(&mut [0]);
    });
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let client = dir.client(&fake.addr(), "");
        wait_until("a hidden temporary file", || {
            let names = dir.names("output");
            names.iter().any(|name| name.ends_with(".part"))
        });
        client.signal(signal);
        let output = client.wait();
        output.assert_exit(130);
        output.assert_err("");
        output.assert_summary("fetched 0 images (0 B); 0 already there; 0 failed; 1 not fetched");
        assert_eq!(dir.names("output"), [""; 0]);
    }
}

#[test]
fn killed_client_leaves_no_visible_file_and_the_next_run_cleans_up() {
    let dir = TestDir::new();
    let image = noise(2 << 20, 1);
    let id = ImageId::of(&image);
    let fake = FakeServer::new(move |n, request, stream| {
        let head = [
            b"JTPG\x01\x00".to_vec(),
            varint(2 << 20),
            id.to_be_bytes().to_vec(),
        ]
        .concat();
        match (n, request) {
            (_, 1) => drop(stream.write_all(&list_response(&[("a.png", id, 2 << 20)]))),
            (1, _) => {
                let _ = stream.write_all(&head);
                let _ = stream.write_all(&image[..1 << 20]);
                let _ = stream.read(&mut [0]);
            }
            _ => drop(stream.write_all(&[head, image.clone()].concat())),
        }
    });
    let client = dir.client(&fake.addr(), "");
    wait_until("a hidden temporary file", || {
        let names = dir.names("output");
        names.iter().any(|name| name.ends_with(".part"))
    });
    client.signal(Signal::KILL);
    client.wait().assert_exit(-9);
    assert!(dir.names("output").iter().all(|name| name.starts_with('.')));
    let output = dir.run(CLIENT, &["--addr", &fake.addr(), "--batch"]);
    output.assert_success("fetched 1 image (2.00 MiB); 0 already there; 0 failed");
    assert_eq!(dir.names("output"), ["a.png"]);
}

/// A program that a shell starts after `prelude`.
fn after(prelude: &str, dir: &TestDir, program: &str, args: &[&str]) -> Command {
    let script = format!("{prelude}; exec \"$@\"");
    dir.command("sh", &[&["-c", &script, "sh", program], args].concat())
}

#[test]
#[cfg(target_os = "linux")]
fn hangup_and_interrupt_stay_ignored_as_under_nohup_and_termination_does_not() {
    let dir = TestDir::new();
    let (go_on, receiver) = mpsc::channel();
    let fake = stalling_server(1 << 20, receiver);
    let args = ["--addr", &*fake.addr(), "--json"];
    let client = Process::start(after("trap '' HUP INT TERM", &dir, CLIENT, &args));
    go_on.send(()).unwrap();
    client.out.wait_for("planned");
    client.signal(Signal::HUP);
    client.signal(Signal::INT);
    go_on.send(()).unwrap();
    client.wait().assert_exit(0);

    let client = Process::start(after("trap '' HUP INT TERM", &dir, CLIENT, &args));
    client.out.wait_for("start");
    client.end(Signal::TERM).assert_exit(130);
    let args = ["--bind", "127.0.0.1:0", "--no-tls"];
    let server = Process::start(after("trap '' INT TERM", &dir, SERVER, &args));
    server.out.wait_for("listening");
    server.signal(Signal::INT);
    server.signal(Signal::TERM);
    // Two signals that count would lead to the code 1.
    server.wait().assert_exit(0);
}

#[test]
#[cfg(target_os = "linux")]
fn signals_that_were_blocked_at_the_start_end_the_programs() {
    let dir = TestDir::with_images();
    for signal in [Signal::TERM, Signal::INT] {
        let blocked = ["--block-signal=TERM,INT,HUP", SERVER];
        let args = ["--bind", "127.0.0.1:0", "--no-tls"];
        let mut server = Process::start(dir.command("env", &[&blocked[..], &args].concat()));
        let line = server.out.wait_for("listening");
        server.address = line["listening on ".len()..].to_owned();
        let args = ["--addr", &*server.address, "--watch", "--json"];
        let blocked = ["--block-signal=TERM,INT,HUP", CLIENT];
        let client = Process::start(dir.command("env", &[&blocked[..], &args].concat()));
        client.out.wait_for("watching");
        client.signal(signal);
        client.wait().assert_exit(130);
        server.signal(signal);
        server.wait().assert_exit(0);
    }
}

/// A client whose output nobody reads after the first line, once that blocks it.
fn blocked_client(dir: &TestDir, address: &str) -> std::process::Child {
    let mut command = dir.command(CLIENT, &["--addr", address, "--list", "--json"]);
    let client = command.stdout(Stdio::piped()).spawn().unwrap();
    let out = client.stdout.as_ref().unwrap();
    wait_until("a full pipe", || {
        rustix::io::ioctl_fionread(out).unwrap() > 50_000
    });
    client
}

fn add_many_images(dir: &TestDir) {
    for number in 0..1000_u32 {
        let name = format!("{number}-{}.png", "x".repeat(150));
        dir.write(format!("images/{name}"), number.to_be_bytes());
    }
}

#[test]
fn a_second_signal_ends_a_client_that_is_blocked() {
    let dir = TestDir::new();
    add_many_images(&dir);
    let server = dir.serve("--no-tls");
    let mut client = blocked_client(&dir, &server.address);
    let pid = rustix::process::Pid::from_child(&client);
    let begun = Instant::now();
    for signal in [Signal::INT, Signal::TERM] {
        rustix::process::kill_process(pid, signal).unwrap();
    }
    assert_eq!(client.wait().unwrap().code(), Some(130));
    assert!(begun.elapsed() < Duration::from_secs(5), "{begun:?}");
}

#[test]
fn one_signal_ends_a_client_that_is_blocked_after_5_s() {
    let dir = TestDir::new();
    add_many_images(&dir);
    let server = dir.serve("--no-tls");
    let mut client = blocked_client(&dir, &server.address);
    let pid = rustix::process::Pid::from_child(&client);
    let begun = Instant::now();
    rustix::process::kill_process(pid, Signal::HUP).unwrap();
    assert_eq!(client.wait().unwrap().code(), Some(130));
    assert!(begun.elapsed() >= Duration::from_secs(5), "{begun:?}");
}

#[test]
fn a_client_that_was_stopped_for_longer_than_its_timeout_goes_on() {
    let dir = TestDir::new();
    let (go_on, receiver) = mpsc::channel();
    let fake = stalling_server(4 << 20, receiver);
    let client = dir.client(&fake.addr(), "--timeout 3");
    go_on.send(()).unwrap();
    wait_until("a hidden temporary file", || {
        let names = dir.names("output");
        names.iter().any(|name| name.ends_with(".part"))
    });
    // The client does not handle SIGTSTP, whose effect is the same in a shell with job control.
    client.signal(Signal::STOP);
    go_on.send(()).unwrap();
    thread::sleep(Duration::from_secs(4));
    client.signal(Signal::CONT);
    let output = client.wait();
    output.assert_exit(0).assert_err("");
    assert_eq!(dir.names("output"), ["large.png"]);
}

#[test]
#[cfg(target_os = "linux")]
fn a_server_that_is_the_first_process_of_a_container_ends_at_sigterm() {
    let dir = TestDir::with_images();
    let contain = [
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--kill-child",
    ];
    let test = dir.run("unshare", &[&contain[..], &["true"]].concat());
    if test.code != Some(0) {
        eprintln!("nothing is tested: no namespaces: {}", test.err);
        return;
    }
    let args = [SERVER, "--bind", "127.0.0.1:0", "--no-tls"];
    let container = Process::start(dir.command("unshare", &[&contain[..], &args].concat()));
    container.out.wait_for("listening");
    let children = format!("/proc/{0}/task/{0}/children", container.id());
    let children = std::fs::read_to_string(children).unwrap();
    let server = children.trim().parse().unwrap();
    let server = rustix::process::Pid::from_raw(server).unwrap();
    rustix::process::kill_process(server, Signal::TERM).unwrap();
    container.wait().assert_exit(0).assert_in_err("stopped");
}
