//! A client and a server, connected in memory.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use jtp_core::Image;
use jtp_core::client::ClientConfig;
use jtp_tokio::bytes::Bytes;
use jtp_tokio::store::{ImageStore, MemoryStore, StoreError};
use jtp_tokio::{Client, Peer, Server};

/// A client of a server with this store. The server ends with the connection.
pub(crate) fn client_of(
    store: impl ImageStore,
) -> (Client, impl Future<Output = std::io::Result<()>>) {
    let server = Server::builder(store).build();
    let (client_end, server_end) = tokio::io::duplex(64 * 1024);
    let serving =
        tokio::spawn(async move { server.serve_stream(server_end, Peer::default()).await });
    let ended = async { serving.await?.map(|_| ()) };
    (Client::from_stream(client_end, ClientConfig::new()), ended)
}

/// The bytes of an image in memory, for stores of tests that block.
pub(crate) fn read_whole(store: &Arc<MemoryStore>, image: Image) -> Result<Bytes, StoreError> {
    let opening = pin!(Arc::clone(store).open(image, usize::MAX));
    match opening.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(opened) => Ok(opened?.first().clone()),
        Poll::Pending => panic!("a store in memory does not wait"),
    }
}
