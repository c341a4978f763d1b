//! Driving the core's server machine over a stream.

use std::fmt;
use std::io::{self, IoSlice};
use std::sync::Arc;

use jtp_core::server::{CloseReason, ServerConnection};
use jtp_store::ImageStore;

use super::bodies::Bodies;
use super::signals::{Drain, News};
use super::{Decision, Peer, Shared};
use crate::clock::{Clock, shorter};
use crate::input::{Input, fill};
use crate::stream::{Stream, is_blocked, wait};
/// What an idle connection reads into.
const READ_LEAST: usize = 512;

/// How much is read ahead while a response is under way. // S1
const READ_AHEAD: usize = 64 * 1024;

/// The writes after which the peer is listened to, however well they go.
const WRITES: usize = 16;

/// One connection: the machine, its stream, and all that it waits for.
pub(super) struct Connection<'a, S: ImageStore + ?Sized, T> {
    shared: &'a Shared<S>,
    peer: &'a Peer,
    io: T,
    machine: ServerConnection,
    clock: Clock,
    input: Input,
    bodies: Bodies<S>,
    news: Option<News>,
    /// Whether something written may still be held back by the stream (TLS).
    unflushed: bool,
    drain: Arc<Drain>,
    draining: bool,
}

impl<S: ImageStore + ?Sized, T> fmt::Debug for Connection<'_, S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}

impl<'a, S: ImageStore + ?Sized, T: Stream> Connection<'a, S, T> {
    pub(super) fn new(
        shared: &'a Shared<S>,
        peer: &'a Peer,
        io: T,
        machine: ServerConnection,
        clock: Clock,
        drain: Arc<Drain>,
    ) -> Connection<'a, S, T> {
        Connection {
            bodies: Bodies::new(Arc::clone(&shared.store)),
            shared,
            peer,
            io,
            machine,
            clock,
            input: Input::new(READ_LEAST, READ_AHEAD),
            news: None,
            unflushed: false,
            drain,
            draining: false,
        }
    }

    /// Serves the connection to its end.
    ///
    /// Always looks at everything that can happen: a blocked write stops no read. // S1
    pub(super) fn run(mut self) -> io::Result<Option<CloseReason>> {
        loop {
            let mut moved = self.signals()?;
            self.feed();
            moved |= self.write()?;
            moved |= self.read()?;
            moved |= self.finish();
            if self.machine.is_closed() {
                return Ok(self.machine.close_reason());
            }
            if self.draining && self.drain.left().is_some_and(|left| left.is_zero()) {
                return Ok(Some(CloseReason::Shutdown)); // S16
            }
            if !moved {
                self.wait()?;
            }
        }
    }

    fn wait(&mut self) -> io::Result<()> {
        let output = !self.machine.transmit().is_empty();
        if !output {
            // Nothing is kept for a connection at rest.
            self.bodies.clear();
            self.input.rest();
        }
        let deadline = self.machine.deadline();
        let mut limit = deadline.map(|deadline| self.clock.until(deadline));
        let mut bells = Vec::with_capacity(2);
        if self.draining {
            limit = shorter(limit, self.drain.left());
        } else {
            bells.push(&self.drain.bell);
        }
        bells.extend(self.news.as_ref().and_then(News::bell));
        let write = output || self.unflushed || self.machine.wants_finish();
        let read = self.wants_read();
        wait(&mut self.io, read, write, &bells, limit)
    }

    /// Time, news of the catalog, and the server's shutdown.
    fn signals(&mut self) -> io::Result<bool> {
        let mut moved = false;
        let now = self.clock.now();
        if self
            .machine
            .deadline()
            .is_some_and(|deadline| deadline <= now)
        {
            self.machine.handle_timeout(now);
            moved = true;
        }
        if !self.draining && self.drain.bell.is_rung() {
            self.draining = true;
            self.machine.shutdown(now);
            moved = true;
        }
        if !self.machine.is_watching() {
            self.news = None;
        } else if let Some(news) = &mut self.news {
            let live = self.shared.store.catalog();
            if let Some(catalog) = news.take(&self.shared.newsroom, live)? {
                self.machine.catalog_changed(&catalog, now);
                moved = true;
            }
        }
        Ok(moved)
    }

    /// Gives the machine what was read, and decides on the requests that it finds.
    fn feed(&mut self) {
        loop {
            let now = self.clock.now();
            let received = self.machine.receive(self.input.unused(), now);
            self.input.consume(received.used);
            let Some(request) = received.request else {
                return;
            };
            tracing::debug!(peer = %self.peer, request = request.kind.name(), "request");
            let decision = self.shared.decide(self.peer, &request);
            let now = self.clock.now();
            let answered = match decision {
                Decision::Accept => {
                    let live = self.shared.store.catalog();
                    let snapshot = live.snapshot();
                    let accepted = self.machine.accept(&snapshot, now);
                    if self.machine.is_watching() {
                        self.news = Some(News::since(live, snapshot.generation()));
                    }
                    accepted
                }
                Decision::Refuse(code, message) => self.machine.refuse(code, &message, now),
            };
            debug_assert!(answered.is_ok(), "a request that waits can be answered");
        }
    }

    /// Gets ready what comes next, if it is not.
    fn load(&mut self) {
        while let Some(loaded) = self.bodies.next(&self.machine) {
            let now = self.clock.now();
            let noted = match loaded {
                Ok(count) => self.machine.body_loaded(count, now),
                Err(error) => {
                    tracing::warn!(peer = %self.peer, %error, "an image cannot be sent");
                    self.bodies.clear();
                    self.machine.body_failed("an image cannot be read", now)
                }
            };
            debug_assert!(noted.is_ok(), "what was loaded is what was wanted");
            if noted.is_err() || !self.machine.transmit().is_empty() {
                return;
            }
        }
    }

    fn write(&mut self) -> io::Result<bool> {
        for turn in 0..WRITES {
            self.load();
            let shown = self.machine.transmit();
            if shown.is_empty() {
                return self.flush(turn > 0);
            }
            let frames = shown.bytes.len();
            let slices = [IoSlice::new(shown.bytes), IoSlice::new(self.bodies.piece())];
            let slices = if shown.body.is_some() {
                &slices[..]
            } else {
                &slices[..1]
            };
            let slices = if frames == 0 { &slices[1..] } else { slices };
            match self.io.write_vectored(slices) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.bodies.sent(count.saturating_sub(frames));
                    let noted = self.machine.transmitted(count, self.clock.now());
                    debug_assert!(noted.is_ok(), "no more was sent than was shown");
                    self.unflushed = true;
                    self.feed();
                }
                Err(error) if is_blocked(&error) => return Ok(turn > 0),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn flush(&mut self, moved: bool) -> io::Result<bool> {
        if self.unflushed {
            match self.io.flush() {
                Ok(()) => self.unflushed = false,
                Err(error) if is_blocked(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(moved)
    }

    fn wants_read(&self) -> bool {
        !self.input.is_full() && self.machine.wants_read(self.input.unused())
    }

    fn read(&mut self) -> io::Result<bool> {
        if !self.wants_read() {
            return Ok(false);
        }
        match fill(&mut self.input, &mut self.io) {
            Ok(0) => self.machine.receive_eof(),
            Ok(_) => {}
            // T1: a TLS peer that just goes away is no error of ours.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.machine.receive_eof();
            }
            Err(error) if is_blocked(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
        self.feed();
        Ok(true)
    }

    /// S11
    fn finish(&mut self) -> bool {
        if !self.machine.wants_finish() {
            return false;
        }
        match self.io.finish() {
            Err(error) if is_blocked(&error) => false,
            // A peer that has gone needs no half-close.
            _ => self.machine.finished(self.clock.now()).is_ok(),
        }
    }
}
