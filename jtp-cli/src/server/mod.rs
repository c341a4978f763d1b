//! The program `server`.

mod activation;
#[cfg(feature = "object-store")]
mod bucket;
mod confine;
mod listen;
mod metrics;
mod open;
mod reload;
mod source;
mod status;
mod summary;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount};
#[cfg(feature = "object-store")]
use jtp_object_store::Location;
use jtp_tokio::ShutdownSignal;
use jtp_tokio::server::{PlainPolicy, Server, ServerConfig};
use jtp_tokio::store::ImageStore;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::cache;
use crate::exit::{Exit, Failure};
use crate::limits;
use crate::logging;
use crate::server_args::ServerArgs;
use crate::service_manager;
use crate::signals::{self, AtStart, Hangups};
use crate::terminal::stdout_line_detached;
use crate::tls::server::{Files, ServerTls};
use crate::units::none_if_zero;
use listen::Socket;
use metrics::Metrics;
use open::{folder_failure, open_store};
use source::Source;
use status::{Phase, Status};

/// The time for the exit after the drain time.
const EXIT_TIME: Duration = Duration::from_secs(10);

/// The number of tasks that a thread of the runtime polls before it looks for new events of sockets. With tokio's 61, a
/// flood of TLS handshakes, of which each takes up to a millisecond, would delay every request by that much more.
const EVENT_INTERVAL: u32 = 4;

/// Runs the program.
#[must_use]
pub fn main(args: &ServerArgs) -> Exit {
    let signals = signals::prepare();
    // First, while there is one thread: it removes variables from the environment.
    let passed = activation::take();
    let _log = logging::start_server(args.verbose, args.log_format);
    match passed.and_then(|passed| run(args, passed, signals)) {
        Ok(()) => Exit::Success,
        Err(failure) => {
            logging::error_line(&failure.message);
            // 1 is the server's only code for errors; clap reports usage errors (2).
            Exit::Other
        }
    }
}

fn run(
    args: &ServerArgs,
    passed: Option<std::net::TcpListener>,
    signals: AtStart,
) -> Result<(), Failure> {
    let location = location(args)?;
    if args.index_only {
        return index_only(args, location.as_ref(), signals);
    }
    if location.is_none() {
        if args.store_cache_size > 0 {
            return Err(Failure::other(
                "--store-cache-size is for images in an object store: name its URL with --images, or leave the option out",
            ));
        }
        // Checked first, so that a mistyped folder does not leave a new certificate behind.
        std::fs::read_dir(&args.images).map_err(|error| folder_failure(&args.images, &error))?;
    }
    let tls = if args.no_tls {
        None
    } else {
        Some(Arc::new(load_tls(args)?))
    };
    // Binds before the initial scan, so that a port in use is reported at once. Listens only after the scan.
    let socket = Socket::new(passed, &args.bind)?;
    let metrics = match args.metrics {
        Some(address) => Some((address, Metrics::bind(address)?)),
        None => None,
    };
    let files = limits::raise_open_files();
    // Before other threads are started: a kernel before Landlock's version 8 does not confine threads that run already.
    cache::create(args);
    confine::confine(args);
    logging::start_server_thread();
    let (shutdown, hangups) = signals::listen_as_server(signals)?;
    let runtime = start_runtime()?;
    let serving = serve(
        args, location, socket, metrics, tls, files, shutdown, hangups,
    );
    let result = runtime.block_on(serving);
    // Does not wait for an initial scan that was interrupted.
    runtime.shutdown_background();
    result
}

fn start_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .event_interval(EVENT_INTERVAL)
        .build()
        .map_err(|error| Failure::other(format!("cannot start the async runtime: {error}")))
}

#[cfg(feature = "object-store")]
fn location(args: &ServerArgs) -> Result<Option<Location>, Failure> {
    bucket::location(args)
}

/// `--index-only`.
#[cfg(feature = "object-store")]
fn index_only(
    args: &ServerArgs,
    location: Option<&Location>,
    signals: AtStart,
) -> Result<(), Failure> {
    let Some(location) = location else {
        return Err(Failure::other(
            "--index-only is for images in an object store: name its URL with --images",
        ));
    };
    confine::confine(args);
    logging::start_server_thread();
    let (shutdown, _hangups) = signals::listen_as_server(signals)?;
    let runtime = start_runtime()?;
    let result = runtime.block_on(bucket::index(args, location, &shutdown));
    runtime.shutdown_background();
    result
}

/// No URL is the location of images in this program.
#[cfg(not(feature = "object-store"))]
type Location = std::convert::Infallible;

#[cfg(not(feature = "object-store"))]
fn location(args: &ServerArgs) -> Result<Option<Location>, Failure> {
    match args
        .images
        .to_str()
        .is_some_and(|text| text.contains("://"))
    {
        true => Err(without_object_stores()),
        false => Ok(None),
    }
}

#[cfg(not(feature = "object-store"))]
fn index_only(_: &ServerArgs, _: Option<&Location>, _: AtStart) -> Result<(), Failure> {
    Err(without_object_stores())
}

#[cfg(not(feature = "object-store"))]
fn without_object_stores() -> Failure {
    Failure::other("this program was built without object stores (feature object-store)")
}

/// The store, and a task that is waited for after the shutdown.
async fn open_source(
    args: &ServerArgs,
    location: Option<&Location>,
    status: Arc<Status>,
    shutdown: &ShutdownSignal,
) -> Result<(Source, Option<JoinHandle<()>>), Failure> {
    match location {
        None => {
            let store = open_store(args, status).await?;
            Ok((Source::Folder(store), None))
        }
        #[cfg(feature = "object-store")]
        Some(location) => {
            let (images, indexing) = bucket::open(args, location, shutdown).await?;
            Ok((Source::Bucket(images), Some(indexing)))
        }
        #[cfg(not(feature = "object-store"))]
        Some(never) => {
            let _ = shutdown;
            match *never {}
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "each is passed once")]
async fn serve(
    args: &ServerArgs,
    location: Option<Location>,
    socket: Socket,
    metrics: Option<(SocketAddr, std::net::TcpListener)>,
    tls: Option<Arc<ServerTls>>,
    files: Option<u64>,
    shutdown: ShutdownSignal,
    hangups: Hangups,
) -> Result<(), Failure> {
    let status = Arc::new(Status::default());
    let metrics = match metrics {
        Some((address, listener)) => Some(Metrics::serve(address, listener, Arc::clone(&status))?),
        None => None,
    };
    let (store, task) = tokio::select! {
        opened = open_source(args, location.as_ref(), Arc::clone(&status), &shutdown) => opened?,
        never = status.report_scan() => never,
        () = shutdown.wait() => {
            service_manager::stopping(None);
            tracing::info!("stopped before the initial scan completed");
            return Ok(());
        }
    };
    let (listener, address) = socket.listen(&args.bind)?;
    let server = build(
        args,
        tls.as_deref(),
        files,
        store.store(),
        metrics.as_deref(),
    );
    log_start(args, &store, address);
    if let Some(metrics) = metrics {
        metrics.set_sources(server.clone(), store, args.cache_size);
    }
    status.set_phase(Phase::Serving);
    service_manager::ready(&reload::serving_on(address));
    tokio::spawn(reload::at_hangups(
        tls,
        hangups,
        Arc::clone(&status),
        address,
    ));
    tokio::spawn(service_manager::watchdog());
    stdout_line_detached(format!("listening on {address}"));
    let served = serve_until_shutdown(args, &server, listener, &status, shutdown).await;
    if let Some(task) = task.filter(|_| served.is_ok()) {
        _ = task.await;
    }
    tracing::info!("stopped");
    served
}

async fn serve_until_shutdown(
    args: &ServerArgs,
    server: &Server,
    listener: TcpListener,
    status: &Status,
    shutdown: ShutdownSignal,
) -> Result<(), Failure> {
    let stopping = async {
        shutdown.wait().await;
        status.set_phase(Phase::Draining);
        let drain = none_if_zero(args.drain_timeout);
        service_manager::stopping(drain.map(|drain| drain.saturating_add(EXIT_TIME)));
        tracing::info!(
            "stopping: waiting for requests in progress; a second signal exits immediately"
        );
    };
    let served = server.serve(listener, stopping).await;
    let counters = server.counters();
    tracing::debug!(
        connections = counters.connections_accepted,
        refused = counters.connections_refused,
        images = counters.images_sent,
        bytes = counters.body_bytes_sent,
        "served"
    );
    served.map_err(|error| Failure::other(format!("cannot continue serving: {error}")))
}

fn build(
    args: &ServerArgs,
    tls: Option<&ServerTls>,
    files: Option<u64>,
    store: Arc<dyn ImageStore>,
    metrics: Option<&Metrics>,
) -> Server {
    let config = ServerConfig::new()
        .with_idle_timeout(none_if_zero(args.keep_alive_timeout))
        .with_watch(!args.no_watch);
    let mut builder = Server::builder(store)
        .config(config)
        .plain(plain_policy(args))
        .max_connections(limits::connections(args.max_connections, files))
        .tcp_nodelay(!args.no_tcp_nodelay)
        .drain_timeout(none_if_zero(args.drain_timeout));
    if let Some(max) = args.max_connections_per_ip {
        builder = builder.max_connections_per_ip(max);
    }
    if let Some(max) = args.max_watchers {
        builder = builder.max_watchers(max);
    }
    if let Some(max) = args.max_handshakes {
        builder = builder.max_handshakes(max);
    }
    if let Some(tls) = tls {
        builder = builder.tls(tls.config());
        if let Some(clients) = tls.clients() {
            builder = builder.clients(clients.clone());
        }
    }
    if let Some((requests, window)) = args.rate_limit() {
        builder = builder.rate_limit(requests, window);
    }
    if !args.proxy_protocol.is_empty() {
        let proxies = args.proxy_protocol.clone();
        builder =
            builder.proxy_protocol(move |ip| proxies.iter().any(|network| network.contains(&ip)));
    }
    if let Some(metrics) = metrics {
        builder = builder.observer(metrics.observer());
    }
    builder.build()
}

const fn plain_policy(args: &ServerArgs) -> PlainPolicy {
    if args.allow_plain {
        PlainPolicy::Allow
    } else if args.require_tls || args.clients.is_some() {
        PlainPolicy::Refuse
    } else {
        PlainPolicy::Loopback
    }
}

fn load_tls(args: &ServerArgs) -> Result<ServerTls, Failure> {
    ServerTls::load(Files {
        cert: args.cert(),
        key: args.key(),
        clients: args.clients.clone(),
    })
}

fn log_start(args: &ServerArgs, store: &Source, address: SocketAddr) {
    let catalog = store.catalog().snapshot();
    let bytes: u64 = catalog.entries().map(|entry| u64::from(entry.length)).sum();
    let transport = match plain_policy(args) {
        _ if args.no_tls => "plain TCP",
        _ if args.clients.is_some() => "TLS, for listed clients only",
        PlainPolicy::Refuse => "TLS",
        PlainPolicy::Loopback => "TLS, and plain TCP from this machine",
        _ => "TLS and plain TCP",
    };
    let images = if catalog.len() == 1 {
        "image"
    } else {
        "images"
    };
    let count = HumanCount(u64::try_from(catalog.len()).unwrap_or(u64::MAX));
    tracing::info!(
        "sharing {count} {images} ({}) from {} on {address} over {transport}",
        HumanBytes(bytes),
        args.images.display()
    );
    if let Some(folder) = store.folder() {
        summary::log(&folder.left_out(), args.log_format);
    }
    if args.clients.is_none() && !address.ip().to_canonical().is_loopback() {
        tracing::warn!(
            "everyone who can connect to {address} can fetch every image: admit only known clients with --clients, or listen on a loopback address with --bind"
        );
    }
    if !args.proxy_protocol.is_empty() {
        let proxies: Vec<_> = args
            .proxy_protocol
            .iter()
            .map(ToString::to_string)
            .collect();
        tracing::info!(
            "connections from {} must begin with a PROXY protocol header",
            proxies.join(", ")
        );
    }
}
