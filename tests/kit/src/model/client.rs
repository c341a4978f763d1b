//! A client's connection. // Sections 9.1, 9.3 and 9.4

use std::collections::VecDeque;

use super::wire::{self, Entry, Fields, Image, Stop};
use super::{BATCH, CANCEL, GET_BY_ID, LIST, WATCH, header_of};

/// What a client reports. Requests are named by their type bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Event {
    /// The head of a response.
    Begin {
        request: u8,
        count: u32,
    },
    Entry(Entry),
    /// The head of a packet.
    Image(Image),
    /// The rest of it, as sent.
    Body {
        image: Image,
        bytes: Vec<u8>,
    },
    NewImage(Entry),
    End {
        request: u8,
    },
    Cancelled {
        request: u8,
    },
}

/// Why there is no event.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Failure {
    /// More bytes are needed.
    Incomplete,
    /// R1
    Peer,
    /// JTPE
    Server { code: u8, message: String },
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Failure {
        match stop {
            Stop::Cut => Failure::Incomplete,
            Stop::Bad(_) => Failure::Peer,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cancel {
    No,
    Wanted,
    Shown,
}

/// A request that is not completely answered.
#[derive(Debug, Clone)]
struct Request {
    code: u8,
    keep_alive: bool,
    /// Those of GET_BY_ID without those that have come. // R1
    ids: Vec<u64>,
    /// All of it is shown.
    is_sent: bool,
    cancel: Cancel,
    /// Only JTPC is due.
    is_complete: bool,
}

/// What the next bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Boundary,
    Count,
    Entries(u32),
    Event,
    Packets(u32),
    Body(u32, Image),
    Error,
}

/// Follows a client: its application's requests, the bytes that it shows to be sent, and what it reports of those that
/// it receives.
#[derive(Debug, Clone)]
pub struct Client {
    /// The server is known to follow RFC.md. // R7
    pipeline: bool,
    requests: VecDeque<Request>,
    /// The number of those of which bytes were shown.
    begun: usize,
    /// The rest of the request or CANCEL that is being shown.
    due: Vec<u8>,
    input: Vec<u8>,
    state: State,
    was_cancelled: bool,
    /// No request may follow. // S2
    is_last: bool,
    /// Nothing is sent any more.
    is_over: bool,
}

impl Client {
    /// A connection of a client with this setting. // R7
    #[must_use]
    pub fn new(pipeline: bool) -> Client {
        Client {
            pipeline,
            requests: VecDeque::new(),
            begun: 0,
            due: Vec::new(),
            input: Vec::new(),
            state: State::Boundary,
            was_cancelled: false,
            is_last: false,
            is_over: false,
        }
    }

    /// Whether the application may make another request now. // S2 N3 R7
    #[must_use]
    pub fn may_request(&self) -> bool {
        let last = self.requests.back();
        let watches = last.is_some_and(|last| last.code == WATCH && last.cancel == Cancel::No);
        !self.is_over && !self.is_last && !watches && (self.pipeline || !self.was_cancelled)
    }

    /// The application makes a request.
    pub fn request(&mut self, code: u8, keep_alive: bool, ids: &[u64]) {
        self.is_last = !keep_alive && code != WATCH;
        self.requests.push_back(Request {
            code,
            keep_alive: !self.is_last,
            ids: ids.to_vec(),
            is_sent: false,
            cancel: Cancel::No,
            is_complete: false,
        });
    }

    /// Whether the application may cancel the request that was sent last. // C1 C4 R7
    #[must_use]
    pub fn may_cancel(&self) -> bool {
        let at = self.begun.saturating_sub(1);
        let can = |request: &Request| request.cancel == Cancel::No && request.keep_alive;
        let is_last = at + 1 == self.requests.len();
        !self.is_over && self.requests.get(at).is_some_and(can) && (is_last || self.pipeline)
    }

    /// The application cancels.
    pub fn cancel(&mut self) {
        self.was_cancelled = true;
        self.requests[self.begun.saturating_sub(1)].cancel = Cancel::Wanted;
    }

    /// The client shows further bytes to send.
    ///
    /// # Panics
    ///
    /// If they are not those of its requests, or may not follow what was shown.
    pub fn shown(&mut self, mut bytes: &[u8]) {
        while let Some(first) = bytes.first() {
            if self.due.is_empty() {
                self.begin(*first);
            }
            let count = bytes.len().min(self.due.len());
            assert!(bytes[..count] == self.due[..count], "{bytes:?} in {self:?}");
            self.due.drain(..count);
            bytes = &bytes[count..];
            self.requests[self.begun - 1].is_sent |= self.due.is_empty();
        }
    }

    fn begin(&mut self, first: u8) {
        let before = self.begun.checked_sub(1);
        if first == CANCEL {
            let request = &mut self.requests[before.expect("C4: a request before CANCEL")];
            assert_eq!(request.cancel, Cancel::Wanted, "C1");
            request.cancel = Cancel::Shown;
            self.due = vec![CANCEL, 0];
            return;
        }
        let before = before.map(|at| &self.requests[at]);
        assert!(
            before.is_none_or(|before| self.may_follow(before)),
            "R7: behind {before:?}"
        );
        let request = self.requests.get(self.begun).expect("a request");
        let keep_alive = request.keep_alive && request.code != WATCH; // W7
        self.due = wire::request(request.code, keep_alive, &request.ids);
        self.begun += 1;
    }

    /// Whether a request may be sent behind this one, which is not completely answered: the table of section 9.3.
    fn may_follow(&self, before: &Request) -> bool {
        let is_open = match before.code {
            WATCH => false,
            GET_BY_ID => self.pipeline,
            _ => before.keep_alive,
        };
        is_open && before.cancel == Cancel::No
    }

    /// Whether the client may show further bytes now.
    #[must_use]
    pub fn has_more(&self) -> bool {
        let before = self.begun.checked_sub(1).map(|at| &self.requests[at]);
        let is_cancelled = before.is_some_and(|before| before.cancel == Cancel::Wanted);
        let may_follow = before.is_none_or(|before| self.may_follow(before));
        let may_begin = self.begun < self.requests.len() && may_follow;
        !self.is_over && (!self.due.is_empty() || is_cancelled || may_begin)
    }

    /// The client receives bytes.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// What it reports next.
    ///
    /// # Errors
    ///
    /// [`Failure`]
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Event, Failure> {
        loop {
            match self.step() {
                Ok(None) => {}
                Ok(Some(event)) => return Ok(event),
                Err(failure) => {
                    self.is_over |= failure != Failure::Incomplete;
                    return Err(failure);
                }
            }
        }
    }

    /// The reaction to an input, a row of the tables.
    fn step(&mut self) -> Result<Option<Event>, Failure> {
        let mut fields = Fields(&self.input);
        let is_header = match self.state {
            State::Boundary => true,
            State::Packets(left) => left > 0 && self.input.first() == Some(&b'J'), // S12
            _ => false,
        };
        let (state, event) = if is_header {
            let header = fields.header()?;
            // A response is due as soon as the whole request is sent.
            let due = self.requests.front().filter(|request| request.is_sent);
            let at_boundary = self.state == State::Boundary;
            match (&header, due) {
                (b"JTPE", _) => (State::Error, None),
                (b"JTPC", Some(due)) if due.cancel == Cancel::Shown => {
                    let request = due.code;
                    (State::Boundary, Some(Event::Cancelled { request }))
                }
                (_, Some(due))
                    if at_boundary && !due.is_complete && header == header_of(due.code) =>
                {
                    let watches = due.code == WATCH;
                    (if watches { State::Event } else { State::Count }, None)
                }
                _ => return Err(Failure::Peer),
            }
        } else {
            self.field(&mut fields)?
        };
        let used = self.input.len() - fields.0.len();
        self.input.drain(..used);
        self.state = state;
        match (&event, self.requests.front_mut()) {
            // The server had finished before it saw CANCEL, which is answered next. // C3
            (Some(Event::End { .. }), Some(request)) if request.cancel != Cancel::No => {
                request.is_complete = true;
            }
            (Some(Event::End { .. } | Event::Cancelled { .. }), _) => {
                self.requests.pop_front();
                self.begun -= 1;
            }
            (Some(Event::Image(image)), Some(request)) if request.code == GET_BY_ID => {
                let at = request.ids.iter().position(|id| *id == image.id);
                request.ids.remove(at.ok_or(Failure::Peer)?); // R1
            }
            (Some(Event::Image(image)), Some(request))
                if request.code == BATCH && request.ids.contains(&image.id) =>
            {
                return Err(Failure::Peer); // R1
            }
            _ => {}
        }
        Ok(event)
    }

    /// Where the next bytes belong to a field, whatever they are.
    fn field(&self, fields: &mut Fields<'_>) -> Result<(State, Option<Event>), Failure> {
        let request = self.requests.front().map_or(LIST, |request| request.code);
        Ok(match self.state {
            State::Count => {
                let count = match request {
                    GET_BY_ID => u32::from(fields.byte()?),
                    _ => fields.varint()?,
                };
                if request == GET_BY_ID && count as usize > self.requests[0].ids.len() {
                    return Err(Failure::Peer); // R1
                }
                let state = match request {
                    LIST => State::Entries(count),
                    _ => State::Packets(count),
                };
                (state, Some(Event::Begin { request, count }))
            }
            State::Entries(0) | State::Packets(0) => {
                (State::Boundary, Some(Event::End { request }))
            }
            State::Entries(left) => (
                State::Entries(left - 1),
                Some(Event::Entry(fields.entry()?)),
            ),
            State::Event => (State::Boundary, Some(Event::NewImage(fields.entry()?))),
            State::Packets(left) => {
                let image = fields.packet()?;
                (State::Body(left - 1, image), Some(Event::Image(image)))
            }
            State::Body(left, image) => {
                let bytes = fields.take(image.length as usize)?.to_vec();
                (State::Packets(left), Some(Event::Body { image, bytes }))
            }
            State::Error => {
                let code = fields.byte()?;
                if !(1..=5).contains(&code) {
                    return Err(Failure::Peer);
                }
                let length = fields.number(2)? as usize;
                let message = String::from_utf8_lossy(fields.take(length)?).into_owned();
                return Err(Failure::Server { code, message });
            }
            State::Boundary => return Err(Failure::Peer), // Not reached: a header is there.
        })
    }

    /// The stream of the server ends. Returns whether nothing is missing. // R1 R6
    pub fn end(&mut self) -> bool {
        self.is_over = true;
        let mut rest = self.clone();
        while rest.next().is_ok() {}
        rest.is_idle()
    }

    /// Whether nothing is due, and no frame has come in part.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.requests.is_empty() && self.input.is_empty() && self.state == State::Boundary
    }

    /// The connection is given up.
    pub fn abandon(&mut self) {
        self.is_over = true;
    }

    /// The number of requests that are not completely answered.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.requests.len()
    }

    /// The request that is answered next, if it is sent.
    #[must_use]
    pub fn asked(&self) -> Option<u8> {
        let first = self.requests.front().filter(|first| first.is_sent);
        first.map(|first| first.code)
    }

    /// Whether a response or a JTPC is due. During WATCH none is.
    #[must_use]
    pub fn is_due(&self) -> bool {
        let watches = |request: &Request| request.code == WATCH && request.cancel == Cancel::No;
        !self.requests.iter().all(watches)
    }
}
