//! Creates clients for the server on the command line, and converts client errors into messages and exit codes.

mod message;

use std::path::Path;
use std::time::Duration;

use jtp_core::client::{ClientConfig, DEFAULT_MINIMUM_BYTES, DEFAULT_RESPONSE_TIMEOUT};
use jtp_tokio::client::{Client, ClientBuilder};

use crate::client_args::ClientArgs;
use crate::exit::Failure;
use crate::trust;
use crate::units::none_if_zero;
pub use message::{failure, retry_message};

/// The default of `--cert`, if the file exists.
const DEFAULT_CERT: &str = "cert.pem";

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
        let mut builder = Client::builder(args.addr.to_string())
            .config(config)
            .keep_alive(args.keep_alive)
            .connect_timeout(none_if_zero(args.connect_timeout))
            .retries(args.retries)
            .tcp_nodelay(!args.no_tcp_nodelay);
        if args.tls {
            let name = trust::server_name(args.server_name.as_deref(), &args.addr)?;
            builder = builder.tls(trust::client_config(trusted_file(args))?, name);
        }
        Ok(Connector { builder })
    }

    /// Returns a client that connects at its first request.
    #[must_use]
    pub fn client(&self) -> Client {
        self.builder.clone().build()
    }

    /// The configuration of the clients.
    pub fn builder(&self) -> ClientBuilder {
        self.builder.clone()
    }
}

/// The bytes that must arrive within each timeout: the same rate as by default. // T6
fn minimum_bytes(timeout: Duration) -> u64 {
    const PER_SECOND: u64 = DEFAULT_MINIMUM_BYTES / DEFAULT_RESPONSE_TIMEOUT.as_secs();
    timeout.as_secs().saturating_mul(PER_SECOND)
}

/// The file of trusted certificates; `None` means the system's roots.
fn trusted_file(args: &ClientArgs) -> Option<&Path> {
    let default = Path::new(DEFAULT_CERT);
    args.cert
        .as_deref()
        .or_else(|| default.is_file().then_some(default))
}
