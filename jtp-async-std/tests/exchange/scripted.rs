//! The client against a scripted server.

use std::net::Shutdown;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use jtp_core::client::ClientError;

use super::super::adapter::ImageError;
use super::*;

/// A server that answers each connection with the next of these byte strings and closes it.
async fn scripted_server(answers: Vec<Vec<u8>>) -> (String, JoinHandle<Vec<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let task = spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let count = stream.read(&mut request).await.unwrap();
            request.truncate(count);
            requests.push(request);
            stream.write_all(&answer).await.unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let _ = stream.read(&mut [0; 64]).await;
        }
        requests
    });
    (address, task)
}

fn packet(bytes: &[u8]) -> Vec<u8> {
    let mut packet = vec![0, u8::try_from(bytes.len()).unwrap()];
    packet.extend_from_slice(&ImageId::of(bytes).to_be_bytes());
    packet.extend_from_slice(bytes);
    packet
}

#[test]
fn r6_missing_images_are_requested_on_a_new_connection() -> Result {
    block_on(async {
        let (a, b) = (packet(b"first"), packet(b"second"));
        let cut = [b"JTPG\x02".to_vec(), a.clone(), b[..12].to_vec()].concat();
        let rest = [b"JTPB\x01".to_vec(), b.clone()].concat();
        let (address, requests) = scripted_server(vec![cut, rest]).await;
        let mut client = Client::builder(address).build();
        let mut images = client.list_and_get();
        let mut got = Vec::new();
        let mut interrupted = 0;
        while let Some(image) = images.next().await? {
            match image.bytes(100).await {
                Ok(bytes) => got.push(bytes),
                Err(ImageError::Interrupted(_)) => interrupted += 1,
                Err(other) => return Err(other.into()),
            }
        }
        assert_eq!(got, [b"first".to_vec(), b"second".to_vec()]);
        assert_eq!(interrupted, 1);
        client.close().await;
        let requests = requests.await;
        assert_eq!(requests[0], [5, 1]);
        let mut batch = vec![2, 1, 1];
        batch.extend_from_slice(&ImageId::of(b"first").to_be_bytes());
        assert_eq!(requests[1], batch);
        Ok(())
    })
}

#[test]
fn r2_invalid_image_is_requested_once_more() -> Result {
    block_on(async {
        let good = packet(b"an image");
        let mut bad = good.clone();
        bad[12] ^= 1;
        let answers = vec![
            [b"JTPG\x01".to_vec(), bad.clone()].concat(),
            [b"JTPD\x01".to_vec(), bad].concat(),
        ];
        let (address, requests) = scripted_server(answers).await;
        let mut client = Client::builder(address).keep_alive(false).build();
        let mut images = client.list_and_get();
        let mut last = Vec::new();
        while let Some(image) = images.next().await? {
            match image.bytes(100).await {
                Err(ImageError::Fault { last: is_last, .. }) => last.push(is_last),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(last, [false, true]);
        let mut get = vec![0, 0, 1];
        get.extend_from_slice(&ImageId::of(b"an image").to_be_bytes());
        assert_eq!(requests.await[1], get);
        Ok(())
    })
}

#[test]
fn r6_client_fails_after_three_retries_without_progress() -> Result {
    block_on(async {
        let (address, requests) = scripted_server(vec![b"JTPL".to_vec(); 4]).await;
        let mut client = Client::builder(address).build();
        let failed = client.list().await.unwrap_err();
        assert!(
            matches!(failed, Error::Protocol(ClientError::EarlyEof)),
            "{failed}"
        );
        assert_eq!(requests.await.len(), 4);
        Ok(())
    })
}

#[test]
fn r1_data_behind_a_response_is_an_error_but_jtpe_is_not() -> Result {
    block_on(async {
        for keep_alive in [false, true] {
            let (address, _requests) = scripted_server(vec![b"JTPL\x00GARBAGE".to_vec()]).await;
            let mut client = Client::builder(address).keep_alive(keep_alive).build();
            let failed = client.list().await.unwrap_err();
            assert!(
                matches!(failed, Error::Protocol(ClientError::Peer(_))),
                "{failed}"
            );
            let answer = b"JTPL\x00JTPE\x03\x00\x03bye".to_vec();
            let (address, _requests) = scripted_server(vec![answer]).await;
            let mut client = Client::builder(address).keep_alive(keep_alive).build();
            assert!(client.list().await?.is_empty());
        }
        Ok(())
    })
}
