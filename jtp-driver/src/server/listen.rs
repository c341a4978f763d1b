//! Accepting connections, TLS or not.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jtp_core::server::{CloseReason, ServerConnection};
use jtp_store::ImageStore;

use super::connection::Connection;
use super::door::{Door, Seldom};
use super::drain::Drain;
use super::tasks::Tasks;
use super::{Peer, Shared};
use crate::clock::Clock;
use crate::keep_alive::{give_up_unsent, look_after};
use crate::runtime::{Runtime, Socket};
use crate::wait::{or, timeout, yield_now};

/// How long accepting pauses after an error that will not go away by itself (no file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long connections that were stopped have to end.
const STOP_GRACE: Duration = Duration::from_millis(500);

pub(super) async fn serve<R: Runtime, S: ImageStore + ?Sized>(
    shared: &Arc<Shared<R, S>>,
    listener: R::Listener,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut shutdown = pin!(shutdown);
    let connections = Tasks::new()?;
    // Before any connection: one that is accepted at the last moment is told as well.
    let drain = shared.drain()?;
    let door = Arc::new(Door::new(
        shared.options.max_connections,
        shared.options.max_per_client,
    ));
    let mut failures = Seldom::default();
    loop {
        let begun = async {
            shutdown.as_mut().await;
            None
        };
        let Some(accepted) = or(begun, async { Some(R::accept(&listener).await) }).await else {
            break;
        };
        let (socket, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                log_failure(&mut failures, &error, R::now());
                let pause = timeout::<R, _>(Some(ACCEPT_PAUSE), shutdown.as_mut());
                if pause.await.is_some() {
                    break;
                }
                continue;
            }
        };
        let Some(pass) = door.admit(address.ip(), R::now()) else {
            continue;
        };
        let (shared, drain) = (Arc::clone(shared), Arc::clone(&drain));
        let spawned = connections.spawn::<R>(format_args!("jtp {address}"), async move {
            let peer = Peer::new(Some(address));
            let served = serve_tcp(&shared, socket, peer, drain).await;
            drop(pass); // Who is told of the end finds room.
            match served {
                Ok(Some(reason)) => tracing::debug!(%address, %reason, "closed"),
                Ok(None) => {}
                Err(error) => tracing::debug!(%address, %error, "connection lost"),
            }
        });
        if let Err(error) = spawned {
            log_failure(&mut failures, &error, R::now());
        }
        // Connections that come without a pause leave the executor to those that are here.
        yield_now().await;
    }
    drop(listener);
    finish(shared, &connections).await;
    Ok(())
}

fn log_failure(failures: &mut Seldom, error: &io::Error, now: Instant) {
    if let Some(count) = failures.happened(now) {
        tracing::warn!(%error, count, "cannot accept a connection");
    }
}

/// S16
async fn finish<R: Runtime, S: ?Sized>(shared: &Shared<R, S>, connections: &Tasks<R::Bell>) {
    shared.begin_drain();
    let in_time = timeout::<R, _>(shared.options.drain, connections.done()).await;
    if in_time.is_some() {
        return;
    }
    let count = connections.running();
    tracing::warn!(connections = count, "closed before they were done");
    connections.stop();
    let stopped = timeout::<R, _>(Some(STOP_GRACE), connections.done()).await;
    if stopped.is_none() {
        let count = connections.running();
        tracing::warn!(connections = count, "left behind: something in them blocks");
    }
}

async fn serve_tcp<R: Runtime, S: ImageStore + ?Sized>(
    shared: &Shared<R, S>,
    socket: R::Socket,
    peer: Peer,
    drain: Arc<Drain<R::Bell>>,
) -> io::Result<Option<CloseReason>> {
    let options = &shared.options;
    socket.options().set_tcp_nodelay(options.tcp_nodelay)?;
    look_after(&socket.options());
    give_up_unsent(&socket.options(), options.config.write_timeout());
    #[cfg(feature = "tls")]
    if let Some(accept) = &shared.tls {
        // In a box, so that a plain connection does not carry what only a handshake needs.
        return Box::pin(serve_tls(shared, accept, socket, peer, drain)).await;
    }
    let clock = Clock::new();
    let machine = ServerConnection::new(shared.options.config, clock.now());
    Connection::new(shared, &peer, socket, machine, clock, drain)
        .run()
        .await
}

#[cfg(feature = "tls")]
async fn serve_tls<R: Runtime, S: ImageStore + ?Sized>(
    shared: &Shared<R, S>,
    accept: &super::builder::Accept<R>,
    socket: R::Socket,
    mut peer: Peer,
    drain: Arc<Drain<R::Bell>>,
) -> io::Result<Option<CloseReason>> {
    use jtp_core::server::{Opening, TLS_NEEDED};
    use jtp_core::wire::response::ErrorCode;

    use crate::wait::within;

    let mut first = [0];
    let peeked = within::<R, _>(shared.options.first_byte, socket.peek(&mut first)); // T4
    match unless_drained(&drain, peeked).await? {
        None => return Ok(Some(CloseReason::Shutdown)),
        Some(0) => return Ok(Some(CloseReason::PeerClosed)),
        Some(_) => {}
    }
    let loopback = peer.ip().is_some_and(|ip| ip.to_canonical().is_loopback());
    let clock = Clock::new();
    let config = shared.options.config;
    let machine = match shared.options.plain.judge(first[0], loopback) {
        Opening::Tls => {
            let handshake = within::<R, _>(shared.options.handshake, accept(socket)); // T4
            // S16: a handshake is no response under way.
            let Some((stream, certificates)) = unless_drained(&drain, handshake).await? else {
                return Ok(Some(CloseReason::Shutdown));
            };
            peer.tls = Some(super::TlsPeer { certificates });
            let machine = ServerConnection::new(config, clock.now());
            return Connection::new(shared, &peer, stream, machine, clock, drain)
                .run()
                .await;
        }
        Opening::Plain => ServerConnection::new(config, clock.now()),
        Opening::RefusePlain => {
            let code = ErrorCode::UnsupportedFeature;
            ServerConnection::refused(config, code, TLS_NEEDED, clock.now())
        }
    };
    Connection::new(shared, &peer, socket, machine, clock, drain)
        .run()
        .await
}

/// What `work` brings; `None` if the server's shutdown is before it.
#[cfg(feature = "tls")]
async fn unless_drained<B: crate::runtime::Bell, T>(
    drain: &Drain<B>,
    work: impl Future<Output = io::Result<T>>,
) -> io::Result<Option<T>> {
    let drained = async {
        Arc::clone(&drain.bell).rung().await;
        Ok(None)
    };
    or(async { work.await.map(Some) }, drained).await
}
