//! Short programs that show how JTP is used. This library is what they share and what is not about JTP:
//! arguments, a certificate, the exit.
//!
//! # Examples
//!
//! The files beside this folder, each to be run from the workspace's root:
//!
//! | example | what it shows |
//! |---|---|
//! | `serve_tokio`, `serve_async_std`, `serve_blocking` | a server of a folder, on each runtime |
//! | `fetch_tokio`, `fetch_async_std`, `fetch_blocking` | a client that fetches everything, verified, into a folder |
//! | `sync` | the main job in one process: serve, fetch, watch, fetch the difference |
//! | `memory_store` | a store of one's own: images that no disk and no memory holds |
//! | `sans_io` | the core alone: two machines joined in memory, with each byte explained |
//! | `idle_load` | what idle and slow connections cost the others |
//! | `benchmark_peer` | what `benchmark/run` compares the programs with: a bare copy over TCP, and hashing alone |
//!
//! Any server goes with any client:
//!
//! ```console
//! $ cargo run --example serve_tokio -- --bind 127.0.0.1:8443 --images images
//! listening on 127.0.0.1:8443
//!
//! $ cargo run --example fetch_blocking -- --addr 127.0.0.1:8443 --out output
//! ```
//!
//! With `--tls` a server makes a certificate for this run and writes it to `cert.pem`; a client trusts it with
//! `--cert cert.pem`.
#![forbid(unsafe_code)]

use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};

/// Whatever goes wrong in an example ends it.
pub type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

/// What a `serve_*` is told.
#[derive(Debug, Default)]
pub struct ServeArgs {
    /// Where to listen: an address and a port, 0 for one of the system's choice.
    pub bind: String,
    /// The folder to show.
    pub images: PathBuf,
    /// Whether to speak TLS.
    pub tls: bool,
}

/// What a `fetch_*` is told.
#[derive(Debug, Default)]
pub struct FetchArgs {
    /// The server: `HOST:PORT`.
    pub addr: String,
    /// The folder to fill.
    pub out: PathBuf,
    /// The certificate to trust; TLS is spoken if there is one.
    pub cert: Option<PathBuf>,
}

impl ServeArgs {
    /// Reads the program's arguments.
    ///
    /// # Errors
    ///
    /// The usage, if they are not those.
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
    /// Reads the program's arguments.
    ///
    /// # Errors
    ///
    /// The usage, if they are not those.
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

    /// Whom the server's certificate has to name.
    ///
    /// # Errors
    ///
    /// The address has no port, or its host is no name.
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

/// A server's TLS with a certificate for this machine by itself, made now and written to `cert.pem` in the
/// current folder. The key stays in memory.
///
/// # Errors
///
/// The file cannot be written, or belongs to a `key.pem` beside it, as the program `server` keeps the two.
pub fn server_tls() -> Result<rustls::ServerConfig> {
    if Path::new("key.pem").exists() {
        return Err(
            "cert.pem here belongs to key.pem and stays: run this in another folder".into(),
        );
    }
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names)?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())?;
    std::fs::write("cert.pem", made.cert.pem()).map_err(|e| format!("cert.pem: {e}"))?;
    Ok(config)
}

/// A client's TLS that trusts the certificates of a PEM file and no others.
///
/// # Errors
///
/// The file cannot be read, or holds no certificate.
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

/// The end of a program: an error is told in one line.
#[must_use]
pub fn exit(result: Result) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
