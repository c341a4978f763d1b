//! Serving a store.

use crate::Tokio;
#[cfg(feature = "tls")]
pub use jtp_driver::server::TlsPeer;
pub use jtp_driver::{Decision, Peer};

/// Serves a store over TCP, TLS, or any stream. See [`jtp_driver::Server`].
pub type Server<S> = jtp_driver::Server<Tokio, S>;

/// Collects what a [`Server`] is to do. See [`jtp_driver::ServerBuilder`].
pub type ServerBuilder<S> = jtp_driver::ServerBuilder<Tokio, S>;
