//! A client and a server, and the two pipes between them.

use jtp_core::Time;
use jtp_core::client::ClientError;
use jtp_core::server::CloseReason;
use jtp_kit::model::Event;

use super::client::Client;
use super::network::Pipe;
use super::server::Server;

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) client: Client,
    pub(crate) server: Server,
    pub(crate) up: Pipe,
    pub(crate) down: Pipe,
    pub(crate) was_reset: bool,
}

impl Link {
    pub(crate) fn new(client: Client, server: Server, up: Pipe, down: Pipe) -> Link {
        Link {
            client,
            server,
            up,
            down,
            was_reset: false,
        }
    }

    // The transport. Each call returns whether anything moved.

    pub(crate) fn client_sends(&mut self, max: usize, now: Time) -> bool {
        if self.up.is_finished() {
            return false;
        }
        let bytes = self.client.send(max.min(self.up.room()), now);
        let moved = !bytes.is_empty();
        self.up.send(bytes, now);
        moved
    }

    pub(crate) fn server_reads(&mut self, max: usize, now: Time) -> bool {
        let mut moved = false;
        if self.server.machine.wants_read(&self.server.input) {
            let bytes = self.up.take(max, now);
            moved = !bytes.is_empty();
            self.server.input.extend(bytes);
            if self.up.take_end(now) {
                self.server.end();
                moved = true;
            }
        }
        self.server.receive_all(now) || moved
    }

    pub(crate) fn server_sends(&mut self, max: usize, now: Time) -> bool {
        if self.server.machine.is_closed() {
            return self.down.finish(now); // Unsent output is dropped.
        }
        let bytes = self.server.send(max.min(self.down.room()), now);
        let mut moved = !bytes.is_empty();
        self.down.send(bytes, now);
        self.server.receive_all(now);
        if self.server.finish(now) {
            self.down.finish(now);
            self.server.receive_all(now);
            moved = true;
        }
        moved
    }

    pub(crate) fn client_reads(&mut self, max: usize, now: Time) -> (bool, Vec<Event>) {
        if self.was_reset {
            return (false, Vec::new());
        }
        let bytes = self.down.take(max, now);
        let mut moved = !bytes.is_empty();
        let events = self.client.receive_all(&bytes, now);
        if self.down.take_end(now) {
            self.client.end(now);
            moved = true;
        }
        // The client stops sending once the connection has ended.
        let fault = self.client.machine.fault();
        if fault.is_some() || self.down.is_end_reported() {
            moved |= self.up.finish(now);
        }
        if let Some(ClientError::Peer(error)) = fault {
            panic!("the client blames a correct server: {error}");
        }
        (moved, events)
    }

    /// Closes the client's side if all output was sent. // T5
    pub(crate) fn half_close(&mut self, now: Time) -> bool {
        self.client.offered.is_empty() && self.up.finish(now)
    }

    /// Resets the connection for both sides.
    pub(crate) fn reset(&mut self, now: Time) {
        self.was_reset = true;
        self.client.end(now);
    }

    /// Checks the outcome once nothing more can happen without time passing.
    pub(crate) fn check_settled(&self) {
        if self.was_reset {
            return;
        }
        let (client, server) = (&self.client, &self.server);
        let reason = server.machine.close_reason();
        match (client.machine.fault(), reason) {
            (Some(ClientError::TimedOut), _) => return,
            (_, Some(CloseReason::InvalidRequest(_) | CloseReason::StrayCancel))
            | (_, Some(CloseReason::RequestDuringWatch)) => {
                panic!("the server blames a correct client: {server:?}")
            }
            (Some(ClientError::Server(error)), _) => {
                assert_eq!(Some(error.code.code()), server.model.error());
            }
            (Some(ClientError::EarlyEof), None | Some(CloseReason::NoKeepAlive)) => {
                panic!("early EOF without a cause: {self:?}")
            }
            (Some(ClientError::EarlyEof), Some(CloseReason::PeerClosed)) => {
                assert!(self.up.is_finished());
            }
            (Some(ClientError::EarlyEof) | None, _) => {}
            (Some(fault), reason) => panic!("{fault:?} for {reason:?}"),
        }
        if let None | Some(CloseReason::NoKeepAlive) = reason {
            // S1 C1: each request and each CANCEL is answered.
            assert!(
                !client.model.is_due() && server.model.is_answered(),
                "{self:?}"
            );
            assert_eq!((client.offered.len(), server.input.len()), (0, 0));
            assert_eq!(server.model.unreported(), 0, "N2: events missed");
        }
    }
}
