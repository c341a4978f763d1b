//! The bare client state machine, and on top of it what every adapter's `Client` must do.

use std::rc::Rc;

use jtp_core::client::{ClientConnection, ClientError, Event, Request, Retry, Transfer};
use jtp_core::{Image, ImageFault, Misuse, Verified};

use super::{Mode, Simulation};
use crate::suite::traits::{
    ClientUnderTest, Entry, Failure, FetchControl, FetchOutcome, ImageEvent, ImageRequest,
    WatchControl, WatchEvent, chain,
};

/// An owned event.
enum OwnedEvent {
    Begin(u32),
    Entry(Entry),
    Image(Image),
    Data(Vec<u8>),
    ImageEnd(Image, Result<Verified, ImageFault>),
    NewImage(Entry),
    End,
    Cancelled,
    Closed,
    Other,
}

/// The counterpart of an adapter's `Error`.
#[derive(Debug)]
enum RefError {
    Protocol(ClientError),
    Misuse(Misuse),
    Connect,
    CatalogTooLarge,
}

impl RefError {
    fn describe(&self) -> Failure {
        match self {
            RefError::Protocol(error) => format!("protocol: {}", chain(error)),
            RefError::Misuse(misuse) => format!("misuse: {misuse}"),
            RefError::Connect => "cannot connect".into(),
            RefError::CatalogTooLarge => "catalog too large".into(),
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            RefError::Protocol(error) => error.is_transient(),
            RefError::Connect => true,
            _ => false,
        }
    }

    fn is_rate_limited(&self) -> bool {
        matches!(self, RefError::Protocol(error) if error.is_rate_limited())
    }
}

struct Connection {
    machine: ClientConnection,
    /// Index into `SimState::connections`.
    conn: usize,
    input: Vec<u8>,
}

pub(crate) struct RefClient {
    simulation: Rc<Simulation>,
    connection: Option<Connection>,
    connected: bool,
}

/// The number of requests in flight if the client may pipeline. // R7
const PIPELINED: usize = 2;

impl RefClient {
    pub(crate) fn new(simulation: Rc<Simulation>) -> RefClient {
        let mut client = RefClient {
            simulation,
            connection: None,
            connected: false,
        };
        if client.simulation.mode == Mode::Stream {
            client.connect().unwrap();
        }
        client
    }

    fn connect(&mut self) -> Result<(), RefError> {
        let conn = self.simulation.connect().ok_or(RefError::Connect)?;
        let now = self.simulation.now();
        self.connection = Some(Connection {
            machine: ClientConnection::new(self.simulation.setup.client, now),
            conn,
            input: Vec::new(),
        });
        self.connected = true;
        Ok(())
    }

    fn disconnect(&mut self) {
        if let Some(connection) = self.connection.take() {
            let mut sim = self.simulation.sim.borrow_mut();
            let conn = &mut sim.connections[connection.conn];
            conn.up.ended = true;
            conn.down.ended = true;
            conn.down.bytes.clear();
        }
    }

    /// A connection on which a request can be sent.
    fn connection(&mut self) -> Result<&mut Connection, RefError> {
        let single_stream = self.simulation.mode == Mode::Stream;
        if single_stream {
            self.discard_responses()?;
        }
        if self.connection.is_some() && !self.is_fresh() && !single_stream {
            self.disconnect();
        }
        if self.connection.is_none() {
            if single_stream {
                return Err(RefError::Misuse(Misuse::Closed));
            }
            self.connect()?;
        }
        Ok(self.connection.as_mut().unwrap())
    }

    /// Reads the rest of an abandoned response, which must not be read as the answer to another request.
    fn discard_responses(&mut self) -> Result<(), RefError> {
        while let Some(connection) = &self.connection {
            if connection.machine.outstanding() == 0 || !connection.machine.is_reusable() {
                break;
            }
            match self.event() {
                Ok(OwnedEvent::Closed) => self.disconnect(),
                Ok(_) => {}
                Err(error) => {
                    self.disconnect();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn is_fresh(&mut self) -> bool {
        let connection = self.connection.as_mut().unwrap();
        if !connection.machine.is_reusable() || !connection.machine.is_idle() {
            return false;
        }
        while self.simulation.serve() {}
        let sim = self.simulation.sim.borrow();
        let down = &sim.connections[connection.conn].down;
        if down.is_at_end() {
            let _ = connection.machine.receive_eof(sim.now);
        }
        connection.input.is_empty() && down.bytes.is_empty() && !down.ended
    }

    fn request(&mut self, request: Request, keep_alive: bool) -> Result<(), RefError> {
        let now = self.simulation.now();
        let connection = self.connection()?;
        connection
            .machine
            .request(request, keep_alive, now)
            .map_err(RefError::Misuse)
    }

    /// Transfers bytes in both directions; returns whether any moved.
    fn pump(&mut self) -> bool {
        let Some(connection) = &mut self.connection else {
            return false;
        };
        let mut moved = {
            let sim = &mut *self.simulation.sim.borrow_mut();
            sim.connections[connection.conn].transmit_client(&mut connection.machine, sim.now)
        };
        moved |= self.simulation.serve();
        let sim = &mut *self.simulation.sim.borrow_mut();
        if !sim.stalled {
            let down = &mut sim.connections[connection.conn].down.bytes;
            moved |= !down.is_empty();
            let (first, second) = down.as_slices();
            connection.input.extend_from_slice(first);
            connection.input.extend_from_slice(second);
            down.clear();
        }
        moved
    }

    fn event(&mut self) -> Result<OwnedEvent, RefError> {
        let now = self.simulation.now();
        match &mut self.connection {
            Some(connection) => connection.machine.wait(now),
            None => return Err(RefError::Misuse(Misuse::Closed)),
        }
        loop {
            let now = self.simulation.now();
            let connection = self.connection.as_mut().unwrap();
            let received = connection
                .machine
                .receive(&connection.input, now)
                .map_err(RefError::Protocol)?;
            let used = received.used;
            let event = received.event.map(to_owned_event);
            connection.input.drain(..used);
            if let Some(event) = event {
                return Ok(event);
            }
            if self.pump() {
                continue;
            }
            let connection = self.connection.as_mut().unwrap();
            let at_end = {
                let sim = self.simulation.sim.borrow();
                sim.connections[connection.conn].down.is_at_end() && !sim.stalled
            };
            if at_end {
                connection
                    .machine
                    .receive_eof(now)
                    .map_err(RefError::Protocol)?;
                return Ok(OwnedEvent::Closed);
            }
            let deadline = connection.machine.deadline();
            assert!(
                self.simulation.advance_time(deadline),
                "no deadline and no more bytes"
            );
            connection
                .machine
                .handle_timeout(self.simulation.now())
                .map_err(RefError::Protocol)?;
        }
    }

    fn response_done(&mut self) {
        let reusable = self
            .connection
            .as_ref()
            .is_some_and(|c| c.machine.is_reusable());
        if !reusable && self.simulation.mode == Mode::Network {
            self.disconnect();
        }
    }

    fn retry(&self) -> Retry {
        Retry::new(match self.simulation.mode {
            Mode::Stream => 0,
            Mode::Network => self.simulation.setup.retries,
        })
    }

    fn recover(&mut self, retry: &mut Retry, error: RefError) -> Result<(), RefError> {
        self.disconnect();
        if !error.is_transient() || !self.connected {
            return Err(error);
        }
        match retry.pause(error.is_rate_limited()) {
            Some(pause) => self.simulation.sleep(pause),
            None => return Err(error),
        }
        Ok(())
    }

    fn keep_alive(&self) -> bool {
        self.simulation.mode == Mode::Stream || self.simulation.setup.keep_alive
    }

    fn try_list(&mut self, watch: bool) -> Result<Vec<Entry>, RefError> {
        let limits = self.simulation.setup.catalog_limits;
        let (max_entries, max_bytes) = limits.unwrap_or((usize::MAX, usize::MAX));
        self.request(Request::List, self.keep_alive() || watch)?;
        if watch {
            let now = self.simulation.now();
            let machine = &mut self.connection.as_mut().unwrap().machine;
            machine
                .request(Request::Watch, true, now)
                .map_err(RefError::Misuse)?;
        }
        let (mut entries, mut bytes) = (Vec::new(), 0);
        loop {
            match self.event()? {
                OwnedEvent::Entry(entry) => {
                    bytes += entry.name.len() + size_of::<Entry>();
                    if entries.len() >= max_entries || bytes > max_bytes {
                        self.disconnect();
                        return Err(RefError::CatalogTooLarge);
                    }
                    entries.push(entry);
                }
                OwnedEvent::End => return Ok(entries),
                _ => {}
            }
        }
    }

    fn list_with(&mut self, watch: bool) -> Result<Vec<Entry>, RefError> {
        let mut retry = self.retry();
        loop {
            match self.try_list(watch) {
                Ok(entries) => return Ok(entries),
                Err(error) => self.recover(&mut retry, error)?,
            }
        }
    }

    fn try_fetch(
        &mut self,
        request: &ImageRequest,
        on_event: &mut dyn FnMut(ImageEvent<'_>) -> FetchControl,
    ) -> Result<FetchOutcome, RefError> {
        let mut transfer = match request {
            ImageRequest::Get(ids) => Transfer::of(ids.iter().copied()),
            ImageRequest::Batch(have) => Transfer::missing(have.clone()),
            ImageRequest::All => Transfer::all(),
        };
        let mut retry = self.retry();
        let (mut in_flight, mut open, mut promised) = (0, false, 0);
        let mut skipping = false;
        loop {
            let event = match self.send_requests(&mut transfer, &mut in_flight) {
                Ok(()) if in_flight == 0 => {
                    return Ok(FetchOutcome {
                        cancelled: false,
                        absent: transfer.absent().to_vec(),
                        promised,
                    });
                }
                Ok(()) => match self.event() {
                    Ok(OwnedEvent::Closed) => Err(RefError::Protocol(ClientError::EarlyEof)),
                    event => event,
                },
                Err(error) => Err(error),
            };
            let control = match event {
                Ok(OwnedEvent::Begin(count)) => {
                    promised += u64::from(count);
                    FetchControl::Continue
                }
                Ok(OwnedEvent::Image(image)) => {
                    (open, skipping) = (true, false);
                    on_event(ImageEvent::Image(image))
                }
                Ok(OwnedEvent::Data(_)) if skipping => FetchControl::Continue,
                Ok(OwnedEvent::Data(bytes)) => on_event(ImageEvent::Bytes(&bytes)),
                Ok(OwnedEvent::ImageEnd(image, verdict)) => {
                    open = false;
                    if verdict.is_ok() {
                        retry.progress();
                    }
                    let last = transfer.image_end(image.id, verdict.is_ok());
                    match verdict {
                        _ if skipping => FetchControl::Continue,
                        Ok(_) => on_event(ImageEvent::Verified),
                        Err(fault) => on_event(ImageEvent::Fault {
                            fault: fault.to_string(),
                            last,
                        }),
                    }
                }
                Ok(OwnedEvent::End) => {
                    in_flight -= 1;
                    transfer.response_end();
                    retry.progress();
                    if in_flight == 0 {
                        self.response_done();
                    }
                    FetchControl::Continue
                }
                Ok(_) => FetchControl::Continue,
                Err(error) => {
                    let control = if std::mem::take(&mut open) && !skipping {
                        on_event(ImageEvent::Interrupted)
                    } else {
                        FetchControl::Continue
                    };
                    in_flight = 0;
                    transfer.connection_lost();
                    self.recover(&mut retry, error)?;
                    control
                }
            };
            match control {
                FetchControl::Continue => {}
                FetchControl::Skip => skipping = true,
                FetchControl::Drop => return Ok(FetchOutcome::default()),
                FetchControl::Cancel => {
                    self.cancel()?;
                    return Ok(FetchOutcome {
                        cancelled: true,
                        absent: Vec::new(),
                        promised,
                    });
                }
            }
        }
    }

    fn send_requests(
        &mut self,
        transfer: &mut Transfer,
        in_flight: &mut usize,
    ) -> Result<(), RefError> {
        let keep_alive = self.keep_alive();
        let pipelines = keep_alive && self.simulation.setup.client.pipeline();
        while *in_flight < if pipelines { PIPELINED } else { 1 } {
            if *in_flight == 0 {
                if transfer.is_done() {
                    return Ok(());
                }
                self.connection()?;
            }
            let Some(request) = transfer.next_request() else {
                return Ok(());
            };
            let now = self.simulation.now();
            let Some(connection) = &mut self.connection else {
                return Ok(());
            };
            let result = connection.machine.request(request, keep_alive, now);
            result.map_err(RefError::Misuse)?;
            *in_flight += 1;
        }
        Ok(())
    }

    fn cancel(&mut self) -> Result<(), RefError> {
        let now = self.simulation.now();
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        if !self.simulation.setup.client.pipeline() || connection.machine.cancel(now).is_err() {
            self.disconnect();
            return Ok(());
        }
        loop {
            match self.event() {
                Ok(OwnedEvent::Cancelled) => break,
                Ok(OwnedEvent::Closed) => {
                    self.disconnect();
                    break;
                }
                Ok(_) => {}
                Err(error) => {
                    self.disconnect();
                    return Err(error);
                }
            }
        }
        self.response_done();
        Ok(())
    }

    fn try_watch(
        &mut self,
        list: bool,
        on_event: &mut dyn FnMut(WatchEvent) -> WatchControl,
    ) -> Result<Option<Vec<Entry>>, RefError> {
        let entries = if list {
            Some(self.list_with(true)?)
        } else {
            self.request(Request::Watch, true)?;
            None
        };
        while self.pump() {}
        let mut control = on_event(WatchEvent::Started(entries));
        loop {
            match control {
                WatchControl::Drop => return Ok(None),
                WatchControl::Cancel => break,
                WatchControl::Wait => {}
            }
            match self.event() {
                Ok(OwnedEvent::NewImage(entry)) => control = on_event(WatchEvent::NewImage(entry)),
                Ok(OwnedEvent::Closed) => {
                    self.disconnect();
                    return Err(RefError::Protocol(ClientError::EarlyEof));
                }
                Ok(_) => {}
                Err(error) => {
                    self.disconnect();
                    return Err(error);
                }
            }
        }
        let now = self.simulation.now();
        let mut last = Vec::new();
        if let Some(connection) = &mut self.connection {
            connection.machine.cancel(now).map_err(RefError::Misuse)?;
            loop {
                match self.event() {
                    Ok(OwnedEvent::NewImage(entry)) => last.push(entry),
                    Ok(OwnedEvent::Cancelled | OwnedEvent::Closed) => break,
                    Ok(_) => {}
                    Err(error) => {
                        self.disconnect();
                        return Err(error);
                    }
                }
            }
        }
        self.response_done();
        Ok(Some(last))
    }
}

impl ClientUnderTest for RefClient {
    fn list(&mut self) -> Result<Vec<Entry>, Failure> {
        let entries = self.list_with(false).map_err(|error| error.describe())?;
        self.response_done();
        Ok(entries)
    }

    fn fetch(
        &mut self,
        request: &ImageRequest,
        on_event: &mut dyn FnMut(ImageEvent<'_>) -> FetchControl,
    ) -> Result<FetchOutcome, Failure> {
        self.try_fetch(request, on_event)
            .map_err(|error| error.describe())
    }

    fn cancel_idle(&mut self, request: &ImageRequest, after: bool) -> Result<(), Failure> {
        if after {
            self.fetch(request, &mut |_| FetchControl::Continue)?;
        }
        Ok(())
    }

    fn watch(
        &mut self,
        list: bool,
        on_event: &mut dyn FnMut(WatchEvent) -> WatchControl,
    ) -> Result<Option<Vec<Entry>>, Failure> {
        self.try_watch(list, on_event)
            .map_err(|error| error.describe())
    }

    fn close(&mut self) {
        self.disconnect();
    }
}

fn to_owned_event(event: Event<'_>) -> OwnedEvent {
    match event {
        Event::Begin { count, .. } => OwnedEvent::Begin(count),
        Event::Entry(entry) => OwnedEvent::Entry(entry.into_owned()),
        Event::Image(image) => OwnedEvent::Image(image),
        Event::Data(bytes) => OwnedEvent::Data(bytes.to_vec()),
        Event::ImageEnd { image, verdict } => OwnedEvent::ImageEnd(image, verdict),
        Event::NewImage(entry) => OwnedEvent::NewImage(entry.into_owned()),
        Event::End { .. } => OwnedEvent::End,
        Event::Cancelled { .. } => OwnedEvent::Cancelled,
        _ => OwnedEvent::Other,
    }
}
