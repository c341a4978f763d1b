//! Connections that end inside the TLS handshake.

use std::sync::Arc;
use std::time::Duration;

use jtp_tokio::store::MemoryStore;
use jtp_tokio::{Client, Error, Server};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::Result;
use crate::common::{certified, provider, start};

#[tokio::test]
async fn s16_shutdown_does_not_wait_for_a_tls_handshake() -> Result {
    let server = Server::builder(MemoryStore::new())
        .tls(certified()?.0)
        .handshake_timeout(None)
        .first_byte_timeout(None)
        .build();
    let mut stream = TcpStream::connect(start(&server).await?).await?;
    stream.write_all(&[0x16, 3, 1]).await?;
    while server.counters().handshakes == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::timeout(Duration::from_secs(5), server.shutdown()).await?;
    Ok(())
}

#[tokio::test]
async fn connection_closed_during_the_tls_handshake_is_refused() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut roots = RootCertStore::empty();
    roots.add(certified()?.1)?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let builder = Client::builder(listener.local_addr()?.to_string());
    let localhost = ServerName::try_from("localhost")?;
    let mut client = builder.tls(Arc::new(config), localhost).build();
    let (refused, closed) = tokio::join!(client.connect(), async {
        let (mut stream, _) = listener.accept().await?;
        stream.read(&mut [0; 4096]).await
    });
    closed?;
    let refused = refused.unwrap_err();
    assert!(
        refused.is_refused() && refused.is_transient(),
        "{refused:?}"
    );
    assert!(matches!(&refused, Error::Refused(cause) if matches!(**cause, Error::Tls { .. })));
    Ok(())
}
