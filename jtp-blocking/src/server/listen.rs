//! Accepting connections: how many, from whom, TLS or not.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use jtp_core::server::{CloseReason, ServerConnection};
use jtp_store::ImageStore;
use rustix::event::{PollFd, PollFlags};

use super::connection::Connection;
use super::signals::Drain;
use super::{Peer, Shared, Shutdown};
use crate::STACK;
use crate::clock::Clock;
use crate::stream::{is_blocked, wait_for};

/// How long accepting pauses after an error that will not go away by itself (no file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections closed at accept are logged once in so long.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// How much longer than the drain time the server waits: for threads that are about to end.
const DRAIN_GRACE: Duration = Duration::from_millis(500);

pub(super) fn serve<S: ImageStore + ?Sized>(
    shared: &Arc<Shared<S>>,
    listener: TcpListener,
    shutdown: &Shutdown,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let drain = shared.drain()?;
    let door = Arc::new(Door::new(
        shared.options.max_connections,
        shared.options.max_per_address,
    ));
    while !shutdown.has_begun() {
        match listener.accept() {
            Ok((stream, address)) => {
                let Some(pass) = door.admit(address.ip()) else {
                    continue;
                };
                let (shared, drain) = (Arc::clone(shared), Arc::clone(&drain));
                let thread = thread::Builder::new().name(format!("jtp {address}"));
                let spawned = thread.stack_size(STACK).spawn(move || {
                    serve_connection(&shared, stream, address, drain);
                    drop(pass);
                });
                if let Err(error) = spawned {
                    tracing::warn!(%address, %error, "no thread for a connection: closed at accept");
                }
            }
            Err(error) if is_blocked(&error) => {
                let own = PollFd::new(&listener, PollFlags::IN);
                wait_for(Some(own), &[shutdown.bell()], None)?;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                wait_for(None, &[shutdown.bell()], Some(ACCEPT_PAUSE))?;
            }
        }
    }
    drop(listener);
    // S16
    drain.begin(shared.options.drain);
    let left = door.wait_empty(shared.options.drain.map(|limit| limit + DRAIN_GRACE));
    if left > 0 {
        tracing::warn!(connections = left, "left behind: their threads do not end");
    }
    shared.drained(&drain);
    Ok(())
}

fn serve_connection<S: ImageStore + ?Sized>(
    shared: &Shared<S>,
    stream: TcpStream,
    address: SocketAddr,
    drain: Arc<Drain>,
) {
    let peer = Peer::new(Some(address));
    match serve_tcp(shared, stream, &peer, drain) {
        Ok(Some(reason)) => tracing::debug!(%address, %reason, "closed"),
        Ok(None) => {}
        Err(error) => tracing::debug!(%address, %error, "connection lost"),
    }
}

fn serve_tcp<S: ImageStore + ?Sized>(
    shared: &Shared<S>,
    stream: TcpStream,
    peer: &Peer,
    drain: Arc<Drain>,
) -> io::Result<Option<CloseReason>> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(shared.options.tcp_nodelay)?;
    #[cfg(feature = "tls")]
    if let Some(config) = &shared.tls {
        return serve_tls(shared, config, stream, peer, drain);
    }
    let clock = Clock::new();
    let machine = ServerConnection::new(shared.options.config, clock.now());
    Connection::new(shared, peer, stream, machine, clock, drain).run()
}

/// Counts the open connections.
#[derive(Debug)]
struct Door {
    max: Option<NonZeroUsize>,
    max_per_address: Option<NonZeroUsize>,
    open: Mutex<Open>,
    empty: Condvar,
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
            empty: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Pass> {
        let address = address.to_canonical();
        let mut open = self.lock();
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

    /// Waits until all connections have ended, or the time is over; how many have not.
    fn wait_empty(&self, limit: Option<Duration>) -> usize {
        let open = self.lock();
        let open = match limit {
            Some(limit) => {
                let waited = self
                    .empty
                    .wait_timeout_while(open, limit, |open| open.total > 0);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => {
                let waited = self.empty.wait_while(open, |open| open.total > 0);
                waited.unwrap_or_else(PoisonError::into_inner)
            }
        };
        open.total
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut open = self.door.lock();
        open.total -= 1;
        if let Entry::Occupied(mut here) = open.by_address.entry(self.address) {
            *here.get_mut() -= 1;
            if *here.get() == 0 {
                here.remove();
            }
        }
        if open.total == 0 {
            self.door.empty.notify_all();
        }
    }
}

#[cfg(feature = "tls")]
fn serve_tls<S: ImageStore + ?Sized>(
    shared: &Shared<S>,
    tls: &Arc<rustls::ServerConfig>,
    stream: TcpStream,
    peer: &Peer,
    drain: Arc<Drain>,
) -> io::Result<Option<CloseReason>> {
    use jtp_core::server::{Opening, TLS_NEEDED};
    use jtp_core::wire::response::ErrorCode;

    use crate::clock::after;
    use crate::stream::Tls;

    let Some(first) = first_byte(&stream, shared.options.first_byte, &drain)? else {
        let ended = if drain.bell.is_rung() {
            CloseReason::Shutdown
        } else {
            CloseReason::PeerClosed
        };
        return Ok(Some(ended));
    };
    let loopback = peer.ip().is_some_and(|ip| ip.to_canonical().is_loopback());
    let clock = Clock::new();
    let config = shared.options.config;
    let machine = match shared.options.plain.judge(first, loopback) {
        Opening::Tls => {
            let connection = rustls::ServerConnection::new(Arc::clone(tls));
            let connection = connection.map_err(io::Error::other)?;
            let mut stream = Tls::new(connection, stream);
            stream.handshake(after(shared.options.handshake), &[&drain.bell])?;
            let certificates = stream.connection().peer_certificates();
            let mut peer = peer.clone();
            peer.tls = Some(super::TlsPeer {
                certificates: certificates.unwrap_or_default().to_vec(),
            });
            let machine = ServerConnection::new(config, clock.now());
            return Connection::new(shared, &peer, stream, machine, clock, drain).run();
        }
        Opening::Plain => ServerConnection::new(config, clock.now()),
        Opening::RefusePlain => {
            let code = ErrorCode::UnsupportedFeature;
            ServerConnection::refused(config, code, TLS_NEEDED, clock.now())
        }
    };
    Connection::new(shared, peer, stream, machine, clock, drain).run()
}

/// Looks at the first byte; none if none comes, or the server shuts down. // T2 T4
#[cfg(feature = "tls")]
fn first_byte(
    stream: &TcpStream,
    limit: Option<Duration>,
    drain: &Drain,
) -> io::Result<Option<u8>> {
    use crate::clock::{after, left};

    let until = after(limit);
    let mut first = [0];
    loop {
        match stream.peek(&mut first) {
            Ok(count) => return Ok((count > 0).then_some(first[0])),
            Err(error) if is_blocked(&error) => {}
            Err(error) => return Err(error),
        }
        if drain.bell.is_rung() {
            return Ok(None);
        }
        if until.is_some_and(|until| left(until).is_zero()) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let own = PollFd::new(stream, PollFlags::IN);
        wait_for(Some(own), &[&drain.bell], until.map(left))?;
    }
}
