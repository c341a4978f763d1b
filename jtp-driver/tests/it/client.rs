//! The client against scripted servers.

use std::time::Duration;

use jtp_async_std::smol::{Client, Smol};
use jtp_core::client::{ClientConfig, ClientError, HaveSet};
use jtp_core::wire::response::ErrorCode;
use jtp_core::{ImageId, Misuse};
use jtp_driver::{Error, ImageError, Runtime};
use smol::io::AsyncReadExt;
use smol::net::TcpListener;

use crate::support::{self, Script, error, list, named, names, scripted};

const LIST: [u8; 2] = [1, 1];
const WATCH: [u8; 2] = [4, 0];
const LIST_AND_GET: [u8; 2] = [5, 0];

/// A client that tries once, and its scripted server.
async fn client_of(scripts: Vec<Script>) -> (Client, smol::Task<usize>) {
    let (address, server) = scripted(scripts).await;
    (support::client(&address), server)
}

#[test]
fn entries_are_returned_one_at_a_time_over_one_connection() {
    smol::block_on(async {
        let script = vec![
            (LIST.into(), list(2, &["a.png", "b.png"])),
            (LIST.into(), list(0, &[])),
        ];
        let (mut client, server) = client_of(vec![script]).await;
        let mut entries = client.entries();
        assert_eq!((entries.announced(), entries.received()), (None, 0));
        assert_eq!(entries.next().await.unwrap().unwrap().name, "a.png");
        assert_eq!((entries.announced(), entries.received()), (Some(2), 1));
        assert_eq!(entries.next().await.unwrap().unwrap().name, "b.png");
        for _ in 0..2 {
            assert_eq!(entries.next().await.unwrap(), None);
        }
        assert_eq!((entries.announced(), entries.received()), (Some(2), 2));
        let mut entries = client.entries();
        assert_eq!(entries.next().await.unwrap(), None);
        assert_eq!((entries.announced(), entries.received()), (Some(0), 0));
        assert_eq!(server.await, 1);
    });
}

#[test]
fn s2_entries_without_keep_alive_use_a_connection_for_each_list() {
    smol::block_on(async {
        let script = vec![(vec![1, 0], list(1, &["a.png"]))];
        let (address, server) = scripted(vec![script.clone(), script]).await;
        let mut client = Client::builder(address).keep_alive(false).build();
        for _ in 0..2 {
            let mut entries = client.entries();
            while entries.next().await.unwrap().is_some() {}
            assert_eq!(entries.received(), 1);
        }
        assert_eq!(server.await, 2);
    });
}

#[test]
fn entries_of_an_incomplete_catalog_are_returned_and_the_error_is_not_retried() {
    smol::block_on(async {
        let short = vec![(LIST.into(), list(3, &["a.png", "b.png"]))];
        let whole = vec![(LIST.into(), list(1, &["c.png"]))];
        let (address, server) = scripted(vec![short, whole]).await;
        let mut client = Client::builder(address).retries(3).build();
        let mut entries = client.entries();
        let mut got = Vec::new();
        let error = loop {
            match entries.next().await {
                Ok(entry) => got.push(entry.expect("the catalog is not complete")),
                Err(error) => break error,
            }
        };
        assert!(
            matches!(error, Error::Protocol(ClientError::EarlyEof)),
            "{error}"
        );
        assert!(error.is_transient() && !error.is_refused());
        assert_eq!(names(&got), ["a.png", "b.png"]);
        assert_eq!((entries.announced(), entries.received()), (Some(3), 2));
        assert!(matches!(entries.next().await, Err(Error::Failed)));
        assert!(matches!(
            entries.into_watch(),
            Err(Error::Misuse(Misuse::Closed))
        ));
        // The client is usable, over a new connection.
        assert_eq!(names(&client.list().await.unwrap()), ["c.png"]);
        assert_eq!(server.await, 2);
    });
}

#[test]
fn r6_list_requests_an_incomplete_catalog_again() {
    smol::block_on(async {
        let short = vec![(LIST.into(), list(2, &["a.png"]))];
        let whole = vec![(LIST.into(), list(1, &["a.png"]))];
        let (address, server) = scripted(vec![short, whole]).await;
        let mut client = Client::builder(address).build();
        assert_eq!(names(&client.list().await.unwrap()), ["a.png"]);
        assert_eq!(server.await, 2);
    });
}

#[test]
fn n5_entries_are_followed_by_a_watch_that_was_requested_in_the_same_write() {
    smol::block_on(async {
        let event = |name| [b"JTPW".to_vec(), named(name)].concat();
        // The events come with the catalog, before the client looks for them.
        let answer = [list(1, &["a.png"]), event("b.png"), event("c.png")].concat();
        let script = vec![([LIST, WATCH].concat(), answer)];
        let (mut client, _server) = client_of(vec![script]).await;
        let mut entries = client.entries_and_watch();
        let mut got = Vec::new();
        while let Some(entry) = entries.next().await.unwrap() {
            got.push(entry);
        }
        assert_eq!(names(&got), ["a.png"]);
        let mut watch = entries.into_watch().unwrap();
        let events = [watch.next().await.unwrap(), watch.next().await.unwrap()];
        assert_eq!(names(&events), ["b.png", "c.png"]);
        assert!(watch.next().await.unwrap_err().is_transient());
        assert!(matches!(watch.next().await, Err(Error::Failed)));
    });
}

#[test]
fn entries_become_a_watch_only_after_the_last_one_and_if_it_was_requested() {
    smol::block_on(async {
        let both = vec![([LIST, WATCH].concat(), list(1, &["a.png"]))];
        let one = vec![(LIST.into(), list(1, &["a.png"]))];
        let (mut client, _server) = client_of(vec![both, one]).await;
        let not_watching = |result: Result<jtp_driver::Watch<'_, Smol>, Error>| {
            matches!(result, Err(Error::Misuse(Misuse::NotWatching)))
        };
        assert!(not_watching(client.entries_and_watch().into_watch()));
        let mut entries = client.entries_and_watch();
        entries.next().await.unwrap();
        assert!(not_watching(entries.into_watch()));
        let mut entries = client.entries();
        while entries.next().await.unwrap().is_some() {}
        assert!(not_watching(entries.into_watch()));
    });
}

/// A client without keep-alive requests the catalog and all images, and reads the catalog.
async fn list_before_images(scripts: Vec<Script>) -> (Client, smol::Task<usize>) {
    let (address, server) = scripted(scripts).await;
    let mut client = Client::builder(address).keep_alive(false).build();
    let mut entries = client.entries_and_images();
    while entries.next().await.unwrap().is_some() {}
    assert_eq!(entries.received(), 1);
    (client, server)
}

#[test]
fn s2_all_images_come_over_the_connection_of_the_list_that_they_were_requested_with() {
    smol::block_on(async {
        // The images are there before the client looks for them.
        let answer = [list(1, &["a.png"]), b"JTPG\0".to_vec()].concat();
        let script = vec![([LIST, LIST_AND_GET].concat(), answer)];
        let (mut client, server) = list_before_images(vec![script]).await;
        assert!(client.list_and_get().next().await.unwrap().is_none());
        assert_eq!(server.await, 1);
    });
}

#[test]
fn r6_all_images_are_requested_again_if_the_server_closes_after_the_list() {
    smol::block_on(async {
        let lists = vec![([LIST, LIST_AND_GET].concat(), list(1, &["a.png"]))];
        let sends = vec![(LIST_AND_GET.into(), b"JTPG\0".to_vec())];
        let (mut client, server) = list_before_images(vec![lists, sends]).await;
        assert!(client.list_and_get().next().await.unwrap().is_none());
        assert_eq!(server.await, 2);
    });
}

#[test]
fn another_request_than_that_for_all_images_abandons_them() {
    smol::block_on(async {
        let answer = [list(1, &["a.png"]), b"JTPG\0".to_vec()].concat();
        let both = vec![([LIST, LIST_AND_GET].concat(), answer)];
        let one = vec![(vec![2, 0, 0], b"JTPB\0".to_vec())];
        let (mut client, server) = list_before_images(vec![both, one]).await;
        let mut images = client.batch(HaveSet::default());
        assert!(images.next().await.unwrap().is_none());
        assert_eq!(server.await, 2);
    });
}

/// The answer to LIST_AND_GET: the head of one image, without its bytes.
fn one_image(length: u8, id: ImageId) -> Vec<u8> {
    [&b"JTPG\x01\x07"[..], &[length], &id.0.to_be_bytes()].concat()
}

#[test]
fn images_that_were_abandoned_are_requested_again() {
    smol::block_on(async {
        let empty = one_image(0, ImageId::of(b""));
        let both = || [LIST, [5, 1]].concat();
        let again = || (vec![5, 1], empty.clone());
        // The LIST before them was not read to its end.
        let lists = vec![(both(), list(1, &["a.png"]))];
        let (mut client, _server) = client_of(vec![lists, vec![again()]]).await;
        client.entries_and_images().next().await.unwrap();
        assert!(client.list_and_get().next().await.unwrap().is_some());
        // Another request came between, over the same stream.
        let images = [list(0, &[]), empty.clone()].concat();
        let batch = (vec![2, 1, 0], b"JTPB\0".to_vec());
        let script = vec![(both(), images), batch, again()];
        let (address, _server) = scripted(vec![script]).await;
        let stream = smol::net::TcpStream::connect(address).await.unwrap();
        let mut client = Client::from_stream(stream, ClientConfig::new());
        assert!(client.entries_and_images().next().await.unwrap().is_none());
        let mut batch = client.batch(HaveSet::default());
        assert!(batch.next().await.unwrap().is_none());
        assert!(client.list_and_get().next().await.unwrap().is_some());
    });
}

#[test]
fn r2_an_image_that_failed_never_has_an_end() {
    smol::block_on(async {
        // Broken; and the connection ends inside it.
        for length in [0, 1] {
            let answer = one_image(length, ImageId(1));
            let (mut client, _server) = client_of(vec![vec![(vec![5, 1], answer)]]).await;
            let mut images = client.list_and_get();
            let mut image = images.next().await.unwrap().unwrap();
            let failed = image.chunk().await.unwrap_err();
            assert!(!matches!(failed, ImageError::Failed));
            let again = image.chunk().await;
            assert!(
                matches!(again, Err(ImageError::Failed)),
                "{failed}: {again:?}"
            );
        }
    });
}

#[test]
fn a_connection_that_is_closed_without_an_answer_is_refused() {
    smol::block_on(async {
        let (mut client, _server) = client_of(vec![vec![(LIST.into(), vec![])]]).await;
        let error = client.list().await.unwrap_err();
        assert!(error.is_refused() && error.is_transient(), "{error:?}");
        assert!(!error.is_rate_limited());
        assert_eq!(
            error.to_string(),
            "the connection ended before the response was complete"
        );

        // It has bytes of the client that it did not read: a reset.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let _server = smol::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_exact(&mut [0]).await.unwrap();
        });
        let mut client = support::client(&address);
        let error = client.list().await.unwrap_err();
        assert!(error.is_refused() && error.is_transient(), "{error:?}");
        assert!(matches!(&error, Error::Refused(cause) if matches!(**cause, Error::Io(_))));

        // Images, too.
        let batch = vec![(vec![2, 1, 0], vec![])];
        let (mut client, _server) = client_of(vec![batch]).await;
        let error = client.batch(HaveSet::default()).next().await.unwrap_err();
        assert!(error.is_refused(), "{error:?}");
    });
}

#[test]
fn s15_a_connection_is_refused_by_rate_limited_only_as_its_first_answer() {
    smol::block_on(async {
        let limited = error(ErrorCode::RateLimited);
        let (mut client, _server) = client_of(vec![vec![(LIST.into(), limited.clone())]]).await;
        let error = client.list().await.unwrap_err();
        assert!(error.is_refused() && error.is_rate_limited(), "{error:?}");

        let script = vec![(LIST.into(), list(0, &[])), (LIST.into(), limited)];
        let (mut client, _server) = client_of(vec![script]).await;
        client.list().await.unwrap();
        let error = client.list().await.unwrap_err();
        assert!(!error.is_refused() && error.is_rate_limited(), "{error:?}");
    });
}

#[test]
fn a_refused_connect_is_refused_but_a_silent_server_is_not() {
    smol::block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let config = ClientConfig::default().with_response_timeout(Some(Duration::ZERO));
        let mut client = Client::builder(&address).config(config).retries(0).build();
        let error = client.list().await.unwrap_err();
        assert!(matches!(error, Error::Protocol(ClientError::TimedOut)));
        assert!(!error.is_refused());
        drop(listener);
        let error = support::client(&address).list().await.unwrap_err();
        assert!(error.is_refused(), "{error:?}");
        assert!(matches!(error, Error::Connect { .. }));
    });
}

/// Compiles if a client and its futures can move between threads, whatever the runtime.
#[allow(dead_code, reason = "only compiled")]
async fn client_and_futures_are_send<R: Runtime>(mut client: jtp_driver::Client<R>) {
    fn send<T: Send>(value: T) -> T {
        value
    }
    let _ = send(client.connect()).await;
    let _ = send(client.list()).await;
    let mut entries = send(client.entries());
    let _ = send(entries.next()).await;
    let mut entries = client.entries_and_watch();
    let _ = send(entries.next()).await;
    let mut watch = send(entries.into_watch().unwrap());
    let _ = send(watch.next()).await;
    let _ = send(watch.cancel()).await;
    let (_, watch) = send(client.list_and_watch()).await.unwrap();
    drop(watch);
    drop(send(client.watch()).await);
    let mut images = send(client.get([ImageId(1)]));
    if let Ok(Some(mut image)) = send(images.next()).await {
        let _ = send(image.chunk()).await;
    }
    if let Ok(Some(image)) = send(images.next()).await {
        let _ = send(image.bytes(1)).await;
    }
    if let Ok(Some(image)) = send(images.next()).await {
        let mut undecoded = send(image.undecoded().unwrap());
        let _ = send(undecoded.chunk()).await;
    }
    let _ = send(images.cancel()).await;
    send(client.close()).await;
    send(client);
}
