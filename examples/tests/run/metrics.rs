//! The example `metrics`: the page after some requests.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jtp_tokio::Client;
use jtp_tokio::jtp_core::ImageId;
use jtp_tokio::store::MemoryStore;

use crate::http::{http, serve, serve_http};

#[expect(dead_code, reason = "the example's main is not used here")]
#[path = "../../metrics.rs"]
mod example;

/// Reads the page: values by name and labels. Every sample follows the type of its metric.
async fn samples(address: &str) -> HashMap<String, f64> {
    let response = http(address, "GET", "/metrics", &[]).await;
    assert_eq!(response.status, 200);
    let content_type = response.header("content-type").unwrap();
    assert!(
        content_type.starts_with("text/plain; version=0.0.4"),
        "{content_type}"
    );
    let page = String::from_utf8(response.body).unwrap();
    let mut samples = HashMap::new();
    let mut metric = "";
    for line in page.lines() {
        if let Some(described) = line.strip_prefix("# TYPE ") {
            metric = described.split(' ').next().unwrap();
        } else if !line.starts_with("# HELP ") {
            assert!(line.starts_with(metric), "{line} under {metric}");
            let (name, value) = line.rsplit_once(' ').unwrap();
            let value = value.parse().unwrap();
            assert!(
                samples.insert(name.to_owned(), value).is_none(),
                "{line} twice"
            );
        }
    }
    samples
}

/// The server counts a connection's end a moment after the client has seen it.
async fn samples_once(address: &str, name: &str, value: f64) -> HashMap<String, f64> {
    for _ in 0..500 {
        let samples = samples(address).await;
        if samples.get(name) == Some(&value) {
            return samples;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{name} is not {value}: {:#?}", samples(address).await);
}

#[tokio::test]
async fn the_page_shows_what_the_server_did() {
    let store = Arc::new(MemoryStore::new());
    let mut bytes = 0;
    for n in 0..20_usize {
        let image = vec![u8::try_from(n).unwrap(); 1000 * (n + 1)];
        bytes += image.len();
        store.insert(&format!("{n:02}.png"), image).unwrap();
    }
    let (server, router) = example::observed_server(store.clone());
    let (address, page) = (serve(&server).await, serve_http(router).await);
    assert_eq!(samples(&page).await["jtp_connections_accepted_total"], 0.0);

    let mut client = Client::builder(&address).build();
    let entries = client.list().await.unwrap();
    let mut images = client.list_and_get();
    while let Some(image) = images.next().await.unwrap() {
        image.bytes(1 << 20).await.unwrap();
    }
    let mut images = client.get(vec![entries[0].id, ImageId(1)]);
    while let Some(image) = images.next().await.unwrap() {
        image.bytes(1 << 20).await.unwrap();
    }
    bytes += usize::try_from(entries[0].length).unwrap();
    let mut watcher = Client::builder(&address).build();
    let (_, watch) = watcher.list_and_watch().await.unwrap();

    let seen = samples_once(&page, "jtp_watchers", 1.0).await;
    assert_eq!(seen["jtp_connections_open"], 2.0);
    assert_eq!(seen["jtp_images_sent_total"], 21.0);
    assert_eq!(seen["jtp_body_bytes_sent_total"], bytes as f64);
    let requests =
        |kind| seen[&format!("jtp_requests_total{{kind=\"{kind}\",outcome=\"answered\"}}")];
    assert_eq!(
        ["LIST", "LIST_AND_GET", "GET_BY_ID"].map(requests),
        [2.0, 1.0, 1.0]
    );

    let part = |part, kind, bound: &str| {
        seen[&format!(
            "jtp_request_duration_seconds_{part}{{kind=\"{kind}\",outcome=\"answered\"{bound}}}"
        )]
    };
    for kind in ["LIST", "LIST_AND_GET", "GET_BY_ID"] {
        assert_eq!(part("count", kind, ""), requests(kind));
        assert_eq!(part("bucket", kind, ",le=\"+Inf\""), requests(kind));
        assert_eq!(part("bucket", kind, ",le=\"120\""), requests(kind));
        assert!(part("bucket", kind, ",le=\"0.001\"") <= part("bucket", kind, ",le=\"0.1\""));
        assert!(part("sum", kind, "") < 60.0);
    }

    watch.cancel().await.unwrap();
    watcher.close().await;
    client.close().await;
    let seen = samples_once(&page, "jtp_connections_open", 0.0).await;
    assert_eq!(seen["jtp_watchers"], 0.0);
    assert_eq!(seen["jtp_connections_accepted_total"], 2.0);
    let closed = seen
        .iter()
        .filter(|(name, _)| name.starts_with("jtp_connections_closed_total"));
    assert_eq!(closed.map(|(_, count)| count).sum::<f64>(), 2.0);
    assert_eq!(
        seen["jtp_requests_total{kind=\"WATCH\",outcome=\"cancelled\"}"],
        1.0
    );
    assert!(
        !seen
            .keys()
            .any(|name| name.contains("duration") && name.contains("WATCH"))
    );
}
