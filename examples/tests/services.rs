//! The services among the examples as processes, as their first lines say they are run. `cargo test -p jtp-examples`
//! builds them before it runs this.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use common::http;
use jtp_tokio::Client;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

#[expect(dead_code, reason = "not all of it is used here")]
mod common;

fn command(name: &str) -> Command {
    // target/PROFILE/deps/services-HASH
    let own = std::env::current_exe().unwrap();
    let examples = own.ancestors().nth(2).unwrap().join("examples");
    Command::new(examples.join(format!("{name}{}", std::env::consts::EXE_SUFFIX)))
}

/// An example that runs. It never outlives the test.
struct Service {
    _child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Service {
    fn start(name: &str, args: &[&str]) -> Service {
        let mut child = command(name)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        Service {
            _child: child,
            stdout,
        }
    }

    /// What follows `prefix` in the next line.
    async fn line(&mut self, prefix: &str) -> String {
        let line = tokio::time::timeout(Duration::from_secs(60), self.stdout.next_line());
        let line = line.await.unwrap().unwrap().unwrap();
        let rest = line.strip_prefix(prefix);
        rest.unwrap_or_else(|| panic!("{line}")).to_owned()
    }
}

fn images() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../images")
}

#[tokio::test]
async fn metrics_gallery_and_edge_cache_serve_a_folder() {
    let images = images();
    let folder = images.to_str().unwrap();
    let mut metrics = Service::start("metrics", &["127.0.0.1:0", "127.0.0.1:0", folder]);
    let address = metrics.line("listening on ").await;
    let page = metrics.line("metrics on http://").await;
    let (page, path) = page.split_once('/').unwrap();
    let mut upstream = Client::builder(&address).build();
    let entries = upstream.list().await.unwrap();
    assert_eq!(entries.len(), 14);
    let response = http(page, "GET", &format!("/{path}"), &[]).await;
    let text = String::from_utf8(response.body).unwrap();
    assert!(text.contains("jtp_connections_open 1\n"), "{text}");

    let mut gallery = Service::start("web_gallery", &["127.0.0.1:0", "127.0.0.1:0", folder]);
    gallery.line("listening on ").await;
    let page = gallery.line("gallery on http://").await;
    let page = page.trim_end_matches('/');
    for entry in &entries {
        let response = http(page, "GET", &format!("/images/{}", entry.id), &[]).await;
        let raw = std::fs::read(images.join(&*entry.name)).unwrap();
        assert!(
            response.status == 200 && response.body == raw,
            "{}",
            entry.name
        );
    }

    let cache = tempfile::tempdir().unwrap();
    let cache = cache.path().to_str().unwrap();
    let args = [address.as_str(), "127.0.0.1:0", cache, "1000000000"];
    let mut edge = Service::start("edge_cache", &args);
    let mut client = Client::builder(edge.line("listening on ").await).build();
    let mut fetched = client.list_and_get();
    let mut count = 0;
    while let Some(image) = fetched.next().await.unwrap() {
        image.bytes(1 << 30).await.unwrap();
        count += 1;
    }
    assert_eq!(count, 14);
}

#[tokio::test]
async fn wrong_arguments_are_reported_in_one_line() {
    for name in ["tenants", "metrics", "edge_cache", "web_gallery"] {
        let output = command(name).output().await.unwrap();
        assert_eq!(output.status.code(), Some(1));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(
            stderr.starts_with(&format!("error: usage: {name} ")),
            "{stderr}"
        );
        assert_eq!(stderr.lines().count(), 1);
    }
}
