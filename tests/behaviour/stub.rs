//! The server's application as a stub: it answers the request handler and records each connection's requests and
//! close reason.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use jtp_core::wire::request::RequestHead;

use super::TEST_TIMEOUT;
use super::script::{Refusal, ServerAction, Setup};
use super::store::SimulatedStore;

pub(crate) struct ServerStub {
    store: SimulatedStore,
    refuse: fn(&RequestHead) -> Option<Refusal>,
    state: Mutex<StubState>,
    changed: Condvar,
}

#[derive(Default)]
struct StubState {
    on_request: Vec<(&'static str, ServerAction)>,
    /// In the order of connecting.
    connections: Vec<ConnectionRecord>,
    /// Connections that the script did not open; they are not recorded.
    others: HashSet<SocketAddr>,
    /// The number of bytes that the server has used of all recorded connections.
    received: u64,
    /// What is called when that number is reached.
    on_received: Option<(u64, Box<dyn FnOnce() + Send>)>,
}

struct ConnectionRecord {
    address: SocketAddr,
    lines: Vec<String>,
    end: Option<String>,
}

impl ServerStub {
    pub(crate) fn new(setup: &Setup, store: &SimulatedStore) -> Arc<ServerStub> {
        Arc::new(ServerStub {
            store: store.clone(),
            refuse: setup.refuse,
            state: Mutex::new(StubState {
                on_request: setup.on_request.clone(),
                ..StubState::default()
            }),
            changed: Condvar::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, StubState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a new connection. Call it before the first byte is sent.
    pub(crate) fn record_open(&self, address: SocketAddr) {
        self.state().connections.push(ConnectionRecord {
            address,
            lines: Vec::new(),
            end: None,
        });
    }

    pub(crate) fn ignore(&self, address: SocketAddr) {
        self.state().others.insert(address);
    }

    /// The request handler: `None` accepts the request.
    pub(crate) fn decide(
        &self,
        address: Option<SocketAddr>,
        head: &RequestHead,
    ) -> Option<Refusal> {
        let mut state = self.state();
        let address = address.expect("the peer's address is known");
        if state.others.contains(&address) {
            return None;
        }
        let keep_alive = if head.keep_alive { " keep-alive" } else { "" };
        let connection = state.connections.iter_mut().rev();
        let mut found = connection.filter(|c| c.address == address);
        let found = found.next().expect("the connection was recorded");
        let ids = head.kind.ids();
        let line = format!("request {} ({ids}){keep_alive}", head.kind.name());
        found.lines.push(line);
        let name = head.kind.name();
        let at = state.on_request.iter().position(|(kind, _)| *kind == name);
        let action = at.map(|at| state.on_request.remove(at).1);
        drop(state);
        if let Some(action) = action {
            self.store.change(&action);
        }
        (self.refuse)(head)
    }

    /// Records that the server has used bytes of the connection.
    pub(crate) fn record_received(&self, address: SocketAddr, bytes: u64) {
        let mut state = self.state();
        let is_recorded = |c: &ConnectionRecord| c.address == address && c.end.is_none();
        if !state.connections.iter().any(is_recorded) {
            return;
        }
        state.received += bytes;
        let received = state.received;
        let call = state.on_received.take_if(|(mark, _)| received >= *mark);
        drop(state);
        self.changed.notify_all();
        if let Some((_, call)) = call {
            call();
        }
    }

    /// Calls a function when the server has used this many more bytes.
    pub(crate) fn when_received(&self, bytes: u64, call: impl FnOnce() + Send + 'static) {
        let mut state = self.state();
        let mark = state.received + bytes;
        state.on_received = Some((mark, Box::new(call)));
    }

    /// Calls `send`, and waits until the server has used this many more bytes.
    pub(crate) fn await_received(&self, bytes: usize, send: impl FnOnce()) {
        let mark = self.state().received + u64::try_from(bytes).unwrap();
        send();
        self.wait_while("use the bytes", |state| state.received < mark);
    }

    fn wait_while(&self, what: &str, condition: impl Fn(&StubState) -> bool) {
        let waited = self
            .changed
            .wait_timeout_while(self.state(), TEST_TIMEOUT, |state| condition(state));
        let timeout = waited.unwrap_or_else(PoisonError::into_inner).1;
        assert!(!timeout.timed_out(), "the server did not {what} in time");
    }

    /// Records why the server closed the connection.
    pub(crate) fn record_close(&self, address: SocketAddr, reason: &str) {
        let mut state = self.state();
        let found = state
            .connections
            .iter_mut()
            .find(|c| c.address == address && c.end.is_none());
        if let Some(found) = found {
            found.end = Some(reason.to_owned());
        }
        self.changed.notify_all();
    }

    /// Waits until the server has closed every recorded connection.
    pub(crate) fn await_closed(&self) {
        self.wait_while("close its connections", |state| {
            state.connections.iter().any(|c| c.end.is_none())
        });
    }

    pub(crate) fn log(&self) -> Vec<String> {
        let state = self.state();
        let lines = state.connections.iter().zip(1..).flat_map(|(c, n)| {
            let end = c.end.as_deref().unwrap_or("(not yet)");
            let end = format!("{n}: end: {end}");
            let lines = c.lines.iter().map(move |line| format!("{n}: {line}"));
            lines.chain([end]).collect::<Vec<_>>()
        });
        lines.collect()
    }
}

impl SimulatedStore {
    /// Performs an action that concerns images only.
    pub(crate) fn change(&self, action: &ServerAction) {
        match action {
            ServerAction::Add(name) => self.add(&[name]),
            ServerAction::AddAll(names) => self.add(names),
            ServerAction::Remove(name) => self.remove(name),
            ServerAction::Rename(name, to) => self.rename(name, to),
            ServerAction::OpenGate(name) => self.open_gate(name),
            other => panic!("{other:?} does not concern images"),
        }
    }
}
