//! Runs every example as a process, as its documentation describes, and tests what the larger ones consist of. `cargo
//! test -p jtp-examples` builds the examples first; with `--test run` cargo does not.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use jtp_kit::Process;
use process::{command, fails, start, succeeds};
use stub::Stub;

mod edge_cache;
mod http;
mod metrics;
mod process;
mod services;
mod stub;
#[cfg(unix)]
mod sync;
mod tenants;
mod web_gallery;

const SYNCS: [&str; 3] = ["sync_tokio", "sync_async_std", "sync_blocking"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

/// Starts a `serve_*` in a folder, and waits until it listens.
fn serve(name: &str, folder: &Path, images: &Path, tls: bool) -> Process {
    let mut args = vec![
        "--bind",
        "127.0.0.1:0",
        "--images",
        images.to_str().unwrap(),
    ];
    args.extend(tls.then_some("--tls"));
    Process::listening(command(name, &args, folder))
}

/// The visible files of a folder.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(Result::unwrap);
    files
        .map(|file| {
            (
                file.file_name().into_string().unwrap(),
                fs::read(file.path()).unwrap(),
            )
        })
        .filter(|(name, _)| !name.starts_with('.'))
        .collect()
}

#[test]
fn fetch_stores_all_images() {
    for tls in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let images = root().join("images");
        let server = serve("serve_tokio", dir.path(), &images, tls);
        let expected = contents(&images);
        assert_eq!(expected.len(), 14);
        let mut args = vec!["--addr", &server.address, "--out", "out"];
        args.extend(tls.then_some(["--cert", "cert.pem"]).into_iter().flatten());
        let output = succeeds(start("fetch", &args, dir.path()));
        assert_eq!(output, ["fetched 14 images, each verified; 0 failed"]);
        assert!(contents(&dir.path().join("out")) == expected);
    }
}

#[test]
fn errors_are_one_line_with_exit_code_1() {
    let dir = tempfile::tempdir().unwrap();
    for server in ["serve_tokio", "serve_async_std", "serve_blocking"] {
        let error = fails(start(server, &["--bind"], dir.path()));
        assert_eq!(error, "error: usage: --bind ADDR --images DIR [--tls]");
        let args = ["--bind", "127.0.0.1:0", "--images", "missing"];
        let error = fails(start(server, &args, dir.path()));
        let named = "error: cannot read the images folder missing: ";
        assert!(error.starts_with(named), "{error}");
    }
    for client in SYNCS.into_iter().chain(["fetch"]) {
        let error = fails(start(client, &[], dir.path()));
        assert_eq!(
            error,
            "error: usage: --addr HOST:PORT --out DIR [--cert PEM]"
        );
        let args = ["--addr", "127.0.0.1:1", "--out", "out"];
        let error = fails(start(client, &args, dir.path()));
        let named = "error: cannot connect to 127.0.0.1:1: Connection refused";
        assert!(error.starts_with(named), "{error}");
        let args = [&args[..], &["--cert", "missing.pem"]].concat();
        let error = fails(start(client, &args, dir.path()));
        assert!(error.contains("missing.pem"), "{error}");
    }
}

#[test]
fn serve_does_not_overwrite_a_certificate_with_a_key() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("cert.pem"), "theirs").unwrap();
    fs::write(dir.path().join("key.pem"), "theirs").unwrap();
    let args = ["--bind", "127.0.0.1:0", "--images", ".", "--tls"];
    fails(start("serve_blocking", &args, dir.path()));
    assert_eq!(fs::read(dir.path().join("cert.pem")).unwrap(), b"theirs");
}

#[test]
fn an_image_that_stays_broken_is_a_failure() {
    // One entry, and a packet whose bytes do not match its ID, for each request.
    let server = Stub::start(&[(7, b"x")], usize::MAX);
    let dir = tempfile::tempdir().unwrap();
    let args = ["--addr", &server.address, "--out", "out"];
    let output = start("fetch", &args, dir.path()).wait();
    output
        .assert_exit(1)
        .assert_out("fetched 0 images, each verified; 1 failed\n");
    let cause = "0000000000000007: the image is broken: the image's bytes have the ID ";
    assert!(output.err.starts_with(cause), "{output:?}");
    assert!(
        output.err.ends_with("error: 1 of the images failed\n"),
        "{output:?}"
    );
    assert!(contents(&dir.path().join("out")).is_empty());
}

#[test]
fn sync_prints_what_the_readme_shows() {
    let output = succeeds(start("sync", &[], &root()));
    assert_eq!(
        output.last().unwrap(),
        "both folders contain the same images"
    );
    // README.md shows the same output, except for the port, the time, and the images that … stands for.
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let (_, shown) = readme
        .split_once("$ cargo run --release --example sync\n")
        .unwrap();
    let shown: Vec<&str> = shown.split("```").next().unwrap().lines().collect();
    let words = |line: &str| -> Vec<String> {
        let is_fixed = |word: &&str| !word.contains(':') && !word.contains("ms,");
        line.split_whitespace()
            .filter(is_fixed)
            .map(str::to_owned)
            .collect()
    };
    let gap = shown.iter().position(|line| line.trim() == "…").unwrap();
    let behind = shown.len() - gap - 1;
    let ends = [&output[..gap], &output[output.len() - behind..]].concat();
    let shown = [&shown[..gap], &shown[gap + 1..]].concat();
    for (output, shown) in ends.iter().zip(shown) {
        assert_eq!(words(output), words(shown));
    }
}

#[test]
fn sans_io_explains_each_byte() {
    let output = succeeds(start("sans_io", &[], &root()));
    let has = |way: &str, bytes: &str, what: &str| {
        let start = format!("  {way}  {bytes} ");
        assert!(
            output
                .iter()
                .any(|l| l.starts_with(&start) && l.contains(what)),
            "{output:#?}"
        );
    };
    has("client → server", "01 01", "List");
    has("server → client", "4a 54 50 4c 01", "Begin");
    has("server → client", "47 49 46 38 39 61", "Data");
    has("server → client", "4a 54 50 57", "NewImage");
    has("client → server", "03 00", "CANCEL");
    has("server → client", "4a 54 50 43", "Cancelled");
}

#[test]
fn memory_store_serves_its_images() {
    let output = succeeds(start("memory_store", &[], &root()));
    let verified = output
        .iter()
        .filter(|line| line.ends_with("196623 bytes, verified"));
    assert_eq!(verified.count(), 4, "{output:#?}");
}

#[test]
fn idle_load_prints_the_latency_ratio() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve("serve_tokio", dir.path(), &root().join("images"), false);
    let output = start("idle_load", &[&server.address, "3", "1", "5"], &root());
    let output = succeeds(output);
    assert!(
        output.last().unwrap().starts_with("p99 ratio: "),
        "{output:?}"
    );
}
