//! The adapters behind common types. Their public APIs are alike, so macros use them; only waiting for a call and running
//! a server differ.

mod client;
pub(crate) mod pending;
mod server;
mod wait;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use jtp_driver::ShutdownSignal;

use super::script::Setup;
use super::store::SimulatedStore;
use super::stub::ServerStub;
use super::traits::ClientUnderTest;
use super::transport::pipe::PipeEnd;

/// One of the three adapters.
#[derive(Clone, Copy)]
pub(crate) struct Adapter {
    pub(crate) name: &'static str,
    pub(crate) serve: fn(ServeArgs<'_>) -> ServerUnderTest,
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
pub(crate) struct ServerUnderTest {
    serve_stream: Box<dyn Fn(PipeEnd, SocketAddr)>,
    stop: ShutdownSignal,
    join: Box<dyn FnOnce()>,
}

impl ServerUnderTest {
    fn new(
        serve_stream: impl Fn(PipeEnd, SocketAddr) + 'static,
        stop: ShutdownSignal,
        join: impl FnOnce() + 'static,
    ) -> ServerUnderTest {
        ServerUnderTest {
            serve_stream: Box::new(serve_stream),
            stop,
            join: Box::new(join),
        }
    }

    /// Serves a stream and records its end with the stub.
    pub(crate) fn serve_stream(&self, end: PipeEnd, address: SocketAddr) {
        (self.serve_stream)(end, address);
    }

    /// Begins the shutdown.
    pub(crate) fn shut_down(&self) {
        self.stop.begin();
    }

    /// Waits until the shutdown is complete.
    pub(crate) fn join(self) {
        (self.join)();
    }
}

pub(crate) const TOKIO: Adapter = Adapter {
    name: "tokio",
    serve: server::tokio,
    client: client::tokio::client,
    over: client::tokio::over,
};

pub(crate) const ASYNC_STD: Adapter = Adapter {
    name: "async_std",
    serve: server::async_std,
    client: client::async_std::client,
    over: client::async_std::over,
};

pub(crate) const BLOCKING: Adapter = Adapter {
    name: "blocking",
    serve: server::blocking,
    client: client::blocking::client,
    over: client::blocking::over,
};
