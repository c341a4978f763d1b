//! The server confines itself to the images and its cache.
#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::symlink;

use jtp_kit::has_strace;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};
use rustix::process::Signal;

use crate::support::{Folder as _, Process, SERVER, TestDir, noise, wait_until};

/// Whether each thread of a server gave up privileges for good, which Landlock requires.
fn confined_threads(server: &Process) -> Vec<bool> {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.id())).unwrap();
    let statuses = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("status")));
    statuses
        .filter_map(Result::ok)
        .map(|status| status.contains("NoNewPrivs:\t1"))
        .collect()
}

#[test]
fn server_confines_all_its_threads_and_reports_it() {
    let dir = TestDir::with_images();
    let server = dir.serve("--metrics 127.0.0.1:0");
    let line = server.err.wait_for("confined");
    if line.contains("not confined") {
        eprintln!("skipped: {line}");
        return;
    }
    let base = dir.path("").canonicalize().unwrap();
    let base = base.to_str().unwrap().trim_end_matches('/');
    let writes = format!("; writes below {base}/cache/jtp");
    for part in ["INFO", "confined by Landlock (version ", &writes] {
        assert!(line.contains(part), "{line}");
    }
    let threads = confined_threads(&server);
    assert!(
        threads.len() > 3 && threads.iter().all(|confined| *confined),
        "{threads:?}"
    );
    dir.fetch(&server, "--list");
    server.stop();
}

/// A home folder cannot be read as a whole, so that a file in it which an editor has replaced cannot either.
#[test]
fn server_in_a_home_folder_warns_of_files_that_cannot_be_replaced() {
    let dir = TestDir::with_images();
    dir.write("clients", "# nobody\n");
    let args = "--bind 127.0.0.1:0 --clients clients";
    let mut command = dir.command(SERVER, &args);
    command.env("HOME", dir.path(""));
    let server = Process::start(command);
    if server.err.wait_for("confined").contains("not confined") {
        return;
    }
    let line = server.err.wait_for("SIGHUP cannot read");
    for file in ["/clients", "/cert.pem", "/key.pem", "restart the server"] {
        assert!(line.contains(file), "{line}");
    }
    server.out.next_line();
    dir.write("new", "# nobody\n");
    dir.rename("new", "clients");
    server.signal(Signal::HUP);
    server
        .err
        .wait_for("cannot read clients: Permission denied");
    server.stop();
}

#[test]
fn server_reports_that_it_is_not_confined() {
    let dir = TestDir::with_images();
    let server = dir.serve("--no-sandbox");
    let line = server.err.wait_for("confined");
    assert!(line.contains("not confined (--no-sandbox)"), "{line}");
    server.stop();
}

#[test]
fn images_folder_can_be_replaced_but_not_by_a_link_that_leads_outside() {
    let dir = TestDir::new();
    dir.make_dir("share/images");
    dir.make_dir("secret");
    // Files beside the certificate can be read.
    dir.make_dir("tls");
    let tls = "--cert tls/cert.pem --key tls/key.pem";
    let server = dir.serve(&format!("--images share/images {tls}"));
    let is_confined = !server.err.wait_for("confined").contains("not confined");
    let listed = || dir.fetch(&server, "--list").out;

    dir.rename("share/images", "share/old");
    dir.make_dir("share/images");
    dir.write("share/images/new.png", noise(1000, 1));
    wait_until("the new folder is served", || listed().contains("new.png"));

    dir.write("secret/secret.png", noise(1000, 2));
    let (images, link) = (dir.path("share/images"), dir.path("share/link"));
    symlink("../secret", &link).unwrap();
    renameat_with(CWD, &images, CWD, &link, RenameFlags::EXCHANGE).unwrap();
    if is_confined {
        server.err.wait_for("cannot read the images folder");
        assert!(!listed().contains("secret.png"));
    }
    server.stop();
}

#[test]
fn disk_that_is_mounted_over_the_images_folder_is_served() {
    let dir = TestDir::new();
    dir.make_dir("elsewhere");
    dir.write("elsewhere/bound.png", noise(1000, 1));
    let server = dir.serve("");
    let listed = || dir.fetch(&server, "--list").out;
    let images = dir.path("images");
    let no_flags = MountFlags::empty();

    for name in ["first.png", "second.png"] {
        if mount("tmpfs", &images, "tmpfs", no_flags, None).is_err() {
            eprintln!("skipped: cannot mount a tmpfs");
            return;
        }
        images.write(name, noise(1000, 2));
        wait_until("the disk is served", || listed().contains(name));
        // The server has it open.
        unmount(&images, UnmountFlags::DETACH).unwrap();
        wait_until("the disk is gone", || listed().is_empty());
    }
    mount_bind(dir.path("elsewhere"), &images).unwrap();
    wait_until("the other folder is served", || {
        listed().contains("bound.png")
    });
    unmount(&images, UnmountFlags::DETACH).unwrap();
    server.stop();
}

#[test]
fn server_reports_why_it_is_not_confined_and_serves() {
    let dir = TestDir::with_images();
    for (call, error, reason) in [
        ("create_ruleset", "ENOSYS", "this kernel has no Landlock"),
        ("create_ruleset", "EOPNOTSUPP", "Landlock is disabled"),
        ("restrict_self", "EPERM", "Landlock failed: "),
    ] {
        // With -D the process is the server, which ends with the test, and not strace.
        let mut command = dir.command("strace", "-D -f -qq -o /dev/null -e");
        command.arg(format!("inject=landlock_{call}:error={error}"));
        command.arg(SERVER);
        command.args(["--bind", "127.0.0.1:0"]);
        if !has_strace() {
            return;
        }
        let server = Process::listening(command);
        let line = server.err.wait_for("confined");
        assert!(line.contains("WARN"), "{line}");
        assert!(line.contains(&format!("not confined: {reason}")), "{line}");
        assert!(dir.fetch(&server, "--list").out.contains("a.png"));
        server.stop().assert_exit(0);
    }
}
