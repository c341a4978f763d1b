//! What an application sees and decides: requests, counters, shutdown, connections of its own.

use std::future::pending;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use jtp_async_std::smol::{Client, Server};
use jtp_core::client::{ClientConfig, ClientError};
use jtp_core::server::{CloseReason, ServerConfig};
use jtp_core::wire::request::RequestKind;
use jtp_core::wire::response::ErrorCode;
use jtp_core::{ImageId, Misuse};
use jtp_driver::server::{ConnectionEnd, Observer, Peer, RequestSummary};
use jtp_driver::store::ImageStore;
use jtp_driver::{Error, ImageError};
use smol::Timer;
use smol::io::{AsyncRead, AsyncWrite};
use smol::net::TcpListener;

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
        let line = format!(
            "{} {} {} {}",
            request.head.kind.name(),
            completed.outcome.as_str(),
            completed.images,
            completed.body_bytes
        );
        self.0.lock().unwrap().push(line);
    }
}

#[test]
fn an_observer_sees_connections_and_requests_and_they_are_counted() {
    smol::block_on(async {
        let log = Arc::new(Log::default());
        let server = Server::builder(memory(&[b"one", b"three"]))
            .observer(Arc::clone(&log) as Arc<dyn Observer>)
            .build();
        let address = start(&server).await;
        let mut client = client(&address);
        client.list().await.unwrap();
        fetch_all(&mut client).await.unwrap();
        assert_eq!(server.counters().connections_open, 1);
        client.close().await;
        server.shutdown().await;
        let lines = log.0.lock().unwrap().clone();
        assert_eq!(lines[0], "opened");
        assert!(lines[1].starts_with("LIST answered 0 0"), "{lines:?}");
        assert!(
            lines[2].starts_with("LIST_AND_GET answered 2 8"),
            "{lines:?}"
        );
        assert!(lines[3].starts_with("closed "), "{lines:?}");
        let counters = server.counters();
        assert_eq!((counters.images_sent, counters.body_bytes_sent), (2, 8));
        assert_eq!(counters.connections_open, 0);
        assert_eq!(counters.connections_accepted, 1);
        assert_eq!(counters.requests[&("LIST", "answered")], 1);
    });
}

/// Keeps the IDs of requests.
#[derive(Debug, Default)]
struct RequestedIds(Mutex<Vec<Vec<ImageId>>>);

impl Observer for RequestedIds {
    fn request_completed(&self, _: &Peer, request: &RequestSummary<'_>) {
        self.0.lock().unwrap().push(request.completed.ids.clone());
    }
}

#[test]
fn an_observer_sees_the_ids_of_a_request_if_the_server_records_them() {
    smol::block_on(async {
        let requested = Arc::new(RequestedIds::default());
        let server = Server::builder(memory(&[b"one", b"three"]))
            .config(ServerConfig::new().with_record_ids(true))
            .observer(Arc::clone(&requested) as Arc<dyn Observer>)
            .build();
        let address = start(&server).await;
        let mut client = client(&address);
        let ids = [ImageId::of(b"three"), ImageId(7)];
        let mut images = client.get(ids);
        while let Some(image) = images.next().await.unwrap() {
            assert_eq!(image.bytes(9).await.unwrap(), b"three");
        }
        assert_eq!(images.absent(), [ImageId(7)]);
        client.close().await;
        server.shutdown().await;
        assert_eq!(*requested.0.lock().unwrap(), [ids.to_vec()]);
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
                "LIST answered 0 0",
                "WATCH aborted 0 0",
                "closed dropped"
            ]
        );
        let counters = server.counters();
        assert_eq!((counters.connections_open, counters.watchers), (0, 0));
        assert_eq!(counters.requests[&("WATCH", "aborted")], 1);
    });
}

#[test]
fn s16_shutdown_ends_connections_without_a_serve_under_way() {
    smol::block_on(async {
        let server = Server::builder(memory(&[b"ours"])).build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        // An accept loop of the application's own.
        let accepting = {
            let server = server.clone();
            smol::spawn(async move {
                let (stream, address) = listener.accept().await.unwrap();
                server.serve_tcp(stream, address).await
            })
        };
        let mut client = client(&address);
        assert_eq!(client.list().await.unwrap().len(), 1);
        server.shutdown().await;
        let ended = accepting.await.unwrap();
        assert_eq!(ended, Some(CloseReason::Shutdown));
    });
}

/// A peer that makes requests without end, and takes every answer at once.
struct Greedy;

impl AsyncRead for Greedy {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        for pair in buf.chunks_mut(2) {
            pair.fill(1); // LIST, keep-alive
        }
        Poll::Ready(Ok(buf.len()))
    }
}

impl AsyncWrite for Greedy {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_connection_that_is_not_polled_delays_no_other() {
    smol::block_on(async {
        let server = Server::builder(memory(&[b"ours"])).build();
        let address = start(&server).await;
        // Each uses up a turn, and is then forgotten by its caller.
        let mut forgotten: Vec<_> = (0..20)
            .map(|_| Box::pin(server.serve_stream(Greedy, Peer::new(None))))
            .collect();
        for connection in &mut forgotten {
            let mut cx = Context::from_waker(Waker::noop());
            assert!(connection.as_mut().poll(&mut cx).is_pending());
        }
        let begun = Instant::now();
        let mut client = client(&address);
        for _ in 0..2000 {
            client.list().await.unwrap();
        }
        // Their deadlines are 30 s away.
        assert!(begun.elapsed() < Duration::from_secs(20));
    });
}

#[test]
fn a_list_that_was_dropped_spoils_no_later_request_on_a_stream_of_the_caller() {
    smol::block_on(async {
        let store = memory(&[b"one", b"two"]);
        let server = Server::builder(Arc::clone(&store)).build();
        let (ours, theirs) = socket_pair().await;
        let mut client = Client::from_stream(theirs, Default::default());
        {
            let mut dropped = Box::pin(client.list());
            let mut cx = Context::from_waker(Waker::noop());
            assert!(dropped.as_mut().poll(&mut cx).is_pending());
        }
        // Only now, so that the answer does not arrive before the future is dropped.
        let serving = smol::spawn(async move {
            let served = server.serve_stream(ours, Peer::new(None)).await;
            drop(served);
        });
        assert_eq!(fetch_all(&mut client).await.unwrap().len(), 2);
        drop(client);
        serving.await;
        assert_eq!(store.catalog().snapshot().len(), 2);
    });
}

#[test]
fn n3_a_request_after_a_dropped_watch_does_not_wait_for_events() {
    smol::block_on(async {
        let server = Server::builder(memory(&[b"one"])).build();
        let (ours, theirs) = socket_pair().await;
        let serving = {
            let server = server.clone();
            smol::spawn(async move { server.serve_stream(ours, Peer::new(None)).await })
        };
        let config = ClientConfig::new().with_pipeline(true);
        let mut client = Client::from_stream(theirs, config);
        let (entries, watch) = client.list_and_watch().await.unwrap();
        assert_eq!(entries.len(), 1);
        watch.cancel().await.unwrap();
        assert_eq!(client.list().await.unwrap().len(), 1);

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

        // A client that can connect does so.
        let mut client = crate::support::client(&start(&server).await);
        drop(client.list_and_watch().await.unwrap());
        assert_eq!(client.list().await.unwrap().len(), 1);
    });
}

/// A TLS stream whose server has sent an alert and closed: writes fail, and a read returns the alert.
#[cfg(feature = "tls")]
struct Alerted;

#[cfg(feature = "tls")]
impl AsyncRead for Alerted {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        use jtp_driver::rustls::{AlertDescription, Error};
        let alert = Error::AlertReceived(AlertDescription::CertificateRequired);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, alert)))
    }
}

#[cfg(feature = "tls")]
impl AsyncWrite for Alerted {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(feature = "tls")]
#[test]
fn t1_an_alert_is_final_even_if_a_write_failed_before_it_was_read() {
    smol::block_on(async {
        let mut client = Client::from_stream(Alerted, ClientConfig::new());
        let error = client.list().await.err().unwrap();
        assert!(matches!(error, Error::Tls { .. }), "{error:?}");
        assert!(!error.is_transient());
    });
}

#[test]
fn r6_an_image_that_is_cut_off_says_why_and_the_request_fails_once() {
    smol::block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serving = smol::spawn(async move {
            use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_exact(&mut [0; 2]).await.unwrap();
            // An image of 9 bytes, of which 3 come.
            let head = [b'J', b'T', b'P', b'G', 1, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1];
            stream.write_all(&head).await.unwrap();
            stream.write_all(b"abc").await.unwrap();
        });
        let mut client = client(&address);
        let mut images = client.list_and_get();
        let mut image = images.next().await.unwrap().unwrap();
        assert_eq!(image.chunk().await.unwrap().unwrap(), b"abc");
        assert_eq!(image.received(), 3);
        let error = image.chunk().await.err().unwrap();
        assert!(
            matches!(error, ImageError::Fatal(Error::Protocol(_))),
            "{error:?}"
        );
        assert_eq!(image.received(), 3);
        let error = images.next().await.err().unwrap();
        assert!(matches!(error, Error::Failed), "{error:?}");
        serving.await;
    });
}
