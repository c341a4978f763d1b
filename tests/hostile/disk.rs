//! R2: disks that are full, fail, or become read-only in the middle.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{is_full, tell};
use crate::support::bytes::*;
use crate::support::files::{noise, pictures};
use crate::support::process::{Place, Server, program};

/// 12 MiB in images of 4 KB to 1 MiB.
fn library() -> Vec<Picture> {
    (0..120)
        .map(|n| {
            let len = if n % 12 == 5 {
                1 << 20
            } else {
                4_000 + n * 150
            };
            Picture::new(&format!("{n:03}.png"), noise(len, n as u64))
        })
        .collect()
}

/// What came of a script.
struct Outcome {
    /// The lines it printed that say `NAME=CODE`.
    codes: Vec<(String, i32)>,
    said: String,
}

impl Outcome {
    #[track_caller]
    fn code(&self, name: &str) -> i32 {
        let found = self.codes.iter().find(|(of, _)| of == name);
        found
            .unwrap_or_else(|| panic!("no {name}: {}", self.said))
            .1
    }
}

/// Where a script may mount: as root, or as the root of a user namespace. `None` where neither is allowed.
fn mounting() -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [&["-m"], &["-U", "-r", "-m"]];
    ways.into_iter().find(|way| {
        let try_it = ["sh", "-c", "mkdir -p $1 && mount -t tmpfs none $1", "sh"];
        let place = tempfile::tempdir().unwrap();
        let mut command = Command::new("unshare");
        command.args(*way).args(try_it).arg(place.path().join("x"));
        command.stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    })
}

/// Runs a script in a place: `$1` is the client with the server's address, `run NAME ARGS…` runs it and
/// prints its code, `keep NAME` copies what is in the output folder.
fn script(place: &Place, server: &Server, unshared: Option<&[&str]>, text: &str) -> Outcome {
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
        .arg(server.address.to_string())
        .current_dir(place.path())
        .env("HOME", place.path())
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
        said: format!("{out}{err}"),
    };
    assert!(output.status.success(), "{}", outcome.said);
    outcome
}

/// How many visible files there are, each of which is one of the images.
#[track_caller]
fn right(folder: &Path, wanted: &[Picture]) -> usize {
    let there = pictures(folder);
    for picture in &there {
        assert!(
            wanted.contains(picture),
            "R2: {} is visible and not the image",
            picture.name
        );
    }
    there.len()
}

/// The hidden files of a folder, its index left out.
fn temporaries(folder: &Path) -> usize {
    let hidden = |name: &std::ffi::OsString| {
        name.as_encoded_bytes().starts_with(b".") && name != ".jtp-index"
    };
    let names = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    names.filter(hidden).count()
}

#[test]
fn r2_a_disk_that_takes_no_large_files_costs_those_alone() {
    let wanted = library();
    let place = Place::of(&wanted);
    let server = place.server(&["--no-tls"]);
    // A limit of the process: a write beyond it is an error in the middle of a file.
    let outcome = script(
        &place,
        &server,
        None,
        r#"
        limited() { trap '' XFSZ; ulimit -f 1000; run "$@"; }
        (limited first) ; keep a; (limited second --batch -p 3); run third --batch
        "#,
    );
    assert_eq!(outcome.code("first"), 8, "{}", outcome.said);
    assert_eq!(outcome.code("second"), 8, "{}", outcome.said);
    assert_eq!(outcome.code("third"), 0, "{}", outcome.said);
    assert_eq!(right(&place.path().join("a"), &wanted), 110);
    assert_eq!(temporaries(&place.path().join("a")), 0);
    assert!(place.fetched() == wanted);
}

#[test]
fn r2_a_full_disk_ends_the_job_and_the_next_completes() {
    let Some(way) = mounting() else {
        tell!("left out: no file system can be mounted here");
        return;
    };
    let wanted = library();
    let place = Place::of(&wanted);
    let server = place.server(&["--no-tls"]);
    for (what, small, large) in [
        ("full", "size=3m", "size=64m"),
        ("out of inodes", "nr_inodes=40", "nr_inodes=4000"),
        ("without a byte", "size=4k", "size=64m"),
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
        let outcome = script(&place, &server, Some(way), &text);
        let folder = |name: &str| place.path().join(name);
        assert_eq!(outcome.code("first"), 8, "{what}: {}", outcome.said);
        assert_eq!(outcome.code("second"), 8, "{what}: {}", outcome.said);
        assert_eq!(outcome.code("third"), 0, "{what}: {}", outcome.said);
        let came = ["a", "b", "c"].map(|name| right(&folder(name), &wanted));
        assert!(came[0] <= came[1] && came[1] < came[2], "{what}: {came:?}");
        assert_eq!(came[2], wanted.len());
        let left = ["a", "b", "c"].map(|name| temporaries(&folder(name)));
        assert_eq!(left, [0; 3], "{what}");
        tell!(
            "a disk {what}: {} images, then {}, once there is room {}",
            came[0],
            came[1],
            came[2]
        );
        for name in ["a", "b", "c"] {
            fs::remove_dir_all(folder(name)).unwrap();
        }
    }
}

#[test]
fn r2_a_disk_that_becomes_read_only_in_the_middle() {
    let Some(way) = mounting() else {
        tell!("left out: no file system can be mounted here");
        return;
    };
    let wanted = library();
    let place = Place::of(&wanted);
    let server = place.server(&["--no-tls"]);
    // Forced, as a system does it that finds its disk broken: a remount waits for no writer, so it is tried
    // until there is a moment without one.
    let text = r#"
        mkdir -p output; mount -t tmpfs none output
        (run first --repeat 1000) & 
        while [ "$(ls output | wc -l)" -lt 40 ]; do :; done
        until mount -o remount,ro output 2>/dev/null; do :; done
        wait
        keep a
        mount -o remount,rw output
        run second --batch; keep b
    "#;
    let outcome = script(&place, &server, Some(way), text);
    assert_eq!(outcome.code("first"), 8, "{}", outcome.said);
    assert_eq!(outcome.code("second"), 0, "{}", outcome.said);
    let came = right(&place.path().join("a"), &wanted);
    assert!(came >= 40);
    assert_eq!(right(&place.path().join("b"), &wanted), wanted.len());
    assert_eq!(temporaries(&place.path().join("b")), 0);
    tell!("read-only after {came} images; writable again, the next run completes");
}

#[test]
fn r2_system_calls_that_fail_at_every_place() {
    let has_strace = Command::new("strace")
        .arg("-V")
        .stdout(Stdio::null())
        .status();
    if !is_full() || !has_strace.is_ok_and(|status| status.success()) {
        tell!("left out: only at full scale, and with strace");
        return;
    }
    let wanted = library();
    let place = Place::of(&wanted);
    let server = place.server(&["--no-tls"]);
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
            let outcome = script(&place, &server, None, &text);
            runs += 1;
            failures += i32::from(outcome.code("first") != 0);
            let what = format!("{call} {error} {when}: {}", outcome.said);
            right(&place.path().join("a"), &wanted);
            assert_eq!(outcome.code("second"), 0, "{what}");
            assert_eq!(
                right(&place.path().join("b"), &wanted),
                wanted.len(),
                "{what}"
            );
            assert_eq!(temporaries(&place.path().join("b")), 0, "{what}");
            for name in ["a", "b"] {
                fs::remove_dir_all(place.path().join(name)).unwrap();
            }
        }
    }
    tell!(
        "system calls that fail: {runs} runs, {failures} of them failures; none left a wrong file, the next completes"
    );
}
