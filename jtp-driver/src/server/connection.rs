//! Drives the core's server machine over a stream.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use jtp_core::Time;
use jtp_core::server::{CloseReason, ServerConnection, Timeout};
use jtp_core::wire::request::RequestHead;
use jtp_core::wire::response::ErrorCode;
use tracing::Span;

use super::coalescer::WriteCoalescer;
use super::drain::Drain;
use super::prefetch::{BodyReader, Loaded};
use super::request::{Answer, Decision, Request};
use super::scheduler::{NextTurn, Turn};
use super::watcher::Watcher;
use super::{Peer, Shared};
use crate::BoxFuture;
use crate::buffer::InputBuffer;
use crate::clock::{Clock, DeadlineTimer};
use crate::runtime::{Runtime, Transport};
use crate::socket::{limit_delivery, reset_on_close};
use crate::store::ImageStore;

/// The size of an idle connection's read buffer.
const MIN_READ: usize = 512;

/// How a connection shares the server with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheduling {
    /// After a turn it waits in the server's queue. Its task is certain to be polled when it is woken.
    Queued,
    /// After a turn it wakes itself. It may be polled late or never, and must not hold a place in the queue.
    Independent,
}

/// A request that waits for the application's decision.
struct Deciding {
    decision: BoxFuture<Decision>,
    deadline: Option<Time>,
}

/// A request that is being answered.
struct Answering {
    head: RequestHead,
    since: Instant,
    span: Span,
}

/// One connection: the machine, its stream, and everything that it waits for.
pub(super) struct Connection<R: Runtime, T> {
    shared: Arc<Shared<R>>,
    peer: Arc<Peer>,
    io: WriteCoalescer<T>,
    machine: ServerConnection,
    clock: Clock<R>,
    timer: DeadlineTimer<R>,
    input: InputBuffer,
    bodies: BodyReader,
    /// The store of the last accepted request.
    store: Arc<dyn ImageStore>,
    /// While the connection watches.
    watcher: Option<Watcher>,
    deciding: Option<Deciding>,
    answering: Option<Answering>,
    scheduling: Scheduling,
    turn: Turn,
    /// Set while it waits for its next turn.
    next_turn: Option<NextTurn>,
    /// Whether written bytes may still be buffered.
    unflushed: bool,
    drain: Arc<Drain>,
    /// The start of the drain; `None` once it has started.
    shutdown: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// When the connection ends at the latest.
    until: Option<Instant>,
    span: Span,
}

impl<R: Runtime, T> fmt::Debug for Connection<R, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}

impl<R: Runtime, T: Transport> Connection<R, T> {
    pub(super) fn new(
        shared: Arc<Shared<R>>,
        peer: Arc<Peer>,
        io: T,
        machine: impl FnOnce(Time) -> ServerConnection,
        drain: Arc<Drain>,
        scheduling: Scheduling,
    ) -> Self {
        let clock = Clock::new(shared.runtime.clone());
        Connection {
            bodies: BodyReader::new(Arc::clone(&shared.memory)),
            store: Arc::clone(&shared.store),
            io: WriteCoalescer::new(io),
            machine: machine(clock.now()),
            clock,
            timer: DeadlineTimer::default(),
            input: InputBuffer::new(MIN_READ, Turn::MAX_READ),
            watcher: None,
            deciding: None,
            answering: None,
            scheduling,
            turn: Turn::begin(),
            next_turn: None,
            unflushed: false,
            shutdown: Some(Box::pin(drain.signal.wait())),
            drain,
            until: None,
            span: tracing::debug_span!("connection", %peer),
            peer,
            shared,
        }
    }

    /// Serves the connection to its end. (By reference: by value it would be in the future twice.)
    pub(super) async fn run(&mut self) -> io::Result<Option<CloseReason>> {
        poll_fn(|cx| {
            let span = self.span.clone();
            let _entered = span.enter();
            self.poll(cx)
        })
        .await
    }

    /// Looks at everything that can happen at each poll: a blocked write never stops reading. // S1
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<CloseReason>>> {
        // Deadlines and the shutdown need no turn.
        let signalled = self.poll_signals(cx);
        if let Some(next_turn) = self.next_turn.as_ref().filter(|_| !signalled) {
            ready!(next_turn.poll(cx));
        }
        let scheduled = self.next_turn.take();
        self.turn = Turn::begin();
        loop {
            let mut progress = self.poll_signals(cx);
            self.feed();
            progress |= self.poll_decision(cx);
            progress |= self.poll_bodies(cx);
            progress |= self.poll_write(cx)?;
            progress |= self.poll_read(cx)?;
            progress |= self.poll_finish(cx);
            if let Some(watcher) = &self.watcher {
                watcher.set_busy(!self.machine.transmit().is_empty());
            }
            if self.machine.is_closed() {
                return Poll::Ready(Ok(self.closed()));
            }
            if self
                .until
                .is_some_and(|until| until <= self.clock.instant_now())
            {
                return Poll::Ready(Ok(Some(CloseReason::Shutdown))); // S16
            }
            if !progress {
                return Poll::Pending;
            }
            if self.turn.is_over() {
                break;
            }
        }
        drop(scheduled);
        match self.scheduling {
            Scheduling::Queued => {
                self.next_turn = Some(self.shared.scheduler.enqueue(cx.waker()));
            }
            Scheduling::Independent => cx.waker().wake_by_ref(),
        }
        Poll::Pending
    }

    /// Deadlines, changes of the catalog, and the server's shutdown.
    fn poll_signals(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progress = false;
        let until = self.until.map(|until| self.clock.time(until));
        let hold = self.deciding.as_ref().and_then(|held| held.deadline);
        let deadlines = [self.machine.deadline(), until, hold];
        let deadline = deadlines.into_iter().flatten().min();
        if self.timer.poll(cx, &self.clock, deadline).is_ready() {
            let now = self.clock.now();
            self.machine.handle_timeout(now);
            if hold.is_some_and(|hold| hold <= now) {
                self.deciding = None;
                self.refuse(
                    ErrorCode::ServerError,
                    "the server took too long to decide about the request",
                    now,
                );
            }
            progress = true;
        }
        if let Some(shutdown) = &mut self.shutdown {
            if shutdown.as_mut().poll(cx).is_ready() {
                self.begin_shutdown();
                progress = true;
            }
        }
        if !self.machine.is_watching() {
            self.watcher = None;
        } else if let Some(watcher) = &mut self.watcher {
            progress |= watcher.poll(cx, &mut self.machine, || self.clock.now());
        }
        progress
    }

    fn begin_shutdown(&mut self) {
        self.shutdown = None;
        self.until = self.drain.deadline();
        self.machine.shutdown(self.clock.now());
    }

    /// Gives the machine what was read, and handles the requests that it finds.
    fn feed(&mut self) {
        loop {
            let now = self.clock.now();
            let received = self.machine.receive(self.input.unused(), now);
            self.input.consume(received.used);
            if received.used > 0 {
                tracing::trace!(peer = %self.peer, bytes = received.used, "received");
            }
            self.complete_request();
            let Some(head) = received.event else {
                return;
            };
            self.begin_request(head);
            if !self.shared.allows_request(&self.peer) {
                let message = "too many requests from this address: try again later";
                self.refuse(ErrorCode::RateLimited, message, now); // S15
                continue;
            }
            let Some(handler) = &self.shared.handler else {
                let store = Arc::clone(&self.shared.store);
                self.accept(store, now);
                continue;
            };
            let hold = self.shared.options.decision_timeout;
            self.deciding = Some(Deciding {
                decision: handler(Request::new(Arc::clone(&self.peer), head)),
                deadline: hold.map(|hold| now + hold),
            });
            return;
        }
    }

    fn poll_decision(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(deciding) = &mut self.deciding else {
            return false;
        };
        let Poll::Ready(decision) = deciding.decision.as_mut().poll(cx) else {
            return false;
        };
        self.deciding = None;
        let now = self.clock.now();
        match decision.0 {
            Answer::Accept(store) => {
                let store = store.unwrap_or_else(|| Arc::clone(&self.shared.store));
                self.accept(store, now);
            }
            Answer::Refuse(code, message) => self.refuse(code, &message, now),
        }
        self.feed();
        true
    }

    fn accept(&mut self, store: Arc<dyn ImageStore>, now: Time) {
        let snapshot = store.catalog().snapshot(); // S3
        let accepted = self.machine.accept(&snapshot, now);
        debug_assert!(accepted.is_ok(), "a request waits for a decision");
        if self.machine.is_watching() {
            let subscription = store.catalog().subscribe_since(snapshot.generation());
            self.watcher = Some(Watcher::new(subscription, self.shared.watcher(&self.peer)));
        }
        self.bodies.begin_response(Arc::clone(&store));
        self.store = store;
    }

    fn refuse(&mut self, code: ErrorCode, message: &str, now: Time) {
        let refused = self.machine.refuse(code, message, now);
        debug_assert!(refused.is_ok(), "a request waits for a decision");
    }

    fn poll_bodies(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progress = false;
        loop {
            let Poll::Ready(loaded) = self.bodies.poll(cx, &self.machine) else {
                return progress;
            };
            let now = self.clock.now();
            let accepted = match loaded {
                Ok(Loaded::Opened(image, count)) => self.machine.body_opened(image, count, now),
                Ok(Loaded::Read(count)) => self.machine.body_loaded(count, now),
                Err(error) => {
                    self.shared.log_unsent(&self.peer, &error);
                    self.bodies.fail();
                    self.machine.body_failed("an image cannot be read", now)
                }
            };
            progress = true;
            if accepted.is_err() {
                return progress;
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut progress = false;
        while !self.turn.is_over() {
            let shown = self.machine.transmit();
            if shown.is_empty() {
                return self.poll_flush(cx).map(|()| progress);
            }
            let body = shown.body.map(|span| self.bodies.chunk(span.offset));
            let slices = [
                IoSlice::new(shown.bytes),
                IoSlice::new(body.unwrap_or_default()),
            ];
            let slices = match (shown.bytes.is_empty(), body.is_some()) {
                (true, _) => &slices[1..],
                (false, true) => &slices[..],
                (false, false) => &slices[..1],
            };
            match self.io.poll_write_vectored(cx, slices) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    progress = true;
                    self.turn.wrote(count);
                    let sent = self.machine.transmitted(count, self.clock.now());
                    debug_assert!(sent.is_ok(), "no more was sent than was shown");
                    let unsent = self.machine.transmit().body.map(|span| span.offset);
                    self.bodies.release(unsent);
                    self.unflushed = true;
                    self.feed();
                    self.poll_bodies(cx);
                    self.turn.looked_up(self.machine.take_lookups());
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(progress),
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
        match self.input.poll_fill(cx, &mut self.io) {
            Poll::Ready(Ok(0)) => self.machine.receive_eof(),
            Poll::Ready(Ok(count)) => self.turn.read(count),
            // T1: the end of a TLS stream without close_notify is the end of the input.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.machine.receive_eof();
            }
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => return Ok(false),
        }
        // A request that was sent after the shutdown began is not answered, however late this task noticed. // S16
        if self.shutdown.is_some() && self.drain.signal.has_begun() {
            self.begin_shutdown();
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
                if let Some(socket) = self.io.socket() {
                    limit_delivery(&socket, self.shared.options.config.write_timeout());
                }
                // An error says that the peer is gone, and needs no half-close.
                self.machine.finished(self.clock.now()).is_ok()
            }
            Poll::Pending => false,
        }
    }

    /// The machine has closed the connection, and the socket is next.
    fn closed(&self) -> Option<CloseReason> {
        let reason = self.machine.close_reason();
        // A peer that is too slow gets no last bytes, and keeps none in the system's memory. // T4 T8
        if let Some(CloseReason::Timeout(Timeout::Write | Timeout::Request)) = reason {
            if let Some(socket) = self.io.socket() {
                reset_on_close(&socket);
            }
        }
        reason
    }

    /// A request begins: its span, and its time.
    fn begin_request(&mut self, head: RequestHead) {
        let kind = head.kind.name();
        let span = tracing::debug_span!(
            "request",
            kind,
            images = tracing::field::Empty,
            bytes = tracing::field::Empty,
            outcome = tracing::field::Empty,
        );
        span.in_scope(|| tracing::debug!(peer = %self.peer, request = kind, "request"));
        self.answering = Some(Answering {
            head,
            since: self.clock.instant_now(),
            span,
        });
    }
}

/// What is counted and reported at a request's end; without the transport's type.
impl<R: Runtime, T> Connection<R, T> {
    /// Reports the request that has ended, if one has.
    fn complete_request(&mut self) {
        while let Some(completed) = self.machine.take_completed() {
            let Some(answering) = self.answering.take() else {
                continue;
            };
            let span = &answering.span;
            span.record("images", completed.images);
            span.record("bytes", completed.body_bytes);
            span.record("outcome", completed.outcome.as_str());
            let elapsed = self
                .clock
                .instant_now()
                .saturating_duration_since(answering.since);
            self.shared
                .request_completed(&self.peer, &answering.head, &completed, elapsed);
        }
    }
}

/// The connection has ended, or its future was dropped: so has its request.
impl<R: Runtime, T> Drop for Connection<R, T> {
    fn drop(&mut self) {
        self.machine.abort();
        self.complete_request();
    }
}
