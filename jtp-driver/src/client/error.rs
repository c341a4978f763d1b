//! What can go wrong for a client, told apart by whose fault it is.

use std::io;

use jtp_core::ImageFault;
use jtp_core::client::{ClientError, HaveSetTooLarge, Misuse, PeerError};
use jtp_core::server::TLS_NEEDED;
use jtp_core::wire::WireError;
use jtp_core::wire::response::ErrorCode;

/// Why a request failed for good.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No address of the server could be reached.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// The server, as it was named.
        address: String,
        /// What happened with the last address that was tried.
        source: io::Error,
    },
    /// The TLS handshake failed, or the server's certificate is not trusted.
    #[error("no TLS connection to {address}: {source}")]
    Tls {
        /// The server, as it was named.
        address: String,
        /// What happened.
        source: io::Error,
    },
    /// This client speaks TLS, and the server plain TCP.
    #[error("{address} does not speak TLS")]
    PlainServer {
        /// The server, as it was named.
        address: String,
    },
    /// This client speaks plain TCP, and the server TLS. // T2
    #[error("{address} wants TLS")]
    TlsServer {
        /// The server, as it was named.
        address: String,
    },
    /// The server broke the protocol (R1), reported an error, ended the connection early, or was silent for
    /// too long (T6).
    #[error(transparent)]
    Protocol(#[from] ClientError),
    /// The transport failed.
    #[error("the connection broke: {0}")]
    Io(#[source] io::Error),
    /// The catalog is larger than what is collected in memory. // R3
    #[error("the catalog is over the limit of {entries} entries or {bytes} bytes")]
    CatalogTooLarge {
        /// The limit in entries.
        entries: usize,
        /// The limit in bytes.
        bytes: usize,
    },
    /// A BATCH would name more images than it can. // S8
    #[error(transparent)]
    HaveSetTooLarge(#[from] HaveSetTooLarge),
    /// The caller asked for what cannot be asked now.
    #[error(transparent)]
    Misuse(#[from] Misuse),
}

impl Error {
    /// What a protocol error means on a connection that is plain or not.
    pub(crate) fn on(error: ClientError, address: &str, tls: bool) -> Error {
        /// The first byte of a TLS alert, which is how a TLS server answers plain bytes.
        const TLS_ALERT: u8 = 0x15;
        let wants_tls = !tls
            && match &error {
                ClientError::Server(server) => {
                    server.code == ErrorCode::UnsupportedFeature && server.message == TLS_NEEDED
                }
                ClientError::Peer(PeerError::Wire {
                    error: WireError::UnknownHeader(header),
                    ..
                }) => header[0] == TLS_ALERT,
                _ => false,
            };
        if wants_tls {
            Error::TlsServer {
                address: address.to_owned(),
            }
        } else {
            Error::Protocol(error)
        }
    }

    /// Whether the connection was lost in a way that a new one may mend. // R6
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Protocol(error) => error.is_transient(),
            Error::Connect { .. } | Error::Io(_) => true,
            _ => false,
        }
    }

    /// Whether the server wants fewer requests. // S15
    #[must_use]
    pub fn is_rate_limited(&self) -> bool {
        matches!(self, Error::Protocol(error) if error.is_rate_limited())
    }
}

/// Why an image did not come whole and good.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// It came broken. The stream goes on. // R2
    #[error("{fault}")]
    Fault {
        /// What is wrong with it.
        fault: ImageFault,
        /// Whether it will not be asked for again: it was broken twice.
        last: bool,
    },
    /// The connection was lost in the middle of it. It will come again. // R6
    #[error("the connection was lost in the middle of the image; it will come again")]
    Interrupted,
    /// The whole request failed.
    #[error(transparent)]
    Fatal(#[from] Error),
}
