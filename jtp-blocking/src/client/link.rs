//! Driving the core's client machine over a stream.

use std::fmt;
use std::io;
use std::time::Instant;

use jtp_core::client::{
    CatalogEntry, ClientConfig, ClientConnection, ClientError, Event, Misuse, Request,
};
use jtp_core::{Image, ImageFault};

use super::Error;
use crate::clock::{Clock, left, shorter};
use crate::input::{Input, fill};
use crate::stream::{Stream, is_blocked, wait};

/// How much is read at once, at most.
const READ: usize = 256 * 1024;

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
    NewImage(CatalogEntry<'static>),
    End,
    Cancelled,
    /// The server closed the connection, and nothing was due.
    Closed,
}

/// One connection to a server.
pub(crate) struct Link {
    io: Box<dyn Stream>,
    pub(crate) machine: ClientConnection,
    clock: Clock,
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
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}

impl Link {
    pub(crate) fn new(
        io: Box<dyn Stream>,
        config: ClientConfig,
        address: String,
        tls: bool,
    ) -> Link {
        let clock = Clock::new();
        Link {
            io,
            machine: ClientConnection::new(config, clock.now()),
            clock,
            input: Input::new(READ, READ),
            held: 0,
            paused: true,
            unflushed: false,
            write_error: None,
            address,
            tls,
        }
    }

    pub(crate) fn request(&mut self, request: Request, keep_alive: bool) -> Result<(), Misuse> {
        self.machine.request(request, keep_alive, self.clock.now())
    }

    pub(crate) fn cancel(&mut self) -> Result<(), Misuse> {
        self.machine.cancel(self.clock.now())
    }

    /// The bytes of the [`Told::Data`] that [`Link::next`] has just told.
    pub(crate) fn data(&self) -> &[u8] {
        self.machine.data(self.input.unused())
    }

    /// The next event.
    pub(crate) fn next(&mut self) -> Result<Told, Error> {
        loop {
            // Without a time to end at there is always an event.
            if let Some(told) = self.next_until(None)? {
                return Ok(told);
            }
        }
    }

    /// The next event, if there is one by then. Waiting in vain loses nothing.
    pub(crate) fn next_until(&mut self, until: Option<Instant>) -> Result<Option<Told>, Error> {
        self.input.consume(std::mem::take(&mut self.held));
        if std::mem::take(&mut self.paused) {
            self.machine.wait(self.clock.now());
        }
        let told = self.event(until);
        self.paused = !matches!(told, Ok(None));
        told
    }

    /// Whether another request can be made here: the connection is open, idle, and may be used again.
    pub(crate) fn is_fresh(&mut self) -> bool {
        if !self.machine.is_reusable() || !self.machine.is_idle() {
            return false;
        }
        // Whatever came on an idle connection is its end. // R6
        let looked = self.next_until(Some(Instant::now()));
        matches!(looked, Ok(None)) && self.machine.fault().is_none()
    }

    fn event(&mut self, until: Option<Instant>) -> Result<Option<Told>, Error> {
        loop {
            match self.machine.receive(self.input.unused(), self.clock.now()) {
                Ok(received) => {
                    let used = received.used;
                    match received.event.and_then(told) {
                        Some(Told::Data) => {
                            self.held = used;
                            return Ok(Some(Told::Data));
                        }
                        Some(told) => {
                            self.input.consume(used);
                            let ended = matches!(told, Told::End | Told::Cancelled);
                            if let Some(error) = ended.then(|| self.surplus()).flatten() {
                                return Err(error);
                            }
                            return Ok(Some(told));
                        }
                        None => self.input.consume(used),
                    }
                }
                Err(error) => return Err(self.error(error)),
            }
            let wrote = self.write();
            match fill(&mut self.input, &mut self.io) {
                Ok(0) => return self.ended().map(Some),
                Ok(_) => continue,
                // T1: no close_notify. Whether bytes are missing the machine knows.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return self.ended().map(Some);
                }
                Err(error) if is_blocked(&error) && wrote => continue,
                Err(error) if is_blocked(&error) => {}
                Err(error) => return Err(Error::Io(self.write_error.take().unwrap_or(error))),
            }
            if let Err(error) = self.machine.handle_timeout(self.clock.now()) {
                return Err(self.error(error));
            }
            if until.is_some_and(|until| left(until).is_zero()) {
                return Ok(None);
            }
            self.wait(until).map_err(Error::Io)?;
        }
    }

    fn wait(&mut self, until: Option<Instant>) -> io::Result<()> {
        let deadline = self.machine.deadline();
        if deadline.is_none() {
            self.input.rest(); // Nothing is due. // T6
        }
        let limit = shorter(
            deadline.map(|deadline| self.clock.until(deadline)),
            until.map(left),
        );
        let due = !self.machine.transmit().is_empty() || self.unflushed;
        let write = due && self.write_error.is_none();
        wait(&mut self.io, true, write, &[], limit)
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
    fn write(&mut self) -> bool {
        let mut moved = false;
        while self.write_error.is_none() && !self.machine.transmit().is_empty() {
            match self.io.write(self.machine.transmit()) {
                Ok(0) => self.write_error = Some(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    let noted = self.machine.transmitted(count, self.clock.now());
                    debug_assert!(noted.is_ok(), "no more was sent than was shown");
                    self.unflushed = true;
                    moved = true;
                }
                Err(error) if is_blocked(&error) => return moved,
                Err(error) => self.write_error = Some(error),
            }
        }
        if self.unflushed && self.write_error.is_none() {
            match self.io.flush() {
                Ok(()) => self.unflushed = false,
                Err(error) if is_blocked(&error) => {}
                Err(error) => self.write_error = Some(error),
            }
        }
        moved
    }

    /// Says good-bye as far as that does not wait.
    pub(crate) fn close(mut self) {
        let _ = self.io.finish();
    }
}

fn told(event: Event<'_>) -> Option<Told> {
    Some(match event {
        Event::Begin { count, .. } => Told::Begin { count },
        Event::Entry(entry) => Told::Entry(entry.into_owned()),
        Event::Image(image) => Told::Image(image),
        Event::Data(_) => Told::Data,
        Event::ImageEnd { image, verdict } => Told::ImageEnd { image, verdict },
        Event::NewImage(entry) => Told::NewImage(entry.into_owned()),
        Event::End { .. } => Told::End,
        Event::Cancelled { .. } => Told::Cancelled,
        _ => return None,
    })
}
