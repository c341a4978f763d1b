//! Servers over TCP and in memory, and a certificate.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use jtp_core::Image;
use jtp_core::client::ClientConfig;
use jtp_tokio::bytes::Bytes;
use jtp_tokio::store::{ImageStore, MemoryStore, StoreError};
use jtp_tokio::{Client, Peer, Server};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;

use crate::Result;

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

/// Serves on a free port, until the end of the test's runtime.
pub(crate) async fn start(server: &Server) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let server = server.clone();
    tokio::spawn(async move { server.serve(listener, std::future::pending()).await });
    Ok(address)
}

/// A server's configuration with a new certificate, which is returned too.
pub(crate) fn certified() -> Result<(ServerConfig, CertificateDer<'static>)> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let certificate = made.cert.der().clone();
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.into())?;
    Ok((config, certificate))
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
