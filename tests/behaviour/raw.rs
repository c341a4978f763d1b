//! The low half of the language: a client that is no client at all. It sends bytes and expects bytes, written by
//! hand in [`support::bytes`](crate::support::bytes), and can do what no client of ours would do.
//!
//! Played against each server adapter, and against the bare machine: what it expects it has to get from both, and
//! what the server's application saw has to be the same.

use std::cell::RefCell;
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;

use super::PATIENCE;
use super::adapters::{Adapter, BLOCKING};
use super::ends::Stage;
use super::log::{Diff, Log};
use super::reference::{Mode, World};
use super::run::{Run, Scene, Transport, describe, seed};
use super::script::{Deed, Picture, Script, Setup};
use super::transport::Shape;
use super::transport::pipe::End;
use crate::support::bytes::Picture as Known;
use crate::support::peer::Peer;
use crate::support::tls::tls;

/// A scenario of a raw client.
#[derive(Clone)]
pub(crate) struct RawScript {
    pub(crate) script: Script,
    steps: Vec<Raw>,
    plain_only: bool,
}

#[derive(Clone)]
enum Raw {
    Send(Vec<u8>),
    /// And waits until the server has read it.
    SendRead(Vec<u8>),
    Expect(Vec<u8>),
    /// Sends while it expects: both directions are full.
    Both(Vec<u8>, Vec<u8>),
    /// A whole `JTPE`.
    Error(u8),
    HalfClose,
    /// The end of the stream, and nothing before it.
    End,
    Do(Deed),
}

/// What is known of a picture that travels raw.
pub(crate) fn known(picture: &Picture) -> Known {
    assert!(!picture.packed && !picture.forged);
    Known::new(picture.name, picture.bytes.clone())
}

impl RawScript {
    pub(crate) fn of<const N: usize>(pictures: [Picture; N]) -> RawScript {
        RawScript {
            script: Script::of(pictures),
            steps: Vec::new(),
            plain_only: false,
        }
    }

    pub(crate) fn with(mut self, change: impl FnOnce(Script) -> Script) -> RawScript {
        self.script = change(self.script);
        self
    }

    pub(crate) fn setup(self, change: impl FnOnce(&mut Setup)) -> RawScript {
        self.with(|script| script.setup(change))
    }

    pub(crate) fn must(self, line: &'static str) -> RawScript {
        self.with(|script| script.must(line))
    }

    /// By TLS something comes in any case.
    pub(crate) fn plain_only(mut self) -> RawScript {
        self.plain_only = true;
        self
    }

    fn step(mut self, step: Raw) -> RawScript {
        self.steps.push(step);
        self
    }

    pub(crate) fn send(self, bytes: impl Into<Vec<u8>>) -> RawScript {
        self.step(Raw::Send(bytes.into()))
    }

    pub(crate) fn send_read(self, bytes: impl Into<Vec<u8>>) -> RawScript {
        self.step(Raw::SendRead(bytes.into()))
    }

    pub(crate) fn expect(self, bytes: impl Into<Vec<u8>>) -> RawScript {
        self.step(Raw::Expect(bytes.into()))
    }

    pub(crate) fn both(self, send: Vec<u8>, expect: Vec<u8>) -> RawScript {
        self.step(Raw::Both(send, expect))
    }

    pub(crate) fn error(self, code: u8) -> RawScript {
        self.step(Raw::Error(code))
    }

    pub(crate) fn half_close(self) -> RawScript {
        self.step(Raw::HalfClose)
    }

    pub(crate) fn end(self) -> RawScript {
        self.step(Raw::End)
    }

    pub(crate) fn then(self, deed: Deed) -> RawScript {
        self.step(Raw::Do(deed))
    }
}

impl From<RawScript> for Vec<RawScript> {
    fn from(script: RawScript) -> Vec<RawScript> {
        vec![script]
    }
}

/// The end of a connection in the client's hand.
trait RawEnd {
    fn send(&mut self, bytes: &[u8]);
    /// Waits until the server has read all that was sent.
    fn await_read(&mut self);
    fn half_close(&mut self);
    /// Fewer only at the end of the stream.
    fn read(&mut self, count: usize) -> Vec<u8>;
    fn both(&mut self, send: &[u8], count: usize) -> Vec<u8>;
}

/// Plays all steps; `at` says how far it has come.
fn play(script: &RawScript, end: &mut dyn RawEnd, stage: &dyn Stage, at: &AtomicUsize) {
    for (n, step) in script.steps.iter().enumerate() {
        at.store(n, Ordering::Relaxed);
        match step {
            Raw::Send(bytes) => end.send(bytes),
            Raw::SendRead(bytes) => {
                end.send(bytes);
                end.await_read();
            }
            Raw::Expect(bytes) => expect(n, bytes, &end.read(bytes.len())),
            Raw::Both(send, bytes) => expect(n, bytes, &end.both(send, bytes.len())),
            Raw::Error(code) => {
                expect(n, &[b"JTPE", &[*code][..]].concat(), &end.read(5));
                let length = end.read(2);
                let length = u16::from_be_bytes([length[0], length[1]]);
                let message = end.read(usize::from(length));
                assert!(!message.is_empty() && message.len() == usize::from(length));
            }
            Raw::HalfClose => end.half_close(),
            Raw::End => expect(n, &[], &end.read(64)),
            Raw::Do(Deed::Shutdown) => stage.shutdown(),
            Raw::Do(Deed::AwaitEnd) => stage.await_end(),
            Raw::Do(Deed::Outlast(time)) => stage.outlast(*time),
            Raw::Do(deed) => stage.store().change(deed),
        }
    }
    at.store(script.steps.len(), Ordering::Relaxed);
}

#[track_caller]
fn expect(step: usize, due: &[u8], came: &[u8]) {
    if due != came {
        let same = due.iter().zip(came).take_while(|(a, b)| a == b).count();
        let some = |bytes: &[u8]| {
            bytes[same..bytes.len().min(same + 24)]
                .escape_ascii()
                .to_string()
        };
        panic!(
            "step {step}: {} bytes were due and {} came; from byte {same} on {:?} was due and {:?} came",
            due.len(),
            came.len(),
            some(due),
            some(came),
        );
    }
}

/// Against the bare machine.
struct RefEnd {
    world: Rc<World>,
    conn: usize,
    got: RefCell<Vec<u8>>,
}

impl RefEnd {
    fn pump(&self) -> bool {
        let moved = self.world.serve();
        let mut sim = self.world.sim.borrow_mut();
        let down = &mut sim.conns[self.conn].down;
        self.got.borrow_mut().extend(down.bytes.iter());
        let came = !down.bytes.is_empty();
        down.bytes.clear();
        moved || came
    }

    /// Whether anything went.
    fn push(&self, bytes: &mut &[u8]) -> bool {
        let mut sim = self.world.sim.borrow_mut();
        let up = &mut sim.conns[self.conn].up;
        let (now, later) = bytes.split_at(up.room().min(bytes.len()));
        up.push(now);
        *bytes = later;
        !now.is_empty()
    }
}

impl RawEnd for RefEnd {
    fn send(&mut self, bytes: &[u8]) {
        // All that goes at once is read at once; what is in the way of more is only what is not read.
        let mut rest = bytes;
        while !rest.is_empty() {
            let moved = self.push(&mut rest);
            assert!(self.world.serve() || moved, "nobody takes it");
        }
        while self.world.serve() {}
    }

    fn await_read(&mut self) {}

    fn half_close(&mut self) {
        self.world.sim.borrow_mut().conns[self.conn].up.ended = true;
    }

    fn read(&mut self, count: usize) -> Vec<u8> {
        while self.got.borrow().len() < count {
            if self.pump() {
                continue;
            }
            let ended = self.world.sim.borrow().conns[self.conn].down.is_at_end();
            if ended {
                break;
            }
            assert!(self.world.time_passes(None), "nothing will ever come");
        }
        let mut got = self.got.borrow_mut();
        let count = count.min(got.len());
        got.drain(..count).collect()
    }

    fn both(&mut self, send: &[u8], count: usize) -> Vec<u8> {
        let mut rest = send;
        while !rest.is_empty() {
            let moved = self.push(&mut rest);
            assert!(self.pump() || moved, "nobody takes it");
        }
        self.read(count)
    }
}

/// Over memory.
impl RawEnd for (End, &Scene) {
    fn send(&mut self, bytes: &[u8]) {
        write_all(&self.0, bytes);
    }

    fn await_read(&mut self) {
        self.1.wire().await_read();
    }

    fn half_close(&mut self) {
        self.0.finish();
    }

    fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let mut got = 0;
        while got < count {
            match self.0.read_now(&mut bytes[got..]) {
                0 => break,
                n => got += n,
            }
        }
        bytes.truncate(got);
        bytes
    }

    fn both(&mut self, send: &[u8], count: usize) -> Vec<u8> {
        let writer = self.0.clone();
        thread::scope(|scope| {
            scope.spawn(move || write_all(&writer, send));
            self.read(count)
        })
    }
}

fn write_all(end: &End, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let count = end.write_now(bytes).unwrap();
        bytes = &bytes[count..];
    }
}

/// Over a socket.
impl RawEnd for (Peer, TcpStream) {
    fn send(&mut self, bytes: &[u8]) {
        self.0.send(bytes);
    }

    fn await_read(&mut self) {
        crate::support::peer::await_read(&self.1);
    }

    fn half_close(&mut self) {
        self.0.finish();
    }

    fn read(&mut self, count: usize) -> Vec<u8> {
        self.0.read_up_to(count)
    }

    fn both(&mut self, send: &[u8], count: usize) -> Vec<u8> {
        self.0.send_and_read(send, count)
    }
}

fn reference(script: &RawScript) -> Log {
    let world = Rc::new(World::new(&script.script.setup, Mode::Over));
    let conn = world.connect().unwrap();
    let mut end = RefEnd {
        world: Rc::clone(&world),
        conn,
        got: RefCell::default(),
    };
    play(script, &mut end, &*world, &AtomicUsize::new(0));
    {
        let mut sim = world.sim.borrow_mut();
        let conn = &mut sim.conns[conn];
        conn.up.ended = true;
        conn.down.ended = true;
    }
    world.settle();
    Log {
        client: Vec::new(),
        server: world.court.log(),
    }
}

/// The test of a raw client on one server.
pub(crate) fn check(name: &str, scripts: impl Into<Vec<RawScript>>, server: Adapter, tls: bool) {
    let scripts = scripts.into();
    for (n, script) in scripts.iter().enumerate() {
        let name = match scripts.len() {
            1 => name.to_owned(),
            _ => format!("{name} ({n})"),
        };
        check_one(&name, script, server, tls);
    }
}

fn check_one(name: &str, script: &RawScript, server: Adapter, tls: bool) {
    let expected = reference(script);
    for line in &script.script.must {
        assert!(expected.has(line), "{name}: no {line:?} in {expected:#?}");
    }
    let seed = seed(name, server.name, "");
    let run = |transport, shape| Run {
        server,
        client: BLOCKING, // It has no part in this.
        transport,
        shape,
        impatient: false,
    };
    let mut runs = Vec::new();
    if tls {
        if !script.plain_only {
            runs.push(run(Transport::Tls, Shape::Whole));
        }
    } else {
        runs.push(run(Transport::Tcp, Shape::Whole));
        runs.push(run(Transport::Memory, Shape::Whole));
        if !script.script.setup.unshaped {
            let shapes = [Shape::Pieces(seed), Shape::Stalls(seed)];
            runs.extend(shapes.map(|shape| run(Transport::Memory, shape)));
            let bytes: usize = script
                .script
                .setup
                .pictures
                .iter()
                .map(|p| p.bytes.len())
                .sum();
            if bytes < 5_000 {
                runs.push(run(Transport::Memory, Shape::Bytes));
            }
        }
    }
    for run in runs {
        let log = perform(name, script, run);
        if log != expected {
            let diff = Diff {
                reference: &expected,
                adapters: &log,
            };
            panic!("{}\n{diff}", describe(name, run));
        }
    }
}

fn perform(name: &str, script: &RawScript, run: Run) -> Log {
    let (done, finished) = channel();
    let script = script.clone();
    let step = Arc::new(AtomicUsize::new(0));
    let its_step = Arc::clone(&step);
    let thread = thread::spawn(move || {
        let scene = Scene::new(&script.script, run);
        if script
            .steps
            .iter()
            .any(|s| matches!(s, Raw::Do(Deed::Shutdown)))
        {
            scene.call_witness();
        }
        if run.transport == Transport::Memory {
            let end = scene.stream();
            play(&script, &mut (end, &scene), &scene, &its_step);
        } else {
            let stream = scene.connect();
            let mut peer = Peer::on(stream.try_clone().unwrap());
            if run.transport == Transport::Tls {
                peer = peer.tls(tls().client());
            }
            play(&script, &mut (peer, stream), &scene, &its_step);
        }
        done.send(scene.end()).unwrap();
    });
    match finished.recv_timeout(PATIENCE) {
        Ok(server) => Log {
            client: Vec::new(),
            server,
        },
        Err(why) => {
            let why = match thread.is_finished().then(|| thread.join()) {
                Some(Err(panic)) => match panic.downcast::<String>() {
                    Ok(message) => *message,
                    Err(_) => "it panicked".into(),
                },
                _ => format!("{why} at step {}", step.load(Ordering::Relaxed)),
            };
            panic!("{}\n{why}", describe(name, run));
        }
    }
}

/// A test for each server, plain and TLS, of each scenario: a function without arguments that makes a
/// [`RawScript`], or several.
macro_rules! each_server {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use $crate::suite::adapters::{ASYNC_STD, BLOCKING, TOKIO};
            use $crate::suite::raw::check;

            #[test]
            fn tokio_plain() { check(stringify!($name), super::$name(), TOKIO, false); }
            #[test]
            fn tokio_tls() { check(stringify!($name), super::$name(), TOKIO, true); }
            #[test]
            fn async_std_plain() { check(stringify!($name), super::$name(), ASYNC_STD, false); }
            #[test]
            fn async_std_tls() { check(stringify!($name), super::$name(), ASYNC_STD, true); }
            #[test]
            fn blocking_plain() { check(stringify!($name), super::$name(), BLOCKING, false); }
            #[test]
            fn blocking_tls() { check(stringify!($name), super::$name(), BLOCKING, true); }
        }
    )+};
}

pub(crate) use each_server;
