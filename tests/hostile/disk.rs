//! R2: disks that are full, fail, or become read-only during a run.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use jtp_kit::{Folder, has_strace};

use super::{is_full, report_line};
use crate::support::bytes::*;
use crate::support::files::{images_in, noise};
use crate::support::process::{Process, WorkDir, program};

/// 120 images of 4 KB to 1 MiB, 12 MiB in total.
fn library() -> Vec<TestImage> {
    (0..120)
        .map(|n| {
            let len = if n % 12 == 5 {
                1 << 20
            } else {
                4_000 + n * 150
            };
            TestImage::new(&format!("{n:03}.png"), noise(len, n as u64))
        })
        .collect()
}

/// The result of a shell script.
struct Outcome {
    /// The printed lines of the form `NAME=CODE`.
    codes: Vec<(String, i32)>,
    output: String,
}

impl Outcome {
    #[track_caller]
    fn code(&self, name: &str) -> i32 {
        let found = self.codes.iter().find(|(of, _)| of == name);
        found
            .unwrap_or_else(|| panic!("no {name}: {}", self.output))
            .1
    }
}

/// The `unshare` options with which a script may mount: as root, or as root of a user namespace. `None` if neither
/// is allowed.
fn mounting() -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [&["-m"], &["-U", "-r", "-m"]];
    ways.into_iter().find(|way| {
        let try_it = ["sh", "-c", "mkdir -p $1 && mount -t tmpfs none $1", "sh"];
        let workdir = tempfile::tempdir().unwrap();
        let mut command = Command::new("unshare");
        command
            .args(*way)
            .args(try_it)
            .arg(workdir.path().join("x"));
        command.stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    })
}

/// Runs a shell script in a working folder: `$client` is the program and `$address` the server's address;
/// `run NAME ARGS…` runs the client and prints its exit code, `keep NAME` copies the output folder.
fn script(workdir: &WorkDir, server: &Process, unshared: Option<&[&str]>, text: &str) -> Outcome {
    let functions = r#"
        client=$1 address=$2
        run() { name=$1; shift; code=0; "$client" --addr "$address" "$@" || code=$?; echo "$name=$code"; }
        keep() { mkdir "$1" && cp -a output/. "$1"; }
    "#;
    let mut command = match unshared {
        Some(way) => {
            let mut command = Command::new("unshare");
            command.args(way).arg("sh");
            command
        }
        None => Command::new("sh"),
    };
    let output = command
        .args(["-c", &format!("{functions}\n{text}"), "sh"])
        .arg(program("client"))
        .arg(server.addr().to_string())
        .current_dir(workdir.path())
        .env("HOME", workdir.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let (out, err) = (text(output.stdout), text(output.stderr));
    let code = |line: &str| {
        let (name, code) = line.split_once('=')?;
        Some((name.to_owned(), code.parse().ok()?))
    };
    let outcome = Outcome {
        codes: out.lines().filter_map(code).collect(),
        output: format!("{out}{err}"),
    };
    assert!(output.status.success(), "{}", outcome.output);
    outcome
}

/// Checks that each visible file is one of the images; returns the number of those under their own name. An image whose
/// name is taken by a file that could not be read then has its ID in its name. // R5 R8
#[track_caller]
fn check_files(folder: &Path, expected: &[TestImage]) -> usize {
    let with_id = |image: &TestImage| {
        let (stem, extension) = image.name.rsplit_once('.').unwrap();
        format!("{stem}-{:016x}.{extension}", image.id)
    };
    let (own, others): (Vec<_>, Vec<_>) = images_in(folder)
        .into_iter()
        .partition(|image| expected.contains(image));
    for other in others {
        let same = |image: &&TestImage| image.bytes == other.bytes;
        let name = expected.iter().find(same).map(with_id);
        assert_eq!(
            name.as_ref(),
            Some(&other.name),
            "R2: {} is visible and is not the image",
            other.name
        );
    }
    own.len()
}

#[test]
fn r2_file_size_limit_fails_only_large_files() {
    let expected = library();
    let workdir = WorkDir::of(&expected);
    let server = workdir.server("--no-tls");
    // A process limit: a write beyond it fails in the middle of a file.
    let outcome = script(
        &workdir,
        &server,
        None,
        r#"
        limited() { trap '' XFSZ; ulimit -f 1000; run "$@"; }
        (limited first) ; keep a; (limited second --batch -p 3); run third --batch
        "#,
    );
    assert_eq!(outcome.code("first"), 8, "{}", outcome.output);
    assert_eq!(outcome.code("second"), 8, "{}", outcome.output);
    assert_eq!(outcome.code("third"), 0, "{}", outcome.output);
    assert_eq!(check_files(&workdir.path().join("a"), &expected), 110);
    assert_eq!(workdir.path().join("a").temporaries(), [""; 0]);
    assert!(workdir.fetched() == expected);
}

#[test]
fn r2_full_disk_fails_and_the_next_run_completes() {
    let Some(way) = mounting() else {
        report_line!("skipped: no file system can be mounted here");
        return;
    };
    let expected = library();
    let workdir = WorkDir::of(&expected);
    let server = workdir.server("--no-tls");
    for (what, small, large) in [
        ("full", "size=3m", "size=64m"),
        ("out of inodes", "nr_inodes=40", "nr_inodes=4000"),
        ("without space", "size=4k", "size=64m"),
    ] {
        let text = format!(
            r#"
            mkdir -p output; mount -t tmpfs -o {small} none output
            run first; keep a
            run second --batch -p 4; keep b
            mount -o remount,{large} output
            run third --batch; keep c
            "#
        );
        let outcome = script(&workdir, &server, Some(way), &text);
        let folder = |name: &str| workdir.path().join(name);
        assert_eq!(outcome.code("first"), 8, "{what}: {}", outcome.output);
        assert_eq!(outcome.code("second"), 8, "{what}: {}", outcome.output);
        assert_eq!(outcome.code("third"), 0, "{what}: {}", outcome.output);
        let fetched = ["a", "b", "c"].map(|name| check_files(&folder(name), &expected));
        assert!(
            fetched[0] <= fetched[1] && fetched[1] < fetched[2],
            "{what}: {fetched:?}"
        );
        assert_eq!(fetched[2], expected.len());
        let left = ["a", "b", "c"].map(|name| folder(name).temporaries());
        assert_eq!(left.concat(), [""; 0], "{what}");
        report_line!(
            "a disk {what}: {} images, then {}; with enough space {}",
            fetched[0],
            fetched[1],
            fetched[2]
        );
        for name in ["a", "b", "c"] {
            fs::remove_dir_all(folder(name)).unwrap();
        }
    }
}

#[test]
fn r2_disk_becomes_read_only() {
    let Some(way) = mounting() else {
        report_line!("skipped: no file system can be mounted here");
        return;
    };
    let expected = library();
    let workdir = WorkDir::of(&expected);
    let server = workdir.server("--no-tls");
    // A remount fails while a file is open for writing, so it is repeated until it succeeds.
    let text = r#"
        mkdir -p output; mount -t tmpfs none output
        (run first --repeat 1000) & 
        while [ "$(ls output | wc -l)" -lt 40 ]; do sleep 0.002; done
        until mount -o remount,ro output 2>/dev/null; do sleep 0.002; done
        wait
        keep a
        mount -o remount,rw output
        run second --batch; keep b
    "#;
    let outcome = script(&workdir, &server, Some(way), text);
    assert_eq!(outcome.code("first"), 8, "{}", outcome.output);
    assert_eq!(outcome.code("second"), 0, "{}", outcome.output);
    let fetched = check_files(&workdir.path().join("a"), &expected);
    assert!(fetched >= 40);
    assert_eq!(
        check_files(&workdir.path().join("b"), &expected),
        expected.len()
    );
    assert_eq!(workdir.path().join("b").temporaries(), [""; 0]);
    report_line!("read-only after {fetched} images; once writable again, the next run completes");
}

#[test]
fn r2_system_calls_fail_at_many_points() {
    if !is_full() || !has_strace() {
        return;
    }
    let expected = library();
    let workdir = WorkDir::of(&expected);
    let server = workdir.server("--no-tls");
    let (mut runs, mut failures) = (0, 0);
    for call in [
        "renameat",
        "openat",
        "unlinkat",
        "ftruncate",
        "getdents64",
        "statx",
    ] {
        for (error, when) in [
            ("EIO", 1),
            ("EIO", 7),
            ("EIO", 60),
            ("ENOSPC", 30),
            ("EROFS", 20),
            ("EINTR", 15),
        ] {
            let text = format!(
                r#"
                rm -rf output; mkdir -p output
                run start --quiet
                rm output/0*
                real=$client; trap 'rm -f fail' EXIT
                printf '#!/bin/sh\nexec strace -f -qq -o /dev/null -e trace={call} -e inject={call}:error={error}:when={when}+5 %s "$@"\n' "$real" > fail; chmod +x fail
                client=./fail; run first --batch --quiet; keep a
                client=$real; run second --batch --quiet; keep b
                "#
            );
            let outcome = script(&workdir, &server, None, &text);
            runs += 1;
            failures += i32::from(outcome.code("first") != 0);
            let what = format!("{call} {error} {when}: {}", outcome.output);
            check_files(&workdir.path().join("a"), &expected);
            assert_eq!(outcome.code("second"), 0, "{what}");
            assert_eq!(
                check_files(&workdir.path().join("b"), &expected),
                expected.len(),
                "{what}"
            );
            assert_eq!(workdir.path().join("b").temporaries(), [""; 0], "{what}");
            for name in ["a", "b"] {
                fs::remove_dir_all(workdir.path().join(name)).unwrap();
            }
        }
    }
    report_line!(
        "failing system calls: {runs} runs, {failures} of them failed; none left a wrong file, the next run completes"
    );
}
