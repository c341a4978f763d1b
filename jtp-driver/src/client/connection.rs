//! Drives the core's client machine over a stream.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::task::{Context, Poll};

use jtp_core::Misuse;
use jtp_core::client::{ClientConfig, ClientConnection, ClientError, Event, Request};

use super::Error;
use super::error::{is_end, is_tls_error};
use crate::buffer::InputBuffer;
use crate::clock::{Clock, DeadlineTimer};
use crate::runtime::{BoxTransport, Runtime};
use crate::wait::yield_now;

/// The most bytes that are read at once.
pub(super) const MAX_READ: usize = 256 * 1024;

/// Reads in a row that did not have to wait, before other tasks run: not every runtime makes a task yield.
const MAX_READY_READS: u32 = 64;

/// One connection to a server.
pub(super) struct Connection<R: Runtime> {
    io: BoxTransport,
    machine: ClientConnection,
    clock: Clock<R>,
    timer: DeadlineTimer<R>,
    input: InputBuffer,
    /// The input that the last `Data` event used, while the caller may still look at it.
    pinned: usize,
    /// All input that events have used.
    received: u64,
    /// Whether the caller has been busy with an event since the last wait. // T6
    paused: bool,
    unflushed: bool,
    /// The error of a write: what the server sent before it is still read. // R1
    write_error: Option<io::Error>,
    address: String,
    tls: bool,
    ready_reads: u32,
    /// A LIST_AND_GET was sent behind a LIST that is complete, for whoever asks for all images next.
    pub(super) requested_all: bool,
}

impl<R: Runtime> fmt::Debug for Connection<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}

impl<R: Runtime> Connection<R> {
    pub(super) fn new(
        runtime: R,
        io: BoxTransport,
        config: ClientConfig,
        address: String,
        tls: bool,
    ) -> Connection<R> {
        let clock = Clock::new(runtime);
        Connection {
            io,
            machine: ClientConnection::new(config, clock.now()),
            clock,
            timer: DeadlineTimer::default(),
            input: InputBuffer::new(MAX_READ, MAX_READ),
            pinned: 0,
            received: 0,
            paused: true,
            unflushed: false,
            write_error: None,
            address,
            tls,
            ready_reads: 0,
            requested_all: false,
        }
    }

    pub(super) fn request(&mut self, request: Request, keep_alive: bool) -> Result<(), Misuse> {
        self.requested_all = false;
        self.machine.request(request, keep_alive, self.clock.now())
    }

    pub(super) fn cancel(&mut self) -> Result<(), Misuse> {
        self.machine.cancel(self.clock.now())
    }

    /// Leaves the image that has just begun undecoded.
    pub(super) fn leave_undecoded(&mut self) -> Result<(), Misuse> {
        self.machine.leave_undecoded()
    }

    /// Whether the connection can carry another request, now or after the response under way.
    pub(super) fn is_reusable(&self) -> bool {
        self.machine.is_reusable()
    }

    /// Responses that are not complete.
    pub(super) fn outstanding(&self) -> usize {
        self.machine.outstanding()
    }

    /// The bytes of the `Data` event that [`next`](Self::next) has just returned.
    pub(super) fn data(&self) -> &[u8] {
        self.machine.data(self.input.unused())
    }

    /// Moves the bytes of the undecoded `Data` event that [`next`](Self::next) has just returned. See
    /// [`InputBuffer::move_to`].
    pub(super) fn move_data(&mut self, memory: &mut Vec<u8>) -> Range<usize> {
        // They are the last ones that the event used.
        let used = std::mem::take(&mut self.pinned);
        let count = self.machine.data(self.input.unused()).len().min(used);
        self.input.consume(used - count);
        self.input.move_to(count, memory)
    }

    /// All bytes that were received and used so far.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// The next event; the bytes of `Data` are in [`data`](Self::data). `None`: the server closed the connection, and
    /// nothing was due. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<Event<'static>>, Error> {
        if self.ready_reads >= MAX_READY_READS {
            self.ready_reads = 0;
            yield_now().await;
        }
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Whether another request can be made here: the connection is open, idle, and may be used again.
    pub(super) async fn is_fresh(&mut self) -> bool {
        if !self.machine.is_reusable() || !self.machine.is_idle() {
            return false;
        }
        // Anything that arrived on an idle connection ends it. // R6
        let idle = poll_fn(|cx| Poll::Ready(self.poll_next(cx).is_pending())).await;
        idle && self.machine.fault().is_none()
    }

    fn consume(&mut self, used: usize) {
        self.input.consume(used);
        self.received = self
            .received
            .saturating_add(u64::try_from(used).unwrap_or(u64::MAX));
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Event<'static>>, Error>> {
        let pinned = std::mem::take(&mut self.pinned);
        self.input.consume(pinned); // It was counted when its event was returned.
        if std::mem::take(&mut self.paused) {
            self.machine.wait(self.clock.now());
        }
        let event = std::task::ready!(self.poll_event(cx));
        self.paused = true;
        Poll::Ready(event)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Event<'static>>, Error>> {
        loop {
            let received = self.machine.receive(self.input.unused(), self.clock.now());
            let (used, event) = match received {
                Ok(received) => (received.used, received.event.map(Event::into_owned)),
                Err(error) => return Poll::Ready(Err(self.protocol_error(error))),
            };
            match event {
                Some(event @ Event::Data(_)) => {
                    self.pinned = used;
                    self.received += u64::try_from(used).unwrap_or(u64::MAX);
                    return Poll::Ready(Ok(Some(event)));
                }
                Some(event) => {
                    self.consume(used);
                    let ended = matches!(event, Event::End { .. } | Event::Cancelled { .. });
                    if let Some(error) = ended.then(|| self.check_surplus()).flatten() {
                        return Poll::Ready(Err(error));
                    }
                    return Poll::Ready(Ok(Some(event)));
                }
                None => self.consume(used),
            }
            let wrote = self.poll_write(cx);
            match self.input.poll_fill(cx, &mut self.io) {
                Poll::Ready(Ok(0)) => return Poll::Ready(self.end_of_stream()),
                Poll::Ready(Ok(_)) => {
                    self.ready_reads += 1;
                    continue;
                }
                // T1: no close_notify. The machine knows whether bytes are missing.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Poll::Ready(self.end_of_stream());
                }
                Poll::Ready(Err(error)) => {
                    // A write may fail because of the alert that says why: the alert is the cause.
                    let error = match self.write_error.take() {
                        Some(write_error) if !is_tls_error(&error) => write_error,
                        _ => error,
                    };
                    return Poll::Ready(Err(self.io_error(error)));
                }
                Poll::Pending if wrote => continue,
                Poll::Pending => self.ready_reads = 0,
            }
            if self
                .timer
                .poll(cx, &self.clock, self.machine.deadline())
                .is_pending()
            {
                return Poll::Pending;
            }
            if let Err(error) = self.machine.handle_timeout(self.clock.now()) {
                return Poll::Ready(Err(self.protocol_error(error)));
            }
        }
    }

    /// Bytes after the last requested response belong to nothing. // R1
    fn check_surplus(&mut self) -> Option<Error> {
        if self.machine.outstanding() > 0 || self.input.unused().is_empty() {
            return None;
        }
        match self.machine.receive(self.input.unused(), self.clock.now()) {
            Ok(received) => {
                let used = received.used;
                self.consume(used);
                None
            }
            Err(error @ ClientError::Peer(_)) => Some(self.protocol_error(error)),
            // The server says why it closes an idle connection: that concerns the next request. // R6
            Err(_) => None,
        }
    }

    fn end_of_stream(&mut self) -> Result<Option<Event<'static>>, Error> {
        match self.machine.receive_eof(self.clock.now()) {
            Ok(()) => Ok(None),
            Err(error) => Err(match self.write_error.take() {
                Some(error) => self.io_error(error),
                None => self.protocol_error(error),
            }),
        }
    }

    fn protocol_error(&self, error: ClientError) -> Error {
        let error = Error::from_protocol(error, &self.address, self.tls);
        match error {
            Error::Protocol(_) if self.machine.is_refused() => error.refused(),
            error => error,
        }
    }

    fn io_error(&self, error: io::Error) -> Error {
        let is_refused = is_end(&error) && self.machine.is_refused();
        let error = Error::from_io(error, &self.address);
        if is_refused { error.refused() } else { error }
    }

    /// Sends pending output; whether anything was sent.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progress = false;
        while self.write_error.is_none() && !self.machine.transmit().is_empty() {
            let output = [IoSlice::new(self.machine.transmit())];
            match self.io.poll_write_vectored(cx, &output) {
                Poll::Ready(Ok(0)) => self.write_error = Some(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    let sent = self.machine.transmitted(count, self.clock.now());
                    debug_assert!(sent.is_ok(), "no more was sent than was shown");
                    self.unflushed = true;
                    progress = true;
                }
                Poll::Ready(Err(error)) => self.write_error = Some(error),
                Poll::Pending => return progress,
            }
        }
        if self.unflushed && self.write_error.is_none() {
            match self.io.poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(error)) => self.write_error = Some(error),
                Poll::Pending => {}
            }
        }
        progress
    }

    /// Closes the connection, with close_notify on TLS as far as that needs no waiting.
    pub(super) async fn close(mut self) {
        poll_fn(|cx| {
            let _ = self.io.poll_close(cx);
            Poll::Ready(())
        })
        .await;
    }
}
