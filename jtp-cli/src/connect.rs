//! Creates clients for the server on the command line, and converts client errors into messages and exit codes.

use std::io;
use std::path::Path;
use std::time::Duration;

use jtp_core::client::{ClientConfig, ClientError, Location, PeerError};
use jtp_core::wire::response::ErrorCode;
use jtp_tokio::client::{Client, ClientBuilder, Error};
use rustls::CertificateError;

use crate::client_args::ClientArgs;
use crate::escape::{escaped, escaped_chain};
use crate::exit::{Exit, Failure};
use crate::trust;
use crate::units::none_if_zero;

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

    /// Returns a client that fails when its connection is lost, for callers with their own back-off.
    #[must_use]
    pub fn client_without_retries(&self) -> Client {
        self.builder.clone().retries(0).build()
    }
}

/// The file of trusted certificates; `None` means the system's roots.
fn trusted_file(args: &ClientArgs) -> Option<&Path> {
    let default = Path::new(DEFAULT_CERT);
    args.cert
        .as_deref()
        .or_else(|| default.is_file().then_some(default))
}

/// Converts a client error into a message for the user and an exit code.
#[must_use]
pub fn failure(error: &Error, args: &ClientArgs) -> Failure {
    let at = &args.addr;
    match error {
        Error::Connect { source, .. } => Failure::new(Exit::Connect, connect_message(source, args)),
        Error::Tls { source, .. } => Failure::new(Exit::Tls, tls_message(source, args)),
        Error::PlainServer { .. } => Failure::new(
            Exit::Tls,
            format!("{at} does not speak TLS: use --plain if you trust the network"),
        ),
        Error::TlsServer { .. } => Failure::new(Exit::Tls, format!("{at} requires TLS: use --tls")),
        Error::Protocol(error) => protocol_failure(error, args),
        Error::Io(source) => Failure::new(
            Exit::Connect,
            format!(
                "lost the connection to {at}: {source}; run again with --batch to fetch the remaining images"
            ),
        ),
        Error::Refused(error) => failure(error, args),
        Error::CatalogTooLarge { .. } => Failure::other(format!("{at}: {error}")),
        // Escaped because a later version's message may contain text from the peer.
        error => Failure::other(format!("{at}: {}", escaped_chain(error))),
    }
}

fn connect_message(source: &io::Error, args: &ClientArgs) -> String {
    let at = &args.addr;
    match source.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!("cannot connect to {at}: connection refused; is the server running?")
        }
        io::ErrorKind::TimedOut => format!(
            "cannot connect to {at}: timed out after {}; check --addr, or raise --connect-timeout",
            seconds(args.connect_timeout)
        ),
        _ => format!(
            "cannot connect to {at}: {}; check --addr",
            without_lookup_prefix(source)
        ),
    }
}

/// The first four DNS names of a certificate. rustls reports them as `DnsName("localhost")`.
fn dns_names(presented: &[String]) -> String {
    let dns_name = |name: &String| {
        let name = name.strip_prefix("DnsName(\"")?.strip_suffix("\")")?;
        Some(escaped(name).to_string())
    };
    let hosts: Vec<String> = presented.iter().filter_map(dns_name).take(4).collect();
    if hosts.is_empty() {
        return "another name".to_owned();
    }
    hosts.join(", ")
}

fn tls_message(source: &io::Error, args: &ClientArgs) -> String {
    let at = &args.addr;
    let inner = source
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(error)) => match error {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                match trusted_file(args) {
                    Some(path) => format!(
                        "the certificate of {at} is not trusted by {}: pass the server's own certificate with --cert",
                        path.display()
                    ),
                    None => format!(
                        "the certificate of {at} is not trusted by this system: pass the server's own certificate with --cert"
                    ),
                }
            }
            CertificateError::NotValidForName => {
                format!(
                    "the certificate of {at} is for another name: pass that name with --server-name"
                )
            }
            CertificateError::NotValidForNameContext { presented, .. } => format!(
                "the certificate of {at} is for {}: pass that name with --server-name",
                dns_names(presented)
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                format!("the certificate of {at} has expired: the server needs a new one")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                format!("the certificate of {at} is not valid yet: check this machine's clock")
            }
            error => format!(
                "the certificate of {at} was rejected: {}",
                escaped(&error.to_string())
            ),
        },
        Some(rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol)) => {
            format!("{at} speaks TLS but not JTP: check --addr")
        }
        Some(rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired)) => {
            format!("{at} requires a client certificate, which this program cannot present")
        }
        _ if source.kind() == io::ErrorKind::TimedOut => format!(
            "TLS handshake with {at} timed out after {}; if the server does not speak TLS, use --plain",
            seconds(args.connect_timeout)
        ),
        _ if source.kind() == io::ErrorKind::UnexpectedEof => {
            format!(
                "TLS handshake with {at} failed: the server closed the connection; if it does not speak TLS, use --plain"
            )
        }
        _ => format!("TLS handshake with {at} failed: {}", escaped_chain(source)),
    }
}

fn protocol_failure(error: &ClientError, args: &ClientArgs) -> Failure {
    let at = &args.addr;
    match error {
        ClientError::Peer(error) => {
            let is_header = matches!(
                error,
                PeerError::Wire {
                    location: Location::Header,
                    ..
                }
            );
            let hint = if is_header {
                "; is it a JTP server?"
            } else {
                ""
            };
            Failure::new(
                Exit::Protocol,
                format!("protocol error by {at}: {}{hint}", escaped_chain(error)),
            )
        }
        ClientError::Server(error) if error.code == ErrorCode::RateLimited => Failure::new(
            Exit::RateLimited,
            format!(
                "{at} rejected the request: rate limit exceeded ({}); try later, use --keep-alive, or lower --parallel",
                escaped(&error.message)
            ),
        ),
        ClientError::Server(error) => Failure::other(format!(
            "{at} reported {}: {}",
            error.code,
            escaped(&error.message)
        )),
        ClientError::EarlyEof => Failure::new(
            Exit::Connect,
            format!(
                "{at} closed the connection early; run again with --batch to fetch the remaining images"
            ),
        ),
        ClientError::TimedOut => Failure::new(
            Exit::Connect,
            format!(
                "{at} sent no data for {}; try again, or raise --timeout",
                seconds(args.timeout)
            ),
        ),
        error => Failure::other(format!("{at}: {}", escaped_chain(error))),
    }
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

/// Removes the prefix that `std` adds to name lookup errors.
fn without_lookup_prefix(error: &io::Error) -> String {
    let text = error.to_string();
    text.strip_prefix("failed to lookup address information: ")
        .unwrap_or(&text)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use jtp_core::client::ServerError;

    fn exit(error: &Error) -> Failure {
        failure(
            error,
            &ClientArgs::parse_from(["client", "--addr", "host:1"]),
        )
    }

    #[test]
    fn errors_map_to_exit_codes_and_name_the_server_and_the_remedy() {
        let address = "host:1".to_owned();
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let server = |code, message: &str| {
            Error::Protocol(ClientError::Server(ServerError::new(code, message)))
        };
        let untrusted = io::Error::other(rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer,
        ));
        for (error, code, word) in [
            (
                Error::Connect {
                    address: address.clone(),
                    source: refused,
                },
                Exit::Connect,
                "is the server running",
            ),
            (
                Error::Tls {
                    address: address.clone(),
                    source: untrusted,
                },
                Exit::Tls,
                "--cert",
            ),
            (
                Error::PlainServer {
                    address: address.clone(),
                },
                Exit::Tls,
                "--plain",
            ),
            (Error::TlsServer { address }, Exit::Tls, "--tls"),
            (
                Error::Protocol(ClientError::Peer(PeerError::UnexpectedData)),
                Exit::Protocol,
                "protocol error by",
            ),
            (
                server(ErrorCode::RateLimited, "no"),
                Exit::RateLimited,
                "--keep-alive",
            ),
            (server(ErrorCode::ServerError, "a\nb"), Exit::Other, r"a\nb"),
            (
                Error::Protocol(ClientError::EarlyEof),
                Exit::Connect,
                "--batch",
            ),
            (
                Error::Protocol(ClientError::TimedOut),
                Exit::Connect,
                "60 s",
            ),
            (
                Error::Io(io::ErrorKind::ConnectionReset.into()),
                Exit::Connect,
                "--batch",
            ),
        ] {
            let failure = exit(&error);
            assert_eq!(failure.exit, code, "{failure}");
            assert!(
                failure.message.contains(word) && failure.message.contains("host:1"),
                "{failure}"
            );
            assert!(!failure.message.contains('\n'), "{failure}");
        }
    }
}
