//! The limits of one host, by default and as counted. // T8

use std::time::Duration;

use jtp_tokio::store::MemoryStore;
use jtp_tokio::{Client, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Result;
use crate::common::{certified, start};

/// Whether the server closes this connection without a byte; by a reset, if it did not read what was sent.
async fn is_closed(mut stream: TcpStream) -> bool {
    !matches!(stream.read(&mut [0]).await, Ok(1))
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn t8_one_address_has_an_eighth_of_the_connections_by_default() -> Result {
    let server = Server::builder(MemoryStore::new())
        .max_connections(20)
        .build();
    let address = start(&server).await?;
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut client = Client::builder(&address).retries(0).build();
        client.list().await?;
        open.push(client);
    }
    assert!(is_closed(TcpStream::connect(&address).await?).await);
    let counters = server.counters();
    let refused = counters.connections_refused;
    assert_eq!((refused, counters.connections_refused_per_client), (1, 1));
    assert_eq!(counters.connections_open, 3);
    Ok(())
}

#[tokio::test]
async fn t8_evicted_watchers_are_counted() -> Result {
    let builder = || Server::builder(MemoryStore::new()).max_connections_per_ip(0);
    // By default half of the connections may watch.
    for builder in [builder().max_watchers(1), builder().max_connections(2)] {
        let server = builder.build();
        let address = start(&server).await?;
        let mut first = Client::builder(&address).retries(0).build();
        let (_, mut first) = first.list_and_watch().await?;
        until(|| server.counters().watchers == 1).await;
        let mut second = Client::builder(&address).retries(0).build();
        let (_, _second) = second.list_and_watch().await?;
        assert!(first.next().await.is_err());
        assert_eq!(server.counters().watchers_evicted, 1);
        until(|| server.counters().watchers == 1).await;
    }
    Ok(())
}

#[tokio::test]
async fn t8_handshakes_are_counted_and_subject_to_the_rate_limit() -> Result {
    let server = Server::builder(MemoryStore::new())
        .tls(certified()?.0)
        .rate_limit(2, Duration::from_secs(3600))
        .build();
    let address = start(&server).await?;
    let mut open = Vec::new();
    for n in 1..=2 {
        let mut stream = TcpStream::connect(&address).await?;
        stream.write_all(&[0x16, 3, 1]).await?; // The beginning of a TLS record.
        open.push(stream);
        until(|| server.counters().handshakes == n).await;
    }
    let mut third = TcpStream::connect(&address).await?;
    third.write_all(&[0x16, 3, 1]).await?;
    assert!(is_closed(third).await);
    assert_eq!(server.counters().handshakes_refused, 1);
    // Plain requests have a count of their own.
    let mut plain = Client::builder(&address).retries(0).build();
    plain.list().await?;
    plain.list().await?;
    assert!(plain.list().await.is_err());
    drop(open);
    until(|| server.counters().handshakes == 0).await;
    Ok(())
}
