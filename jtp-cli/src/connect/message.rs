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

    fn args(flags: &str) -> ClientArgs {
        let flags = format!("client --addr host:1 {flags}");
        ClientArgs::parse_from(flags.split_whitespace())
    }

    fn connecting(cause: io::ErrorKind) -> Error {
        Error::Connect {
            address: "host:1".to_owned(),
            source: cause.into(),
        }
    }

    fn lost() -> Error {
        Error::Io(io::ErrorKind::ConnectionReset.into())
    }

    fn rejected(code: ErrorCode, message: &str) -> Error {
        Error::Protocol(ClientError::Server(ServerError::new(code, message)))
    }

    #[test]
    fn errors_map_to_exit_codes_and_name_the_server_and_the_remedy() {
        let address = || "host:1".to_owned();
        let untrusted = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let untrusted = Error::Tls {
            address: address(),
            source: io::Error::other(untrusted),
        };
        let plain = Error::PlainServer { address: address() };
        let tls = Error::TlsServer { address: address() };
        let peer = ClientError::Peer(PeerError::UnexpectedData);
        let refused = connecting(io::ErrorKind::ConnectionRefused);
        for (error, exit, word) in [
            (refused, Exit::Connect, "is the server running"),
            (untrusted, Exit::Tls, "--cert"),
            (plain, Exit::Tls, "--plain"),
            (tls, Exit::Tls, "--tls"),
            (Error::Protocol(peer), Exit::Protocol, "protocol error by"),
            (
                rejected(ErrorCode::ServerError, "a\nb"),
                Exit::Other,
                r"a\nb; run again with --batch to fetch the remaining images, or raise --retries",
            ),
        ] {
            let failure = failure(&error, &args(""));
            let message = &failure.message;
            assert_eq!(failure.exit, exit, "{failure}");
            assert!(
                message.contains(word) && message.contains("host:1"),
                "{failure}"
            );
            assert!(!message.contains('\n'), "{failure}");
        }
    }

    #[test]
    fn r6_retries_wait_as_long_as_the_help_says() {
        for (retries, seconds) in [(3, 2), (8, 62), (20, 422)] {
            let mut retry = Retry::new(retries);
            let pauses = std::iter::from_fn(|| retry.pause(false));
            let sum = pauses.sum::<Duration>().as_secs_f64();
            assert_eq!(sum.round(), f64::from(seconds));
        }
    }

    #[test]
    fn hints_name_no_flag_that_was_given_and_retries_have_none() {
        const BATCH: &str = "; run again with --batch to fetch the remaining images";
        const AGAIN: &str = "; run again to fetch the remaining images";
        let early = || Error::Protocol(ClientError::EarlyEof);
        let silent = || Error::Protocol(ClientError::TimedOut);
        let limited = || rejected(ErrorCode::RateLimited, "a\nb");
        let timed_out = || connecting(io::ErrorKind::TimedOut);
        for (error, flags, exit, hint) in [
            (lost(), "", Exit::Connect, BATCH),
            (lost(), "--batch", Exit::Connect, AGAIN),
            (lost(), "--batch --watch", Exit::Connect, AGAIN),
            (lost(), "--list", Exit::Connect, "; try again"),
            (early(), "", Exit::Connect, BATCH),
            (early(), "--batch", Exit::Connect, AGAIN),
            (early(), "--list", Exit::Connect, "; try again"),
            (silent(), "", Exit::Connect, "images, or raise --timeout"),
            (
                silent(),
                "--list",
                Exit::Connect,
                "; try again, or raise --timeout",
            ),
            (
                limited(),
                "",
                Exit::RateLimited,
                "; try later, or use --keep-alive",
            ),
            (
                limited(),
                "-p 2",
                Exit::RateLimited,
                "; try later, use --keep-alive, or lower --parallel",
            ),
            (limited(), "-k", Exit::RateLimited, "; try later"),
            (
                limited(),
                "-k -p 2",
                Exit::RateLimited,
                "; try later, or lower --parallel",
            ),
            (limited(), "--list -p 2", Exit::RateLimited, "; try later"),
            (
                timed_out(),
                "",
                Exit::Connect,
                "; check --addr, or raise --connect-timeout",
            ),
            (
                timed_out(),
                "--connect-timeout 0",
                Exit::Connect,
                "; check --addr",
            ),
        ] {
            let failure = failure(&error, &args(flags));
            assert_eq!(failure.exit, exit, "{failure}");
            assert!(failure.message.ends_with(hint), "{flags}: {failure}");
            let retry = retry_message(&error, &args(flags));
            let hint = failure.message.strip_prefix(&retry);
            assert!(
                hint.is_some_and(|hint| hint.starts_with("; ")),
                "{retry}: {failure}"
            );
        }
        for (error, message) in [
            (
                connecting(io::ErrorKind::ConnectionRefused),
                "cannot connect to host:1: connection refused",
            ),
            (lost(), "lost the connection to host:1: connection reset"),
            (early(), "host:1 closed the connection early"),
            (silent(), "host:1 sent no data for 60 s"),
            (
                limited(),
                r"host:1 rejected the request: rate limit exceeded (a\nb)",
            ),
        ] {
            assert_eq!(retry_message(&error, &args("--watch")), message);
        }
    }
}
