//! `--metrics`: the server's numbers for Prometheus, and its health.
//!
//! Names follow Prometheus' conventions. Labels have values from fixed sets only: a value that a peer chose would let it
//! make any number of time series.

mod http;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jtp_store::{DirStore, LeftOutReason};
use jtp_tokio::Peer;
use jtp_tokio::server::{Observer, RequestKind, RequestSummary, Server};
use metrics::{
    Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram, with_local_recorder,
};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use tokio::net::TcpListener;

use super::source::Source;
use super::status::{Phase, Status};
use crate::exit::Failure;

/// The upper bounds of the latency histogram's buckets, in seconds.
const LATENCY_BOUNDS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0, 300.0,
];

const LATENCY: &str = "jtp_request_duration_seconds";

/// Latencies are kept one by one until they are put into buckets. Without this, a page that nobody reads would keep them
/// all.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The metrics of a server.
pub(super) struct Metrics {
    status: Arc<Status>,
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    latency: Arc<Latency>,
    /// Set once the first scan is complete.
    sources: OnceLock<Sources>,
    catalog: Mutex<CatalogSize>,
}

fn failure(address: SocketAddr, error: &dyn std::fmt::Display) -> Failure {
    Failure::other(format!(
        "cannot serve metrics on {address}: {error}; choose another address with --metrics"
    ))
}

struct Sources {
    server: Server,
    store: Source,
    variant_cache_size: u64,
}

/// The size of a catalog, which takes a pass over its entries to compute.
#[derive(Default)]
struct CatalogSize {
    generation: Option<u64>,
    images: usize,
    bytes: u64,
}

impl Metrics {
    /// Listens at this address, for [`Metrics::serve`].
    pub(super) fn bind(address: SocketAddr) -> Result<std::net::TcpListener, Failure> {
        let bind = || {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        bind().map_err(|error: std::io::Error| {
            if error.kind() == std::io::ErrorKind::AddrInUse {
                failure(address, &"the port is in use")
            } else {
                failure(address, &error)
            }
        })
    }

    /// Serves metrics on this listener, which was bound to `address`, until the runtime ends.
    pub(super) fn serve(
        address: SocketAddr,
        listener: std::net::TcpListener,
        status: Arc<Status>,
    ) -> Result<Arc<Metrics>, Failure> {
        let failed = |error: &dyn std::fmt::Display| failure(address, error);
        let listener = TcpListener::from_std(listener).map_err(|error| failed(&error))?;
        let bound = listener.local_addr().map_err(|error| failed(&error))?;
        let metrics = Arc::new(Metrics::new(status).map_err(|error| failed(&error))?);
        tracing::info!("metrics on http://{bound}/metrics, health on http://{bound}/healthz");
        let handle = metrics.handle.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(UPKEEP_INTERVAL).await;
                handle.run_upkeep();
            }
        });
        tokio::spawn(http::serve(listener, Arc::clone(&metrics)));
        Ok(metrics)
    }

    fn new(status: Arc<Status>) -> Result<Metrics, metrics_exporter_prometheus::BuildError> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Full(LATENCY.to_owned()), &LATENCY_BOUNDS)?
            .build_recorder();
        let handle = recorder.handle();
        let latency = with_local_recorder(&recorder, || {
            describe();
            let started = SystemTime::now().duration_since(UNIX_EPOCH);
            gauge!("jtp_start_time_seconds").set(started.unwrap_or_default().as_secs_f64());
            gauge!("jtp_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1);
            Latency::new()
        });
        Ok(Metrics {
            status,
            recorder,
            handle,
            latency: Arc::new(latency),
            sources: OnceLock::new(),
            catalog: Mutex::default(),
        })
    }

    /// Measures the requests of a server.
    pub(super) fn observer(&self) -> Arc<dyn Observer> {
        Arc::clone(&self.latency) as Arc<dyn Observer>
    }

    /// What the page shows from now on.
    pub(super) fn set_sources(&self, server: Server, store: Source, variant_cache_size: u64) {
        let _ = self.sources.set(Sources {
            server,
            store,
            variant_cache_size,
        });
    }

    fn phase(&self) -> Phase {
        self.status.phase()
    }

    /// The page. Blocks while the size of the variant cache is read.
    fn page(&self) -> String {
        with_local_recorder(&self.recorder, || {
            let progress = self.status.progress();
            gauge!("jtp_ready").set(u8::from(self.phase() == Phase::Serving));
            gauge!("jtp_index_files").set(float(progress.files_total));
            gauge!("jtp_index_files_done").set(float(progress.files_done));
            counter!("jtp_index_read_bytes_total").absolute(progress.bytes);
            if let Some(sources) = self.sources.get() {
                record_server(&sources.server);
                if let Some(store) = sources.store.folder() {
                    record_store(store, sources.variant_cache_size);
                }
                self.record_catalog(&sources.store);
            }
        });
        self.handle.render()
    }

    fn record_catalog(&self, store: &Source) {
        let catalog = store.catalog().snapshot();
        let mut size = self.catalog.lock().unwrap_or_else(PoisonError::into_inner);
        if size.generation != Some(catalog.generation()) {
            *size = CatalogSize {
                generation: Some(catalog.generation()),
                images: catalog.len(),
                bytes: catalog.entries().map(|entry| u64::from(entry.length)).sum(),
            };
        }
        gauge!("jtp_catalog_images").set(float(u64::try_from(size.images).unwrap_or(u64::MAX)));
        gauge!("jtp_catalog_bytes").set(float(size.bytes));
    }
}

fn record_server(server: &Server) {
    let counters = server.counters();
    gauge!("jtp_connections_open").set(float(counters.connections_open));
    gauge!("jtp_watchers").set(float(counters.watchers));
    counter!("jtp_connections_accepted_total").absolute(counters.connections_accepted);
    let per_client = counters.connections_refused_per_client;
    let in_total = counters.connections_refused.saturating_sub(per_client);
    for (limit, count) in [("client", per_client), ("total", in_total)] {
        counter!("jtp_connections_refused_total", "limit" => limit).absolute(count);
    }
    counter!("jtp_watchers_evicted_total").absolute(counters.watchers_evicted);
    counter!("jtp_clients_refused_total").absolute(counters.clients_refused);
    gauge!("jtp_tls_handshakes").set(float(counters.handshakes));
    gauge!("jtp_tls_handshakes_waiting").set(float(counters.handshakes_waiting));
    counter!("jtp_tls_handshakes_refused_total").absolute(counters.handshakes_refused);
    counter!("jtp_images_sent_total").absolute(counters.images_sent);
    counter!("jtp_body_bytes_sent_total").absolute(counters.body_bytes_sent);
    for (reason, count) in counters.connections_closed {
        counter!("jtp_connections_closed_total", "reason" => reason).absolute(count);
    }
    for ((kind, outcome), count) in counters.requests {
        counter!("jtp_requests_total", "kind" => kind, "outcome" => outcome).absolute(count);
    }
}

fn record_store(store: &DirStore, variant_cache_size: u64) {
    let counters = store.counters();
    for (result, small, variants) in [
        (
            "hit",
            counters.small_image_hits,
            counters.variant_cache_hits,
        ),
        (
            "miss",
            counters.small_image_misses,
            counters.variant_cache_misses,
        ),
    ] {
        counter!("jtp_small_image_lookups_total", "result" => result).absolute(small);
        counter!("jtp_variant_cache_lookups_total", "result" => result).absolute(variants);
    }
    let left_out = store.left_out();
    for reason in LeftOutReason::ALL {
        let count = float(left_out.count(*reason));
        gauge!("jtp_files_left_out", "reason" => reason.as_str()).set(count);
    }
    if let Some(cache) = store.variant_cache() {
        gauge!("jtp_variant_cache_max_bytes").set(float(variant_cache_size));
        if let Ok(used) = cache.used() {
            gauge!("jtp_variant_cache_bytes").set(float(used));
        }
    }
}

/// Exact below 2^53.
#[allow(clippy::cast_precision_loss)]
const fn float(number: u64) -> f64 {
    number as f64
}

fn describe() {
    let gauges = [
        ("jtp_build_info", "The version of the server."),
        (
            "jtp_start_time_seconds",
            "When the server started, in seconds since 1970.",
        ),
        (
            "jtp_ready",
            "1 while connections are accepted, 0 during the first scan and while draining.",
        ),
        ("jtp_index_files", "Files that the first scan found."),
        (
            "jtp_index_files_done",
            "Files that the first scan has read, or found in the index.",
        ),
        ("jtp_catalog_images", "Images in the catalog."),
        (
            "jtp_catalog_bytes",
            "Bytes of the images in the catalog, as they travel.",
        ),
        (
            "jtp_files_left_out",
            "Files and sub-folders that are not in the catalog, as of the last scan.",
        ),
        ("jtp_connections_open", "Open connections."),
        ("jtp_watchers", "Connections that watch."),
        (
            "jtp_tls_handshakes",
            "TLS handshakes under way, those that wait for their client included.",
        ),
        (
            "jtp_tls_handshakes_waiting",
            "TLS handshakes that wait for their turn.",
        ),
        (
            "jtp_variant_cache_bytes",
            "Bytes of compressed images in the cache folder.",
        ),
        ("jtp_variant_cache_max_bytes", "The limit for them."),
    ];
    for (name, help) in gauges {
        describe_gauge!(name, help);
    }
    let counters = [
        (
            "jtp_index_read_bytes_total",
            "Bytes that the first scan has read.",
        ),
        (
            "jtp_connections_accepted_total",
            "Connections that were admitted.",
        ),
        (
            "jtp_connections_refused_total",
            "Connections over a limit that were closed at accept: the limit of one client, or in total.",
        ),
        (
            "jtp_connections_closed_total",
            "Connections that ended, by reason.",
        ),
        (
            "jtp_requests_total",
            "Requests that ended, by kind and outcome.",
        ),
        (
            "jtp_watchers_evicted_total",
            "Watchers that were ended, because there were too many.",
        ),
        (
            "jtp_clients_refused_total",
            "Clients that were refused because their key is not in the list.",
        ),
        (
            "jtp_tls_handshakes_refused_total",
            "Connections that were closed before their handshake, by the rate limit.",
        ),
        ("jtp_images_sent_total", "Images that were sent."),
        (
            "jtp_body_bytes_sent_total",
            "Bytes of images that were sent, as they travel.",
        ),
        (
            "jtp_small_image_lookups_total",
            "Images of up to 16 KiB that were opened: in memory (hit), or from a file.",
        ),
        (
            "jtp_variant_cache_lookups_total",
            "Compressed images that were opened: in the cache folder (hit), or compressed again.",
        ),
    ];
    for (name, help) in counters {
        describe_counter!(name, help);
    }
    describe_histogram!(
        LATENCY,
        Unit::Seconds,
        "From the head of a request to the end of its response, WATCH excepted."
    );
}

/// Measures how long requests take.
struct Latency([(&'static str, Histogram); 4]);

impl Latency {
    /// Made with the recorder of the metrics.
    fn new() -> Latency {
        let kinds = [
            RequestKind::List,
            RequestKind::GetById { count: 0 },
            RequestKind::Batch { have: 0 },
            RequestKind::ListAndGet,
        ];
        Latency(kinds.map(|kind| (kind.name(), histogram!(LATENCY, "kind" => kind.name()))))
    }
}

impl Observer for Latency {
    fn request_completed(&self, _: &Peer, request: &RequestSummary<'_>) {
        // WATCH lasts until the client leaves, which says nothing about the server.
        let kind = request.head.kind.name();
        if let Some((_, histogram)) = self.0.iter().find(|(name, _)| *name == kind) {
            histogram.record(request.elapsed);
        }
    }
}
