//! A client and a server, connected in memory.

use std::sync::Arc;

use jtp_core::client::ClientConfig;
use jtp_store::ImageStore;
use jtp_tokio::{Client, Peer, Server};

/// A client of a server with this store. The server ends with the connection.
pub(crate) fn client_of(
    store: impl ImageStore,
) -> (Client, impl Future<Output = std::io::Result<()>>) {
    let server = Server::builder(Arc::new(store)).build();
    let (client_end, server_end) = tokio::io::duplex(64 * 1024);
    let serving =
        tokio::spawn(async move { server.serve_stream(server_end, &Peer::default()).await });
    let ended = async { serving.await?.map(|_| ()) };
    (Client::over(client_end, ClientConfig::new()), ended)
}
