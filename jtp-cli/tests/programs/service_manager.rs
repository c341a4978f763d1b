//! What a service manager such as systemd relies on: readiness, socket activation, the cache folder, and the units.
#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{CLIENT, Output, Process, SERVER, TestDir, noise, stalled_peer};

/// A socket that receives a service's notifications.
struct NotifySocket(UnixDatagram);

impl NotifySocket {
    fn new(dir: &TestDir) -> NotifySocket {
        let socket = UnixDatagram::bind(dir.path("notify")).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        NotifySocket(socket)
    }

    /// The assignments of the next message.
    fn next(&self) -> Vec<String> {
        let mut message = [0; 4096];
        let length = self.0.recv(&mut message).unwrap();
        let message = std::str::from_utf8(&message[..length]).unwrap();
        message.lines().map(str::to_owned).collect()
    }

    /// Receives messages until one has the first assignment, and asserts that this one has the others. `READY=1` comes
    /// when it is waited for, and not before. An assignment may be given in part.
    #[track_caller]
    fn wait_for(&self, assignments: &[&str]) -> Vec<String> {
        loop {
            let message = self.next();
            let has = |wanted: &&str| message.iter().any(|line| line.starts_with(*wanted));
            let is_early = has(&"READY=1") && assignments[0] != "READY=1";
            assert!(!is_early, "{message:?}");
            if has(&assignments[0]) {
                assert!(assignments.iter().all(has), "{message:?}");
                return message;
            }
        }
    }
}

fn command_with_notify(dir: &TestDir, args: &str) -> Command {
    let mut command = dir.server_command("127.0.0.1:0", args);
    command.env("NOTIFY_SOCKET", dir.path("notify"));
    command
}

#[test]
fn readiness_and_stop_are_notified() {
    let dir = TestDir::new();
    dir.add("a.png", &noise(30 << 20, 1));
    let socket = NotifySocket::new(&dir);
    let server = command_with_notify(&dir, "--no-tls --drain-timeout 200");
    let server = Process::listening(server);
    let status = format!("STATUS=serving on {}", server.address);
    socket.wait_for(&["READY=1", &status]);
    // Connections are accepted.
    let peer = stalled_peer(&server);
    server.signal(Signal::TERM);
    // The drain time, and some seconds for the exit.
    socket.wait_for(&["STOPPING=1", "EXTEND_TIMEOUT_USEC=210000000"]);
    drop(peer);
    server.wait().assert_exit(0);
}

#[test]
fn reload_is_notified_from_its_begin_to_its_end() {
    let dir = TestDir::with_images();
    let socket = NotifySocket::new(&dir);
    for args in ["--no-tls", ""] {
        let server = Process::start(command_with_notify(&dir, args));
        let ready = socket.wait_for(&["READY=1"]);
        for _ in 0..2 {
            server.signal(Signal::HUP);
            socket.wait_for(&["RELOADING=1", "MONOTONIC_USEC="]);
            assert_eq!(socket.next(), ready);
        }
        server.signal(Signal::TERM);
        socket.wait_for(&["STOPPING=1"]);
        server.wait().assert_exit(0);
    }
}

#[test]
fn long_first_scan_reports_progress_and_extends_the_start_timeout() {
    const EXTEND: &str = "EXTEND_TIMEOUT_USEC=300000000";
    let dir = TestDir::new();
    dir.add_endless_images();
    let socket = NotifySocket::new(&dir);
    let server = Process::start(command_with_notify(&dir, "--no-tls"));
    socket.wait_for(&["STATUS=reading the images", EXTEND]);
    let progress = socket.wait_for(&["STATUS=reading the images: ", EXTEND]);
    assert!(progress[0].contains(" of 2,000 files, "), "{progress:?}");
    server.signal(Signal::TERM);
    socket.wait_for(&["STOPPING=1"]);
    server.wait().assert_exit(0);
}

#[test]
fn watchdog_is_notified_while_the_server_runs() {
    let dir = TestDir::with_images();
    let socket = NotifySocket::new(&dir);
    let mut command = command_with_notify(&dir, "--no-tls");
    command.env("WATCHDOG_USEC", "200000");
    let _server = Process::start(command);
    socket.wait_for(&["READY=1"]);
    for _ in 0..3 {
        assert_eq!(socket.wait_for(&["WATCHDOG=1"]), ["WATCHDOG=1"]);
    }
}

#[test]
fn unreachable_notify_socket_does_not_stop_the_server() {
    let dir = TestDir::with_images();
    let output = Process::listening(command_with_notify(&dir, "--no-tls")).stop();
    output.assert_exit(0);
    let warnings = output.err.matches("cannot notify").count();
    assert_eq!(warnings, 1, "{output:?}");
}

/// Runs the server with `count` descriptors of this socket at 3 and above, as systemd would.
fn start_with_socket(dir: &TestDir, socket: OwnedFd, count: u32, args: &[&str]) -> Process {
    // `exec` keeps the process ID.
    let moved: String = (0..count).map(|n| format!(" {}<&0", n + 3)).collect();
    let script =
        format!("exec{moved} </dev/null; LISTEN_FDS={count} LISTEN_PID=$$ exec {SERVER} \"$@\"");
    let mut command = dir.command("sh", &["-c", &script, "server"]);
    command.args(args).stdin(Stdio::from(socket));
    Process::start(command)
}

#[test]
fn passed_tcp_listener_is_used_in_place_of_bind() {
    let dir = TestDir::with_images();
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        // Connects before the server starts: it is served once the server is ready.
        let mut early = TcpStream::connect(&address).unwrap();
        // An address that cannot be bound.
        let args = ["--no-tls", "--bind", "192.0.2.1:1"];
        let server = start_with_socket(&dir, listener.into(), 1, &args).with_address();
        assert_eq!(server.address, address);
        dir.fetch(&server, "").assert_exit(0);
        early.write_all(&[1, 0]).unwrap();
        let mut header = [0; 4];
        std::io::Read::read_exact(&mut early, &mut header).unwrap();
        assert_eq!(&header, b"JTPL");
        drop(early);
        server.stop().assert_exit(0);
    }
}

#[test]
fn passed_sockets_of_another_kind_or_number_are_an_error() {
    let dir = TestDir::with_images();
    let tcp = || -> OwnedFd { TcpListener::bind("127.0.0.1:0").unwrap().into() };
    let udp: OwnedFd = UdpSocket::bind("127.0.0.1:0").unwrap().into();
    let unix: OwnedFd = UnixListener::bind(dir.path("socket")).unwrap().into();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let file: OwnedFd = File::create(dir.path("file")).unwrap().into();
    let not_tcp = &["not a TCP listener", "ListenStream="][..];
    for (socket, count, words) in [
        (tcp(), 2, &["2 sockets", "ListenStream="][..]),
        (udp, 1, not_tcp),
        (unix, 1, not_tcp),
        (connected.into(), 1, &["not a TCP listener", "Accept=no"]),
        (file, 1, not_tcp),
    ] {
        let server = start_with_socket(&dir, socket, count, &["--no-tls"]);
        server.wait().assert_failure(1, words).assert_out("");
    }
}

#[test]
fn sockets_for_another_process_are_ignored() {
    let dir = TestDir::with_images();
    for (fds, pid) in [("1", Some("1")), ("1", None), ("0", Some("1")), ("x", None)] {
        let mut command = dir.server_command("127.0.0.1:0", "--no-tls");
        command.env("LISTEN_FDS", fds);
        if let Some(pid) = pid {
            command.env("LISTEN_PID", pid);
        }
        let server = Process::listening(command);
        assert!(server.address.starts_with("127.0.0.1:"), "{server:?}");
        server.stop().assert_exit(0);
    }
}

#[test]
fn cache_directory_of_the_service_is_the_default_cache_folder() {
    let dir = TestDir::with_images();
    let index = |folder: &str| dir.path(folder).join("index").is_dir();
    for (args, folder) in [("", "service"), ("--cache-dir chosen", "chosen")] {
        let mut command = dir.server_command("127.0.0.1:0", &format!("--no-tls {args}"));
        // Of several folders the first one is used.
        let folders = ["service", "second"].map(|name| dir.path(name));
        command.env("CACHE_DIRECTORY", std::env::join_paths(folders).unwrap());
        Process::listening(command).stop().assert_exit(0);
        assert!(index(folder), "{folder}");
        let _ = fs::remove_dir_all(dir.path("service"));
    }
    assert!(!index("second") && !index("cache/jtp"));
}

/// A folder with the units, whose programs are those of this build. An instance of the template is a unit of its own.
fn units(dir: &TestDir) -> Vec<String> {
    let packaging = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/systemd");
    let units = [
        ("jtp-server.service", "jtp-server.service"),
        ("jtp-server.socket", "jtp-server.socket"),
        ("jtp-sync@.service", "jtp-sync@photos.service"),
    ];
    let installed = units.map(|(file, name)| {
        let unit = fs::read_to_string(format!("{packaging}/{file}")).unwrap();
        let unit = unit
            .replace("=/usr/local/bin/server ", &format!("={SERVER} "))
            .replace("=/usr/local/bin/client ", &format!("={CLIENT} "));
        let path = dir.path(name);
        fs::write(&path, unit).unwrap();
        path.into_os_string().into_string().unwrap()
    });
    installed.to_vec()
}

fn systemd_analyze(args: &[&str]) -> Option<Output> {
    match Command::new("systemd-analyze").args(args).output() {
        Ok(output) => Some(Output::new(output)),
        Err(_) => {
            eprintln!("systemd-analyze is not at hand: the units are not checked");
            None
        }
    }
}

#[test]
fn units_are_valid() {
    let dir = TestDir::new();
    let units = units(&dir);
    let units: Vec<_> = units.iter().map(String::as_str).collect();
    let args = [&["verify", "--man=no", "--generators=no"], &*units].concat();
    let Some(output) = systemd_analyze(&args) else {
        return;
    };
    // Lines about units of the system do not count.
    let own: Vec<_> = output
        .err
        .lines()
        .filter(|line| line.contains("jtp-") || line.contains(SERVER))
        .collect();
    assert!(own.is_empty(), "{output:?}");
    output.assert_exit(0);
}

#[test]
fn units_are_confined() {
    let dir = TestDir::new();
    for unit in units(&dir) {
        if unit.ends_with(".socket") {
            continue;
        }
        // Tenths: 10 of 100 is the best rating, "OK", and "UNSAFE" begins at 90.
        let args = ["security", "--offline=true", "--threshold=20", &unit];
        let Some(output) = systemd_analyze(&args) else {
            return;
        };
        output.assert_exit(0);
    }
}

/// The options of the units are options of the programs.
#[test]
fn units_start_the_programs_with_valid_options() {
    let dir = TestDir::new();
    let packaging = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/systemd");
    for (unit, program) in [
        ("jtp-server.service", SERVER),
        ("jtp-sync@.service", CLIENT),
    ] {
        let unit = fs::read_to_string(format!("{packaging}/{unit}")).unwrap();
        let command = unit
            .lines()
            .find_map(|line| line.strip_prefix("ExecStart="))
            .unwrap();
        let args = command
            .replace("${JTP_SERVER}", "gallery.example:8443")
            .replace(" $JTP_OPTIONS", "")
            .replace("%S", "/var/lib")
            .replace("%i", "photos");
        let args: Vec<_> = args.split(' ').skip(1).chain(["--version"]).collect();
        // Everything before --version is parsed first.
        dir.run(program, &args).assert_exit(0);
    }
}
