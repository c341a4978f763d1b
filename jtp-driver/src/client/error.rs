//! Errors of a client, by who is at fault.

use std::fmt;
use std::io;

use jtp_core::client::{ClientError, HaveSetTooLarge, PeerError};
use jtp_core::wire::WireError;
use jtp_core::wire::response::ErrorCode;
use jtp_core::{ImageFault, ImageId, Misuse};

use super::replicas::{ReplicaError, write_errors};
use crate::{NOT_ADMITTED, TLS_REQUIRED};

/// Why a request failed for good.
///
/// Display says what failed; causes are in [`source`](std::error::Error::source).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No address of the server could be reached.
    #[error("cannot connect to {address}")]
    Connect {
        /// The server, as the caller named it.
        address: String,
        /// The error of the last address that was tried.
        source: io::Error,
    },
    /// The TLS handshake failed, or either side rejected the other's certificate. Tried again only if the transport failed in
    /// it, or its time limit passed: then a client that has had a connection makes another one. // T6
    #[error("no TLS connection to {address}")]
    Tls {
        /// The server, as the caller named it.
        address: String,
        /// The error.
        source: io::Error,
    },
    /// The client uses TLS, and the server plain TCP.
    #[error("{address} does not speak TLS")]
    PlainServer {
        /// The server, as the caller named it.
        address: String,
    },
    /// The client uses plain TCP, and the server requires TLS. // T2
    #[error("{address} requires TLS")]
    TlsServer {
        /// The server, as the caller named it.
        address: String,
    },
    /// The server admits only clients that it knows, and this one's key is not among them. // T7
    #[error("{address} does not admit this client's key")]
    NotAdmitted {
        /// The server, as the caller named it.
        address: String,
    },
    /// The server violated the protocol (R1), reported an error, ended the connection early, or was silent for too long
    /// (T6).
    #[error(transparent)]
    Protocol(#[from] ClientError),
    /// The transport failed.
    #[error("the connection failed")]
    Io(#[source] io::Error),
    /// The server refused a connection rather than a request; the inner error says how. It closed or reset a new
    /// connection before any byte of a response or during the TLS handshake, or its first answer was `RateLimited`.
    /// Servers that limit the number of connections do this: fewer connections at a time may succeed.
    #[error(transparent)]
    Refused(Box<Error>),
    /// Several servers have failed, one after another without progress between them. With
    /// [`ImageError::Interrupted`], the one that the client leaves for the next one.
    #[error(fmt = write_replicas)]
    Replicas(Vec<ReplicaError>),
    /// An image that the server sent is broken: a reason for [`Client::fail_over`](super::Client::fail_over), to request
    /// it from another server. No request of a client returns it. // R2
    #[error("the image {id} arrived broken")]
    BrokenImage {
        /// The image.
        id: ImageId,
    },
    /// The catalog is larger than the limit for one in memory. // R3
    #[error("the catalog is over the limit of {entries} entries or {bytes} bytes")]
    CatalogTooLarge {
        /// The limit in entries.
        entries: usize,
        /// The limit in bytes.
        bytes: usize,
    },
    /// A BATCH cannot name that many images. // S8
    #[error(transparent)]
    HaveSetTooLarge(#[from] HaveSetTooLarge),
    /// A call does not fit the state of the client.
    #[error(transparent)]
    Misuse(#[from] Misuse),
    /// The request has already failed: an earlier call returned the error.
    #[error("the request has failed earlier")]
    Failed,
    /// The program cancelled the call.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// The meaning of a protocol error, which on a plain connection may be that the server requires TLS.
    pub(super) fn from_protocol(error: ClientError, address: &str, tls: bool) -> Error {
        /// The first byte of a TLS alert, which is how a TLS server answers plain bytes.
        const TLS_ALERT: u8 = 0x15;
        let requires_tls = !tls
            && match &error {
                ClientError::Server(server) => {
                    server.code == ErrorCode::UnsupportedFeature && server.message == TLS_REQUIRED
                }
                ClientError::Peer(PeerError::Wire {
                    error: WireError::UnknownHeader(header),
                    ..
                }) => header[0] == TLS_ALERT,
                _ => false,
            };
        let address = address.to_owned();
        match &error {
            _ if requires_tls => Error::TlsServer { address },
            ClientError::Server(server) if tls && is_not_admitted(server) => {
                Error::NotAdmitted { address }
            }
            _ => Error::Protocol(error),
        }
    }

    /// The meaning of a transport error, which may be one of TLS after the handshake: a TLS 1.3 server reports a missing
    /// client certificate only then.
    pub(super) fn from_io(source: io::Error, address: &str) -> Error {
        if is_tls_error(&source) {
            return Error::from_tls(source, address);
        }
        Error::Io(source)
    }

    /// The meaning of an error of TLS.
    pub(super) fn from_tls(source: io::Error, address: &str) -> Error {
        let address = address.to_owned();
        #[cfg(feature = "tls")]
        if let Some(rustls::Error::AlertReceived(rustls::AlertDescription::AccessDenied)) =
            tls_cause(&source)
        {
            return Error::NotAdmitted { address };
        }
        Error::Tls { address, source }
    }

    /// Whether the connection was lost in a way that a new connection may repair. // R6
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Protocol(error) => error.is_transient(),
            Error::Connect { .. }
            | Error::Io(_)
            | Error::Refused(_)
            | Error::BrokenImage { .. } => true,
            Error::Tls { source, .. } => !is_tls_error(source),
            Error::Replicas(errors) => errors.iter().any(|replica| replica.error().is_transient()),
            _ => false,
        }
    }

    /// Whether the server refused a connection rather than a request: [`Error::Refused`], or connecting failed with
    /// [`ConnectionRefused`](io::ErrorKind::ConnectionRefused). A program that uses several connections closes this one
    /// for good and does its work over the others.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        match self {
            Error::Refused(_) => true,
            Error::Connect { source, .. } => source.kind() == io::ErrorKind::ConnectionRefused,
            Error::Replicas(errors) => errors.iter().all(|replica| replica.error().is_refused()),
            _ => false,
        }
    }

    /// Whether the server ended the connection, without a reason.
    pub(super) fn is_end(&self) -> bool {
        match self {
            Error::Protocol(error) => matches!(error, ClientError::EarlyEof),
            Error::Io(error) => is_end(error),
            Error::Refused(error) => error.is_end(),
            _ => false,
        }
    }

    pub(super) fn refused(self) -> Error {
        Error::Refused(Box::new(self))
    }

    /// Whether the server refused the request because of its rate limit. // S15
    #[must_use]
    pub fn is_rate_limited(&self) -> bool {
        match self {
            Error::Protocol(error) => error.is_rate_limited(),
            Error::Refused(error) => error.is_rate_limited(),
            Error::Replicas(errors) => errors
                .iter()
                .all(|replica| replica.error().is_rate_limited()),
            _ => false,
        }
    }

    /// Whether another server with the same catalog may do better: it is not a limit of this client, a wrong call, or the
    /// failure of several servers.
    pub(super) fn concerns_server(&self) -> bool {
        match self {
            Error::Connect { .. }
            | Error::Tls { .. }
            | Error::PlainServer { .. }
            | Error::TlsServer { .. }
            | Error::NotAdmitted { .. }
            | Error::Protocol(_)
            | Error::Io(_)
            | Error::Refused(_)
            | Error::BrokenImage { .. } => true,
            Error::Replicas(_)
            | Error::CatalogTooLarge { .. }
            | Error::HaveSetTooLarge(_)
            | Error::Misuse(_)
            | Error::Failed
            | Error::Cancelled => false,
        }
    }
}

fn write_replicas(errors: &[ReplicaError], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write_errors(errors, f)
}

/// Whether the peer ended the connection.
pub(super) fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    ) && !is_tls_error(error)
}

/// Whether an error of a stream is one of TLS.
pub(super) fn is_tls_error(error: &io::Error) -> bool {
    #[cfg(feature = "tls")]
    return tls_cause(error).is_some();
    #[cfg(not(feature = "tls"))]
    {
        let _ = error;
        false
    }
}

/// Whether the server refused the client because of its key, after the handshake. // T7
fn is_not_admitted(error: &jtp_core::client::ServerError) -> bool {
    error.code == ErrorCode::InvalidRequest && error.message == NOT_ADMITTED
}

/// The TLS error in an error of a stream.
#[cfg(feature = "tls")]
pub(super) fn tls_cause(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Why an image did not arrive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// It arrived broken. The response goes on. // R2
    #[error("the image is broken")]
    Fault {
        /// What is wrong with it.
        #[source]
        fault: ImageFault,
        /// Whether it is final: the image is not requested again.
        last: bool,
    },
    /// The connection was lost inside the image. The client tries again: the image arrives again, or
    /// [`Images::next`](super::Images::next) returns an error. // R6
    #[error("the connection was lost inside the image")]
    Interrupted(#[source] Error),
    /// The whole request failed, inside this image. No more images arrive.
    #[error(transparent)]
    Fatal(Error),
    /// The image has already failed: an earlier call returned the error.
    #[error("the image has failed earlier")]
    Failed,
}

#[cfg(test)]
mod tests {
    use jtp_core::client::{Location, ServerError};

    use super::*;

    fn report(code: ErrorCode, message: &str) -> ClientError {
        ClientError::Server(ServerError::new(code, message))
    }

    fn header(header: [u8; 4]) -> ClientError {
        ClientError::Peer(PeerError::Wire {
            error: WireError::UnknownHeader(header),
            location: Location::Header,
        })
    }

    #[test]
    fn t2_t7_errors_of_a_server_that_wants_tls_or_another_key_say_so() {
        use ErrorCode::{InvalidRequest, ServerError, UnsupportedFeature};
        for (error, plain, tls) in [
            (report(UnsupportedFeature, TLS_REQUIRED), "Tls", "Proto"),
            (header([0x15, 3, 3, 0]), "Tls", "Proto"),
            (header(*b"HTTP"), "Proto", "Proto"),
            (report(UnsupportedFeature, "no"), "Proto", "Proto"),
            (report(ServerError, TLS_REQUIRED), "Proto", "Proto"),
            (report(InvalidRequest, NOT_ADMITTED), "Proto", "NotAdm"),
            (report(InvalidRequest, "no"), "Proto", "Proto"),
            (report(ServerError, NOT_ADMITTED), "Proto", "Proto"),
        ] {
            for (is_tls, expected) in [(false, plain), (true, tls)] {
                let found = Error::from_protocol(error.clone(), "a", is_tls);
                assert!(format!("{found:?}").starts_with(expected), "{found:?}");
            }
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn r6_a_handshake_that_was_too_slow_may_succeed_later() {
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired);
        let alert = io::Error::new(io::ErrorKind::InvalidData, alert);
        for (source, expected) in [(io::ErrorKind::TimedOut.into(), true), (alert, false)] {
            assert_eq!(Error::from_tls(source, "a").is_transient(), expected);
        }
    }

    #[test]
    fn r6_the_end_of_a_connection_is_told_from_other_errors() {
        let io = |kind: io::ErrorKind| Error::Io(kind.into());
        for (error, expected) in [
            (Error::Protocol(ClientError::EarlyEof), true),
            (Error::Protocol(ClientError::TimedOut), false),
            (io(io::ErrorKind::ConnectionReset), true),
            (io(io::ErrorKind::TimedOut), false),
            (io(io::ErrorKind::BrokenPipe).refused(), true),
            (io(io::ErrorKind::TimedOut).refused(), false),
            (Error::Failed, false),
        ] {
            assert_eq!(error.is_end(), expected, "{error:?}");
        }
    }
}
