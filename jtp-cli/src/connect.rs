//! The way to the server, and what to tell the user when there is none.

use std::io;
use std::path::Path;
use std::time::Duration;

use jtp_core::client::{ClientConfig, ClientError, PeerError, Place};
use jtp_core::wire::response::ErrorCode;
use jtp_tokio::client::{Client, ClientBuilder, Error};
use rustls::CertificateError;

use crate::client_args::ClientArgs;
use crate::escape::{escaped, escaped_display};
use crate::exit::{Exit, Failure};
use crate::trust;
use crate::units::unless_zero;

/// The certificate that is trusted without being named, if the file is there.
const DEFAULT_CERT: &str = "cert.pem";

/// Makes clients of the server that the command line names.
#[derive(Debug, Clone)]
pub struct Connector {
    builder: ClientBuilder,
}

impl Connector {
    /// Prepares everything that needs no connection.
    ///
    /// # Errors
    ///
    /// TLS cannot be set up.
    pub fn new(args: &ClientArgs) -> Result<Connector, Failure> {
        let config = ClientConfig::new()
            .with_response_timeout(unless_zero(args.timeout))
            .with_max_image_size(args.max_image_size)
            .with_pipeline(args.pipeline);
        let mut builder = Client::builder(args.addr.to_string())
            .config(config)
            .keep_alive(args.keep_alive)
            .connect_timeout(unless_zero(args.connect_timeout))
            .retries(args.retries)
            .tcp_nodelay(!args.no_tcp_nodelay);
        if args.tls {
            let name = trust::server_name(args.server_name.as_deref(), &args.addr)?;
            builder = builder.tls(trust::client_config(trusted_file(args))?, name);
        }
        Ok(Connector { builder })
    }

    /// A client that connects when it first has something to ask.
    #[must_use]
    pub fn client(&self) -> Client {
        self.builder.clone().build()
    }

    /// A client that gives up at the first loss: for whoever has a back-off of their own.
    #[must_use]
    pub fn impatient_client(&self) -> Client {
        self.builder.clone().retries(0).build()
    }
}

/// The file of the certificates to trust; none for the system's.
fn trusted_file(args: &ClientArgs) -> Option<&Path> {
    let default = Path::new(DEFAULT_CERT);
    args.cert
        .as_deref()
        .or_else(|| default.is_file().then_some(default))
}

/// What an error means to the user.
#[must_use]
pub fn failure(error: &Error, args: &ClientArgs) -> Failure {
    let at = &args.addr;
    match error {
        Error::Connect { source, .. } => Failure::new(Exit::Connect, connect_message(source, args)),
        Error::Tls { source, .. } => Failure::new(Exit::Tls, tls_message(source, args)),
        Error::PlainServer { .. } => Failure::new(
            Exit::Tls,
            format!("{at} does not speak TLS: use --plain if you trust the network in between"),
        ),
        Error::TlsServer { .. } => Failure::new(Exit::Tls, format!("{at} wants TLS: use --tls")),
        Error::Protocol(error) => protocol_failure(error, args),
        Error::Io(source) => Failure::new(
            Exit::Connect,
            format!(
                "the connection to {at} broke: {source}; what has come is in place, so try again with --batch"
            ),
        ),
        Error::CatalogTooLarge { .. } => Failure::other(format!("{at}: {error}")),
        // Messages of ours, but a later version's could contain what a peer said.
        error => Failure::other(format!("{at}: {}", escaped_display(error))),
    }
}

fn connect_message(source: &io::Error, args: &ClientArgs) -> String {
    let at = &args.addr;
    match source.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!("cannot connect to {at}: connection refused; is the server running there?")
        }
        io::ErrorKind::TimedOut => format!(
            "cannot connect to {at}: no answer within {}; check the address, or raise --connect-timeout",
            seconds(args.connect_timeout)
        ),
        _ => format!(
            "cannot connect to {at}: {}; check --addr",
            without_code(source)
        ),
    }
}

/// The first names of a certificate, for who has to choose one. rustls tells them as `DnsName("localhost")`.
fn names(presented: &[String]) -> String {
    let host = |name: &String| {
        let name = name.strip_prefix("DnsName(\"")?.strip_suffix("\")")?;
        Some(escaped(name).to_string())
    };
    let hosts: Vec<String> = presented.iter().filter_map(host).take(4).collect();
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
                        "the certificate of {at} is not trusted by {}: give the server's own with --cert",
                        path.display()
                    ),
                    None => format!(
                        "the certificate of {at} is not trusted by this system: give the server's own with --cert"
                    ),
                }
            }
            CertificateError::NotValidForName => {
                format!(
                    "the certificate of {at} is for another name: give its name with --server-name"
                )
            }
            CertificateError::NotValidForNameContext { presented, .. } => format!(
                "the certificate of {at} is for {}: give its name with --server-name",
                names(presented)
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                format!("the certificate of {at} has expired: the server needs a new one")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                format!("the certificate of {at} is not valid yet: check this machine's clock")
            }
            error => format!(
                "the certificate of {at} is not accepted: {}",
                escaped_display(error)
            ),
        },
        Some(rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol)) => {
            format!("{at} speaks TLS, but not JTP: check --addr")
        }
        _ if source.kind() == io::ErrorKind::TimedOut => format!(
            "no TLS connection to {at} within {}: is TLS spoken there? If not, use --plain",
            seconds(args.connect_timeout)
        ),
        _ if source.kind() == io::ErrorKind::UnexpectedEof => {
            format!(
                "no TLS connection to {at}: the server ended it; if it speaks no TLS, use --plain"
            )
        }
        _ => format!("no TLS connection to {at}: {}", escaped_display(source)),
    }
}

fn protocol_failure(error: &ClientError, args: &ClientArgs) -> Failure {
    let at = &args.addr;
    match error {
        ClientError::Peer(error) => {
            let is_greeting = matches!(
                error,
                PeerError::Wire {
                    place: Place::Header,
                    ..
                }
            );
            let hint = if is_greeting {
                "; is it a JTP server?"
            } else {
                ""
            };
            Failure::new(
                Exit::Protocol,
                format!("{at} broke the protocol: {}{hint}", escaped_display(error)),
            )
        }
        ClientError::Server(error) if error.code == ErrorCode::RateLimited => Failure::new(
            Exit::RateLimited,
            format!(
                "{at} wants fewer requests ({}): try later, with --keep-alive, or with a lower --parallel",
                escaped(&error.message)
            ),
        ),
        ClientError::Server(error) => Failure::other(format!(
            "{at} reports {}: {}",
            error.code,
            escaped(&error.message)
        )),
        ClientError::EarlyEof => Failure::new(
            Exit::Connect,
            format!(
                "{at} ended the connection early; what has come is in place, so try again with --batch"
            ),
        ),
        ClientError::TimedOut => Failure::new(
            Exit::Connect,
            format!(
                "{at} sent nothing for {}; try again, or raise --timeout",
                seconds(args.timeout)
            ),
        ),
        error => Failure::other(format!("{at}: {}", escaped_display(error))),
    }
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

/// The system's message alone: `Name or service not known`, without the function's name before it.
fn without_code(error: &io::Error) -> String {
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
    fn every_error_has_its_code_and_names_the_server_and_the_flag_that_helps() {
        let address = "host:1".to_owned();
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let server = |code, message: &str| {
            Error::Protocol(ClientError::Server(ServerError {
                code,
                message: message.to_owned(),
            }))
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
                "broke the protocol",
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
