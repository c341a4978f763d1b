//! Runs a script on a pair of adapters, over each transport and shape, and compares with the reference.

use std::cell::RefCell;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::PATIENCE;
use super::adapters::fate;
use super::adapters::{Adapter, Serve, ServerEnd};
use super::court::Court;
use super::ends::Stage;
use super::listening;
use super::log::{Diff, Log};
use super::play::{Diary, play};
use super::reference::{self, Mode};
use super::script::Script;
use super::store::{BEACON, Store};
use super::transport::Shape;
use super::transport::pipe::{Wire, ends};
use super::transport::proxy::{Proxy, connect, listener};
use crate::support::bytes::{KEEP, LIST};
use crate::support::peer::Peer;

/// The most bytes of an exchange that is also run byte by byte.
const BY_THE_BYTE: u64 = 20_000;

/// What the bytes go over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Memory,
    Tcp,
    Tls,
}

/// One run of a script.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    pub(crate) server: Adapter,
    pub(crate) client: Adapter,
    pub(crate) transport: Transport,
    pub(crate) shape: Shape,
    pub(crate) impatient: bool,
}

/// The test of one scenario on one pair.
pub(crate) fn check(name: &str, script: &Script, server: Adapter, client: Adapter, tls: bool) {
    let net = reference::recall(name, script, Mode::Net);
    let bytes = net.up + net.down;
    let seed = seed(name, server.name, client.name);
    let mut runs = Vec::new();
    let mut run = |transport, shape, impatient| {
        runs.push(Run {
            server,
            client,
            transport,
            shape,
            impatient,
        });
    };
    let shapes = |most: u64| {
        let by_the_byte = (bytes < most).then_some(Shape::Bytes);
        let shaped = [Shape::Pieces(seed), Shape::Stalls(seed)];
        let shaped = by_the_byte.into_iter().chain(shaped);
        shaped.filter(|_| !script.setup.unshaped)
    };
    let cut = script.setup.cut.up.or(script.setup.cut.down).is_some();
    if tls {
        run(Transport::Tls, Shape::Whole, false);
        for shape in shapes(BY_THE_BYTE / 8).take(if bytes < BY_THE_BYTE / 8 { 2 } else { 1 }) {
            run(Transport::Tls, shape, false);
        }
    } else {
        if !cut {
            run(Transport::Tcp, Shape::Whole, false);
        }
        if !script.setup.connects {
            run(Transport::Memory, Shape::Whole, false);
            for shape in shapes(BY_THE_BYTE) {
                let impatient = matches!(shape, Shape::Stalls(_));
                run(Transport::Memory, shape, impatient);
            }
        } else {
            for shape in shapes(BY_THE_BYTE / 8) {
                run(Transport::Tcp, shape, false);
            }
        }
    }
    for run in runs {
        // The reference itself does what the scenario is about.
        let told = match run.transport {
            Transport::Memory => reference::recall(name, script, Mode::Over),
            _ => Arc::clone(&net),
        };
        let expected = &told.log;
        for line in &script.must {
            assert!(expected.has(line), "{name}: no {line:?} in {expected:#?}");
        }
        let log = perform(name, script, run);
        if log != *expected {
            let diff = Diff {
                reference: expected,
                adapters: &log,
            };
            panic!("{}\n{diff}", describe(name, run));
        }
    }
}

/// One run over memory, which the script cuts.
pub(crate) fn check_cut(
    name: &str,
    script: &Script,
    server: Adapter,
    client: Adapter,
    expected: &Log,
) {
    let run = Run {
        server,
        client,
        transport: Transport::Memory,
        shape: Shape::Whole,
        impatient: false,
    };
    let log = perform(name, script, run).blurred();
    let expected = &expected.clone().blurred();
    if log != *expected {
        let diff = Diff {
            reference: expected,
            adapters: &log,
        };
        let cut = script.setup.cut;
        panic!("{}, {cut:?}\n{diff}", describe(name, run));
    }
}

/// What comes of a run by TLS of which the records are cut off somewhere.
pub(crate) fn run_cut_tls(name: &str, script: &Script, server: Adapter, client: Adapter) -> Log {
    let run = Run {
        server,
        client,
        transport: Transport::Tls,
        shape: Shape::Whole,
        impatient: false,
    };
    perform(name, script, run)
}

/// A run whose client is dropped when it waits for that time; whether it came to that.
pub(crate) fn check_dropped(
    name: &str,
    script: &Script,
    server: Adapter,
    client: Adapter,
    at: usize,
) -> bool {
    let run = Run {
        server,
        client,
        transport: Transport::Memory,
        // So that it waits often.
        shape: if script.setup.unshaped {
            Shape::Whole
        } else {
            Shape::Stalls(seed(name, server.name, client.name))
        },
        impatient: false,
    };
    let label = format!("{}, dropped at {at}", describe(name, run));
    let (script, (done, finished)) = (script.clone(), channel());
    thread::spawn(move || {
        let scene = Scene::new(&script, run);
        let diary = Diary::default();
        let end = scene.stream();
        let wire = Arc::clone(&scene.wire);
        let dropped = fate::drop_at(at, &wire, || {
            let mut client = (run.client.over)(&script.setup, end, false);
            play(&script, &mut *client, &scene, &diary);
        });
        let up = wire.passed().0;
        let log = Log {
            client: diary.lines(),
            server: scene.end(),
        };
        // The same bytes, and then the end.
        let cut = script.clone().setup(|setup| setup.cut.up = Some(up));
        let expected = reference::tell(&cut, Mode::Over).log;
        let whole = reference::tell(&script, Mode::Over).log;
        done.send((dropped, log, expected, whole)).unwrap();
    });
    let (dropped, log, expected, whole) = match finished.recv_timeout(PATIENCE) {
        Ok(told) => told,
        Err(why) => panic!("{label}: {why}"),
    };
    let diff = Diff {
        reference: &expected,
        adapters: &log,
    };
    assert!(log.server == expected.server, "{label}\n{diff}");
    // One that was closed from outside has an error to tell.
    if client.name != "blocking" {
        let seen = whole.client.starts_with(&log.client);
        assert!(seen, "{label}: {:#?} is not the beginning", log.client);
    }
    dropped
}

/// A seed for each test, always the same unless another is wanted.
pub(crate) fn seed(name: &str, server: &str, client: &str) -> u64 {
    let wanted = std::env::var("JTP_SUITE_SEED").ok();
    wanted
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| {
            jtp_core::ImageId::of(format!("{name} {server} {client}").as_bytes()).0 >> 32
        })
}

pub(crate) fn describe(name: &str, run: Run) -> String {
    let (server, client) = (run.server.name, run.client.name);
    let seed = match run.shape {
        Shape::Pieces(seed) | Shape::Stalls(seed) => format!(" (JTP_SUITE_SEED={seed})"),
        _ => String::new(),
    };
    let impatient = if run.impatient { ", impatient" } else { "" };
    format!(
        "scenario {name}: server {server}, client {client}, {:?}, {:?}{impatient}{seed}",
        run.transport, run.shape
    )
}

/// Runs it on a thread of its own, so that one that hangs is told as such.
fn perform(name: &str, script: &Script, run: Run) -> Log {
    let diary = Diary::default();
    let (done, finished) = channel();
    let (script, its_diary) = (script.clone(), diary.clone());
    let (told, telling) = channel();
    let thread = thread::spawn(move || {
        let scene = Scene::new(&script, run);
        let _ = told.send(Arc::clone(&scene.court));
        done.send(scene.play(&script, &its_diary)).unwrap();
    });
    match finished.recv_timeout(PATIENCE) {
        Ok(server) => Log {
            client: diary.lines(),
            server,
        },
        Err(why) => {
            if why == RecvTimeoutError::Disconnected {
                let _ = thread.join();
            }
            let court = telling.try_recv().ok();
            let seen = Log {
                client: diary.lines(),
                server: court.map(|court| court.log()).unwrap_or_default(),
            };
            panic!("{}\n{why}, after {seen:#?}", describe(name, run));
        }
    }
}

/// What blinks, until it is seen.
#[derive(Default)]
struct Beacon {
    seen: Mutex<bool>,
    changed: Condvar,
}

/// All that a run needs but the client.
pub(crate) struct Scene {
    run: Run,
    store: Store,
    pub(crate) court: Arc<Court>,
    server: RefCell<Option<Box<dyn ServerEnd>>>,
    witness: RefCell<Option<Peer>>,
    wire: Arc<Wire>,
    proxy: Option<Proxy>,
    beacon: Arc<Beacon>,
    blinking: RefCell<Option<JoinHandle<()>>>,
    address: SocketAddr,
}

impl Scene {
    pub(crate) fn new(script: &Script, run: Run) -> Scene {
        let store = Store::new(&script.setup);
        let court = Court::new(&script.setup, &store);
        let listener = listener();
        let address = listener.local_addr().unwrap();
        let tls = run.transport == Transport::Tls;
        let server = (run.server.serve)(Serve {
            setup: &script.setup,
            store: &store,
            court: &court,
            tls,
            listener,
        });
        let proxy = match run.transport {
            Transport::Memory => None,
            _ => {
                listening::listen(&court);
                let (cut, court) = (script.setup.cut, Arc::clone(&court));
                Some(Proxy::start(address, run.shape, cut, court))
            }
        };
        Scene {
            run,
            store,
            court,
            server: RefCell::new(Some(server)),
            witness: RefCell::new(None),
            wire: Wire::new(run.shape, script.setup.cut),
            proxy,
            beacon: Arc::default(),
            blinking: RefCell::new(None),
            address,
        }
    }

    pub(crate) fn wire(&self) -> &Arc<Wire> {
        &self.wire
    }

    /// The stream of the only connection.
    pub(crate) fn stream(&self) -> super::transport::pipe::End {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (client, server) = ends(&self.wire);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let [_, a, b, c] = number.to_be_bytes();
        let address = SocketAddr::from(([127, a, b, c], 1));
        self.court.begins(address);
        let running = self.server.borrow();
        running.as_ref().unwrap().serve_stream(server, address);
        client
    }

    /// A connection that is none of the script's.
    pub(crate) fn uninvited(&self) -> TcpStream {
        connect(self.address).unwrap()
    }

    /// A connection straight to the server.
    pub(crate) fn connect(&self) -> TcpStream {
        listening::listen(&self.court);
        let stream = connect(self.address).unwrap();
        self.court.begins(stream.local_addr().unwrap());
        stream
    }

    fn play(self, script: &Script, diary: &Diary) -> Vec<String> {
        let setup = &script.setup;
        let mut client = match &self.proxy {
            Some(proxy) => {
                let tls = self.run.transport == Transport::Tls;
                (self.run.client.client)(setup, proxy.address, tls)
            }
            None => (self.run.client.over)(setup, self.stream(), self.run.impatient),
        };
        if script.shuts_down() {
            self.call_witness();
        }
        play(script, &mut *client, &self, diary);
        drop(client);
        self.end()
    }

    /// Waits for all ends; what the server's application saw.
    pub(crate) fn end(self) -> Vec<String> {
        self.stop_beacon();
        self.store.end();
        self.wire.stall(false);
        if let Some(proxy) = &self.proxy {
            proxy.stall(false);
        }
        self.court.await_ends();
        let mut server = self.server.borrow_mut().take().unwrap();
        server.shut_down();
        server.join();
        self.court.log()
    }

    /// A client whose connection is idle: it will see that the shutdown has begun.
    pub(crate) fn call_witness(&self) {
        let stream = connect(self.address).unwrap();
        self.court.ignore(stream.local_addr().unwrap());
        let mut witness = Peer::on(stream);
        witness.send([LIST, KEEP]);
        witness.expect(b"JTPL");
        for _ in 0..witness.varint() {
            witness.entry();
        }
        *self.witness.borrow_mut() = Some(witness);
    }

    fn stop_beacon(&self) {
        *self
            .beacon
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = true;
        self.beacon.changed.notify_all();
        if let Some(blinking) = self.blinking.borrow_mut().take() {
            blinking.join().unwrap();
        }
    }
}

impl Stage for Scene {
    fn store(&self) -> &Store {
        &self.store
    }

    fn shutdown(&self) {
        self.server.borrow_mut().as_mut().unwrap().shut_down();
        let mut witness = self.witness.borrow_mut().take().unwrap();
        witness.expect_end();
        drop(witness); // Its connection is not waited for.
        if let Some(proxy) = &self.proxy {
            proxy.close();
        }
    }

    fn hold(&self) {
        match &self.proxy {
            None => self.wire.hold(2),
            // A record: its header, CANCEL, its type, its tag.
            Some(proxy) if self.run.transport == Transport::Tls => proxy.hold(5 + 2 + 1 + 16),
            Some(proxy) => proxy.hold(2),
        }
    }

    fn stall(&self) {
        match &self.proxy {
            None => self.wire.stall(true),
            Some(proxy) => proxy.stall(true),
        }
    }

    fn await_end(&self) {
        self.court.await_ends();
    }

    fn outlast(&self, time: Duration) {
        thread::sleep(time);
    }

    fn beacon(&self) {
        *self.beacon.seen.lock().unwrap() = false;
        let (store, beacon) = (self.store.clone(), Arc::clone(&self.beacon));
        let blinking = thread::spawn(move || {
            let mut seen = beacon.seen.lock().unwrap();
            while !*seen {
                store.add(&[BEACON]);
                store.remove(BEACON);
                let soon = Duration::from_millis(2);
                seen = beacon.changed.wait_timeout(seen, soon).unwrap().0;
            }
        });
        *self.blinking.borrow_mut() = Some(blinking);
    }

    fn beacon_seen(&self) {
        self.stop_beacon();
    }
}
