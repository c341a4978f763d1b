//! The application on the server's side: it is asked about requests, and notes what it sees of each connection.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use jtp_core::wire::request::{RequestHead, RequestKind};

use super::PATIENCE;
use super::script::{Deed, Refusal, Setup};
use super::store::Store;

pub(crate) struct Court {
    store: Store,
    refuse: fn(&RequestHead) -> Option<Refusal>,
    notes: Mutex<Notes>,
    changed: Condvar,
}

#[derive(Default)]
struct Notes {
    on_request: Vec<(&'static str, Deed)>,
    /// In the order in which they were made.
    connections: Vec<Connection>,
    /// Connections that are not the script's.
    others: HashSet<SocketAddr>,
}

struct Connection {
    address: SocketAddr,
    lines: Vec<String>,
    end: Option<String>,
}

impl Court {
    pub(crate) fn new(setup: &Setup, store: &Store) -> Arc<Court> {
        Arc::new(Court {
            store: store.clone(),
            refuse: setup.refuse,
            notes: Mutex::new(Notes {
                on_request: setup.on_request.clone(),
                ..Notes::default()
            }),
            changed: Condvar::new(),
        })
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection has been made. Nothing has come over it.
    pub(crate) fn begins(&self, address: SocketAddr) {
        self.notes().connections.push(Connection {
            address,
            lines: Vec::new(),
            end: None,
        });
    }

    pub(crate) fn ignore(&self, address: SocketAddr) {
        self.notes().others.insert(address);
    }

    /// The application is asked about a request.
    pub(crate) fn decide(
        &self,
        address: Option<SocketAddr>,
        head: &RequestHead,
    ) -> Option<Refusal> {
        let mut notes = self.notes();
        let address = address.expect("the peer's address is known");
        if notes.others.contains(&address) {
            return None;
        }
        let keep_alive = if head.keep_alive { " keep-alive" } else { "" };
        let connection = notes.connections.iter_mut().rev();
        let mut found = connection.filter(|c| c.address == address);
        let found = found.next().expect("the connection is one of the script's");
        let ids = head.kind.ids();
        let line = format!("request {} ({ids}){keep_alive}", head.kind.name());
        found.lines.push(line);
        if head.kind == RequestKind::Watch {
            self.changed.notify_all();
        }
        let name = head.kind.name();
        let due = notes.on_request.iter().position(|(kind, _)| *kind == name);
        let deed = due.map(|at| notes.on_request.remove(at).1);
        drop(notes);
        if let Some(deed) = deed {
            self.store.change(&deed);
        }
        (self.refuse)(head)
    }

    /// The server is done with the connection, for this reason.
    pub(crate) fn ends(&self, address: SocketAddr, reason: &str) {
        let mut notes = self.notes();
        let found = notes
            .connections
            .iter_mut()
            .find(|c| c.address == address && c.end.is_none());
        if let Some(found) = found {
            found.end = Some(reason.to_owned());
        }
        self.changed.notify_all();
    }

    /// Waits until the server is done with all connections there have been.
    pub(crate) fn await_ends(&self) {
        let mut notes = self.notes();
        while notes.connections.iter().any(|c| c.end.is_none()) {
            let waited = self.changed.wait_timeout(notes, PATIENCE);
            let (next, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            assert!(!timeout.timed_out(), "the server is not done in time");
            notes = next;
        }
    }

    pub(crate) fn log(&self) -> Vec<String> {
        let notes = self.notes();
        let lines = notes.connections.iter().zip(1..).flat_map(|(c, n)| {
            let end = c.end.as_deref().unwrap_or("(not yet)");
            let end = format!("{n}: end: {end}");
            let lines = c.lines.iter().map(move |line| format!("{n}: {line}"));
            lines.chain([end]).collect::<Vec<_>>()
        });
        lines.collect()
    }
}

impl Store {
    /// Does what concerns only the images.
    pub(crate) fn change(&self, deed: &Deed) {
        match deed {
            Deed::Add(name) => self.add(&[name]),
            Deed::AddAll(names) => self.add(names),
            Deed::Remove(name) => self.remove(name),
            Deed::Rename(name, to) => self.rename(name, to),
            Deed::Open(name) => self.open_gate(name),
            other => panic!("{other:?} is not about images"),
        }
    }
}
