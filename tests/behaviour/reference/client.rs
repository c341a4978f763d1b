//! The client's machine, and over it what every adapter's `Client` is to do with it.

use std::rc::Rc;

use jtp_core::client::{ClientConnection, ClientError, Event, Request, Retry, Transfer};
use jtp_core::{Image, ImageFault, Misuse, Verified};

use super::{Mode, World};
use crate::suite::ends::{Ask, ClientEnd, Entry, Failure, Fetched, News, Next, Seen, Then};

/// An event that borrows nothing.
enum Told {
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

/// Why something failed, as an adapter's `Error` would say.
#[derive(Debug)]
enum Fault {
    Protocol(ClientError),
    Misuse(Misuse),
    Connect,
    CatalogTooLarge,
}

impl Fault {
    fn tell(&self) -> Failure {
        match self {
            Fault::Protocol(error) => format!("protocol: {error}"),
            Fault::Misuse(misuse) => format!("misuse: {misuse}"),
            Fault::Connect => "cannot connect".into(),
            Fault::CatalogTooLarge => "catalog too large".into(),
        }
    }

    fn is_transient(&self) -> bool {
        match self {
            Fault::Protocol(error) => error.is_transient(),
            Fault::Connect => true,
            _ => false,
        }
    }

    fn is_rate_limited(&self) -> bool {
        matches!(self, Fault::Protocol(error) if error.is_rate_limited())
    }
}

struct Link {
    machine: ClientConnection,
    /// The number of the connection.
    conn: usize,
    input: Vec<u8>,
}

pub(crate) struct RefClient {
    world: Rc<World>,
    link: Option<Link>,
    connected: bool,
}

/// Requests that are made ahead of their turn where the client may pipeline. // R7
const PIPELINED: usize = 2;

impl RefClient {
    pub(crate) fn new(world: Rc<World>) -> RefClient {
        let mut client = RefClient {
            world,
            link: None,
            connected: false,
        };
        if client.world.mode == Mode::Over {
            client.connect().unwrap();
        }
        client
    }

    fn connect(&mut self) -> Result<(), Fault> {
        let conn = self.world.connect().ok_or(Fault::Connect)?;
        let now = self.world.now();
        self.link = Some(Link {
            machine: ClientConnection::new(self.world.setup.client, now),
            conn,
            input: Vec::new(),
        });
        self.connected = true;
        Ok(())
    }

    fn drop_link(&mut self) {
        if let Some(link) = self.link.take() {
            let mut sim = self.world.sim.borrow_mut();
            let conn = &mut sim.conns[link.conn];
            conn.up.ended = true;
            conn.down.ended = true;
            conn.down.bytes.clear();
        }
    }

    /// A connection on which a request can be made.
    fn link(&mut self) -> Result<&mut Link, Fault> {
        let over = self.world.mode == Mode::Over;
        if self.link.is_some() && !self.is_fresh() {
            // What is left of a response that was given up is no answer to another request.
            let given_up = |link: &Link| link.machine.outstanding() > 0;
            if !over || self.link.as_ref().is_some_and(given_up) {
                self.drop_link();
            }
        }
        if self.link.is_none() {
            if over {
                return Err(Fault::Misuse(Misuse::Closed));
            }
            self.connect()?;
        }
        Ok(self.link.as_mut().unwrap())
    }

    fn is_fresh(&mut self) -> bool {
        let link = self.link.as_mut().unwrap();
        if !link.machine.is_reusable() || !link.machine.is_idle() {
            return false;
        }
        while self.world.serve() {}
        let sim = self.world.sim.borrow();
        let down = &sim.conns[link.conn].down;
        if down.is_at_end() {
            let _ = link.machine.receive_eof(sim.now);
        }
        link.input.is_empty() && down.bytes.is_empty() && !down.ended
    }

    fn request(&mut self, request: Request, keep_alive: bool) -> Result<(), Fault> {
        let now = self.world.now();
        let link = self.link()?;
        link.machine
            .request(request, keep_alive, now)
            .map_err(Fault::Misuse)
    }

    /// Moves whatever moves; whether anything did.
    fn pump(&mut self) -> bool {
        let Some(link) = &mut self.link else {
            return false;
        };
        let mut moved = {
            let sim = &mut *self.world.sim.borrow_mut();
            sim.conns[link.conn].client_sends(&mut link.machine, sim.now)
        };
        moved |= self.world.serve();
        let sim = &mut *self.world.sim.borrow_mut();
        if !sim.stalled {
            let down = &mut sim.conns[link.conn].down.bytes;
            moved |= !down.is_empty();
            let (first, second) = down.as_slices();
            link.input.extend_from_slice(first);
            link.input.extend_from_slice(second);
            down.clear();
        }
        moved
    }

    fn event(&mut self) -> Result<Told, Fault> {
        let now = self.world.now();
        match &mut self.link {
            Some(link) => link.machine.wait(now),
            None => return Err(Fault::Misuse(Misuse::Closed)),
        }
        loop {
            let now = self.world.now();
            let link = self.link.as_mut().unwrap();
            let received = link
                .machine
                .receive(&link.input, now)
                .map_err(Fault::Protocol)?;
            let used = received.used;
            let told = received.event.map(own);
            link.input.drain(..used);
            if let Some(told) = told {
                return Ok(told);
            }
            if self.pump() {
                continue;
            }
            let link = self.link.as_mut().unwrap();
            let at_end = {
                let sim = self.world.sim.borrow();
                sim.conns[link.conn].down.is_at_end() && !sim.stalled
            };
            if at_end {
                link.machine.receive_eof(now).map_err(Fault::Protocol)?;
                return Ok(Told::Closed);
            }
            let deadline = link.machine.deadline();
            assert!(self.world.time_passes(deadline), "nothing will ever happen");
            link.machine
                .handle_timeout(self.world.now())
                .map_err(Fault::Protocol)?;
        }
    }

    fn response_done(&mut self) {
        let reusable = self.link.as_ref().is_some_and(|l| l.machine.is_reusable());
        if !reusable && self.world.mode == Mode::Net {
            self.drop_link();
        }
    }

    fn retry(&self) -> Retry {
        Retry::new(match self.world.mode {
            Mode::Over => 0,
            Mode::Net => self.world.setup.retries,
        })
    }

    fn recover(&mut self, retry: &mut Retry, fault: Fault) -> Result<(), Fault> {
        self.drop_link();
        if !fault.is_transient() || !self.connected {
            return Err(fault);
        }
        match retry.pause(fault.is_rate_limited()) {
            Some(pause) => self.world.sleep(pause),
            None => return Err(fault),
        }
        Ok(())
    }

    fn keep_alive(&self) -> bool {
        self.world.mode == Mode::Over || self.world.setup.keep_alive
    }

    fn try_list(&mut self, watch: bool) -> Result<Vec<Entry>, Fault> {
        let limits = self.world.setup.catalog_limits;
        let (most, most_bytes) = limits.unwrap_or((usize::MAX, usize::MAX));
        self.request(Request::List, self.keep_alive() || watch)?;
        if watch {
            let now = self.world.now();
            let machine = &mut self.link.as_mut().unwrap().machine;
            machine
                .request(Request::Watch, true, now)
                .map_err(Fault::Misuse)?;
        }
        let (mut entries, mut bytes) = (Vec::new(), 0);
        loop {
            match self.event()? {
                Told::Entry(entry) => {
                    bytes += entry.name.len() + size_of::<Entry>();
                    if entries.len() >= most || bytes > most_bytes {
                        self.drop_link();
                        return Err(Fault::CatalogTooLarge);
                    }
                    entries.push(entry);
                }
                Told::End => return Ok(entries),
                _ => {}
            }
        }
    }

    fn list_with(&mut self, watch: bool) -> Result<Vec<Entry>, Fault> {
        let mut retry = self.retry();
        loop {
            match self.try_list(watch) {
                Ok(entries) => return Ok(entries),
                Err(fault) => self.recover(&mut retry, fault)?,
            }
        }
    }

    fn try_fetch(
        &mut self,
        ask: &Ask,
        see: &mut dyn FnMut(Seen<'_>) -> Next,
    ) -> Result<Fetched, Fault> {
        let mut transfer = match ask {
            Ask::Get(ids) => Transfer::of(ids.iter().copied()),
            Ask::Batch(have) => Transfer::missing(have.clone()),
            Ask::All => Transfer::all(),
        };
        let mut retry = self.retry();
        let (mut under_way, mut open, mut promised) = (0, false, 0);
        let mut skipping = false;
        loop {
            let told = match self.ask(&mut transfer, &mut under_way) {
                Ok(()) if under_way == 0 => {
                    return Ok(Fetched {
                        cancelled: false,
                        absent: transfer.absent().to_vec(),
                        promised,
                    });
                }
                Ok(()) => match self.event() {
                    Ok(Told::Closed) => Err(Fault::Protocol(ClientError::EarlyEof)),
                    told => told,
                },
                Err(fault) => Err(fault),
            };
            let next = match told {
                Ok(Told::Begin(count)) => {
                    promised += u64::from(count);
                    Next::Go
                }
                Ok(Told::Image(image)) => {
                    (open, skipping) = (true, false);
                    see(Seen::Image(image))
                }
                Ok(Told::Data(_)) if skipping => Next::Go,
                Ok(Told::Data(bytes)) => see(Seen::Bytes(&bytes)),
                Ok(Told::ImageEnd(image, verdict)) => {
                    open = false;
                    if verdict.is_ok() {
                        retry.progress();
                    }
                    let last = transfer.image_end(image.id, verdict.is_ok());
                    match verdict {
                        _ if skipping => Next::Go,
                        Ok(_) => see(Seen::Good),
                        Err(fault) => {
                            let fault = fault.to_string();
                            see(Seen::Fault { fault, last })
                        }
                    }
                }
                Ok(Told::End) => {
                    under_way -= 1;
                    transfer.response_end();
                    retry.progress();
                    if under_way == 0 {
                        self.response_done();
                    }
                    Next::Go
                }
                Ok(_) => Next::Go,
                Err(fault) => {
                    let next = if std::mem::take(&mut open) && !skipping {
                        see(Seen::Interrupted)
                    } else {
                        Next::Go
                    };
                    under_way = 0;
                    transfer.connection_lost();
                    self.recover(&mut retry, fault)?;
                    next
                }
            };
            match next {
                Next::Go => {}
                Next::Skip => skipping = true,
                Next::Leave => return Ok(Fetched::default()),
                Next::Cancel => {
                    self.cancel()?;
                    return Ok(Fetched {
                        cancelled: true,
                        absent: Vec::new(),
                        promised,
                    });
                }
            }
        }
    }

    fn ask(&mut self, transfer: &mut Transfer, under_way: &mut usize) -> Result<(), Fault> {
        let keep_alive = self.keep_alive();
        let pipelines = keep_alive && self.world.setup.client.pipeline();
        while *under_way < if pipelines { PIPELINED } else { 1 } {
            if *under_way == 0 {
                if transfer.is_done() {
                    return Ok(());
                }
                self.link()?;
            }
            let Some(request) = transfer.next_request() else {
                return Ok(());
            };
            let now = self.world.now();
            let Some(link) = &mut self.link else {
                return Ok(());
            };
            let made = link.machine.request(request, keep_alive, now);
            made.map_err(Fault::Misuse)?;
            *under_way += 1;
        }
        Ok(())
    }

    fn cancel(&mut self) -> Result<(), Fault> {
        let now = self.world.now();
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        if !self.world.setup.client.pipeline() || link.machine.cancel(now).is_err() {
            self.drop_link();
            return Ok(());
        }
        loop {
            match self.event() {
                Ok(Told::Cancelled) => break,
                Ok(Told::Closed) => {
                    self.drop_link();
                    break;
                }
                Ok(_) => {}
                Err(fault) => {
                    self.drop_link();
                    return Err(fault);
                }
            }
        }
        self.response_done();
        Ok(())
    }

    fn try_watch(
        &mut self,
        list: bool,
        see: &mut dyn FnMut(News) -> Then,
    ) -> Result<Option<Vec<Entry>>, Fault> {
        let entries = if list {
            Some(self.list_with(true)?)
        } else {
            self.request(Request::Watch, true)?;
            None
        };
        while self.pump() {}
        let mut then = see(News::Begun(entries));
        loop {
            match then {
                Then::Leave => return Ok(None),
                Then::Cancel => break,
                Then::Wait => {}
            }
            match self.event() {
                Ok(Told::NewImage(entry)) => then = see(News::Image(entry)),
                Ok(Told::Closed) => {
                    self.drop_link();
                    return Err(Fault::Protocol(ClientError::EarlyEof));
                }
                Ok(_) => {}
                Err(fault) => {
                    self.drop_link();
                    return Err(fault);
                }
            }
        }
        let now = self.world.now();
        let mut last = Vec::new();
        if let Some(link) = &mut self.link {
            link.machine.cancel(now).map_err(Fault::Misuse)?;
            loop {
                match self.event() {
                    Ok(Told::NewImage(entry)) => last.push(entry),
                    Ok(Told::Cancelled | Told::Closed) => break,
                    Ok(_) => {}
                    Err(fault) => {
                        self.drop_link();
                        return Err(fault);
                    }
                }
            }
        }
        self.response_done();
        Ok(Some(last))
    }
}

impl ClientEnd for RefClient {
    fn list(&mut self) -> Result<Vec<Entry>, Failure> {
        let entries = self.list_with(false).map_err(|fault| fault.tell())?;
        self.response_done();
        Ok(entries)
    }

    fn fetch(
        &mut self,
        ask: &Ask,
        see: &mut dyn FnMut(Seen<'_>) -> Next,
    ) -> Result<Fetched, Failure> {
        self.try_fetch(ask, see).map_err(|fault| fault.tell())
    }

    fn cancel_nothing(&mut self, ask: &Ask, after: bool) -> Result<(), Failure> {
        if after {
            self.fetch(ask, &mut |_| Next::Go)?;
        }
        Ok(())
    }

    fn watch(
        &mut self,
        list: bool,
        see: &mut dyn FnMut(News) -> Then,
    ) -> Result<Option<Vec<Entry>>, Failure> {
        self.try_watch(list, see).map_err(|fault| fault.tell())
    }

    fn close(&mut self) {
        self.drop_link();
    }
}

fn own(event: Event<'_>) -> Told {
    match event {
        Event::Begin { count, .. } => Told::Begin(count),
        Event::Entry(entry) => Told::Entry(entry.into_owned()),
        Event::Image(image) => Told::Image(image),
        Event::Data(bytes) => Told::Data(bytes.to_vec()),
        Event::ImageEnd { image, verdict } => Told::ImageEnd(image, verdict),
        Event::NewImage(entry) => Told::NewImage(entry.into_owned()),
        Event::End { .. } => Told::End,
        Event::Cancelled { .. } => Told::Cancelled,
        _ => Told::Other,
    }
}
