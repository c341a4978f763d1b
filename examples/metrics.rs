//! A Prometheus page beside a server.
//!
//! The server counts connections, requests, images and bytes: [`Server::counters`] reads the counters at any moment. An
//! [`Observer`] is notified of each request, and here measures their duration in a histogram. axum serves both as text at
//! `/metrics`. Serve that page on an address that only the monitoring can reach.
//!
//! ```console
//! $ cargo run --example metrics -- 127.0.0.1:8443 127.0.0.1:9100 images
//! $ curl http://127.0.0.1:9100/metrics
//! ```

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use jtp_examples::{Result, exit};
use jtp_store::DirStore;
use jtp_tokio::server::{Observer, RequestKind, RequestSummary};
use jtp_tokio::store::ImageStore;
use jtp_tokio::{Peer, Server, ShutdownSignal};
use tokio::net::TcpListener;

/// The upper bounds of the histogram's buckets, in seconds.
const BOUNDS: [f64; 10] = [0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0];

#[derive(Debug, Default)]
struct Histogram {
    /// The number of requests in each bucket; not cumulative.
    buckets: [u64; BOUNDS.len()],
    count: u64,
    sum: Duration,
}

/// The duration of requests, by kind and outcome.
#[derive(Debug, Default)]
pub(crate) struct Latency(Mutex<BTreeMap<(&'static str, &'static str), Histogram>>);

impl Observer for Latency {
    fn request_completed(&self, _: &Peer, request: &RequestSummary<'_>) {
        let completed = request.completed;
        if completed.kind == RequestKind::Watch {
            return; // It lasts until the client leaves, which says nothing about the server.
        }
        let labels = (completed.kind.name(), completed.outcome.as_str());
        let mut histograms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let histogram = histograms.entry(labels).or_default();
        histogram.count += 1;
        histogram.sum += request.elapsed;
        let seconds = request.elapsed.as_secs_f64();
        if let Some(bucket) = BOUNDS.iter().position(|&bound| seconds <= bound) {
            histogram.buckets[bucket] += 1;
        }
    }
}

/// The page, in Prometheus' text format.
pub(crate) fn page(server: &Server, latency: &Latency) -> String {
    let mut page = String::new();
    write_page(&mut page, server, latency).expect("a String takes any text");
    page
}

fn write_page(page: &mut String, server: &Server, latency: &Latency) -> fmt::Result {
    let counters = server.counters();
    let plain = [
        (
            "connections_open",
            "gauge",
            "Open connections.",
            counters.connections_open,
        ),
        (
            "watchers",
            "gauge",
            "Connections that watch.",
            counters.watchers,
        ),
        (
            "connections_accepted_total",
            "counter",
            "Connections that were admitted.",
            counters.connections_accepted,
        ),
        (
            "connections_refused_total",
            "counter",
            "Connections over a connection limit.",
            counters.connections_refused,
        ),
        (
            "images_sent_total",
            "counter",
            "Images that were sent.",
            counters.images_sent,
        ),
        (
            "body_bytes_sent_total",
            "counter",
            "Bytes of images that were sent.",
            counters.body_bytes_sent,
        ),
    ];
    for (name, kind, help, value) in plain {
        describe(page, name, kind, help)?;
        writeln!(page, "jtp_{name} {value}")?;
    }

    describe(
        page,
        "connections_closed_total",
        "counter",
        "Connections that ended.",
    )?;
    for (reason, count) in &counters.connections_closed {
        writeln!(
            page,
            "jtp_connections_closed_total{{reason=\"{reason}\"}} {count}"
        )?;
    }
    describe(page, "requests_total", "counter", "Requests that ended.")?;
    for ((kind, outcome), count) in &counters.requests {
        let labels = format!("kind=\"{kind}\",outcome=\"{outcome}\"");
        writeln!(page, "jtp_requests_total{{{labels}}} {count}")?;
    }

    let name = "request_duration_seconds";
    describe(
        page,
        name,
        "histogram",
        "From a request's head to its end, WATCH excepted.",
    )?;
    let histograms = latency.0.lock().unwrap_or_else(PoisonError::into_inner);
    for ((kind, outcome), histogram) in &*histograms {
        let labels = format!("kind=\"{kind}\",outcome=\"{outcome}\"");
        let mut cumulative = 0;
        for (bound, bucket) in BOUNDS.iter().zip(histogram.buckets) {
            cumulative += bucket;
            writeln!(
                page,
                "jtp_{name}_bucket{{{labels},le=\"{bound}\"}} {cumulative}"
            )?;
        }
        let (count, sum) = (histogram.count, histogram.sum.as_secs_f64());
        writeln!(page, "jtp_{name}_bucket{{{labels},le=\"+Inf\"}} {count}")?;
        writeln!(page, "jtp_{name}_sum{{{labels}}} {sum}")?;
        writeln!(page, "jtp_{name}_count{{{labels}}} {count}")?;
    }
    Ok(())
}

fn describe(page: &mut String, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(page, "# HELP jtp_{name} {help}\n# TYPE jtp_{name} {kind}")
}

/// A server of `store`, and the HTTP service with its metrics.
pub(crate) fn observed_server(store: Arc<dyn ImageStore>) -> (Server, Router) {
    let latency = Arc::new(Latency::default());
    let server = Server::builder(store)
        .observer(Arc::clone(&latency) as Arc<dyn Observer>)
        .build();
    let observed = server.clone();
    let metrics = move || async move {
        let format = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
        (format, page(&observed, &latency))
    };
    (server, Router::new().route("/metrics", get(metrics)))
}

async fn run(args: &[String]) -> Result {
    let [address, http_address, folder] = args else {
        return Err("usage: metrics ADDRESS HTTP-ADDRESS FOLDER".into());
    };
    let (server, metrics) = observed_server(Arc::new(DirStore::open_folder(folder)?));
    let listener = TcpListener::bind(address).await?;
    let http_listener = TcpListener::bind(http_address).await?;
    println!("listening on {}", listener.local_addr()?);
    println!("metrics on http://{}/metrics", http_listener.local_addr()?);

    let shutdown = ShutdownSignal::new();
    let interrupted = shutdown.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        interrupted.begin();
    });
    let http = axum::serve(http_listener, metrics).with_graceful_shutdown(shutdown.wait());
    tokio::try_join!(server.serve(listener, shutdown.wait()), async {
        http.await
    })?;
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    exit(run(&args).await)
}
