//! The adapters behind two common traits. Their public APIs are alike, so macros implement the traits; only waiting
//! for a call and running a server differ.

mod client;
pub(crate) mod pending;
mod server;
mod wait;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use super::script::Setup;
use super::store::SimulatedStore;
use super::stub::ServerStub;
use super::traits::ClientUnderTest;
use super::transport::pipe::PipeEnd;

/// One of the three adapters.
#[derive(Clone, Copy)]
pub(crate) struct Adapter {
    pub(crate) name: &'static str,
    pub(crate) serve: fn(ServeArgs<'_>) -> Box<dyn ServerUnderTest>,
    /// Makes a client that connects.
    pub(crate) client: fn(&Setup, SocketAddr, tls: bool) -> Box<dyn ClientUnderTest>,
    /// Makes a client over a stream. With `drop_pending` it drops every pending future once and calls again.
    pub(crate) over: fn(&Setup, PipeEnd, drop_pending: bool) -> Box<dyn ClientUnderTest>,
}

/// What a server is started with.
pub(crate) struct ServeArgs<'a> {
    pub(crate) setup: &'a Setup,
    pub(crate) store: &'a SimulatedStore,
    pub(crate) stub: &'a Arc<ServerStub>,
    pub(crate) tls: bool,
    /// Whether the server reads the store as one that blocks.
    pub(crate) blocks: bool,
    pub(crate) listener: TcpListener,
}

/// A running server.
pub(crate) trait ServerUnderTest {
    /// Serves a stream and records its end with the stub.
    fn serve_stream(&self, end: PipeEnd, address: SocketAddr);

    /// Begins the shutdown.
    fn shut_down(&mut self);

    /// Waits until the shutdown is complete.
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
