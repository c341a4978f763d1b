//! The server without inotify. A separate test binary, because it uses up all inotify instances of the user.
#![cfg(target_os = "linux")]

use std::process::Command;

use jtp_kit::{Folder as _, Output, Process, wait_until};
use rustix::fs::inotify::{CreateFlags, init};

#[test]
fn server_without_inotify_rescans_and_warns_once() {
    let mut instances = Vec::new();
    while let Ok(instance) = init(CreateFlags::CLOEXEC) {
        instances.push(instance);
        if instances.len() > 2000 {
            eprintln!("skipped: the number of inotify instances is not limited");
            return;
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    dir.make_dir("images");
    let command = |program: &str, args: &str| {
        let mut command = Command::new(program);
        command.args(args.split(' ')).current_dir(dir);
        command.env("XDG_CACHE_HOME", dir.join("cache"));
        command.env_remove("RUST_LOG");
        command
    };
    let server = command(env!("CARGO_BIN_EXE_server"), "--no-tls --bind 127.0.0.1:0");
    let server = Process::listening(server);
    // Two changes, so that the server scans several times.
    for name in ["a.png", "b.png"] {
        dir.write(format!("images/{name}"), name);
        wait_until("the image is listed", || {
            let args = format!("--list --addr {}", server.address);
            let list = Output::of(&mut command(env!("CARGO_BIN_EXE_client"), &args));
            list.assert_exit(0).out.contains(name)
        });
    }
    let output = server.stop();
    output.assert_exit(0);
    let lines = output.err.matches("scanned every second").count();
    assert_eq!(lines, 1, "{output:?}");
}
