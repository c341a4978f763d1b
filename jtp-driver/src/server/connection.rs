//! Driving the core's server machine over a stream.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use jtp_core::server::{CloseReason, ServerConnection};
use jtp_store::ImageStore;

use super::bodies::Bodies;
use super::drain::Drain;
use super::news::News;
use super::staged::Staged;
use super::turns::{Ticket, Turn};
use super::{Decision, Peer, Rung, Shared};
use crate::clock::{Alarm, Clock};
use crate::input::{Input, poll_fill};
use crate::runtime::{Bell, Runtime, Transport};

/// What an idle connection reads into.
const READ_LEAST: usize = 512;

/// One connection: the machine, its stream, and all that it waits for.
pub(super) struct Connection<'a, R: Runtime, S: ImageStore + ?Sized, T> {
    shared: &'a Shared<R, S>,
    peer: &'a Peer,
    io: Staged<T>,
    machine: ServerConnection,
    clock: Clock<R>,
    alarm: Alarm<R>,
    input: Input,
    bodies: Bodies<R, S>,
    news: Option<News>,
    turn: Turn,
    /// While it waits for its next turn.
    ticket: Option<Ticket>,
    /// Whether something written may still be held back.
    unflushed: bool,
    drain: Arc<Drain<R::Bell>>,
    /// The drain's beginning; none once it has come.
    shutdown: Option<Rung>,
    /// When everything is to be over.
    until: Option<Instant>,
}

impl<R: Runtime, S: ImageStore + ?Sized, T> fmt::Debug for Connection<'_, R, S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}

impl<'a, R: Runtime, S: ImageStore + ?Sized, T: Transport> Connection<'a, R, S, T> {
    pub(super) fn new(
        shared: &'a Shared<R, S>,
        peer: &'a Peer,
        io: T,
        machine: ServerConnection,
        clock: Clock<R>,
        drain: Arc<Drain<R::Bell>>,
    ) -> Self {
        Connection {
            bodies: Bodies::new(Arc::clone(&shared.store), Arc::clone(&shared.memory)),
            shared,
            peer,
            io: Staged::new(io),
            machine,
            clock,
            alarm: Alarm::default(),
            input: Input::new(READ_LEAST, Turn::READ),
            news: None,
            turn: Turn::begin(),
            ticket: None,
            unflushed: false,
            shutdown: Some(Box::pin(Arc::clone(&drain.bell).rung())),
            drain,
            until: None,
        }
    }

    /// Serves the connection to its end. (By value, it would be in the future twice.)
    pub(super) async fn run(&mut self) -> io::Result<Option<CloseReason>> {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// Always looks at everything that can happen: a blocked write stops no read. // S1
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<CloseReason>>> {
        // Deadlines and the shutdown wait for no turn.
        let signalled = self.poll_signals(cx)?;
        if let Some(ticket) = self.ticket.as_ref().filter(|_| !signalled) {
            ready!(ticket.poll(cx));
        }
        let called = self.ticket.take();
        self.turn = Turn::begin();
        loop {
            let mut moved = self.poll_signals(cx)?;
            self.feed();
            moved |= self.poll_bodies(cx);
            moved |= self.poll_write(cx)?;
            moved |= self.poll_read(cx)?;
            moved |= self.poll_finish(cx);
            if self.machine.is_closed() {
                return Poll::Ready(Ok(self.machine.close_reason()));
            }
            if self.until.is_some_and(|until| until <= R::now()) {
                return Poll::Ready(Ok(Some(CloseReason::Shutdown))); // S16
            }
            if !moved {
                return Poll::Pending;
            }
            if self.turn.is_over() {
                break;
            }
        }
        drop(called);
        if R::SHARES_THREADS {
            self.ticket = Some(self.shared.queue.join(cx.waker()));
        } else {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Time, news of the catalog, and the server's shutdown.
    fn poll_signals(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut moved = false;
        let until = self.until.map(|until| self.clock.time(until));
        let deadline = self.machine.deadline().into_iter().chain(until).min();
        if self.alarm.poll(cx, &self.clock, deadline).is_ready() {
            self.machine.handle_timeout(self.clock.now());
            moved = true;
        }
        if let Some(shutdown) = &mut self.shutdown {
            if shutdown.as_mut().poll(cx).is_ready() {
                self.shutdown = None;
                self.until = self.drain.until();
                self.machine.shutdown(self.clock.now());
                moved = true;
            }
        }
        if !self.machine.is_watching() {
            self.news = None;
        } else if let Some(news) = &mut self.news {
            let live = self.shared.store.catalog();
            if let Poll::Ready(catalog) = news.poll(cx, &self.shared.newsroom, live) {
                let catalog = catalog?;
                self.machine.catalog_changed(&catalog, self.clock.now());
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
            let answered = match self.shared.decide(self.peer, &request) {
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

    fn poll_bodies(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        loop {
            let Poll::Ready(loaded) = self.bodies.poll(cx, &self.machine) else {
                return moved;
            };
            let now = self.clock.now();
            let noted = match loaded {
                Ok(count) => self.machine.body_loaded(count, now),
                Err(error) => {
                    tracing::warn!(peer = %self.peer, %error, "an image cannot be sent");
                    self.bodies.failed();
                    self.machine.body_failed("an image cannot be read", now)
                }
            };
            moved = true;
            if noted.is_err() {
                return moved;
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut moved = false;
        while !self.turn.is_over() {
            let shown = self.machine.transmit();
            if shown.is_empty() {
                return self.poll_flush(cx).map(|()| moved);
            }
            let frames = shown.bytes.len();
            let slices = [IoSlice::new(shown.bytes), IoSlice::new(self.bodies.piece())];
            let slices = if shown.body.is_some() {
                &slices[..]
            } else {
                &slices[..1]
            };
            let slices = if frames == 0 { &slices[1..] } else { slices };
            match self.io.poll_write_vectored(cx, slices) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    moved = true;
                    self.turn.wrote(count);
                    self.bodies.sent(count.saturating_sub(frames));
                    let noted = self.machine.transmitted(count, self.clock.now());
                    debug_assert!(noted.is_ok(), "no more was sent than was shown");
                    self.unflushed = true;
                    self.feed();
                    self.poll_bodies(cx);
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(moved),
            }
        }
        Ok(true)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.unflushed {
            if let Poll::Ready(flushed) = self.io.poll_flush(cx) {
                flushed?;
                self.unflushed = false;
            }
        }
        Ok(())
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if self.input.is_full() || !self.machine.wants_read(self.input.unused()) {
            return Ok(false);
        }
        match poll_fill(&mut self.input, cx, &mut self.io) {
            Poll::Ready(Ok(0)) => self.machine.receive_eof(),
            Poll::Ready(Ok(count)) => self.turn.read(count),
            // T1: a TLS peer that just goes away is no error of ours.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.machine.receive_eof();
            }
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => return Ok(false),
        }
        self.feed();
        Ok(true)
    }

    /// S11
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.machine.wants_finish() {
            return false;
        }
        match self.io.poll_close(cx) {
            Poll::Ready(_) => {
                // A peer that has gone needs no half-close.
                self.machine.finished(self.clock.now()).is_ok()
            }
            Poll::Pending => false,
        }
    }
}
