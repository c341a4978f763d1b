//! The services among the examples as processes, as their first lines say they are run.

use jtp_kit::{Output, Process};
use jtp_tokio::Client;

use crate::http::http;
use crate::process::command;
use crate::root;

/// What follows `prefix` in the next line of a service.
fn line(service: &Process, prefix: &str) -> String {
    let line = service.out.next_line();
    let rest = line.strip_prefix(prefix);
    rest.unwrap_or_else(|| panic!("{line}")).to_owned()
}

#[tokio::test]
async fn metrics_gallery_and_edge_cache_serve_a_folder() {
    let images = root().join("images");
    let start = |name: &str, args: &[&str]| Process::listening(command(name, args, &root()));
    let args = ["127.0.0.1:0", "127.0.0.1:0", images.to_str().unwrap()];
    let metrics = start("metrics", &args);
    let page = line(&metrics, "metrics on http://");
    let (page, path) = page.split_once('/').unwrap();
    let mut upstream = Client::builder(&metrics.address).build();
    let entries = upstream.list().await.unwrap();
    assert_eq!(entries.len(), 14);
    let response = http(page, "GET", &format!("/{path}"), &[]).await;
    let text = String::from_utf8(response.body).unwrap();
    assert!(text.contains("jtp_connections_open 1\n"), "{text}");

    let gallery = start("web_gallery", &args);
    let page = line(&gallery, "gallery on http://");
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
    let args = [&*metrics.address, "127.0.0.1:0", cache, "1000000000"];
    let edge = start("edge_cache", &args);
    let mut client = Client::builder(&edge.address).build();
    let mut fetched = client.list_and_get();
    let mut count = 0;
    while let Some(image) = fetched.next().await.unwrap() {
        image.bytes(1 << 30).await.unwrap();
        count += 1;
    }
    assert_eq!(count, 14);
}

#[test]
fn wrong_arguments_are_reported_in_one_line() {
    for name in ["tenants", "metrics", "edge_cache", "web_gallery"] {
        let output = Output::of(&mut command(name, &[], &root()));
        output.assert_failure(1, &[&format!("usage: {name} ")]);
        assert_eq!(output.err.lines().count(), 1);
    }
}
