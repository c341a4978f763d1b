//! The pauses before retries.

use std::future::Future;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::pin::pin;
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

use jtp_core::ImageId;
use jtp_core::client::ClientError;
use jtp_tokio::{Client, Error};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Result;

/// R6: the pause is kept although the waiting future is dropped and created again.
#[tokio::test]
async fn r6_retry_pause_survives_a_dropped_future() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let id = ImageId::of(b"an image");
    let serving = thread::spawn(move || -> std::io::Result<()> {
        let mut answer = b"JTPD\x01\x00\x08".to_vec();
        answer.extend(id.to_be_bytes());
        answer.extend(b"an image");
        // The first connection is lost inside the image.
        for length in [answer.len() - 3, answer.len()] {
            let (mut stream, _) = listener.accept()?;
            stream.read_exact(&mut [0; 3 + 8])?;
            stream.write_all(&answer[..length])?;
        }
        Ok(())
    });
    let mut client = Client::builder(address.to_string()).build();
    let mut images = client.get([id]);
    let lost = images.next().await?.ok_or("no image")?.bytes(100).await;
    assert!(lost.is_err());
    let began = Instant::now();
    for _ in 0..3 {
        let mut next = pin!(images.next());
        let polled = next.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
    }
    let image = images.next().await?.ok_or("no image")?;
    assert!(began.elapsed() >= Duration::from_millis(250));
    assert_eq!(image.bytes(100).await?, b"an image");
    serving.join().unwrap()?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn r6_client_fails_after_three_retries_without_progress() -> Result {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let mut client = Client::builder(listener.local_addr()?.to_string()).build();
    let listing = tokio::spawn(async move { client.list().await });
    for _ in 0..4 {
        let (mut stream, _) = listener.accept().await?;
        stream.read_exact(&mut [0; 2]).await?;
        stream.write_all(b"JTPL").await?;
    }
    let failed = listing.await?;
    assert!(
        matches!(failed, Err(Error::Protocol(ClientError::EarlyEof))),
        "{failed:?}"
    );
    Ok(())
}
