//! The program `server`.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount};
use jtp_core::compress::Threshold;
use jtp_core::server::{PlainPolicy, ServerConfig};
use jtp_store::{DirStore, DirStoreError, Follow, ImageStore, Progress};
use jtp_tokio::Server;
use tokio::net::{TcpListener, TcpSocket};

use crate::address::Address;
use crate::cache;
use crate::certificates;
use crate::exit::{Exit, Failure};
use crate::limits;
use crate::logging::{self, Base};
use crate::server_args::ServerArgs;
use crate::signals::{self, Stop};
use crate::terminal::{note_line, result_line};
use crate::units::unless_zero;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// How often the first index says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Runs the program.
#[must_use]
pub fn main(args: &ServerArgs) -> Exit {
    logging::start(Base::Operator, args.verbose);
    match run(args) {
        Ok(()) => Exit::Success,
        Err(failure) => {
            note_line(format_args!("error: {failure}"));
            // The server's contract knows no other code.
            Exit::Other
        }
    }
}

fn run(args: &ServerArgs) -> Result<(), Failure> {
    let stop = signals::listen(Exit::Other)?;
    // Looked at first: whoever mistypes the folder gets no certificate in the wrong place.
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
        .map_err(|error| Failure::other(format!("cannot start threads: {error}")))?;
    let result = runtime.block_on(serve(args, tls, files, stop));
    // An index that was broken off is not waited for.
    runtime.shutdown_background();
    result
}

async fn serve(
    args: &ServerArgs,
    tls: Option<rustls::ServerConfig>,
    files: Option<u64>,
    mut stop: Stop,
) -> Result<(), Failure> {
    // Bound before the index, so that a port in use is told at once; open for connections only after it.
    let socket = bind(&args.bind).await?;
    let store = tokio::select! {
        store = index(args) => store?,
        () = stop.requested() => {
            tracing::info!("stopped before the first index was complete");
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
    tell_start(args, &store, address);
    // Whoever started this may not read it.
    let _ = result_line(format_args!("listening on {address}"));
    run_until_stopped(&server, listener, stop).await
}

async fn run_until_stopped(
    server: &Server<DirStore>,
    listener: TcpListener,
    mut stop: Stop,
) -> Result<(), Failure> {
    let stopping = async {
        stop.requested().await;
        tracing::info!("stopping: what is under way is finished; a second signal ends at once");
    };
    let served = server.serve(listener, stopping).await;
    tracing::info!("stopped");
    served.map_err(|error| Failure::other(format!("cannot go on serving: {error}")))
}

fn build(
    args: &ServerArgs,
    tls: Option<rustls::ServerConfig>,
    files: Option<u64>,
    store: Arc<DirStore>,
) -> Server<DirStore> {
    let config = ServerConfig::new()
        .with_idle_timeout(unless_zero(args.keep_alive_timeout))
        .with_watch(!args.no_watch);
    let mut builder = Server::builder(store)
        .config(config)
        .plain(plain_policy(args))
        .max_connections(limits::connections(args.max_connections, files))
        .max_connections_per_ip(args.max_connections_per_ip)
        .tcp_nodelay(!args.no_tcp_nodelay)
        .drain_timeout(unless_zero(args.drain_timeout));
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
    if certificates::make_if_missing(&cert, &key)? {
        tracing::info!(
            "made a certificate for this machine: {} (clients trust it with --cert) and its key {}",
            cert.display(),
            key.display()
        );
    }
    certificates::server_config(&cert, &key)
}

/// Reads all images, on threads of the store's.
async fn index(args: &ServerArgs) -> Result<Arc<DirStore>, Failure> {
    let folder = args.images.clone();
    let mut builder = DirStore::builder(&folder)
        .compression(Threshold::new(args.compression_threshold).unwrap_or_default())
        .follow(args.rescan().map_or(Follow::Events, Follow::Interval))
        .read_anew(args.checksum);
    builder = cache::set_up(builder, args);
    if let Some(only) = &args.only {
        builder = builder.only(only);
    }
    let mut told = Instant::now();
    builder = builder.progress(move |progress: Progress| {
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
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
        Ok(Err(error)) => Err(Failure::other(error.to_string())),
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
                "cannot find {}: {error}; choose an address of this machine with --bind",
                address.host
            ))
        })?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
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
    // Connections that have just ended do not keep the port; elsewhere than on Unix it means another thing.
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
            "cannot listen on {address}: not permitted; choose a port over 1023 with --bind"
        ),
        io::ErrorKind::AddrNotAvailable => format!(
            "cannot listen on {address}: it is no address of this machine; choose one with --bind"
        ),
        _ => format!("cannot listen on {address}: {error}"),
    })
}

fn tell_start(args: &ServerArgs, store: &DirStore, address: SocketAddr) {
    let catalog = store.catalog().snapshot();
    let bytes: u64 = catalog.entries().map(|entry| u64::from(entry.length)).sum();
    let tongue = match (args.no_tls, plain_policy(args)) {
        (true, _) => "plain TCP",
        (false, PlainPolicy::Refuse) => "TLS",
        (false, PlainPolicy::Loopback) => "TLS, on this machine plain TCP too",
        (false, PlainPolicy::Allow) => "TLS and plain TCP",
    };
    let images = if catalog.len() == 1 {
        "image"
    } else {
        "images"
    };
    let count = HumanCount(u64::try_from(catalog.len()).unwrap_or(u64::MAX));
    tracing::info!(
        "sharing {count} {images} ({}) of {} on {address} by {tongue}",
        HumanBytes(bytes),
        args.images.display()
    );
}
