//! Caches between runs: `--cache-dir`, `--cache-size`, `--checksum`.

use std::fs;
use std::path::{Path, PathBuf};

use jtp_core::ImageId;

use crate::support::{ALL, Folder as _, Process, SERVER, TestDir, stamps, wait_until};

/// Replaces the ID in an index with one record by [`FALSE_ID`], and updates the checksum, so that a program that trusts
/// the index reports that ID.
fn falsify(index: &Path) {
    let mut bytes = fs::read(index).unwrap();
    assert_eq!(bytes.len(), 71, "one record");
    bytes[60..68].copy_from_slice(&ImageId(42).to_be_bytes());
    let checksum = ImageId::of(&bytes[20..]).to_be_bytes();
    bytes[12..20].copy_from_slice(&checksum);
    fs::write(index, &bytes).unwrap();
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// `ImageId(42)`, as `--list` prints it.
const FALSE_ID: &str = "000000000000002a";

#[test]
fn server_trusts_its_index_without_checksum_flag() {
    let dir = TestDir::with_images();
    let listed = |args: &str| {
        let server = dir.serve(&format!("--only a.png --no-tls {args}"));
        let listed = dir.fetch(&server, "--list").out;
        server.stop();
        listed.split_whitespace().next().unwrap().to_owned()
    };
    let id = listed("");
    let index = files_in(&dir.path("cache/jtp/index"));
    assert_eq!(index.len(), 1, "{index:?}");
    falsify(&index[0]);
    assert_eq!(listed(""), FALSE_ID);
    assert_eq!(listed("--checksum"), id);
    assert_eq!(listed(""), id, "the index was rewritten");
    // Empty, malformed, and of an unknown version.
    for broken in ["", "garbage", "JTPidx\0\x01 and so on"] {
        fs::write(&index[0], broken).unwrap();
        assert_eq!(listed(""), id, "{broken:?}");
    }
    fs::remove_file(&index[0]).unwrap();
    fs::create_dir(&index[0]).unwrap();
    assert_eq!(listed(""), id);
    // Another cache folder.
    assert_eq!(listed("--cache-dir mine"), id);
    assert_eq!(files_in(&dir.path("mine/index")).len(), 1);
}

#[test]
fn servers_share_a_cache_folder() {
    let dir = TestDir::with_images();
    let other = dir.path("other");
    fs::create_dir(&other).unwrap();
    fs::copy(dir.path("images/c.bmp"), other.join("same.bmp")).unwrap();
    let servers: Vec<Process> = ["--images images", "--images other", "--only c"]
        .map(|args| dir.serve(&format!("{args} --no-tls")))
        .into();
    for server in &servers {
        dir.wait_for_compressed_bmp(server);
        assert_eq!(dir.fetch(server, "--out out").code, Some(0));
    }
    let compressed = files_in(&dir.path("cache/jtp/forms"));
    let is_image = |path: &&PathBuf| path.extension().is_some_and(|e| e == "form1");
    let images = compressed.iter().filter(is_image).count();
    assert_eq!(images, 1, "{compressed:?}");
    for server in servers {
        server.stop().assert_exit(0);
    }
    assert_eq!(files_in(&dir.path("cache/jtp/index")).len(), 3);
}

#[test]
fn server_runs_without_a_cache_folder_and_warns_once() {
    let dir = TestDir::with_images();
    dir.write("file", "");
    let server = dir.serve("--no-tls --cache-dir file/cache");
    dir.fetch(&server, "").assert_success(ALL);
    dir.add("late.png", b"late");
    let output = server.stop();
    let warnings = output.err.lines().filter(|line| line.contains("cache"));
    let warnings: Vec<_> = warnings.collect();
    assert!(
        matches!(warnings[..], [line] if line.contains("file/cache") && line.contains("--cache-dir")),
        "{warnings:?}"
    );
    // Others can replace what is in it.
    dir.make_dir("shared");
    dir.set_mode("shared", 0o777);
    let server = dir.serve("--no-tls --cache-dir shared");
    let warning = server.err.wait_for("cannot use the cache folder shared");
    assert!(warning.contains("chmod go-w"), "{warning}");
    // No home folder.
    let mut command = dir.server_command("127.0.0.1:0", "--no-tls");
    command.env_remove("XDG_CACHE_HOME").env_remove("HOME");
    let server = Process::listening(command);
    assert!(server.err.wait_for("cache").contains("--cache-dir"));
}

#[test]
fn client_trusts_its_index_without_checksum_flag() {
    let dir = TestDir::with_images();
    let server = dir.serve("--no-tls --only a.png");
    let batch = |args: &str| dir.fetch(&server, &format!("--batch {args}"));
    assert_eq!(batch("").code, Some(0));
    // By a scan, a file modified too recently is not indexed, because it may change again within the clock's resolution.
    let index = dir.path("output/.jtp-index");
    wait_until("an index", || {
        fs::remove_file(&index).unwrap_or_default();
        batch("").assert_summary("fetched 0 images (0 B); 1 already there; 0 failed");
        index.exists()
    });
    falsify(&index);
    for (args, code, out) in [
        ("--check", 3, "differs  a.png\n"),
        ("--check --checksum", 0, ""),
        ("-n --batch", 0, "replace  a.png  1000\n"),
        ("-n --batch --checksum", 0, ""),
    ] {
        let before = stamps(&dir.path("output"));
        dir.fetch(&server, args).assert_exit(code).assert_out(out);
        assert_eq!(stamps(&dir.path("output")), before, "{args:?}");
    }
    batch("--checksum").assert_summary("fetched 0 images (0 B); 1 already there; 0 failed");
    falsify(&index);
    batch("")
        .assert_summary("fetched 1 image (1000 B); 0 already there; 0 failed; 1 replaced a file");
    for broken in ["", "garbage"] {
        fs::write(&index, broken).unwrap();
        batch("").assert_summary("fetched 0 images (0 B); 1 already there; 0 failed");
    }
}

#[test]
fn low_open_file_limit_reduces_connections_with_a_warning() {
    let dir = TestDir::with_images();
    // An eighth of the few connections would be less than the client opens.
    let args = "--no-tls --bind 127.0.0.1:0 --max-connections-per-ip 0";
    let script = format!("ulimit -n 64; exec {SERVER} {args}");
    let server = Process::listening(dir.command("sh", &["-c", &*script]));
    let warning = server.err.wait_for("limiting connections");
    assert!(warning.contains("ulimit -n"), "{warning}");
    dir.fetch(&server, "--parallel 8").assert_success(ALL);
}
