//! Creates clients for the server on the command line, and converts client errors into messages and exit codes.

mod message;

use std::sync::Arc;
use std::time::Duration;

use jtp_core::client::{ClientConfig, DEFAULT_MINIMUM_BYTES, DEFAULT_RESPONSE_TIMEOUT};
use jtp_tokio::client::{Client, ClientBuilder};

use crate::client_args::ClientArgs;
use crate::endpoint::Endpoint;
use crate::exit::{Exit, Failure};
use crate::terminal::{stderr_line, stdout_line};
use crate::tls::identity::Identity;
use crate::tls::trust::{self, Trust};
use crate::units::none_if_zero;
pub use message::{failure, replica_failure, retry_message, server_changed};

/// Creates clients for the server on the command line.
#[derive(Debug, Clone)]
pub struct Connector {
    builder: ClientBuilder,
}

impl Connector {
    /// Prepares the client configuration, without connecting.
    ///
    /// # Errors
    ///
    /// TLS cannot be set up.
    pub fn new(args: &ClientArgs) -> Result<Connector, Failure> {
        let config = ClientConfig::new()
            .with_response_timeout(none_if_zero(args.timeout))
            .with_minimum_bytes(minimum_bytes(args.timeout))
            .with_max_image_size(args.max_image_size)
            .with_pipeline(args.pipeline);
        let tls = match args.servers.all().any(|at| args.uses_tls(at)) {
            true => Some(tls_config(args)?),
            false => None,
        };
        let mut builder = server_builder(args, args.servers.first(), tls.as_ref())?
            .config(config)
            .keep_alive(args.keep_alive)
            .retries(args.retries);
        if let Some(rate) = args.limit_rate {
            builder = builder.max_rate(rate);
        }
        for at in args.servers.replicas() {
            builder = builder.replica(server_builder(args, at, tls.as_ref())?);
        }
        Ok(Connector { builder })
    }

    /// The configuration of the clients.
    pub fn builder(&self) -> ClientBuilder {
        self.builder.clone()
    }
}

/// How to connect to a server.
fn server_builder(
    args: &ClientArgs,
    at: &Endpoint,
    tls: Option<&Arc<rustls::ClientConfig>>,
) -> Result<ClientBuilder, Failure> {
    let builder = Client::builder(at.to_string())
        .connect_timeout(none_if_zero(args.connect_timeout))
        .tcp_nodelay(!args.no_tcp_nodelay);
    if let Some(config) = tls.filter(|_| args.uses_tls(at)) {
        let name = trust::server_name(args.server_name.as_deref(), &at.address)?;
        return Ok(builder.tls(Arc::clone(config), name));
    }
    if !args.quiet && !at.address.is_loopback() {
        stderr_line(format_args!(
            "warning: the connection to {at} is neither encrypted nor verified: others in the network can read and change what it transfers; use {}",
            args.servers.tls_flag(at)
        ));
    }
    Ok(builder)
}

fn tls_config(args: &ClientArgs) -> Result<Arc<rustls::ClientConfig>, Failure> {
    let trust = Trust::of(args);
    tracing::info!("the server's certificate is verified with {trust}");
    Ok(Arc::new(trust::client_config(&trust, identity(args)?)?))
}

/// The bytes that must arrive within each timeout: the same rate as by default. // T6
fn minimum_bytes(timeout: Duration) -> u64 {
    const PER_SECOND: u64 = DEFAULT_MINIMUM_BYTES / DEFAULT_RESPONSE_TIMEOUT.as_secs();
    timeout.as_secs().saturating_mul(PER_SECOND)
}

/// The identity of `--identity`. It is created on first use, and its line for the server is printed.
fn identity(args: &ClientArgs) -> Result<Option<Identity>, Failure> {
    let Some(path) = &args.identity else {
        return Ok(None);
    };
    let (identity, created) = Identity::read_or_create(path)?;
    if let (Some(exposed), false) = (&identity.exposed, args.quiet) {
        stderr_line(format_args!("warning: {exposed}"));
    }
    if created && !args.quiet {
        stderr_line(format_args!(
            "created the identity {}; the server's --clients file needs the line: {}",
            path.display(),
            identity.line()
        ));
    }
    Ok(Some(identity))
}

/// Prints the line of `--show-identity`. Creates a missing identity.
///
/// # Errors
///
/// The identity cannot be read or written, or stdout cannot be written.
pub fn show_identity(args: &ClientArgs) -> Result<(), Failure> {
    let Some(path) = &args.identity else {
        return Err(Failure::other("--show-identity requires --identity"));
    };
    let (identity, _) = Identity::read_or_create(path)?;
    if let (Some(exposed), false) = (&identity.exposed, args.quiet) {
        stderr_line(format_args!("warning: {exposed}"));
    }
    stdout_line(format_args!("{}", identity.line()))
        .map_err(|error| Failure::new(Exit::Disk, format!("cannot write to stdout: {error}")))
}
