//! The adapters, each behind the same two traits. They have the same public face, so one macro writes this down
//! once: what differs is how a call is waited for, and how a server is run.

mod client;
pub(crate) mod fate;
mod server;
mod wait;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use super::court::Court;
use super::ends::ClientEnd;
use super::script::Setup;
use super::store::Store;
use super::transport::pipe::End;

/// One of the three.
#[derive(Clone, Copy)]
pub(crate) struct Adapter {
    pub(crate) name: &'static str,
    pub(crate) serve: fn(Serve<'_>) -> Box<dyn ServerEnd>,
    /// A client that connects.
    pub(crate) client: fn(&Setup, SocketAddr, tls: bool) -> Box<dyn ClientEnd>,
    /// A client over that stream; "impatient" drops what it waits for as often as it can.
    pub(crate) over: fn(&Setup, End, impatient: bool) -> Box<dyn ClientEnd>,
}

/// What a server is made of.
pub(crate) struct Serve<'a> {
    pub(crate) setup: &'a Setup,
    pub(crate) store: &'a Store,
    pub(crate) court: &'a Arc<Court>,
    pub(crate) tls: bool,
    pub(crate) listener: TcpListener,
}

/// A running server.
pub(crate) trait ServerEnd {
    /// Serves a stream, and tells the court of its end.
    fn serve_stream(&self, end: End, address: SocketAddr);

    /// Begins the shutdown.
    fn shut_down(&mut self);

    /// Waits until it has shut down.
    fn join(self: Box<Self>);
}

pub(crate) const TOKIO: Adapter = Adapter {
    name: "tokio",
    serve: server::tokio::serve,
    client: client::tokio::client,
    over: client::tokio::over,
};

pub(crate) const ASYNC_STD: Adapter = Adapter {
    name: "async_std",
    serve: server::async_std::serve,
    client: client::async_std::client,
    over: client::async_std::over,
};

pub(crate) const BLOCKING: Adapter = Adapter {
    name: "blocking",
    serve: server::blocking::serve,
    client: client::blocking::client,
    over: client::blocking::over,
};
