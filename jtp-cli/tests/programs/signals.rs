//! Ctrl-C, SIGTERM, SIGHUP, job control, and what a parent process has done to signals.

use std::io::Read;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::progress::stalling_server;
use crate::support::{CLIENT, Process, SERVER, TestDir, noise, stalled_peer, wait_until};

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
        let mut peer = stalled_peer(&server);
        server.signal(Signal::TERM);
        server.err.wait_for("stopping");
        if graceful {
            let mut rest = Vec::new();
            peer.read_to_end(&mut rest).unwrap();
            assert!(rest.ends_with(&image), "the response is incomplete");
            server.wait().assert_exit(0);
        } else {
            server.end(Signal::TERM).assert_exit(1);
        }
    }
}

/// Waits until a part of an image is stored in a hidden file.
fn until_partial(dir: &TestDir) {
    wait_until("a hidden temporary file", || {
        let names = dir.names("output");
        names.iter().any(|name| name.ends_with(".part"))
    });
}

#[test]
fn a_client_that_a_signal_ends_leaves_no_visible_file_and_the_next_run_cleans_up() {
    let dir = TestDir::new();
    let (go_on, receiver) = mpsc::channel();
    let fake = stalling_server(2 << 20, receiver);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::KILL] {
        go_on.send(()).unwrap();
        let client = dir.client(&fake.addr(), "");
        until_partial(&dir);
        let output = client.end(signal);
        go_on.send(()).unwrap();
        if signal == Signal::KILL {
            output.assert_exit(-9);
            assert!(dir.names("output").iter().all(|name| name.starts_with('.')));
            continue;
        }
        output.assert_exit(130).assert_err("");
        output.assert_summary("fetched 0 images (0 B); 0 already there; 0 failed; 1 not fetched");
        assert_eq!(dir.names("output"), [""; 0]);
    }
    go_on.send(()).unwrap();
    go_on.send(()).unwrap();
    fake.fetch(&dir, "--batch")
        .assert_success("fetched 1 image (2.00 MiB); 0 already there; 0 failed");
    assert_eq!(dir.names("output"), ["large.png"]);
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
        let server = Process::listening(dir.command("env", &[&blocked[..], &args].concat()));
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

#[test]
fn a_signal_ends_a_blocked_client_after_5_s_and_a_second_one_at_once() {
    const LIMIT: Duration = Duration::from_secs(5);
    let dir = TestDir::new();
    dir.add_many_images();
    let server = dir.serve("--no-tls");
    for signals in [&[Signal::INT, Signal::TERM][..], &[Signal::HUP]] {
        let mut client = blocked_client(&dir, &server.address);
        let pid = rustix::process::Pid::from_child(&client);
        let begun = Instant::now();
        for signal in signals {
            rustix::process::kill_process(pid, *signal).unwrap();
        }
        assert_eq!(client.wait().unwrap().code(), Some(130));
        let took = begun.elapsed();
        assert_eq!(took < LIMIT, signals.len() > 1, "{signals:?}: {took:?}");
    }
}

#[test]
fn a_client_that_was_stopped_for_longer_than_its_timeout_goes_on() {
    let dir = TestDir::new();
    let (go_on, receiver) = mpsc::channel();
    let fake = stalling_server(4 << 20, receiver);
    let client = dir.client(&fake.addr(), "--timeout 2");
    go_on.send(()).unwrap();
    until_partial(&dir);
    // The client does not handle SIGTSTP, whose effect is the same in a shell with job control.
    client.signal(Signal::STOP);
    go_on.send(()).unwrap();
    thread::sleep(Duration::from_millis(2500));
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
