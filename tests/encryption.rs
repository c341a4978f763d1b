//! TLS: ALPN, versions, sessions, and plain TCP on the same port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use jtp_tokio::Error;
use jtp_tokio::server::PlainPolicy;
use rustls::server::StoresServerSessions;

use crate::support::Result;
use crate::support::bytes::*;
use crate::support::files::samples;
use crate::support::peer::Peer;
use crate::support::serve::{TestServer, in_time};
use crate::support::tls::{localhost, tls};

fn secure(plain: PlainPolicy) -> TestServer {
    TestServer::folder_with(samples(), |s| s.tls(tls().server.clone()).plain(plain))
}

#[test]
fn t1_alpn_jtp_1_or_none_and_tls_1_2_or_1_3() {
    let served = secure(PlainPolicy::Refuse);
    let list = list_of(&served.images());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for alpn in [
            &[][..],
            &[&b"jtp/1"[..]],
            &[b"h2", b"jtp/1"],
            &[b"jtp/1", b"http/1.1"],
        ] {
            let mut peer = served.peer().tls(tls().client_with(alpn, version));
            peer.send([LIST, 0]);
            peer.expect(&list);
            peer.expect_end(); // S11: fails without close_notify.
        }
        for alpn in [&[&b"h2"[..]][..], &[b"jtp/2", b"JTP/1"]] {
            let mut peer = served.peer().tls(tls().client_with(alpn, version));
            let refused = peer.try_send([LIST, 0]);
            assert!(
                refused.is_err(),
                "{alpn:?} must be refused in the handshake"
            );
        }
    }
}

#[test]
fn t2_refused_plain_client_gets_an_error_that_names_tls() -> Result {
    let served = secure(PlainPolicy::Refuse);
    for sent in [&[LIST, KEEP][..], &[LIST], &[0x55; 100_000]] {
        let mut peer = served.peer();
        peer.send(sent);
        let message = peer.expect_error(UNSUPPORTED_FEATURE);
        assert!(message.contains("TLS"), "{message}");
    }
    // Our client reports a specific error.
    let refused = served.block_on(in_time(async { served.client().build().list().await }));
    assert!(
        matches!(refused, Err(Error::TlsServer { .. })),
        "{refused:?}"
    );

    // And if the server does not speak TLS.
    let plain = TestServer::samples();
    let client = plain.client().tls(tls().client(), localhost());
    let refused = plain.block_on(in_time(async { client.build().list().await }));
    assert!(
        matches!(refused, Err(Error::PlainServer { .. })),
        "{refused:?}"
    );

    // The same from a non-loopback address of this machine, if it has one.
    if let Some(address) = address_of_this_machine() {
        let server = |plain| {
            let store = crate::support::serve::raw_store(&crate::support::files::samples_folder());
            let setup = |s: jtp_tokio::ServerBuilder| s.tls(tls().server.clone()).plain(plain);
            TestServer::store_on(address, store, setup)
        };
        let served = server(PlainPolicy::Loopback);
        let mut peer = Peer::connect(served.address);
        peer.send([LIST, 0]);
        assert!(peer.expect_error(UNSUPPORTED_FEATURE).contains("TLS"));
        let served = server(PlainPolicy::Allow);
        let mut peer = Peer::connect(served.address);
        peer.send([LIST, 0]);
        peer.expect(b"JTPL");
        peer.read_to_end();
    }
    Ok(())
}

/// An IPv4 address of this machine that is not loopback. Nothing is sent.
fn address_of_this_machine() -> Option<SocketAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let mut address = socket.local_addr().ok()?;
    address.set_port(0);
    (!address.ip().is_loopback() && !address.ip().is_unspecified()).then_some(address)
}

/// The server's sessions, and how many were resumed.
#[derive(Debug)]
struct Sessions {
    inner: Arc<dyn StoresServerSessions>,
    resumed: AtomicUsize,
}

impl Sessions {
    fn counted(&self, session: Option<Vec<u8>>) -> Option<Vec<u8>> {
        self.resumed
            .fetch_add(usize::from(session.is_some()), Relaxed);
        session
    }
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.inner.put(key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.counted(self.inner.get(key))
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.counted(self.inner.take(key))
    }

    fn can_cache(&self) -> bool {
        self.inner.can_cache()
    }
}

#[test]
fn connections_of_one_client_configuration_resume_the_session_of_the_first() -> Result {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut config = rustls::ServerConfig::clone(&tls().server);
        let sessions = Arc::new(Sessions {
            inner: config.session_storage,
            resumed: AtomicUsize::new(0),
        });
        config.session_storage = sessions.clone();
        let served = TestServer::folder_with(samples(), |s| s.tls(Arc::new(config)));
        let builder = served.client();
        let builder = builder.tls(tls().client_with(&[], version), localhost());
        served.block_on(in_time(async {
            // The first one receives the tickets; two more connect while it is open, as with `--parallel`.
            let mut clients = [(); 3].map(|()| builder.clone().build());
            for client in &mut clients {
                assert_eq!(client.list().await?.len(), 14);
            }
            for mut client in clients {
                client.close().await;
            }
            // A connection made later, as after a lost one.
            assert_eq!(builder.clone().build().list().await?.len(), 14);
            Ok::<_, Error>(())
        }))?;
        assert_eq!(sessions.resumed.load(Relaxed), 3, "{version:?}");
    }
    Ok(())
}
