//! Driving the core's client machine over a stream.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use jtp_core::client::{
    CatalogEntry, ClientConfig, ClientConnection, ClientError, Event, Misuse, Request,
};
use jtp_core::{Image, ImageFault};

use super::Error;
use crate::clock::{Alarm, Clock};
use crate::input::{Input, poll_fill};
use crate::runtime::{BoxTransport, Runtime};
use crate::wait::yield_now;

/// How much is read at once, at most.
const READ: usize = 256 * 1024;

/// The reads after each other that did not have to wait, before others have their turn: not every runtime
/// makes a task stop by itself.
const TURNS: u32 = 64;

/// An event that borrows nothing; the bytes of `Data` are at [`Link::data`].
#[derive(Debug)]
pub(crate) enum Told {
    Begin {
        count: u32,
    },
    Entry(CatalogEntry<'static>),
    Image(Image),
    Data,
    ImageEnd {
        image: Image,
        verdict: Result<(), ImageFault>,
    },
    PacketEnd {
        image: Image,
    },
    NewImage(CatalogEntry<'static>),
    End,
    Cancelled,
    /// The server closed the connection, and nothing was due.
    Closed,
}

/// One connection to a server.
pub(crate) struct Link<R: Runtime> {
    io: BoxTransport,
    pub(crate) machine: ClientConnection,
    clock: Clock<R>,
    alarm: Alarm<R>,
    input: Input,
    /// How much of the input the last event used, while the caller may still look at its data.
    held: usize,
    /// Whether the caller has been busy with an event since the last wait. // T6
    paused: bool,
    unflushed: bool,
    /// A failed write: what the server says at last is read all the same. // R1
    write_error: Option<io::Error>,
    address: String,
    tls: bool,
    turns: u32,
}

impl<R: Runtime> fmt::Debug for Link<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}

impl<R: Runtime> Link<R> {
    pub(crate) fn new(
        io: BoxTransport,
        config: ClientConfig,
        address: String,
        tls: bool,
    ) -> Link<R> {
        let clock = Clock::new();
        Link {
            io,
            machine: ClientConnection::new(config, clock.now()),
            clock,
            alarm: Alarm::default(),
            input: Input::new(READ, READ),
            held: 0,
            paused: true,
            unflushed: false,
            write_error: None,
            address,
            tls,
            turns: 0,
        }
    }

    pub(crate) fn request(&mut self, request: Request, keep_alive: bool) -> Result<(), Misuse> {
        self.machine.request(request, keep_alive, self.clock.now())
    }

    pub(crate) fn cancel(&mut self) -> Result<(), Misuse> {
        self.machine.cancel(self.clock.now())
    }

    /// The image that was just told is to come as it travels.
    pub(crate) fn leave_undecoded(&mut self) -> Result<(), Misuse> {
        self.machine.leave_undecoded()
    }

    /// The bytes of the [`Told::Data`] that [`Link::next`] has just told.
    pub(crate) fn data(&self) -> &[u8] {
        self.machine.data(self.input.unused())
    }

    /// The next event. Dropped before it is ready, it loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Told, Error> {
        if self.turns >= TURNS {
            self.turns = 0;
            yield_now().await;
        }
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Whether another request can be made here: the connection is open, idle, and may be used again.
    pub(crate) async fn is_fresh(&mut self) -> bool {
        if !self.machine.is_reusable() || !self.machine.is_idle() {
            return false;
        }
        // Whatever came on an idle connection is its end. // R6
        let looked = poll_fn(|cx| Poll::Ready(self.poll_next(cx).is_pending())).await;
        looked && self.machine.fault().is_none()
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Told, Error>> {
        self.input.consume(std::mem::take(&mut self.held));
        if std::mem::take(&mut self.paused) {
            self.machine.wait(self.clock.now());
        }
        let told = std::task::ready!(self.poll_event(cx));
        self.paused = true;
        Poll::Ready(told)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Told, Error>> {
        loop {
            let received = self.machine.receive(self.input.unused(), self.clock.now());
            match received {
                Ok(received) => {
                    let used = received.used;
                    match received.event.and_then(told) {
                        Some(Told::Data) => {
                            self.held = used;
                            return Poll::Ready(Ok(Told::Data));
                        }
                        Some(told) => {
                            self.input.consume(used);
                            let ended = matches!(told, Told::End | Told::Cancelled);
                            if let Some(error) = ended.then(|| self.surplus()).flatten() {
                                return Poll::Ready(Err(error));
                            }
                            return Poll::Ready(Ok(told));
                        }
                        None => self.input.consume(used),
                    }
                }
                Err(error) => return Poll::Ready(Err(self.error(error))),
            }
            let wrote = self.poll_write(cx);
            match poll_fill(&mut self.input, cx, &mut self.io) {
                Poll::Ready(Ok(0)) => return Poll::Ready(self.ended()),
                Poll::Ready(Ok(_)) => {
                    self.turns += 1;
                    continue;
                }
                // T1: no close_notify. Whether bytes are missing the machine knows.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Poll::Ready(self.ended());
                }
                Poll::Ready(Err(error)) => {
                    let error = self.write_error.take().unwrap_or(error);
                    return Poll::Ready(Err(Error::Io(error)));
                }
                Poll::Pending if wrote => continue,
                Poll::Pending => self.turns = 0,
            }
            if self
                .alarm
                .poll(cx, &self.clock, self.machine.deadline())
                .is_pending()
            {
                return Poll::Pending;
            }
            if let Err(error) = self.machine.handle_timeout(self.clock.now()) {
                return Poll::Ready(Err(self.error(error)));
            }
        }
    }

    /// What stands behind the last response that was asked for is no part of anything. // R1
    fn surplus(&mut self) -> Option<Error> {
        if self.machine.outstanding() > 0 || self.input.unused().is_empty() {
            return None;
        }
        match self.machine.receive(self.input.unused(), self.clock.now()) {
            Ok(received) => {
                let used = received.used;
                self.input.consume(used);
                None
            }
            Err(error @ ClientError::Peer(_)) => Some(self.error(error)),
            // The server says why it closes an idle connection: that concerns the next request. // R6
            Err(_) => None,
        }
    }

    fn ended(&mut self) -> Result<Told, Error> {
        match self.machine.receive_eof(self.clock.now()) {
            Ok(()) => Ok(Told::Closed),
            Err(error) => Err(match self.write_error.take() {
                Some(error) => Error::Io(error),
                None => self.error(error),
            }),
        }
    }

    fn error(&self, error: ClientError) -> Error {
        Error::on(error, &self.address, self.tls)
    }

    /// Sends what is due; whether anything moved.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        while self.write_error.is_none() && !self.machine.transmit().is_empty() {
            let output = [IoSlice::new(self.machine.transmit())];
            match self.io.poll_write_vectored(cx, &output) {
                Poll::Ready(Ok(0)) => self.write_error = Some(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    let noted = self.machine.transmitted(count, self.clock.now());
                    debug_assert!(noted.is_ok(), "no more was sent than was shown");
                    self.unflushed = true;
                    moved = true;
                }
                Poll::Ready(Err(error)) => self.write_error = Some(error),
                Poll::Pending => return moved,
            }
        }
        if self.unflushed && self.write_error.is_none() {
            match self.io.poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(error)) => self.write_error = Some(error),
                Poll::Pending => {}
            }
        }
        moved
    }

    /// Says good-bye as far as that does not wait.
    pub(crate) async fn close(mut self) {
        poll_fn(|cx| {
            let _ = self.io.poll_close(cx);
            Poll::Ready(())
        })
        .await;
    }
}

fn told(event: Event<'_>) -> Option<Told> {
    Some(match event {
        Event::Begin { count, .. } => Told::Begin { count },
        Event::Entry(entry) => Told::Entry(entry.into_owned()),
        Event::Image(image) => Told::Image(image),
        Event::Data(_) => Told::Data,
        Event::ImageEnd { image, verdict } => Told::ImageEnd { image, verdict },
        Event::PacketEnd { image } => Told::PacketEnd { image },
        Event::NewImage(entry) => Told::NewImage(entry.into_owned()),
        Event::End { .. } => Told::End,
        Event::Cancelled { .. } => Told::Cancelled,
        _ => return None,
    })
}
