//! Accepting connections: how many, from whom, TLS or not.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jtp_core::server::{CloseReason, ServerConnection};
use jtp_store::ImageStore;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::connection::Connection;
use super::{Peer, Shared};
use crate::clock::Clock;

/// How long accepting pauses after an error that will not go away by itself (no file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections closed at accept are logged once in so long.
const LOG_EVERY: Duration = Duration::from_secs(10);

pub(super) async fn serve<S: ImageStore + ?Sized>(
    shared: &Arc<Shared<S>>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut shutdown = pin!(shutdown);
    let mut connections = JoinSet::new();
    // Before any connection: one that is accepted at the last moment is told as well.
    let begun = shared.shutdown.subscribe();
    let door = Arc::new(Door::new(
        shared.options.max_connections,
        shared.options.max_per_address,
    ));
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let Some(pass) = door.admit(address.ip()) else {
                    continue;
                };
                let (shared, begun) = (Arc::clone(shared), begun.clone());
                connections.spawn(async move {
                    let peer = Peer::new(Some(address));
                    match serve_tcp(&shared, stream, peer, begun).await {
                        Ok(Some(reason)) => tracing::debug!(%address, %reason, "closed"),
                        Ok(None) => {}
                        Err(error) => tracing::debug!(%address, %error, "connection lost"),
                    }
                    drop(pass);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    drain(shared, connections).await;
    Ok(())
}

/// S16
async fn drain<S: ?Sized>(shared: &Shared<S>, mut connections: JoinSet<()>) {
    shared.shutdown.send_replace(());
    let all_done = async { while connections.join_next().await.is_some() {} };
    let in_time = match shared.options.drain {
        Some(limit) => timeout(limit, all_done).await.is_ok(),
        None => {
            all_done.await;
            true
        }
    };
    if !in_time {
        tracing::warn!(
            connections = connections.len(),
            "closed before they were done"
        );
        connections.shutdown().await;
    }
}

async fn serve_tcp<S: ImageStore + ?Sized>(
    shared: &Shared<S>,
    stream: TcpStream,
    peer: Peer,
    shutdown: watch::Receiver<()>,
) -> io::Result<Option<CloseReason>> {
    stream.set_nodelay(shared.options.tcp_nodelay)?;
    #[cfg(feature = "tls")]
    if let Some(acceptor) = &shared.tls {
        return serve_tls(shared, acceptor, stream, peer, shutdown).await;
    }
    let clock = Clock::new();
    let machine = ServerConnection::new(shared.options.config, clock.now());
    Connection::new(shared, &peer, stream, machine, clock, shutdown)
        .run()
        .await
}

/// Counts the open connections.
#[derive(Debug)]
struct Door {
    max: Option<NonZeroUsize>,
    max_per_address: Option<NonZeroUsize>,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
    turned_away: u64,
    logged: Option<Instant>,
}

/// One open connection; gone when dropped.
#[derive(Debug)]
struct Pass {
    door: Arc<Door>,
    address: IpAddr,
}

impl Door {
    fn new(max: Option<NonZeroUsize>, max_per_address: Option<NonZeroUsize>) -> Door {
        Door {
            max,
            max_per_address,
            open: Mutex::default(),
        }
    }

    fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Pass> {
        let address = address.to_canonical();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let here = open.by_address.get(&address).copied().unwrap_or(0);
        let full = self.max.is_some_and(|max| open.total >= max.get())
            || self.max_per_address.is_some_and(|max| here >= max.get());
        if full {
            open.turned_away += 1;
            let now = Instant::now();
            if open.logged.is_none_or(|last| now - last >= LOG_EVERY) {
                tracing::warn!(%address, count = open.turned_away, "too many connections: closed at accept");
                open.logged = Some(now);
                open.turned_away = 0;
            }
            return None;
        }
        open.total += 1;
        if self.max_per_address.is_some() {
            *open.by_address.entry(address).or_default() += 1;
        }
        Some(Pass {
            door: Arc::clone(self),
            address,
        })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut open = self
            .door
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        if let Entry::Occupied(mut here) = open.by_address.entry(self.address) {
            *here.get_mut() -= 1;
            if *here.get() == 0 {
                here.remove();
            }
        }
    }
}

#[cfg(feature = "tls")]
async fn serve_tls<S: ImageStore + ?Sized>(
    shared: &Shared<S>,
    acceptor: &tokio_rustls::TlsAcceptor,
    stream: TcpStream,
    mut peer: Peer,
    mut shutdown: watch::Receiver<()>,
) -> io::Result<Option<CloseReason>> {
    use jtp_core::server::{Opening, TLS_NEEDED};
    use jtp_core::wire::response::ErrorCode;

    let mut first = [0];
    let peeked = tokio::select! {
        peeked = within(shared.options.first_byte, stream.peek(&mut first)) => peeked?,
        _ = shutdown.changed() => return Ok(Some(CloseReason::Shutdown)),
    };
    if peeked == 0 {
        return Ok(Some(CloseReason::PeerClosed));
    }
    let loopback = peer.ip().is_some_and(|ip| ip.to_canonical().is_loopback());
    let clock = Clock::new();
    let config = shared.options.config;
    let machine = match shared.options.plain.judge(first[0], loopback) {
        Opening::Tls => {
            let handshake = within(shared.options.handshake, acceptor.accept(stream));
            // S16: a handshake is no response under way.
            let stream = tokio::select! {
                stream = handshake => stream?,
                _ = shutdown.changed() => return Ok(Some(CloseReason::Shutdown)),
            };
            let certificates = stream
                .get_ref()
                .1
                .peer_certificates()
                .unwrap_or_default()
                .to_vec();
            peer.tls = Some(super::TlsPeer { certificates });
            let machine = ServerConnection::new(config, clock.now());
            return Connection::new(shared, &peer, stream, machine, clock, shutdown)
                .run()
                .await;
        }
        Opening::Plain => ServerConnection::new(config, clock.now()),
        Opening::RefusePlain => {
            let code = ErrorCode::UnsupportedFeature;
            ServerConnection::refused(config, code, TLS_NEEDED, clock.now())
        }
    };
    Connection::new(shared, &peer, stream, machine, clock, shutdown)
        .run()
        .await
}

/// T4
#[cfg(feature = "tls")]
async fn within<T>(
    limit: Option<Duration>,
    work: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    match limit {
        Some(limit) => timeout(limit, work)
            .await
            .unwrap_or(Err(io::ErrorKind::TimedOut.into())),
        None => work.await,
    }
}
