//! What an application sees and decides: requests, counters, shutdown, connections of its own.

use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jtp_async_std::smol::{Client, Server};
use jtp_core::client::{ClientConfig, ClientError};
use jtp_core::server::ServerConfig;
use jtp_core::wire::request::RequestKind;
use jtp_core::wire::response::ErrorCode;
use jtp_core::{ImageId, Misuse};
use jtp_driver::Error;
use jtp_driver::server::{ConnectionEnd, Observer, Peer, RequestSummary};
use smol::Timer;

use crate::support::{client, fetch_all, memory, socket_pair, start};

/// The code of a server's error.
fn code(error: &Error) -> ErrorCode {
    match error {
        Error::Protocol(ClientError::Server(error)) => error.code,
        error => panic!("{error:?}"),
    }
}

#[test]
fn peers_can_see_different_catalogs_and_handlers_can_wait() {
    smol::block_on(async {
        let other = memory(&[b"theirs"]);
        let first = Arc::new(Mutex::new(None));
        let server = Server::builder(memory(&[b"ours"]))
            .on_request(move |request| {
                let (other, first) = (Arc::clone(&other), Arc::clone(&first));
                async move {
                    Timer::after(Duration::from_millis(1)).await;
                    let address = request.peer().address;
                    let first = *first.lock().unwrap().get_or_insert(address);
                    match request.kind() {
                        RequestKind::Batch { .. } => {
                            request.refuse(ErrorCode::InvalidRequest, "not for you")
                        }
                        _ if address == first => request.accept(),
                        _ => request.accept_with(other),
                    }
                }
            })
            .build();
        let address = start(&server).await;
        let mut ours = client(&address);
        assert_eq!(fetch_all(&mut ours).await.unwrap(), [b"ours"]);
        let mut theirs = client(&address);
        assert_eq!(theirs.list().await.unwrap()[0].length, 6);
        assert_eq!(fetch_all(&mut theirs).await.unwrap(), [b"theirs"]);
        assert_eq!(ours.list().await.unwrap()[0].length, 4);
        let mut images = ours.batch(jtp_core::client::HaveSet::new());
        let refused = images.next().await.err().unwrap();
        assert_eq!(code(&refused), ErrorCode::InvalidRequest);
    });
}

#[test]
fn n1_a_watcher_follows_the_catalog_it_was_given() {
    smol::block_on(async {
        let (ours, theirs) = (memory(&[b"ours"]), memory(&[b"theirs"]));
        let given = Arc::clone(&theirs);
        let server = Server::builder(Arc::clone(&ours))
            .on_request(move |request| {
                let given = Arc::clone(&given);
                async move { request.accept_with(given) }
            })
            .build();
        let address = start(&server).await;
        let mut client = client(&address);
        let (entries, mut watch) = client.list_and_watch().await.unwrap();
        assert_eq!(entries.len(), 1);
        ours.insert("no.png", b"no".as_slice()).unwrap();
        theirs.insert("yes.png", b"yes".as_slice()).unwrap();
        assert_eq!(watch.next().await.unwrap().name, "yes.png");
    });
}

#[test]
fn a_request_without_a_decision_is_refused_after_the_limit() {
    smol::block_on(async {
        let server = Server::builder(memory(&[b"ours"]))
            .on_request(|request| async move {
                pending::<()>().await;
                request.accept()
            })
            .decision_timeout(Some(Duration::from_millis(30)))
            .build();
        let address = start(&server).await;
        let error = client(&address).list().await.err().unwrap();
        assert_eq!(code(&error), ErrorCode::ServerError);
    });
}

#[derive(Debug, Default)]
struct Log(Mutex<Vec<String>>);

impl Observer for Log {
    fn connection_opened(&self, _: &Peer) {
        self.0.lock().unwrap().push("opened".to_owned());
    }

    fn connection_closed(&self, _: &Peer, end: &ConnectionEnd<'_>) {
        let line = format!("closed {}", end.as_str());
        self.0.lock().unwrap().push(line);
    }

    fn request_completed(&self, _: &Peer, request: &RequestSummary<'_>) {
        let completed = request.completed;
        let (kind, outcome) = (request.head.kind.name(), completed.outcome.as_str());
        let (images, bytes, ids) = (completed.images, completed.body_bytes, &completed.ids);
        let line = format!("{kind} {outcome} {images} {bytes} {ids:?}");
        self.0.lock().unwrap().push(line);
    }
}

#[test]
fn an_observer_sees_connections_and_requests_with_their_ids_and_they_are_counted() {
    smol::block_on(async {
        let log = Arc::new(Log::default());
        let server = Server::builder(memory(&[b"one", b"three"]))
            .config(ServerConfig::new().with_record_ids(true))
            .observer(Arc::clone(&log) as Arc<dyn Observer>)
            .build();
        let address = start(&server).await;
        let mut client = client(&address);
        client.list().await.unwrap();
        fetch_all(&mut client).await.unwrap();
        let ids = [ImageId::of(b"three"), ImageId(7)];
        let mut images = client.get(ids);
        while let Some(image) = images.next().await.unwrap() {
            assert_eq!(image.bytes(9).await.unwrap(), b"three");
        }
        assert_eq!(images.absent(), [ImageId(7)]);
        assert_eq!(server.counters().connections_open, 1);
        client.close().await;
        server.shutdown().await;
        let lines = log.0.lock().unwrap().clone();
        let get = format!("GET_BY_ID answered 1 5 {ids:?}");
        let expected = [
            "opened",
            "LIST answered 0 0 []",
            "LIST_AND_GET answered 2 8 []",
            &get,
        ];
        assert_eq!(lines[..4], expected);
        assert!(lines[4].starts_with("closed "), "{lines:?}");
        let counters = server.counters();
        assert_eq!((counters.images_sent, counters.body_bytes_sent), (3, 13));
        assert_eq!(counters.connections_open, 0);
        assert_eq!(counters.connections_accepted, 1);
        assert_eq!(counters.requests[&("LIST", "answered")], 1);
    });
}

/// Panics at the beginning of a connection.
struct Fragile;

impl Observer for Fragile {
    fn connection_opened(&self, _: &Peer) {
        panic!("the observer's fault");
    }
}

#[test]
fn an_observer_that_panics_ends_its_connection_and_not_the_server() {
    smol::block_on(async {
        let builder = Server::builder(memory(&[])).observer(Arc::new(Fragile));
        let server = builder.build();
        let address = start(&server).await;
        for _ in 0..2 {
            let error = client(&address).list().await.err().unwrap();
            assert!(!matches!(error, Error::Connect { .. }), "{error:?}");
        }
        server.shutdown().await;
        assert_eq!(server.counters().connections_closed["dropped"], 2);
        assert_eq!(server.counters().connections_open, 0);
    });
}

#[test]
fn an_observer_sees_the_end_of_connections_whose_future_is_dropped() {
    smol::block_on(async {
        let log = Arc::new(Log::default());
        let server = Server::builder(memory(&[b"one"]))
            .observer(Arc::clone(&log) as Arc<dyn Observer>)
            .build();
        let (ours, theirs) = socket_pair().await;
        let mut client = Client::from_stream(theirs, Default::default());
        let mut serving = Box::pin(server.serve_stream(ours, Peer::new(None)));
        let mut watching = Box::pin(client.list_and_watch());
        // Both make progress until the catalog has arrived, and the server is inside WATCH.
        std::future::poll_fn(|cx| {
            assert!(serving.as_mut().poll(cx).is_pending());
            watching.as_mut().poll(cx).map(drop)
        })
        .await;
        assert_eq!(server.counters().watchers, 1);
        drop(serving);
        let lines = log.0.lock().unwrap().clone();
        assert_eq!(
            lines,
            [
                "opened",
                "LIST answered 0 0 []",
                "WATCH aborted 0 0 []",
                "closed dropped"
            ]
        );
        let counters = server.counters();
        assert_eq!((counters.connections_open, counters.watchers), (0, 0));
        assert_eq!(counters.requests[&("WATCH", "aborted")], 1);
    });
}

#[test]
fn n3_a_request_after_a_dropped_watch_does_not_wait_for_events() {
    smol::block_on(async {
        let server = Server::builder(memory(&[b"one"])).build();
        let (ours, theirs) = socket_pair().await;
        let serving = smol::spawn(async move { server.serve_stream(ours, Peer::new(None)).await });
        let config = ClientConfig::new().with_pipeline(true);
        let mut client = Client::from_stream(theirs, config);
        drop(client.watch().await.unwrap());
        for request in ["LIST", "LIST_AND_GET", "LIST"] {
            let error = match request {
                "LIST" => client.list().await.err().unwrap(),
                _ => client.list_and_get().next().await.err().unwrap(),
            };
            assert!(
                matches!(error, Error::Misuse(Misuse::Watching)),
                "{error:?}"
            );
        }
        drop(client);
        serving.await.unwrap();
    });
}

#[cfg(feature = "tls")]
mod alerted {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use jtp_async_std::smol::Client;
    use jtp_driver::Error;
    use jtp_driver::rustls::{self, AlertDescription};
    use smol::io::{AsyncRead, AsyncWrite};

    /// A TLS stream whose server has sent an alert and closed: writes fail, and a read returns the alert.
    struct Alerted;

    type Polled<T> = Poll<io::Result<T>>;

    impl AsyncRead for Alerted {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Polled<usize> {
            let alert = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
            Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, alert)))
        }
    }

    impl AsyncWrite for Alerted {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Polled<usize> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Polled<()> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Polled<()> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn t1_an_alert_is_final_even_if_a_write_failed_before_it_was_read() {
        let mut client = Client::from_stream(Alerted, Default::default());
        let error = smol::block_on(client.list()).err().unwrap();
        assert!(matches!(error, Error::Tls { .. }), "{error:?}");
        assert!(!error.is_transient());
    }
}
