//! SIGHUP: certificate, key and clients are read again.

use std::net::SocketAddr;
use std::sync::Arc;

use super::status::{Phase, Status};
use crate::service_manager;
use crate::signals::Hangups;
use crate::tls::server::ServerTls;

/// Reads the files again at each SIGHUP, also at those that arrived before the first call.
pub(super) async fn at_hangups(
    tls: Option<Arc<ServerTls>>,
    hangups: Hangups,
    status: Arc<Status>,
    address: SocketAddr,
) {
    loop {
        hangups.next().await;
        // A service manager that waits for the stop expects no reload.
        let notify = status.phase() == Phase::Serving;
        if notify {
            service_manager::reloading();
        }
        match tls.clone() {
            Some(tls) => {
                // Fails only if the runtime is shutting down.
                let _ = tokio::task::spawn_blocking(move || tls.reload()).await;
            }
            None => {
                tracing::info!(
                    "ignoring SIGHUP: without TLS there is no certificate to read again"
                );
            }
        }
        if notify && status.phase() == Phase::Serving {
            service_manager::ready(&serving_on(address));
        }
    }
}

/// The service's status, as a line for the user.
pub(super) fn serving_on(address: SocketAddr) -> String {
    format!("serving on {address}")
}
