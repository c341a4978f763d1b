//! Driving the core's server machine over a stream.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use jtp_core::Catalog;
use jtp_core::server::{CloseReason, ServerConnection};
use jtp_store::{ImageStore, Watch};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::bodies::Bodies;
use super::{Decision, Peer, Shared};
use crate::clock::{Alarm, Clock};
use crate::input::{Input, poll_fill};

/// How much is read ahead while a response is under way. // S1
const READ_AHEAD: usize = 64 * 1024;

/// What an idle connection reads into.
const READ_LEAST: usize = 512;

/// The turns that a connection takes before it lets others have theirs.
const TURNS: usize = 64;

type News = Pin<Box<dyn Future<Output = (Watch, Arc<Catalog>)> + Send>>;

/// One connection: the machine, its stream, and all that it waits for.
pub(super) struct Connection<'a, S: ImageStore + ?Sized, T> {
    shared: &'a Shared<S>,
    peer: &'a Peer,
    io: T,
    machine: ServerConnection,
    clock: Clock,
    alarm: Alarm,
    input: Input,
    bodies: Bodies<S>,
    news: Option<News>,
    /// Whether something written may still be held back by the stream (TLS).
    unflushed: bool,
    shutdown: Pin<Box<dyn Future<Output = ()> + Send>>,
    draining: bool,
}

impl<S: ImageStore + ?Sized, T> fmt::Debug for Connection<'_, S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}

impl<'a, S: ImageStore + ?Sized, T: AsyncRead + AsyncWrite + Unpin> Connection<'a, S, T> {
    pub(super) fn new(
        shared: &'a Shared<S>,
        peer: &'a Peer,
        io: T,
        machine: ServerConnection,
        clock: Clock,
        mut shutdown: watch::Receiver<()>,
    ) -> Connection<'a, S, T> {
        let shutdown = Box::pin(async move {
            if shutdown.changed().await.is_err() {
                std::future::pending::<()>().await; // Nobody is left who could begin it.
            }
        });
        Connection {
            bodies: Bodies::new(Arc::clone(&shared.store)),
            shared,
            peer,
            io,
            machine,
            clock,
            alarm: Alarm::default(),
            input: Input::new(READ_LEAST, READ_AHEAD),
            news: None,
            unflushed: false,
            shutdown,
            draining: false,
        }
    }

    /// Serves the connection to its end.
    pub(super) async fn run(mut self) -> io::Result<Option<CloseReason>> {
        poll_fn(|cx| self.poll(cx)).await?;
        Ok(self.machine.close_reason())
    }

    /// Always looks at everything that can happen: a blocked write stops no read. // S1
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..TURNS {
            let mut moved = self.poll_signals(cx);
            self.feed();
            moved |= self.poll_bodies(cx);
            moved |= self.poll_write(cx)?;
            moved |= self.poll_read(cx)?;
            moved |= self.poll_finish(cx);
            if self.machine.is_closed() {
                return Poll::Ready(Ok(()));
            }
            if !moved {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Time, news of the catalog, and the server's shutdown.
    fn poll_signals(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        if self
            .alarm
            .poll(cx, &self.clock, self.machine.deadline())
            .is_ready()
        {
            self.machine.handle_timeout(self.clock.now());
            moved = true;
        }
        if !self.draining && self.shutdown.as_mut().poll(cx).is_ready() {
            self.draining = true;
            self.machine.shutdown(self.clock.now());
            moved = true;
        }
        if !self.machine.is_watching() {
            self.news = None;
        } else if let Some(news) = &mut self.news {
            if let Poll::Ready((watch, catalog)) = news.as_mut().poll(cx) {
                self.machine.catalog_changed(&catalog, self.clock.now());
                self.news = Some(next_news(watch));
                moved = true;
            }
        }
        moved
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
                    let snapshot = self.shared.store.catalog().snapshot();
                    let accepted = self.machine.accept(&snapshot, now);
                    if self.machine.is_watching() {
                        let live = self.shared.store.catalog();
                        self.news = Some(next_news(live.watch_since(snapshot.generation())));
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
        loop {
            let shown = self.machine.transmit();
            if shown.is_empty() {
                break;
            }
            let frames = shown.bytes.len();
            let slices = [IoSlice::new(shown.bytes), IoSlice::new(self.bodies.piece())];
            let slices = if shown.body.is_some() {
                &slices[..]
            } else {
                &slices[..1]
            };
            let slices = if frames == 0 { &slices[1..] } else { slices };
            match Pin::new(&mut self.io).poll_write_vectored(cx, slices) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    self.bodies.sent(count.saturating_sub(frames));
                    let noted = self.machine.transmitted(count, self.clock.now());
                    debug_assert!(noted.is_ok(), "no more was sent than was shown");
                    self.unflushed = true;
                    moved = true;
                    self.feed();
                    if self.poll_bodies(cx) {
                        continue;
                    }
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(moved),
            }
        }
        if self.unflushed {
            if let Poll::Ready(flushed) = Pin::new(&mut self.io).poll_flush(cx) {
                flushed?;
                self.unflushed = false;
            }
        }
        Ok(moved)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if self.input.is_full() || !self.machine.wants_read(self.input.unused()) {
            return Ok(false);
        }
        match poll_fill(&mut self.input, cx, &mut self.io) {
            Poll::Ready(Ok(0)) => self.machine.receive_eof(),
            Poll::Ready(Ok(_)) => {}
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
        match Pin::new(&mut self.io).poll_shutdown(cx) {
            Poll::Ready(_) => {
                // A peer that has gone needs no half-close.
                self.machine.finished(self.clock.now()).is_ok()
            }
            Poll::Pending => false,
        }
    }
}

fn next_news(mut watch: Watch) -> News {
    Box::pin(async move {
        let catalog = watch.changed().await;
        (watch, catalog)
    })
}
