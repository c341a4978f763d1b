//! Accepts connections, TLS or plain.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jtp_core::server::CloseReason;

use super::connection::Scheduling;
use super::drain::Drain;
use super::limits::{LogThrottle, Permit};
use super::observe::ConnectionEnd;
use super::{Peer, Shared, identity};
use crate::clock::after;
use crate::runtime::{Runtime, Socket};
use crate::signal::ShutdownSignal;
use crate::socket::{limit_buffers, set_keep_alive, set_user_timeout};
use crate::wait::{race, timeout, yield_now};

/// The pause after an accept error that is likely to last (no file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The time that connections have to end after the drain time is over.
const STOP_GRACE: Duration = Duration::from_millis(500);

/// Stops the connections of one `serve` when its future is dropped.
struct StopOnDrop(ShutdownSignal);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.begin();
    }
}

pub(super) async fn serve<R: Runtime>(
    shared: &Arc<Shared<R>>,
    listener: R::Listener,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let runtime = &shared.runtime;
    // Before any connection: one that is accepted at the last moment is notified as well.
    let drain = shared.drain();
    let server_shutdown = drain.signal.wait();
    let mut shutdown = pin!(race(shutdown, server_shutdown));
    let stop = StopOnDrop(ShutdownSignal::new());
    let mut failures = LogThrottle::default();
    loop {
        let begun = async {
            shutdown.as_mut().await;
            None
        };
        let accept = async { Some(runtime.accept(&listener).await) };
        let Some(accepted) = race(begun, accept).await else {
            break;
        };
        let (socket, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                log_failure(&mut failures, &error, runtime.now());
                let pause = timeout(runtime, Some(ACCEPT_PAUSE), shutdown.as_mut());
                if pause.await.is_some() {
                    break;
                }
                continue;
            }
        };
        let Some(arrival) = shared.admit(address) else {
            continue;
        };
        let stopped = stop.0.wait();
        let open = drain.connection();
        let drain = Arc::clone(&drain);
        let task = async move {
            let served = async {
                // A failure is logged, and nothing more can be done about it.
                let _ = arrival.serve(socket, drain, Scheduling::Queued).await;
            };
            // The connection first: one whose time is over as well ends by itself.
            race(served, stopped).await;
            drop(open);
        };
        if let Err(error) = runtime.spawn(format_args!("jtp {address}"), Box::pin(task)) {
            log_failure(&mut failures, &error, runtime.now());
        }
        // A flood of connections leaves the executor to those that are open.
        yield_now().await;
    }
    drop(listener);
    finish(shared, drain).await;
    Ok(())
}

fn log_failure(failures: &mut LogThrottle, error: &io::Error, now: Instant) {
    if let Some(count) = failures.record(now) {
        tracing::warn!(%error, count, "cannot accept a connection");
    }
}

/// Ends the connections of `drain`, and waits for them. Later connections belong to another one. Others may have begun
/// its end before. // S16
pub(super) async fn finish<R: Runtime>(shared: &Shared<R>, drain: Arc<Drain>) {
    let limit = shared.options.drain_timeout;
    shared.replace_drain(&drain);
    drain.begin(after(&shared.runtime, limit));
    let limit = limit.map(|limit| limit.saturating_add(STOP_GRACE));
    if timeout(&shared.runtime, limit, drain.all_closed())
        .await
        .is_none()
    {
        let connections = drain.open();
        tracing::warn!(connections, "connections did not end in the drain time");
    }
}

pub(super) async fn serve_tcp<R: Runtime>(
    shared: &Arc<Shared<R>>,
    socket: R::Socket,
    peer: Peer,
    permit: Option<Arc<Permit>>,
    drain: Arc<Drain>,
    scheduling: Scheduling,
) -> io::Result<Option<CloseReason>> {
    let options = &shared.options;
    socket.options().set_tcp_nodelay(options.tcp_nodelay)?;
    set_keep_alive(&socket.options());
    set_user_timeout(&socket.options(), options.config.write_timeout());
    limit_buffers(&socket.options()); // T8
    #[cfg(feature = "tls")]
    if let Some(accept) = &shared.tls {
        // Boxed, so that a plain connection's future has no room for a handshake.
        return Box::pin(serve_tls(
            shared, accept, socket, peer, permit, drain, scheduling,
        ))
        .await;
    }
    let identified = shared.identify(peer, permit);
    identity::serve(Arc::clone(shared), identified, socket, drain, scheduling).await
}

#[cfg(feature = "tls")]
async fn serve_tls<R: Runtime>(
    shared: &Arc<Shared<R>>,
    accept: &super::builder::AcceptTls<R>,
    socket: R::Socket,
    peer: Peer,
    permit: Option<Arc<Permit>>,
    drain: Arc<Drain>,
    scheduling: Scheduling,
) -> io::Result<Option<CloseReason>> {
    use jtp_core::wire::response::ErrorCode;

    use super::identity::Identified;
    use super::plain::{Opening, PlainPolicy};
    use crate::TLS_REQUIRED;
    use crate::wait::timeout_io;

    let (runtime, options) = (&shared.runtime, &shared.options);
    let mut first = [0];
    let peeked = timeout_io(runtime, options.first_byte_timeout, socket.peek(&mut first)); // T4
    match unless_drained(&drain, peeked).await? {
        None => return Ok(Some(CloseReason::Shutdown)),
        Some(0) => return Ok(Some(CloseReason::PeerClosed)),
        Some(_) => {}
    }
    let plain = if shared.clients.is_some() {
        PlainPolicy::Refuse // T7
    } else {
        options.plain
    };
    let identified = match plain.classify(first[0], peer.is_local()) {
        Opening::Tls => {
            if !shared.allows_handshake(&peer) {
                return Ok(Some(CloseReason::Refused(ErrorCode::RateLimited)));
            }
            let handshake = async {
                let _counted = shared.observation.handshake();
                let accept = accept(runtime, socket);
                match scheduling {
                    Scheduling::Queued => shared.handshakes.run(peer.client_id(), accept).await,
                    Scheduling::Independent => accept.await,
                }
            };
            let handshake = timeout_io(runtime, options.handshake_timeout, handshake); // T4
            // S16: a handshake is no response under way.
            let Some((stream, tls)) = unless_drained(&drain, handshake).await? else {
                return Ok(Some(CloseReason::Shutdown));
            };
            let identified = shared.identify(peer.with_tls(tls), permit);
            return identity::serve(Arc::clone(shared), identified, stream, drain, scheduling)
                .await;
        }
        Opening::Plain => shared.identify(peer, permit),
        Opening::RefusePlain => {
            Identified::refused(peer, ErrorCode::UnsupportedFeature, TLS_REQUIRED)
        }
    };
    identity::serve(Arc::clone(shared), identified, socket, drain, scheduling).await
}

/// The output of `work`; `None` if the server's shutdown begins first.
pub(super) async fn unless_drained<T>(
    drain: &Drain,
    work: impl Future<Output = io::Result<T>>,
) -> io::Result<Option<T>> {
    let drained = async {
        drain.signal.wait().await;
        Ok(None)
    };
    race(async { work.await.map(Some) }, drained).await
}

/// How a connection ended, for the observer.
pub(super) fn end_of(served: &io::Result<Option<CloseReason>>) -> ConnectionEnd<'_> {
    match served {
        Ok(Some(reason)) => ConnectionEnd::Closed(*reason),
        Ok(None) => ConnectionEnd::Closed(CloseReason::PeerClosed),
        Err(error) => ConnectionEnd::Failed(error),
    }
}
