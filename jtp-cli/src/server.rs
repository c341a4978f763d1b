//! The program `server`.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount};
use jtp_core::compress::Threshold;
use jtp_store::{DirStore, DirStoreError, Follow, IndexProgress};
use jtp_tokio::ShutdownSignal;
use jtp_tokio::server::{PlainPolicy, Server, ServerConfig};
use jtp_tokio::store::ImageStore;
use tokio::net::{TcpListener, TcpSocket};

use crate::address::Address;
use crate::cache;
use crate::certificates;
use crate::exit::{Exit, Failure, error_chain};
use crate::limits;
use crate::logging;
use crate::server_args::ServerArgs;
use crate::signals;
use crate::terminal::stdout_line_detached;
use crate::units::none_if_zero;

/// Length of the listen queue.
const BACKLOG: u32 = 1024;

/// How often the initial scan logs its progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Runs the program.
#[must_use]
pub fn main(args: &ServerArgs) -> Exit {
    let _log = logging::start_server(args.verbose, args.log_format);
    match run(args) {
        Ok(()) => Exit::Success,
        Err(failure) => {
            logging::error_line(&failure.message);
            // 1 is the server's only code for errors; clap reports usage errors (2).
            Exit::Other
        }
    }
}

fn run(args: &ServerArgs) -> Result<(), Failure> {
    let shutdown = signals::listen(Exit::Other)?;
    // Checked first, so that a mistyped folder does not leave a new certificate behind.
    std::fs::read_dir(&args.images).map_err(|error| folder_failure(&args.images, &error))?;
    let tls = if args.no_tls {
        None
    } else {
        Some(tls_config(args)?)
    };
    let files = limits::raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::other(format!("cannot start the async runtime: {error}")))?;
    let result = runtime.block_on(serve(args, tls, files, shutdown));
    // Does not wait for an initial scan that was interrupted.
    runtime.shutdown_background();
    result
}

async fn serve(
    args: &ServerArgs,
    tls: Option<rustls::ServerConfig>,
    files: Option<u64>,
    shutdown: ShutdownSignal,
) -> Result<(), Failure> {
    // Binds before the initial scan, so that a port in use is reported at once. Listens only after the scan.
    let socket = bind(&args.bind).await?;
    let store = tokio::select! {
        store = open_store(args) => store?,
        () = shutdown.wait() => {
            tracing::info!("stopped before the initial scan completed");
            return Ok(());
        }
    };
    let listener = socket
        .listen(BACKLOG)
        .map_err(|error| listen_failure(&args.bind, &error))?;
    let address = listener
        .local_addr()
        .map_err(|error| listen_failure(&args.bind, &error))?;
    let server = build(args, tls, files, Arc::clone(&store));
    log_start(args, &store, address);
    stdout_line_detached(format!("listening on {address}"));
    serve_until_shutdown(&server, listener, shutdown).await
}

async fn serve_until_shutdown(
    server: &Server,
    listener: TcpListener,
    shutdown: ShutdownSignal,
) -> Result<(), Failure> {
    let stopping = async {
        shutdown.wait().await;
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
    tracing::info!("stopped");
    served.map_err(|error| Failure::other(format!("cannot continue serving: {error}")))
}

fn build(
    args: &ServerArgs,
    tls: Option<rustls::ServerConfig>,
    files: Option<u64>,
    store: Arc<DirStore>,
) -> Server {
    let config = ServerConfig::new()
        .with_idle_timeout(none_if_zero(args.keep_alive_timeout))
        .with_watch(!args.no_watch);
    let mut builder = Server::builder(store)
        .config(config)
        .plain(plain_policy(args))
        .max_connections(limits::connections(args.max_connections, files))
        .max_connections_per_ip(args.max_connections_per_ip)
        .tcp_nodelay(!args.no_tcp_nodelay)
        .drain_timeout(none_if_zero(args.drain_timeout));
    if let Some(tls) = tls {
        builder = builder.tls(tls);
    }
    if let Some((requests, window)) = args.rate_limit() {
        builder = builder.rate_limit(requests, window);
    }
    builder.build()
}

const fn plain_policy(args: &ServerArgs) -> PlainPolicy {
    if args.allow_plain {
        PlainPolicy::Allow
    } else if args.require_tls {
        PlainPolicy::Refuse
    } else {
        PlainPolicy::Loopback
    }
}

fn tls_config(args: &ServerArgs) -> Result<rustls::ServerConfig, Failure> {
    let (cert, key) = (args.cert(), args.key());
    if certificates::create_if_missing(&cert, &key)? {
        tracing::info!(
            "generated the certificate {} (clients trust it with --cert) and its private key {}",
            cert.display(),
            key.display()
        );
    }
    certificates::server_config(&cert, &key)
}

/// Opens the store and reads all images, on the store's threads.
async fn open_store(args: &ServerArgs) -> Result<Arc<DirStore>, Failure> {
    let folder = args.images.clone();
    let mut builder = DirStore::builder(&folder)
        .compression(Threshold::new(args.compression_threshold).unwrap_or_default())
        .follow(args.rescan().map_or(Follow::Events, Follow::Interval))
        .rehash(args.checksum);
    builder = cache::configure(builder, args);
    if let Some(only) = &args.only {
        builder = builder.only(only);
    }
    let mut logged = Instant::now();
    builder = builder.progress(move |progress: IndexProgress| {
        if logged.elapsed() >= PROGRESS_INTERVAL {
            logged = Instant::now();
            tracing::info!(
                "reading the images: {} of {} files, {}",
                HumanCount(progress.files_done),
                HumanCount(progress.files_total),
                HumanBytes(progress.bytes)
            );
        }
    });
    let opened = tokio::task::spawn_blocking(move || builder.open()).await;
    match opened {
        Ok(Ok(store)) => Ok(Arc::new(store)),
        Ok(Err(DirStoreError::Folder { path, source })) => Err(folder_failure(&path, &source)),
        Ok(Err(error)) => Err(Failure::other(error_chain(&error))),
        Err(error) => Err(Failure::other(format!(
            "reading the images failed: {error}"
        ))),
    }
}

fn folder_failure(path: &Path, error: &io::Error) -> Failure {
    Failure::other(format!(
        "cannot read the images folder {}: {error}; choose another with --images",
        path.display()
    ))
}

async fn bind(address: &Address) -> Result<TcpSocket, Failure> {
    let found = tokio::net::lookup_host((address.host.as_str(), address.port))
        .await
        .map_err(|error| {
            Failure::other(format!(
                "cannot resolve {}: {error}; choose an address of this machine with --bind",
                address.host
            ))
        })?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no addresses");
    for address in found {
        match bind_one(address) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(listen_failure(address, &last))
}

fn bind_one(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // Allows reuse of the port while old connections are in TIME_WAIT. On Windows the option has another meaning.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn listen_failure(address: &Address, error: &io::Error) -> Failure {
    Failure::other(match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "cannot listen on {address}: the port is in use; stop the program that uses it, or choose another with --bind"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "cannot listen on {address}: permission denied; choose a port above 1023 with --bind"
        ),
        io::ErrorKind::AddrNotAvailable => format!(
            "cannot listen on {address}: not an address of this machine; choose another with --bind"
        ),
        _ => format!("cannot listen on {address}: {error}"),
    })
}

fn log_start(args: &ServerArgs, store: &DirStore, address: SocketAddr) {
    let catalog = store.catalog().snapshot();
    let bytes: u64 = catalog.entries().map(|entry| u64::from(entry.length)).sum();
    let transport = match plain_policy(args) {
        _ if args.no_tls => "plain TCP",
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
}
