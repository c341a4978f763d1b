//! Several servers of one catalog: when the next one is used. // R6

use std::time::Duration;

use jtp_driver::Runtime;
use jtp_driver::client::{Client, Error as ClientFailure, ReplicaError};

use super::connection::Connection;
use super::event::SyncEvent;
use super::request::Request;
use super::session::Session;

impl<R: Runtime> Connection<R> {
    /// Goes on to the next server after this error.
    pub(super) fn fail_over(
        &mut self,
        error: ClientFailure,
    ) -> Result<ReplicaError, ClientFailure> {
        fail_over(&self.session, &mut self.client, error)
    }

    /// Reports a failure after which a connection is made to the current server after a pause.
    pub(super) fn report_retry(&self, error: &ClientFailure, pause: Duration) {
        self.session.emit(&SyncEvent::Retrying {
            error,
            pause,
            address: self.client.address(),
        });
    }

    /// Goes on to the next server if the current one has sent this image broken: another one may have it intact. Such an
    /// image is requested alone. // R2
    pub(super) fn leave_broken_server(&mut self, request: &Request) {
        let id = match request {
            Request::Ids(ids) if ids.len() == 1 => ids[0],
            _ => return,
        };
        for _ in 1..self.client.servers() {
            self.client.follow();
            let is_broken_there = {
                let state = self.session.state();
                let mut tried = state.broken_by.get(&id).into_iter().flatten();
                tried.any(|server| self.client.address() == Some(&**server))
            };
            if !is_broken_there {
                return;
            }
            // After the failure of all of them, too, the next one is used.
            let _ = self.fail_over(ClientFailure::BrokenImage { id });
        }
    }

    /// Whether the server refused this connection and others fetch. One that does not listen any more is replaced.
    pub(super) fn is_one_too_many(&self, error: &ClientFailure) -> bool {
        let may_be_replaced = self.client.servers() > 1
            && (self.client.is_left_behind() || matches!(error, ClientFailure::Connect { .. }));
        self.number > 0 && error.is_refused() && !may_be_replaced
    }

    /// How often an image is requested alone. Each server may have it.
    pub(super) fn max_attempts(&self) -> u64 {
        let servers = u64::try_from(self.client.servers()).unwrap_or(u64::MAX);
        u64::from(self.retries.max(1)).saturating_mul(servers)
    }
}

/// Goes on to the next server after this error. The catalog of the new one decides what is fetched. // R8
pub(super) fn fail_over<R: Runtime>(
    session: &Session,
    client: &mut Client<R>,
    error: ClientFailure,
) -> Result<ReplicaError, ClientFailure> {
    let is_reported = client.is_left_behind();
    let failed = client.fail_over(error)?;
    {
        let state = &mut *session.state();
        state.is_other_server = true;
        // The run's first catalog may come from any of them.
        state.server_changed |= !state.planner.is_empty();
    }
    if !is_reported {
        session.emit(&SyncEvent::ServerChanged {
            failed: &failed,
            address: client.address().unwrap_or_default(),
        });
    }
    Ok(failed)
}
