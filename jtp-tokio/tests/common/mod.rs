//! A server and a client over memory.

use std::sync::Arc;

use jtp_core::client::ClientConfig;
use jtp_store::ImageStore;
use jtp_tokio::{Client, Peer, Server};

/// A client of a server that shows this store and ends with its connection.
pub(crate) fn client_of(
    store: impl ImageStore,
) -> (Client, impl Future<Output = std::io::Result<()>>) {
    let server = Server::builder(Arc::new(store)).build();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let serving = tokio::spawn(async move { server.serve_stream(far, &Peer::default()).await });
    let ended = async { serving.await?.map(|_| ()) };
    (Client::over(near, ClientConfig::new()), ended)
}
