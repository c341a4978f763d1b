//! The reference: two bare state machines of `jtp-core`, connected in memory, with simulated time. Time advances to
//! the next deadline only when no bytes can move.

mod client;
mod server;

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jtp_core::Time;
use jtp_tokio::server::limits::RateLimiter;

use super::log::Log;
use super::play::{ClientLog, play};
use super::script::{Script, Setup};
use super::store::PROBE;
use super::store::SimulatedStore;
use super::stub::ServerStub;
use super::traits::Environment;
use client::RefClient;
pub(crate) use server::SimConnection;

/// Whether the client has a single stream, or can connect and reconnect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Mode {
    Stream,
    Network,
}

/// The result of a run.
#[derive(Debug)]
pub(crate) struct RunResult {
    pub(crate) log: Log,
    /// The number of bytes sent by the client and by the server.
    pub(crate) up: u64,
    pub(crate) down: u64,
}

/// The reference's result for the scenario of this name; computed once.
pub(crate) fn cached_run(name: &str, script: &Script, mode: Mode) -> Arc<RunResult> {
    type Known = Mutex<HashMap<(String, Mode), Arc<OnceLock<Arc<RunResult>>>>>;
    static KNOWN: OnceLock<Known> = OnceLock::new();
    let known = KNOWN.get_or_init(Known::default);
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    let cell = Arc::clone(known.entry((name.to_owned(), mode)).or_default());
    drop(known);
    Arc::clone(cell.get_or_init(|| Arc::new(run(script, mode))))
}

/// Runs the script on the reference.
pub(crate) fn run(script: &Script, mode: Mode) -> RunResult {
    let simulation = Rc::new(Simulation::new(&script.setup, mode));
    let mut client = RefClient::new(Rc::clone(&simulation));
    let client_log = ClientLog::default();
    play(script, &mut client, &*simulation, &client_log);
    simulation.run_to_end();
    let sim = simulation.sim.borrow();
    RunResult {
        up: sim.connections.iter().map(|conn| conn.up.passed).sum(),
        down: sim.connections.iter().map(|conn| conn.down.passed).sum(),
        log: Log {
            client: client_log.lines(),
            server: simulation.stub.log(),
        },
    }
}

/// Everything except the client.
pub(crate) struct Simulation {
    pub(crate) setup: Setup,
    pub(crate) mode: Mode,
    pub(crate) store: SimulatedStore,
    pub(crate) stub: Arc<ServerStub>,
    pub(crate) sim: RefCell<SimState>,
}

pub(crate) struct SimState {
    pub(crate) now: Time,
    pub(crate) connections: Vec<SimConnection>,
    pub(crate) draining: bool,
    pub(crate) stalled: bool,
    rate: Option<RateLimiter>,
}

impl Simulation {
    pub(crate) fn new(setup: &Setup, mode: Mode) -> Simulation {
        let store = SimulatedStore::new(setup);
        let hour = Duration::from_secs(3600);
        Simulation {
            stub: ServerStub::new(setup, &store),
            setup: setup.clone(),
            mode,
            store,
            sim: RefCell::new(SimState {
                now: Time::ZERO,
                connections: Vec::new(),
                draining: false,
                stalled: false,
                rate: setup.rate.and_then(|rate| RateLimiter::new(rate, hour)),
            }),
        }
    }

    pub(crate) fn now(&self) -> Time {
        self.sim.borrow().now
    }

    /// Opens a connection and returns its index; `None` once the server is shutting down.
    pub(crate) fn connect(&self) -> Option<usize> {
        let mut sim = self.sim.borrow_mut();
        if sim.draining {
            return None;
        }
        let number = sim.connections.len();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(number + 1).unwrap()));
        self.stub.record_open(address);
        let conn = SimConnection::new(&self.setup, address, sim.now);
        sim.connections.push(conn);
        Some(number)
    }

    /// Lets the server do everything it can without time passing; returns whether it did anything.
    pub(crate) fn serve(&self) -> bool {
        let sim = &mut *self.sim.borrow_mut();
        let (now, draining) = (sim.now, sim.draining);
        let mut moved = false;
        for conn in &mut sim.connections {
            moved |= conn.step(&self.store, &self.stub, &mut sim.rate, now, draining);
        }
        moved
    }

    /// Advances the time to the next deadline, including the client's; returns whether there is one.
    pub(crate) fn advance_time(&self, client: Option<Time>) -> bool {
        let sim = &mut *self.sim.borrow_mut();
        let servers = sim
            .connections
            .iter()
            .filter_map(|conn| conn.server.deadline());
        let Some(next) = servers.chain(client).min() else {
            return false;
        };
        sim.now = sim.now.max(next);
        for conn in &mut sim.connections {
            if conn.server.deadline().is_some_and(|d| d <= sim.now) {
                conn.server.handle_timeout(sim.now);
            }
        }
        true
    }

    pub(crate) fn sleep(&self, pause: Duration) {
        let until = self.now() + pause;
        while self.serve() || self.advance_time(Some(until)) {
            if self.now() >= until {
                return;
            }
        }
    }

    /// Runs until the server has nothing left to do and no deadline.
    pub(crate) fn run_to_end(&self) {
        self.store.end();
        self.sim.borrow_mut().stalled = false;
        while self.serve() || self.advance_time(None) {}
    }
}

impl Environment for Simulation {
    fn store(&self) -> &SimulatedStore {
        &self.store
    }

    fn shutdown(&self) {
        self.sim.borrow_mut().draining = true;
        while self.serve() {}
    }

    fn hold(&self) {} // The client's bytes are always delivered first.

    fn stall(&self) {
        self.sim.borrow_mut().stalled = true;
    }

    fn await_closed(&self) {
        while self
            .sim
            .borrow()
            .connections
            .iter()
            .any(|c| !c.server.is_closed())
        {
            assert!(
                self.serve() || self.advance_time(None),
                "the server does not close its connections"
            );
        }
    }

    fn await_received(&self, _: usize, send: &mut dyn FnMut()) {
        send();
    }

    fn wait(&self, time: Duration) {
        self.sleep(time);
    }

    fn start_probe(&self) {
        self.store.add(&[PROBE]);
        self.store.remove(PROBE);
    }

    fn probe_received(&self) {}
}
