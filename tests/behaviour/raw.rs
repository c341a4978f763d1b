//! The low-level part of the language: a raw peer that sends bytes and expects bytes, encoded by
//! [`support::bytes`](crate::support::bytes), and can do what our clients never do.
//!
//! A raw script runs against each server adapter and against the bare state machine. Both must send the expected
//! bytes, and the server logs must be equal.

use std::cell::RefCell;
use std::rc::Rc;
use std::thread;

use super::adapters::{Adapter, BLOCKING};
use super::log::Log;
use super::play::ClientLog;
use super::reference::{Mode, Simulation};
use super::run::{RunConfig, Transport, compare, describe, in_time, seed};
use super::script::{Script, ScriptImage, ServerAction, Setup};
use super::traits::Environment;
use super::transport::Shape;
use super::transport::pipe::PipeEnd;
use crate::support::bytes::TestImage;
use crate::support::peer::Peer;
use crate::support::tls::tls;

/// A scenario with a raw client.
#[derive(Clone)]
pub(crate) struct RawScript {
    pub(crate) script: Script,
    steps: Vec<RawStep>,
    plain_only: bool,
}

#[derive(Clone)]
enum RawStep {
    Send(Vec<u8>),
    /// Sends, and waits until the server's state machine has everything.
    SendAndAwaitReceived(Vec<u8>),
    Expect(Vec<u8>),
    /// Sends and receives at the same time: both directions are full.
    SendAndExpect(Vec<u8>, Vec<u8>),
    /// A complete `JTPE` with this code.
    ExpectError(u8),
    HalfClose,
    /// The end of the stream, without further bytes.
    ExpectEnd,
    Do(ServerAction),
}

/// The same image for the byte-level helpers; only for images sent uncompressed.
pub(crate) fn test_image(image: &ScriptImage) -> TestImage {
    assert!(!image.compressed && !image.wrong_id);
    TestImage::new(image.name, image.bytes.clone())
}

impl RawScript {
    pub(crate) fn of<const N: usize>(images: [ScriptImage; N]) -> RawScript {
        RawScript {
            script: Script::of(images),
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

    pub(crate) fn expect_log(self, line: &'static str) -> RawScript {
        self.with(|script| script.expect_log(line))
    }

    /// Skips TLS, where the handshake sends bytes in any case.
    pub(crate) fn plain_only(mut self) -> RawScript {
        self.plain_only = true;
        self
    }

    fn step(mut self, step: RawStep) -> RawScript {
        self.steps.push(step);
        self
    }

    pub(crate) fn send(self, bytes: impl Into<Vec<u8>>) -> RawScript {
        self.step(RawStep::Send(bytes.into()))
    }

    pub(crate) fn send_and_await_received(self, bytes: impl Into<Vec<u8>>) -> RawScript {
        self.step(RawStep::SendAndAwaitReceived(bytes.into()))
    }

    pub(crate) fn expect(self, bytes: impl Into<Vec<u8>>) -> RawScript {
        self.step(RawStep::Expect(bytes.into()))
    }

    pub(crate) fn send_and_expect(self, send: Vec<u8>, expect: Vec<u8>) -> RawScript {
        self.step(RawStep::SendAndExpect(send, expect))
    }

    pub(crate) fn expect_error(self, code: u8) -> RawScript {
        self.step(RawStep::ExpectError(code))
    }

    pub(crate) fn half_close(self) -> RawScript {
        self.step(RawStep::HalfClose)
    }

    pub(crate) fn expect_end(self) -> RawScript {
        self.step(RawStep::ExpectEnd)
    }

    pub(crate) fn then(self, action: ServerAction) -> RawScript {
        self.step(RawStep::Do(action))
    }
}

impl From<RawScript> for Vec<RawScript> {
    fn from(script: RawScript) -> Vec<RawScript> {
        vec![script]
    }
}

/// The client's end of a connection.
trait RawPeer {
    fn send(&mut self, bytes: &[u8]);
    fn half_close(&mut self);
    /// Reads exactly `count` bytes, or fewer at the end of the stream.
    fn read(&mut self, count: usize) -> Vec<u8>;
    fn both(&mut self, send: &[u8], count: usize) -> Vec<u8>;
}

/// Executes all steps.
fn play(script: &RawScript, end: &mut dyn RawPeer, environment: &dyn Environment, log: &ClientLog) {
    for (n, step) in script.steps.iter().enumerate() {
        log.push(format!("step {n}"));
        match step {
            RawStep::Send(bytes) => end.send(bytes),
            RawStep::SendAndAwaitReceived(bytes) => {
                environment.await_received(bytes.len(), &mut || end.send(bytes));
            }
            RawStep::Expect(bytes) => expect(n, bytes, &end.read(bytes.len())),
            RawStep::SendAndExpect(send, bytes) => expect(n, bytes, &end.both(send, bytes.len())),
            RawStep::ExpectError(code) => {
                expect(n, &[b"JTPE", &[*code][..]].concat(), &end.read(5));
                let length = end.read(2);
                let length = u16::from_be_bytes([length[0], length[1]]);
                let message = end.read(usize::from(length));
                assert!(!message.is_empty() && message.len() == usize::from(length));
            }
            RawStep::HalfClose => end.half_close(),
            RawStep::ExpectEnd => expect(n, &[], &end.read(64)),
            RawStep::Do(ServerAction::Shutdown) => environment.shutdown(),
            RawStep::Do(ServerAction::AwaitClosed) => environment.await_closed(),
            RawStep::Do(ServerAction::Wait(time)) => environment.wait(*time),
            RawStep::Do(action) => environment.store().change(action),
        }
    }
}

#[track_caller]
fn expect(step: usize, expected: &[u8], received: &[u8]) {
    if expected != received {
        let same = expected
            .iter()
            .zip(received)
            .take_while(|(a, b)| a == b)
            .count();
        let some = |bytes: &[u8]| {
            bytes[same..bytes.len().min(same + 24)]
                .escape_ascii()
                .to_string()
        };
        panic!(
            "step {step}: expected {} bytes, received {}; from byte {same} on expected {:?}, received {:?}",
            expected.len(),
            received.len(),
            some(expected),
            some(received),
        );
    }
}

/// Talks to the bare state machine.
struct ReferencePeer {
    simulation: Rc<Simulation>,
    conn: usize,
    got: RefCell<Vec<u8>>,
}

impl ReferencePeer {
    fn pump(&self) -> bool {
        let moved = self.simulation.serve();
        let mut sim = self.simulation.sim.borrow_mut();
        let down = &mut sim.connections[self.conn].down;
        self.got.borrow_mut().extend(down.bytes.iter());
        let received = !down.bytes.is_empty();
        down.bytes.clear();
        moved || received
    }

    /// Returns whether any bytes were sent.
    fn push(&self, bytes: &mut &[u8]) -> bool {
        let mut sim = self.simulation.sim.borrow_mut();
        let up = &mut sim.connections[self.conn].up;
        let (now, later) = bytes.split_at(up.room().min(bytes.len()));
        up.push(now);
        *bytes = later;
        !now.is_empty()
    }
}

impl RawPeer for ReferencePeer {
    fn send(&mut self, bytes: &[u8]) {
        // Sends as much as the pipe takes, then lets the server read.
        let mut rest = bytes;
        while !rest.is_empty() {
            let moved = self.push(&mut rest);
            assert!(self.simulation.serve() || moved, "the server does not read");
        }
        while self.simulation.serve() {}
    }

    fn half_close(&mut self) {
        self.simulation.sim.borrow_mut().connections[self.conn]
            .up
            .ended = true;
    }

    fn read(&mut self, count: usize) -> Vec<u8> {
        while self.got.borrow().len() < count {
            if self.pump() {
                continue;
            }
            let ended = self.simulation.sim.borrow().connections[self.conn]
                .down
                .is_at_end();
            if ended {
                break;
            }
            assert!(
                self.simulation.advance_time(None),
                "no more bytes will arrive"
            );
        }
        let mut got = self.got.borrow_mut();
        let count = count.min(got.len());
        got.drain(..count).collect()
    }

    fn both(&mut self, send: &[u8], count: usize) -> Vec<u8> {
        let mut rest = send;
        while !rest.is_empty() {
            let moved = self.push(&mut rest);
            assert!(self.pump() || moved, "the server does not read");
        }
        self.read(count)
    }
}

/// Talks over memory.
impl RawPeer for PipeEnd {
    fn send(&mut self, bytes: &[u8]) {
        write_all(self, bytes);
    }

    fn half_close(&mut self) {
        self.finish();
    }

    fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let mut got = 0;
        while got < count {
            match self.read_now(&mut bytes[got..]) {
                0 => break,
                n => got += n,
            }
        }
        bytes.truncate(got);
        bytes
    }

    fn both(&mut self, send: &[u8], count: usize) -> Vec<u8> {
        let writer = self.clone();
        thread::scope(|scope| {
            scope.spawn(move || write_all(&writer, send));
            self.read(count)
        })
    }
}

fn write_all(end: &PipeEnd, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let count = end.write_now(bytes).unwrap();
        bytes = &bytes[count..];
    }
}

/// Talks over a socket.
impl RawPeer for Peer {
    fn send(&mut self, bytes: &[u8]) {
        Peer::send(self, bytes);
    }

    fn half_close(&mut self) {
        self.finish();
    }

    fn read(&mut self, count: usize) -> Vec<u8> {
        self.read_up_to(count)
    }

    fn both(&mut self, send: &[u8], count: usize) -> Vec<u8> {
        self.send_and_read(send, count)
    }
}

fn reference(script: &RawScript) -> Log {
    let simulation = Rc::new(Simulation::new(&script.script.setup, Mode::Stream));
    let conn = simulation.connect().unwrap();
    let mut end = ReferencePeer {
        simulation: Rc::clone(&simulation),
        conn,
        got: RefCell::default(),
    };
    let client_log = ClientLog::default();
    play(script, &mut end, &*simulation, &client_log);
    {
        let mut sim = simulation.sim.borrow_mut();
        let conn = &mut sim.connections[conn];
        conn.up.ended = true;
        conn.down.ended = true;
    }
    simulation.run_to_end();
    Log {
        client: client_log.lines(),
        server: simulation.stub.log(),
    }
}

/// Tests raw scripts on one server.
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

fn check_one(name: &str, script: &RawScript, server: Adapter, secure: bool) {
    let expected = reference(script);
    script.script.check_expected(name, &expected);
    let seed = seed(name, server.name, "");
    let run = |transport, shape| RunConfig {
        shape,
        ..RunConfig::whole(server, BLOCKING, transport) // The client is not used.
    };
    let setup = &script.script.setup;
    let mut runs = Vec::new();
    if !secure {
        runs.push(run(Transport::Tcp, Shape::Whole));
        runs.push(run(Transport::Memory, Shape::Whole));
        if !setup.unshaped {
            let shapes = [Shape::Pieces(seed), Shape::Stalls(seed)];
            runs.extend(shapes.map(|shape| run(Transport::Memory, shape)));
            if setup.images.iter().map(|p| p.bytes.len()).sum::<usize>() < 5_000 {
                runs.push(run(Transport::Memory, Shape::Bytes));
            }
        }
    } else if !script.plain_only {
        runs.push(run(Transport::Tls, Shape::Whole));
    }
    for run in runs {
        let (what, played) = (describe(name, run), script.clone());
        let log = in_time(&what, &script.script, run, move |fixture, log| {
            let mut peer: Box<dyn RawPeer> = match run.transport {
                Transport::Memory => Box::new(fixture.stream()),
                Transport::Tcp => Box::new(Peer::on(fixture.connect())),
                Transport::Tls => Box::new(Peer::on(fixture.connect()).tls(tls().client())),
            };
            play(&played, &mut *peer, fixture, log);
        });
        compare(&what, &expected, &log);
    }
}

/// Makes a test for each server, plain and TLS, of each scenario: a function without arguments that returns one
/// [`RawScript`] or several.
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
