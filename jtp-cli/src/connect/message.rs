//! Messages about client errors: what failed, and a hint what to do.

mod replicas;
mod tls;

use std::io;
use std::time::Duration;

use jtp_core::client::{ClientError, Location, PeerError};
use jtp_core::wire::response::ErrorCode;
use jtp_tokio::client::Error;

use crate::client_args::ClientArgs;
use crate::endpoint::Endpoint;
use crate::escape::{escaped_chain, shortened};
use crate::exit::{Exit, Failure};

/// The most bytes that are printed of a message by the server, which may have 65,535.
const MAX_SERVER_MESSAGE: usize = 1_000;

pub use replicas::{replica_failure, server_changed};

/// What failed, and what the user can do about it.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    /// The exit code if the error ends the job.
    exit: Exit,
    what: String,
    hint: Option<String>,
}

impl Message {
    fn new(exit: Exit, what: impl Into<String>) -> Message {
        Message {
            exit,
            what: what.into(),
            hint: None,
        }
    }

    fn with_hint(self, hint: impl Into<String>) -> Message {
        Message {
            hint: Some(hint.into()),
            ..self
        }
    }
}

/// Converts a client error that ends the job into a message with a hint, and an exit code. The hint names no flag that
/// was given already.
#[must_use]
pub fn failure(error: &Error, args: &ClientArgs) -> Failure {
    let Message { exit, what, hint } = message(error, args, first(args));
    match hint {
        Some(hint) => Failure::new(exit, format!("{what}; {hint}")),
        None => Failure::new(exit, what),
    }
}

/// The message about a client error after which the program retries. It has no hint: the user need not do anything.
#[must_use]
pub fn retry_message(error: &Error, args: &ClientArgs) -> String {
    message(error, args, first(args)).what
}

/// The server, if there is one alone.
fn first(args: &ClientArgs) -> &Endpoint {
    args.servers.first()
}

fn message(error: &Error, args: &ClientArgs, at: &Endpoint) -> Message {
    match error {
        Error::Connect { source, .. } => connect_message(source, args, at),
        Error::Replicas(errors) => replicas::replicas_message(errors, args),
        Error::Refused(error) if error.is_rate_limited() => message(error, args, at),
        Error::Refused(_) => Message::new(
            Exit::Connect,
            format!("{at} closed the connection without an answer"),
        )
        .with_hint("it may admit no more connections from this machine"),
        Error::Tls { source, .. } => tls::message(source, args, at),
        Error::NotAdmitted { .. } => tls::not_admitted(args, at),
        Error::PlainServer { .. } => Message::new(Exit::Tls, format!("{at} does not speak TLS"))
            .with_hint(format!("use {} if you trust the network", at.plain_flag())),
        Error::TlsServer { .. } => Message::new(Exit::Tls, format!("{at} requires TLS"))
            .with_hint(format!("use {}", args.servers.tls_flag(at))),
        Error::Protocol(error) => protocol_message(error, args, at),
        Error::Io(source) => Message::new(
            Exit::Connect,
            format!("lost the connection to {at}: {source}"),
        )
        .with_hint(run_again(args)),
        Error::CatalogTooLarge { .. } => Message::new(Exit::Other, format!("{at}: {error}")),
        // Escaped because a later version's message may contain text from the peer.
        error => Message::new(Exit::Other, format!("{at}: {}", escaped_chain(error))),
    }
}

fn connect_message(source: &io::Error, args: &ClientArgs, at: &Endpoint) -> Message {
    let message =
        |cause: &str| Message::new(Exit::Connect, format!("cannot connect to {at}: {cause}"));
    match source.kind() {
        io::ErrorKind::ConnectionRefused => {
            message("connection refused").with_hint("is the server running?")
        }
        // The system's timeout.
        io::ErrorKind::TimedOut if args.connect_timeout.is_zero() => {
            message("timed out").with_hint(format!("check {}", args.servers.flag()))
        }
        io::ErrorKind::TimedOut => message(&format!(
            "timed out after {}",
            seconds(args.connect_timeout)
        ))
        .with_hint(format!(
            "check {}, or raise --connect-timeout",
            args.servers.flag()
        )),
        _ => message(&without_lookup_prefix(source))
            .with_hint(format!("check {}", args.servers.flag())),
    }
}

fn protocol_message(error: &ClientError, args: &ClientArgs, at: &Endpoint) -> Message {
    match error {
        ClientError::Peer(error) => {
            let message = Message::new(
                Exit::Protocol,
                format!("protocol error by {at}: {}", escaped_chain(error)),
            );
            match error {
                PeerError::Wire {
                    location: Location::Header,
                    ..
                } => message.with_hint("is it a JTP server?"),
                _ => message,
            }
        }
        ClientError::Server(error) if error.code == ErrorCode::RateLimited => Message::new(
            Exit::RateLimited,
            format!(
                "{at} rejected the request: rate limit exceeded ({})",
                shortened(&error.message, MAX_SERVER_MESSAGE)
            ),
        )
        .with_hint(fewer_requests(args)),
        ClientError::Server(error) => {
            let what = format!(
                "{at} reported {}: {}",
                error.code,
                shortened(&error.message, MAX_SERVER_MESSAGE)
            );
            let message = Message::new(Exit::Other, what);
            match error.code {
                // The images may be elsewhere, where the server cannot reach them now.
                ErrorCode::ServerError => message.with_hint(format!(
                    "{}, or raise --retries to wait longer",
                    run_again(args)
                )),
                _ => message,
            }
        }
        ClientError::EarlyEof => {
            Message::new(Exit::Connect, format!("{at} closed the connection early"))
                .with_hint(run_again(args))
        }
        ClientError::TimedOut => Message::new(
            Exit::Connect,
            format!("{at} sent no data for {}", seconds(args.timeout)),
        )
        .with_hint(format!("{}, or raise --timeout", run_again(args))),
        error => Message::new(Exit::Other, format!("{at}: {}", escaped_chain(error))),
    }
}

/// How to fetch what is missing.
const fn run_again(args: &ClientArgs) -> &'static str {
    if args.list || args.check || args.dry_run {
        "try again"
    } else if args.batch || args.mirror {
        "run again to fetch the remaining images"
    } else {
        "run again with --batch to fetch the remaining images"
    }
}

/// How to stay below a rate limit.
const fn fewer_requests(args: &ClientArgs) -> &'static str {
    // A list takes one request.
    match (
        args.keep_alive || args.list,
        args.parallel > 1 && !args.list,
    ) {
        (true, false) => "try later",
        (true, true) => "try later, or lower --parallel",
        (false, false) => "try later, or use --keep-alive",
        (false, true) => "try later, use --keep-alive, or lower --parallel",
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
    use jtp_core::client::{Retry, ServerError};
    use rustls::CertificateError;

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
            (
                server(ErrorCode::ServerError, "a\nb"),
                Exit::Other,
                r"a\nb; run again with --batch to fetch the remaining images, or raise --retries",
            ),
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
            let failure = failure(&error, &args(""));
            assert_eq!(failure.exit, code, "{failure}");
            assert!(
                failure.message.contains(word) && failure.message.contains("host:1"),
                "{failure}"
            );
            assert!(!failure.message.contains('\n'), "{failure}");
        }
    }

    fn args(flags: &str) -> ClientArgs {
        ClientArgs::parse_from(
            ["client", "--addr", "host:1"]
                .into_iter()
                .chain(flags.split_whitespace()),
        )
    }

    #[test]
    fn r6_retries_wait_as_long_as_the_help_says() {
        for (retries, seconds) in [(3, 2), (8, 62), (20, 422)] {
            let mut retry = Retry::new(retries);
            let pauses = std::iter::from_fn(|| retry.pause(false));
            assert_eq!(
                pauses.sum::<Duration>().as_secs_f64().round(),
                f64::from(seconds)
            );
        }
    }

    #[test]
    fn hints_name_no_flag_that_was_given() {
        let lost = || Error::Io(io::ErrorKind::ConnectionReset.into());
        let early = || Error::Protocol(ClientError::EarlyEof);
        let silent = || Error::Protocol(ClientError::TimedOut);
        let limited = || {
            Error::Protocol(ClientError::Server(ServerError::new(
                ErrorCode::RateLimited,
                "no",
            )))
        };
        let timed_out = || Error::Connect {
            address: "host:1".to_owned(),
            source: io::ErrorKind::TimedOut.into(),
        };
        for (error, flags, hint) in [
            (
                lost(),
                "",
                "run again with --batch to fetch the remaining images",
            ),
            (lost(), "--batch", "run again to fetch the remaining images"),
            (
                lost(),
                "--batch --watch",
                "run again to fetch the remaining images",
            ),
            (lost(), "--list", "try again"),
            (
                early(),
                "",
                "run again with --batch to fetch the remaining images",
            ),
            (
                early(),
                "--batch",
                "run again to fetch the remaining images",
            ),
            (early(), "--list", "try again"),
            (
                silent(),
                "",
                "run again with --batch to fetch the remaining images, or raise --timeout",
            ),
            (
                silent(),
                "--batch",
                "run again to fetch the remaining images, or raise --timeout",
            ),
            (silent(), "--list", "try again, or raise --timeout"),
            (limited(), "", "try later, or use --keep-alive"),
            (
                limited(),
                "-p 2",
                "try later, use --keep-alive, or lower --parallel",
            ),
            (limited(), "-k", "try later"),
            (limited(), "-k -p 2", "try later, or lower --parallel"),
            (limited(), "--list -p 2", "try later"),
            (timed_out(), "", "check --addr, or raise --connect-timeout"),
            (timed_out(), "--connect-timeout 0", "check --addr"),
        ] {
            let args = args(flags);
            let retry = retry_message(&error, &args);
            assert_eq!(
                failure(&error, &args).message,
                format!("{retry}; {hint}"),
                "{flags}"
            );
        }
    }

    #[test]
    fn messages_of_retries_have_no_hint() {
        let args = args("--watch");
        let limited = ServerError::new(ErrorCode::RateLimited, "a\nb");
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        for (error, message) in [
            (
                Error::Connect {
                    address: "host:1".to_owned(),
                    source: refused,
                },
                "cannot connect to host:1: connection refused",
            ),
            (
                Error::Io(io::ErrorKind::ConnectionReset.into()),
                "lost the connection to host:1: connection reset",
            ),
            (
                Error::Protocol(ClientError::EarlyEof),
                "host:1 closed the connection early",
            ),
            (
                Error::Protocol(ClientError::TimedOut),
                "host:1 sent no data for 60 s",
            ),
            (
                Error::Protocol(ClientError::Server(limited)),
                r"host:1 rejected the request: rate limit exceeded (a\nb)",
            ),
        ] {
            assert_eq!(retry_message(&error, &args), message);
        }
    }
}
