//! The reference: two bare machines of `jtp-core`, joined in memory, on simulated time. Whatever can move moves;
//! only when nothing can does the time go on, to the next deadline.

mod client;
mod server;

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jtp_core::{RateLimiter, Time};

use super::court::Court;
use super::ends::Stage;
use super::log::Log;
use super::play::{Diary, play};
use super::script::{Script, Setup};
use super::store::BEACON;
use super::store::Store;
use client::RefClient;
pub(crate) use server::Conn;

/// Whether the client can connect, and does so again, or was given its only stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Mode {
    Over,
    Net,
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) log: Log,
    /// How many bytes went up and down.
    pub(crate) up: u64,
    pub(crate) down: u64,
}

/// What the reference makes of the scenario of that name: found out once.
pub(crate) fn recall(name: &str, script: &Script, mode: Mode) -> Arc<Told> {
    type Known = Mutex<HashMap<(String, Mode), Arc<OnceLock<Arc<Told>>>>>;
    static KNOWN: OnceLock<Known> = OnceLock::new();
    let known = KNOWN.get_or_init(Known::default);
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    let cell = Arc::clone(known.entry((name.to_owned(), mode)).or_default());
    drop(known);
    Arc::clone(cell.get_or_init(|| Arc::new(tell(script, mode))))
}

/// What the reference makes of the script.
pub(crate) fn tell(script: &Script, mode: Mode) -> Told {
    let world = Rc::new(World::new(&script.setup, mode));
    let mut client = RefClient::new(Rc::clone(&world));
    let diary = Diary::default();
    play(script, &mut client, &*world, &diary);
    world.settle();
    let sim = world.sim.borrow();
    Told {
        up: sim.conns.iter().map(|conn| conn.up.passed).sum(),
        down: sim.conns.iter().map(|conn| conn.down.passed).sum(),
        log: Log {
            client: diary.lines(),
            server: world.court.log(),
        },
    }
}

/// All but the client.
pub(crate) struct World {
    pub(crate) setup: Setup,
    pub(crate) mode: Mode,
    pub(crate) store: Store,
    pub(crate) court: Arc<Court>,
    pub(crate) sim: RefCell<Sim>,
}

pub(crate) struct Sim {
    pub(crate) now: Time,
    pub(crate) conns: Vec<Conn>,
    pub(crate) draining: bool,
    pub(crate) stalled: bool,
    rate: Option<RateLimiter>,
}

impl World {
    pub(crate) fn new(setup: &Setup, mode: Mode) -> World {
        let store = Store::new(setup);
        let hour = Duration::from_secs(3600);
        World {
            court: Court::new(setup, &store),
            setup: setup.clone(),
            mode,
            store,
            sim: RefCell::new(Sim {
                now: Time::ZERO,
                conns: Vec::new(),
                draining: false,
                stalled: false,
                rate: setup.rate.and_then(|rate| RateLimiter::new(rate, hour)),
            }),
        }
    }

    pub(crate) fn now(&self) -> Time {
        self.sim.borrow().now
    }

    /// A new connection; its number. None to a server that has shut down.
    pub(crate) fn connect(&self) -> Option<usize> {
        let mut sim = self.sim.borrow_mut();
        if sim.draining {
            return None;
        }
        let number = sim.conns.len();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(number + 1).unwrap()));
        self.court.begins(address);
        let conn = Conn::new(&self.setup, address, sim.now);
        sim.conns.push(conn);
        Some(number)
    }

    /// Everything that the server can do at once; whether it did anything.
    pub(crate) fn serve(&self) -> bool {
        let sim = &mut *self.sim.borrow_mut();
        let (now, draining) = (sim.now, sim.draining);
        let mut moved = false;
        for conn in &mut sim.conns {
            moved |= conn.turn(&self.store, &self.court, &mut sim.rate, now, draining);
        }
        moved
    }

    /// Nothing moves: goes to the next deadline, the client's included. Whether there is one.
    pub(crate) fn time_passes(&self, client: Option<Time>) -> bool {
        let sim = &mut *self.sim.borrow_mut();
        let servers = sim.conns.iter().filter_map(|conn| conn.server.deadline());
        let Some(next) = servers.chain(client).min() else {
            return false;
        };
        sim.now = sim.now.max(next);
        for conn in &mut sim.conns {
            if conn.server.deadline().is_some_and(|d| d <= sim.now) {
                conn.server.handle_timeout(sim.now);
            }
        }
        true
    }

    pub(crate) fn sleep(&self, pause: Duration) {
        let until = self.now() + pause;
        while self.serve() || self.time_passes(Some(until)) {
            if self.now() >= until {
                return;
            }
        }
    }

    /// The server gets to the end of everything.
    pub(crate) fn settle(&self) {
        self.store.end();
        self.sim.borrow_mut().stalled = false;
        while self.serve() || self.time_passes(None) {}
    }
}

impl Stage for World {
    fn store(&self) -> &Store {
        &self.store
    }

    fn shutdown(&self) {
        self.sim.borrow_mut().draining = true;
        while self.serve() {}
    }

    fn hold(&self) {} // What the client sends goes first anyway.

    fn stall(&self) {
        self.sim.borrow_mut().stalled = true;
    }

    fn await_end(&self) {
        while self
            .sim
            .borrow()
            .conns
            .iter()
            .any(|c| !c.server.is_closed())
        {
            assert!(
                self.serve() || self.time_passes(None),
                "the server's end does not come"
            );
        }
    }

    fn outlast(&self, time: Duration) {
        self.sleep(time);
    }

    fn beacon(&self) {
        self.store.add(&[BEACON]);
        self.store.remove(BEACON);
    }

    fn beacon_seen(&self) {}
}
