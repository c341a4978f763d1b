//! Short programs that show how to use JTP. This library has what they share: argument parsing, certificates, exit
//! codes.
//!
//! # Examples
//!
//! They are in the parent folder. Run them from the root of the workspace:
//!
//! | example | what it shows |
//! |---|---|
//! | `serve_tokio`, `serve_async_std`, `serve_blocking` | serve a folder, on each runtime |
//! | `sync_tokio`, `sync_async_std`, `sync_blocking` | keep a folder in step with a server, with progress and Ctrl-C |
//! | `fetch` | the bare client: fetch all images of a server |
//! | `sync` | server and client in one process: serve, fetch, watch, fetch the difference |
//! | `memory_store` | a custom store: images generated while they are sent |
//! | `tenants` | client certificates: each tenant of a TLS server sees its own catalog |
//! | `metrics` | a Prometheus page beside a server |
//! | `edge_cache` | a server that caches the images of an upstream server in a bounded folder |
//! | `web_gallery` | a server whose images are also a web page, with ranges and server-sent events |
//! | `sans_io` | `jtp-core` without I/O: client and server joined in memory, each byte explained |
//! | `idle_load` | what idle and slow connections cost the others |
//! | `benchmark_peer` | what `benchmark/run` compares the programs with: a bare copy over TCP, and hashing alone |
//!
//! Any server goes with any client:
//!
//! ```console
//! $ cargo run --example serve_tokio -- --bind 127.0.0.1:8443 --images images
//! listening on 127.0.0.1:8443
//!
//! $ cargo run --example sync_blocking -- --addr 127.0.0.1:8443 --out output
//! ```
//!
//! With `--tls` a server makes a certificate for this run and writes it to `cert.pem`; a client trusts it with
//! `--cert cert.pem`.
#![forbid(unsafe_code)]

/// The programs that docs/library.md shows compile.
#[cfg(doctest)]
#[doc = include_str!("../../docs/library.md")]
pub struct LibraryPage;

/// So do those of jtp-sync, which depends on no adapter.
#[cfg(doctest)]
#[doc = include_str!("../../jtp-sync/README.md")]
pub struct SyncReadme;

use std::error::Error;
use std::ffi::OsString;
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use jtp_sync::{Observer, SyncEvent};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};

/// An error ends the example.
pub type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

/// The arguments of `serve_*`.
#[derive(Debug, Default)]
pub struct ServeArgs {
    /// Address and port to listen on; port 0 picks a free port.
    pub bind: String,
    /// The folder to serve.
    pub images: PathBuf,
    /// Whether to serve TLS.
    pub tls: bool,
}

/// The arguments of `fetch` and `sync_*`.
#[derive(Debug, Default)]
pub struct FetchArgs {
    /// The server, as `HOST:PORT`.
    pub addr: String,
    /// The output folder.
    pub out: PathBuf,
    /// The certificate to trust. Enables TLS.
    pub cert: Option<PathBuf>,
}

impl ServeArgs {
    /// Parses the program's arguments.
    ///
    /// # Errors
    ///
    /// The arguments are invalid. The error is the usage line.
    pub fn parse() -> Result<ServeArgs> {
        let usage = "usage: --bind ADDR --images DIR [--tls]";
        let mut args = ServeArgs::default();
        let mut given = std::env::args_os().skip(1);
        while let Some(option) = given.next() {
            match option.to_str() {
                Some("--bind") => args.bind = text(given.next()).ok_or(usage)?,
                Some("--images") => args.images = given.next().ok_or(usage)?.into(),
                Some("--tls") => args.tls = true,
                _ => return Err(usage.into()),
            }
        }
        let complete = !args.bind.is_empty() && !args.images.as_os_str().is_empty();
        complete.then_some(args).ok_or_else(|| usage.into())
    }
}

impl FetchArgs {
    /// Parses the program's arguments.
    ///
    /// # Errors
    ///
    /// The arguments are invalid. The error is the usage line.
    pub fn parse() -> Result<FetchArgs> {
        let usage = "usage: --addr HOST:PORT --out DIR [--cert PEM]";
        let mut args = FetchArgs::default();
        let mut given = std::env::args_os().skip(1);
        while let Some(option) = given.next() {
            match option.to_str() {
                Some("--addr") => args.addr = text(given.next()).ok_or(usage)?,
                Some("--out") => args.out = given.next().ok_or(usage)?.into(),
                Some("--cert") => args.cert = Some(given.next().ok_or(usage)?.into()),
                _ => return Err(usage.into()),
            }
        }
        let complete = !args.addr.is_empty() && !args.out.as_os_str().is_empty();
        complete.then_some(args).ok_or_else(|| usage.into())
    }

    /// The name to verify in the server's certificate: the host of the address.
    ///
    /// # Errors
    ///
    /// The address has no port, or its host is not a valid name.
    pub fn server_name(&self) -> Result<ServerName<'static>> {
        let (host, _) = self
            .addr
            .rsplit_once(':')
            .ok_or("the address needs a port")?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Ok(ServerName::try_from(host.to_owned())?)
    }
}

fn text(argument: Option<OsString>) -> Option<String> {
    argument?.into_string().ok()
}

/// Returns a TLS configuration for a server, with a new self-signed certificate for this machine. Writes the
/// certificate to `cert.pem` in the current folder. The key stays in memory.
///
/// # Errors
///
/// The file cannot be written, or the folder has a `key.pem`: then `cert.pem` belongs to the program `server`.
pub fn server_tls() -> Result<rustls::ServerConfig> {
    if Path::new("key.pem").exists() {
        return Err(
            "cert.pem would be overwritten, but it belongs to key.pem: run this in another folder"
                .into(),
        );
    }
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let certified = rcgen::generate_simple_self_signed(names)?;
    let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key.into())?;
    std::fs::write("cert.pem", certified.cert.pem()).map_err(|e| format!("cert.pem: {e}"))?;
    Ok(config)
}

/// Returns a TLS configuration for a client that trusts only the certificates of a PEM file.
///
/// # Errors
///
/// The file cannot be read, or contains no certificate.
pub fn client_tls(cert: &Path) -> Result<rustls::ClientConfig> {
    let failed = |e: &dyn Error| format!("{}: {e}", cert.display());
    let mut roots = rustls::RootCertStore::empty();
    for der in CertificateDer::pem_file_iter(cert).map_err(|e| failed(&e))? {
        roots
            .add(der.map_err(|e| failed(&e))?)
            .map_err(|e| failed(&e))?;
    }
    if roots.is_empty() {
        return Err(failed(&rustls::pki_types::pem::Error::NoItemsFound).into());
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// Prints the progress of a sync: a line for each image, on stdout, and failures on stderr.
#[must_use]
pub fn progress() -> impl Observer {
    let (planned, placed) = (AtomicU64::new(0), Mutex::new(0));
    move |event: &SyncEvent<'_>| match event {
        SyncEvent::Planned(totals) => planned.store(totals.planned.images, Ordering::Relaxed),
        SyncEvent::Placed { name, bytes, .. } => {
            // Several threads place images. The lock keeps their lines in order.
            let placed = &mut *placed.lock().unwrap_or_else(PoisonError::into_inner);
            *placed += 1;
            let planned = planned.load(Ordering::Relaxed);
            println!("{placed} of {planned}: {:?}, {bytes} bytes", name.as_str());
        }
        SyncEvent::Renamed { from, to, .. } => {
            println!("renamed {from:?} to {:?}", to.as_str());
        }
        SyncEvent::Refused { id, reason, .. } => eprintln!("{id}: {reason}"),
        SyncEvent::Retrying { error, pause, .. } => {
            eprintln!("{}; trying again in {pause:?}", chain(error));
        }
        SyncEvent::Watching => println!("watching for new images; Ctrl-C ends the program"),
        _ => {}
    }
}

/// Calls `action` at the first Ctrl-C, on a thread of its own. The signal handler is tokio's, on every runtime.
///
/// # Errors
///
/// The thread or the signal handler cannot be started.
pub fn on_ctrl_c(action: impl FnOnce() + Send + 'static) -> Result {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (installed, is_installed) = mpsc::channel();
    std::thread::Builder::new().spawn(move || {
        let mut pressed = pin!(tokio::signal::ctrl_c());
        let waiting = poll_fn(|cx| {
            let polled = pressed.as_mut().poll(cx);
            // The first poll installs the handler. Nobody waits for the later ones.
            let _ = installed.send(());
            polled
        });
        if runtime.block_on(waiting).is_ok() {
            action();
        }
    })?;
    is_installed.recv()?;
    Ok(())
}

/// An error and its causes in one line, as in `cannot connect to localhost:1: Connection refused`. The errors of JTP do
/// not contain their causes in their own text.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line = format!("{line}: {cause}");
        source = cause.source();
    }
    line
}

/// Converts the result of a program into its exit code. Prints an error as one line.
#[must_use]
pub fn exit(result: Result) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {}", chain(&*e));
            ExitCode::FAILURE
        }
    }
}
