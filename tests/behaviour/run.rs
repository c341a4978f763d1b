//! Runs a script on a pair of adapters over each transport and shape, and compares the logs with the reference's.

use std::cell::RefCell;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::TEST_TIMEOUT;
use super::adapters::pending;
use super::adapters::{Adapter, ServeArgs, ServerUnderTest};
use super::events;
use super::log::{Diff, Log};
use super::play::{ClientLog, play};
use super::reference::{self, Mode};
use super::script::Script;
use super::store::{PROBE, SimulatedStore};
use super::stub::ServerStub;
use super::traits::Environment;
use super::transport::Shape;
use super::transport::pipe::{MemoryConnection, pipe_ends};
use super::transport::proxy::{Proxy, connect, listener};
use crate::support::bytes::{KEEP, LIST};
use crate::support::peer::Peer;

/// Exchanges of fewer bytes are also run byte by byte.
const BYTEWISE_LIMIT: u64 = 20_000;

/// What connects client and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Memory,
    Tcp,
    Tls,
}

/// The configuration of one run of a script.
#[derive(Clone, Copy)]
pub(crate) struct RunConfig {
    pub(crate) server: Adapter,
    pub(crate) client: Adapter,
    pub(crate) transport: Transport,
    pub(crate) shape: Shape,
    pub(crate) drop_pending: bool,
}

impl RunConfig {
    /// A run with whole reads and writes.
    pub(crate) fn whole(server: Adapter, client: Adapter, transport: Transport) -> RunConfig {
        RunConfig {
            server,
            client,
            transport,
            shape: Shape::Whole,
            drop_pending: false,
        }
    }
}

/// Tests one scenario on one pair.
pub(crate) fn check(name: &str, script: &Script, server: Adapter, client: Adapter, tls: bool) {
    let network = reference::cached_run(name, script, Mode::Network);
    let bytes = network.up + network.down;
    let seed = seed(name, server.name, client.name);
    let mut runs = Vec::new();
    let mut run = |transport, shape, drop_pending| {
        runs.push(RunConfig {
            shape,
            drop_pending,
            ..RunConfig::whole(server, client, transport)
        });
    };
    let shapes = |max: u64| {
        let bytewise = (bytes < max).then_some(Shape::Bytes);
        let shaped = [Shape::Pieces(seed), Shape::Stalls(seed)];
        let shaped = bytewise.into_iter().chain(shaped);
        shaped.filter(|_| !script.setup.unshaped)
    };
    let cut = script.setup.cut.up.or(script.setup.cut.down).is_some();
    if tls {
        run(Transport::Tls, Shape::Whole, false);
        for shape in shapes(BYTEWISE_LIMIT / 8).take(if bytes < BYTEWISE_LIMIT / 8 { 2 } else { 1 })
        {
            run(Transport::Tls, shape, false);
        }
    } else {
        if !cut {
            run(Transport::Tcp, Shape::Whole, false);
        }
        if !script.setup.connects {
            run(Transport::Memory, Shape::Whole, false);
            for shape in shapes(BYTEWISE_LIMIT) {
                let drop_pending = matches!(shape, Shape::Stalls(_));
                run(Transport::Memory, shape, drop_pending);
            }
        } else {
            for shape in shapes(BYTEWISE_LIMIT / 8) {
                run(Transport::Tcp, shape, false);
            }
        }
    }
    for run in runs {
        // The reference must show what the scenario is about.
        let result = match run.transport {
            Transport::Memory => reference::cached_run(name, script, Mode::Stream),
            _ => Arc::clone(&network),
        };
        script.check_expected(name, &result.log);
        let mut log = perform(name, script, run);
        if let Some(longer) = script.longer.filter(|_| log != result.log) {
            log = perform(name, &script.clone().setup(longer), run);
        }
        compare(&describe(name, run), &result.log, &log);
    }
}

/// Fails unless both logs are equal.
pub(crate) fn compare(what: &str, reference: &Log, adapters: &Log) {
    let diff = Diff {
        reference,
        adapters,
    };
    assert!(reference == adapters, "{what}\n{diff}");
}

/// One run over memory in which [`Setup::cut`](super::script::Setup::cut) ends the connection early.
pub(crate) fn check_cut(
    name: &str,
    script: &Script,
    server: Adapter,
    client: Adapter,
    expected: &Log,
) {
    let run = RunConfig::whole(server, client, Transport::Memory);
    let log = perform(name, script, run).without_eof_race();
    let what = format!("{}, {:?}", describe(name, run), script.setup.cut);
    compare(&what, &expected.clone().without_eof_race(), &log);
}

/// The log of a TLS run whose records are cut off.
pub(crate) fn run_cut_tls(name: &str, script: &Script, server: Adapter, client: Adapter) -> Log {
    perform(
        name,
        script,
        RunConfig::whole(server, client, Transport::Tls),
    )
}

/// A run whose client is dropped when it waits for the `at`th time. Returns whether it waited that often.
pub(crate) fn check_dropped(
    name: &str,
    script: &Script,
    server: Adapter,
    client: Adapter,
    at: usize,
) -> bool {
    let mut run = RunConfig::whole(server, client, Transport::Memory);
    if !script.setup.unshaped {
        // Stalls make the client wait often.
        run.shape = Shape::Stalls(seed(name, server.name, client.name));
    }
    let label = format!("{}, dropped at {at}", describe(name, run));
    let (script, (done, finished)) = (script.clone(), channel());
    thread::spawn(move || {
        let fixture = Fixture::new(&script, run);
        let client_log = ClientLog::default();
        let end = fixture.stream();
        let memory = Arc::clone(&fixture.memory);
        let dropped = pending::drop_at(at, &memory, || {
            let mut client = (run.client.over)(&script.setup, end, false);
            play(&script, &mut *client, &fixture, &client_log);
        });
        let up = memory.written();
        let log = Log {
            client: client_log.lines(),
            server: fixture.end(),
        };
        // The reference receives the same bytes, then the end of the stream.
        let cut = script.clone().setup(|setup| setup.cut.up = Some(up));
        let expected = reference::run(&cut, Mode::Stream).log;
        let full = reference::run(&script, Mode::Stream).log;
        done.send((dropped, log, expected, full)).unwrap();
    });
    let finished = finished.recv_timeout(TEST_TIMEOUT);
    let (dropped, log, expected, full) =
        finished.unwrap_or_else(|error| panic!("{label}: {error}"));
    let diff = Diff {
        reference: &expected,
        adapters: &log,
    };
    assert!(log.server == expected.server, "{label}\n{diff}");
    // The blocking client is not dropped: its stream is closed, so it logs an error.
    if client.name != "blocking" {
        let seen = full.client.starts_with(&log.client);
        assert!(seen, "{label}: {:#?} is not a prefix", log.client);
    }
    dropped
}

/// The seed of a test: fixed, unless `JTP_SEED` sets another.
pub(crate) fn seed(name: &str, server: &str, client: &str) -> u64 {
    jtp_kit::seed().unwrap_or_else(|| {
        jtp_core::ImageId::of(format!("{name} {server} {client}").as_bytes()).0 >> 32
    })
}

pub(crate) fn describe(name: &str, run: RunConfig) -> String {
    let (server, client) = (run.server.name, run.client.name);
    let seed = match run.shape {
        Shape::Pieces(seed) | Shape::Stalls(seed) => format!(" (JTP_SEED={seed})"),
        _ => String::new(),
    };
    let drop_pending = if run.drop_pending {
        ", drop_pending"
    } else {
        ""
    };
    format!(
        "scenario {name}: server {server}, client {client}, {:?}, {:?}{drop_pending}{seed}",
        run.transport, run.shape
    )
}

fn perform(name: &str, script: &Script, run: RunConfig) -> Log {
    let played = script.clone();
    in_time(&describe(name, run), script, run, move |fixture, log| {
        let mut client = match &fixture.proxy {
            Some(proxy) => {
                let tls = run.transport == Transport::Tls;
                (run.client.client)(&played.setup, proxy.address, tls)
            }
            None => (run.client.over)(&played.setup, fixture.stream(), run.drop_pending),
        };
        play(&played, &mut *client, fixture, log);
    })
}

/// Runs a client on a thread of its own, so that a hang is reported. Returns the logs of both ends.
pub(crate) fn in_time(
    what: &str,
    script: &Script,
    run: RunConfig,
    client: impl FnOnce(&Fixture, &ClientLog) + Send + 'static,
) -> Log {
    let client_log = ClientLog::default();
    let (done, finished) = channel();
    let (script, shared_log) = (script.clone(), client_log.clone());
    let (stub_sender, stub_receiver) = channel();
    let thread = thread::spawn(move || {
        let fixture = Fixture::new(&script, run);
        let _ = stub_sender.send(Arc::clone(&fixture.stub));
        client(&fixture, &shared_log);
        done.send(fixture.end()).unwrap();
    });
    match finished.recv_timeout(TEST_TIMEOUT) {
        Ok(server) => Log {
            client: client_log.lines(),
            server,
        },
        Err(error) => {
            if error == RecvTimeoutError::Disconnected {
                let _ = thread.join();
            }
            let stub = stub_receiver.try_recv().ok();
            let seen = Log {
                client: client_log.lines(),
                server: stub.map(|stub| stub.log()).unwrap_or_default(),
            };
            panic!("{what}\n{error}, after {seen:#?}");
        }
    }
}

/// The state of the probe image; see [`Environment::start_probe`].
#[derive(Default)]
struct Probe {
    seen: Mutex<bool>,
    changed: Condvar,
}

/// Everything that a run needs except the client.
pub(crate) struct Fixture {
    store: SimulatedStore,
    pub(crate) stub: Arc<ServerStub>,
    server: RefCell<Option<ServerUnderTest>>,
    memory: Arc<MemoryConnection>,
    proxy: Option<Proxy>,
    probe: Arc<Probe>,
    probing: RefCell<Option<JoinHandle<()>>>,
    address: SocketAddr,
}

impl Fixture {
    pub(crate) fn new(script: &Script, run: RunConfig) -> Fixture {
        let store = SimulatedStore::new(&script.setup);
        let stub = ServerStub::new(&script.setup, &store);
        events::record_events(&stub);
        let listener = listener();
        let address = listener.local_addr().unwrap();
        let tls = run.transport == Transport::Tls;
        let server = (run.server.serve)(ServeArgs {
            setup: &script.setup,
            store: &store,
            stub: &stub,
            tls,
            blocks: run.transport != Transport::Memory,
            listener,
        });
        let proxy = match run.transport {
            Transport::Memory => None,
            _ => {
                let (cut, stub) = (script.setup.cut, Arc::clone(&stub));
                Some(Proxy::start(address, run.shape, cut, stub))
            }
        };
        Fixture {
            store,
            stub,
            server: RefCell::new(Some(server)),
            memory: MemoryConnection::new(run.shape, script.setup.cut),
            proxy,
            probe: Arc::default(),
            probing: RefCell::new(None),
            address,
        }
    }

    /// Opens the only in-memory connection and returns the client's end.
    pub(crate) fn stream(&self) -> super::transport::pipe::PipeEnd {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (client, server) = pipe_ends(&self.memory);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let [_, a, b, c] = number.to_be_bytes();
        let address = SocketAddr::from(([127, a, b, c], 1));
        self.stub.record_open(address);
        let running = self.server.borrow();
        running.as_ref().unwrap().serve_stream(server, address);
        client
    }

    /// A direct connection to the server that is not recorded.
    pub(crate) fn connect_unrecorded(&self) -> TcpStream {
        connect(self.address).unwrap()
    }

    /// A direct connection to the server.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = connect(self.address).unwrap();
        self.stub.record_open(stream.local_addr().unwrap());
        stream
    }

    /// Waits until all connections are closed, and returns the server's log.
    pub(crate) fn end(self) -> Vec<String> {
        self.stop_probe();
        self.store.end();
        self.memory.stall(false);
        if let Some(proxy) = &self.proxy {
            proxy.stall(false);
        }
        self.stub.await_closed();
        let server = self.server.borrow_mut().take().unwrap();
        server.shut_down();
        server.join();
        self.stub.log()
    }

    fn stop_probe(&self) {
        *self
            .probe
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = true;
        self.probe.changed.notify_all();
        if let Some(probing) = self.probing.borrow_mut().take() {
            probing.join().unwrap();
        }
    }
}

impl Environment for Fixture {
    fn store(&self) -> &SimulatedStore {
        &self.store
    }

    fn shutdown(&self) {
        // The newest connection is notified last: when that of an idle client is closed, the others are notified.
        let stream = connect(self.address).unwrap();
        self.stub.ignore(stream.local_addr().unwrap());
        let mut idle_client = Peer::on(stream);
        idle_client.send([LIST, KEEP]);
        idle_client.expect(b"JTPL");
        for _ in 0..idle_client.varint() {
            idle_client.entry();
        }
        self.server.borrow().as_ref().unwrap().shut_down();
        idle_client.expect_end();
        if let Some(proxy) = &self.proxy {
            proxy.close();
        }
    }

    fn hold(&self) {
        self.stall();
        match &self.proxy {
            None => {
                let memory = Arc::clone(&self.memory);
                self.stub.when_received(2, move || memory.stall(false));
            }
            Some(proxy) => self.stub.when_received(2, proxy.resume()),
        }
    }

    fn stall(&self) {
        match &self.proxy {
            None => self.memory.stall(true),
            Some(proxy) => proxy.stall(true),
        }
    }

    fn await_closed(&self) {
        self.stub.await_closed();
    }

    fn await_received(&self, bytes: usize, send: &mut dyn FnMut()) {
        self.stub.await_received(bytes, send);
    }

    fn wait(&self, time: Duration) {
        thread::sleep(time);
    }

    fn start_probe(&self) {
        *self.probe.seen.lock().unwrap() = false;
        let (store, probe) = (self.store.clone(), Arc::clone(&self.probe));
        let probing = thread::spawn(move || {
            let mut seen = probe.seen.lock().unwrap();
            while !*seen {
                store.add(&[PROBE]);
                store.remove(PROBE);
                let soon = Duration::from_millis(2);
                seen = probe.changed.wait_timeout(seen, soon).unwrap().0;
            }
        });
        *self.probing.borrow_mut() = Some(probing);
    }

    fn probe_received(&self) {
        self.stop_probe();
    }
}
