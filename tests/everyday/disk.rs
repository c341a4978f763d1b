//! R8 (d): one file in the output folder that cannot be replaced.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rustix::process::geteuid;

use super::*;
use crate::support::process::program;

const MODES: [&str; 5] = ["", "--batch", "-k", "-p 3", "--batch -p 3"];

/// A server's folder with `0.png` to `9.png`, and an output folder with another picture under the name `4.png`.
fn library() -> WorkDir {
    let workdir = WorkDir::of(&[]);
    for n in 0..10 {
        workdir.add(&format!("{n}.png"), &picture(n));
    }
    fs::create_dir(workdir.output()).unwrap();
    fs::write(obstacle(&workdir), picture(100)).unwrap();
    workdir
}

fn obstacle(workdir: &WorkDir) -> PathBuf {
    workdir.output().join("4.png")
}

/// Removes what earlier runs have stored.
fn clear(workdir: &WorkDir) {
    for name in files(&workdir.output()).into_keys() {
        if name != "4.png" {
            fs::remove_file(workdir.output().join(name)).unwrap();
        }
    }
}

/// Checks a run that could not replace `4.png`: all images are there, that one with its ID in its name; it counts as
/// failed, and the message names the file. // R5
#[track_caller]
fn assert_only_that_name_failed(workdir: &WorkDir, output: &Output, what: &str) {
    let what = format!("{what}: {output:?}");
    let (output_files, images) = (files(&workdir.output()), files(&workdir.images()));
    for (name, id) in &images {
        let name = match &**name {
            "4.png" => format!("4-{id:016x}.png"),
            name => name.to_owned(),
        };
        assert_eq!(output_files.get(&name), Some(id), "{name}: {what}");
    }
    let obstacle = id_of(&picture(100));
    assert_eq!(output_files.get("4.png"), Some(&obstacle), "{what}");
    assert_eq!(output.code, Some(8), "{what}");
    let summary = output.out.lines().last().unwrap_or_default();
    assert!(summary.contains("; 1 failed"), "{what}");
    let failures = output.err.lines().filter(|line| line.contains("failed:"));
    let failures: Vec<_> = failures.collect();
    assert!(
        matches!(failures[..], [line] if line.contains("failed: 4.png ")),
        "one message, which names the file: {what}"
    );
    assert_eq!(workdir.output().temporaries(), [""; 0], "{what}");
}

/// A file that `chattr +i` protects; the attribute is removed when this is dropped.
struct Immutable(PathBuf);

impl Immutable {
    fn new(path: PathBuf) -> Option<Immutable> {
        let mut command = Command::new("chattr");
        command.arg("+i").arg(&path).stderr(Stdio::null());
        let is_set = command.status().is_ok_and(|status| status.success());
        is_set.then_some(Immutable(path))
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        let _ = Command::new("chattr").arg("-i").arg(&self.0).status();
    }
}

#[test]
fn r8_an_immutable_file_fails_only_its_image() {
    let workdir = library();
    let Some(_immutable) = Immutable::new(obstacle(&workdir)) else {
        skipped!("no file can be made immutable here");
        return;
    };
    let server = workdir.server("--no-tls");
    for args in MODES {
        let output = run(&workdir, server.addr(), args);
        assert_only_that_name_failed(&workdir, &output, &format!("{args:?}"));
        // Another run tries to give the image its name again, and fetches nothing.
        let again = run(&workdir, server.addr(), "--batch");
        assert!(again.out.contains("fetched 0 images"), "{again:?}");
        assert_only_that_name_failed(&workdir, &again, "again");
        clear(&workdir);
    }
}

/// Whether the client can be run as another user.
fn may_be_nobody() -> bool {
    let is_root = geteuid().is_root();
    if !is_root {
        skipped!("only root can run the client as another user");
    }
    is_root
}

/// Runs the client as the user 65534.
#[track_caller]
fn run_as_nobody(workdir: &WorkDir, server: &Process, args: &str) -> Output {
    // Other users cannot reach the build's folder.
    let copy = workdir.path().join("client");
    if !copy.exists() {
        fs::copy(program("client"), &copy).unwrap();
        fs::set_permissions(workdir.path(), Permissions::from_mode(0o755)).unwrap();
    }
    let client = workdir.client_command(server.addr(), args);
    let mut command = Command::new(copy);
    command.args(client.get_args());
    let mut command = with_environment_of(&client, command);
    command.uid(65534).gid(65534);
    start(command).wait()
}

#[test]
fn r8_another_users_file_in_a_sticky_folder_fails_only_its_image() {
    if !may_be_nobody() {
        return;
    }
    let workdir = library();
    fs::set_permissions(workdir.output(), Permissions::from_mode(0o1777)).unwrap();
    let server = workdir.server("--no-tls");
    for args in MODES {
        let output = run_as_nobody(&workdir, &server, args);
        assert_only_that_name_failed(&workdir, &output, &format!("{args:?}"));
        clear(&workdir);
    }
}

#[test]
fn r8_another_users_unreadable_file_in_a_sticky_folder_stays_and_stops_no_image() {
    if !may_be_nobody() {
        return;
    }
    let workdir = library();
    fs::set_permissions(workdir.output(), Permissions::from_mode(0o1777)).unwrap();
    fs::set_permissions(obstacle(&workdir), Permissions::from_mode(0o600)).unwrap();
    let server = workdir.server("--no-tls");
    for args in MODES {
        let output = run_as_nobody(&workdir, &server, args);
        // With --batch the file may be the only copy of an image, so that the client does not try to replace it.
        let expected = if args.contains("--batch") { 0 } else { 8 };
        assert_eq!(output.code, Some(expected), "{args:?}: {output:?}");
        assert!(
            output.err.contains(" 4.png") || output.err.contains("output/4.png"),
            "{output:?}"
        );
        assert_complete(&workdir);
        assert_eq!(fs::read(obstacle(&workdir)).unwrap(), picture(100));
        clear(&workdir);
    }
}

#[test]
fn r8_a_read_only_file_is_replaced() {
    for args in MODES {
        let workdir = library();
        fs::set_permissions(obstacle(&workdir), Permissions::from_mode(0o444)).unwrap();
        let server = workdir.server("--no-tls");
        let output = run(&workdir, server.addr(), args);
        output.assert_fetched(10, 0);
        assert_eq!(
            files(&workdir.output()),
            files(&workdir.images()),
            "{args:?}"
        );
    }
}

#[test]
fn r8_own_files_that_an_ordinary_user_cannot_read_or_write_stop_no_image() {
    if !may_be_nobody() {
        return;
    }
    let workdir = library();
    let server = workdir.server("--no-tls");
    for mode in [0o444, 0o200, 0] {
        for args in MODES {
            for path in [workdir.output(), obstacle(&workdir)] {
                std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
            }
            fs::set_permissions(obstacle(&workdir), Permissions::from_mode(mode)).unwrap();
            let output = run_as_nobody(&workdir, &server, args);
            output.assert_exit(0);
            let (output, images) = (files(&workdir.output()), files(&workdir.images()));
            let wrong = not_exactly_once(&images, &output);
            assert!(wrong.is_empty(), "{mode:o} {args:?}: {wrong:#?}");
            // What cannot be read may be the only copy of an image: it may stay.
            if mode == 0o444 {
                assert_eq!(output, images, "{args:?}");
            }
            clear(&workdir);
            fs::write(obstacle(&workdir), picture(100)).unwrap();
        }
    }
}

#[test]
fn w9_what_an_ordinary_user_cannot_read_is_named_and_counted_and_stays() {
    if !may_be_nobody() {
        return;
    }
    let workdir = library();
    let server = workdir.server("--no-tls");
    std::os::unix::fs::chown(workdir.output(), Some(65534), Some(65534)).unwrap();
    fs::remove_file(obstacle(&workdir)).unwrap();
    run_as_nobody(&workdir, &server, "").assert_fetched(10, 0);
    let closed = workdir.output().join("closed");
    let mine = workdir.output().join("mine.png");
    fs::create_dir(&closed).unwrap();
    fs::write(closed.join("a.png"), picture(101)).unwrap();
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
    fs::write(&mine, picture(102)).unwrap();
    fs::set_permissions(&mine, Permissions::from_mode(0o600)).unwrap();
    for (args, count) in [("--check", 2), ("--check --exclude m*", 1)] {
        let output = run_as_nobody(&workdir, &server, args);
        for name in ["mine.png", "closed/"] {
            let warning = format!("warning: cannot read {name}: ");
            assert!(output.err.contains(&warning), "{output:?}");
        }
        let end = format!("; {count} cannot be read\n");
        assert!(output.err.ends_with(&end), "{args}: {output:?}");
        assert_eq!(output.code, Some(3), "{args}: {output:?}");
    }
    run_as_nobody(&workdir, &server, "--mirror").assert_exit(0);
    assert!(closed.join("a.png").exists() && mine.exists(), "R8");
}
