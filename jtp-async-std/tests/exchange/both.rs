//! Both runtimes in one program.

use std::sync::Arc;

use jtp_async_std::smol::Client as SmolClient;
use jtp_async_std::smol::Server as SmolServer;
use jtp_async_std::store::MemoryStore;
use jtp_async_std::{Client as AsyncStdClient, Server as AsyncStdServer};
use jtp_core::ImageId;
use jtp_driver::{ClientBuilder, Runtime};
use smol::future::or;

use crate::Result;

async fn list_and_fetch<R: Runtime>(client: ClientBuilder<R>, id: ImageId) -> Result {
    let mut client = client.build();
    assert_eq!(client.list().await?[0].id, id);
    let mut images = client.get([id]);
    let image = images.next().await?.ok_or("no image")?;
    assert_eq!(image.bytes(1 << 20).await?, [7; 1 << 20]);
    client.close().await;
    Ok(())
}

#[test]
fn one_store_behind_servers_on_both_runtimes() -> Result {
    let store = Arc::new(MemoryStore::new());
    let id = store.insert("a.png", vec![7; 1 << 20])?;
    let (a, b) = (
        AsyncStdServer::builder(Arc::clone(&store)).build(),
        SmolServer::builder(store).build(),
    );
    smol::block_on(async {
        let listen_a = async_std::net::TcpListener::bind("127.0.0.1:0").await?;
        let listen_b = smol::net::TcpListener::bind("127.0.0.1:0").await?;
        let addresses = [listen_a.local_addr()?, listen_b.local_addr()?].map(|a| a.to_string());
        let serving = or(
            a.serve(listen_a, std::future::pending()),
            b.serve(listen_b, std::future::pending()),
        );
        let fetching = async {
            for address in addresses {
                list_and_fetch(SmolClient::builder(address.clone()), id).await?;
                list_and_fetch(AsyncStdClient::builder(address), id).await?;
            }
            Ok(())
        };
        let serving = async { Ok(serving.await?) };
        or(fetching, serving).await
    })
}
