//! A client's connection, followed by the model: each call is checked.

use jtp_core::client::{
    CatalogEntry, ClientConfig, ClientConnection, ClientError, Event, Request, ResponseKind,
};
use jtp_core::wire::request::{MAX_GET, RequestKind};
use jtp_core::{BodyReceiver, Image, ImageFault, ImageId, Misuse, Time, Verified, nfc};
use jtp_kit::model::{self, Failure};

use super::store::modelled;

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) machine: ClientConnection,
    pub(crate) model: model::Client,
    config: ClientConfig,
    /// Images are left undecoded.
    pub(crate) undecoded: bool,
    /// The output that is shown and not sent.
    pub(crate) offered: Vec<u8>,
    /// The last event, without its data.
    pub(crate) last: Option<Event<'static>>,
    /// The data of the current image.
    pub(crate) data: Vec<u8>,
    /// Nothing is received any more.
    pub(crate) has_ended: bool,
}

/// The type byte of the request that this response answers.
fn code(kind: ResponseKind) -> u8 {
    let answers = |request: &RequestKind| {
        Request::of(*request, Vec::new()).is_some_and(|request| request.kind() == kind)
    };
    let request = RequestKind::ALL.into_iter().find(answers);
    request.expect("a response answers a request").code()
}

/// An entry as the client reports it. // W6
fn entry(entry: &CatalogEntry<'_>) -> model::Entry {
    model::Entry {
        name: entry.name.to_string(),
        image: modelled(entry.image()),
    }
}

impl Client {
    pub(crate) fn new(config: ClientConfig, now: Time) -> Client {
        Client {
            machine: ClientConnection::new(config, now),
            model: model::Client::new(config.pipeline()),
            config,
            undecoded: false,
            offered: Vec::new(),
            last: None,
            data: Vec::new(),
            has_ended: false,
        }
    }

    /// Makes a request if one may be made.
    pub(crate) fn request(&mut self, request: &Request, keep_alive: bool, now: Time) -> bool {
        let may = self.model.may_request();
        assert_eq!(self.machine.is_reusable(), may, "R7: {:?}", self.model);
        let done = self.machine.request(request.clone(), keep_alive, now);
        assert_eq!(done.is_ok(), may, "{done:?}");
        if may {
            let ids: Vec<u64> = request.ids().iter().map(|id| id.0).collect();
            self.model
                .request(request.wire_kind().code(), keep_alive, &ids);
        }
        self.check();
        may
    }

    /// Cancels if the last request can be.
    pub(crate) fn cancel(&mut self, now: Time) -> bool {
        let may = self.model.may_cancel();
        let done = self.machine.cancel(now);
        assert_eq!(done.is_ok(), may, "R7: {done:?}");
        if may {
            self.model.cancel();
        }
        self.check();
        may
    }

    /// Sends at most `max` bytes of what is offered.
    pub(crate) fn send(&mut self, max: usize, now: Time) -> Vec<u8> {
        let count = self.offered.len().min(max);
        self.machine.transmitted(count, now).unwrap();
        let sent = self.offered.drain(..count).collect();
        self.check();
        sent
    }

    /// Passes bytes of the server, up to the next event. Returns how many were used, and whether to go on.
    pub(crate) fn receive(
        &mut self,
        input: &[u8],
        now: Time,
    ) -> (usize, Option<Option<model::Event>>) {
        let result = self.machine.receive(input, now);
        let mut begun = None;
        let before = self.data.len();
        let (used, event) = match result {
            Ok(received) => {
                let used = received.used;
                self.last = received.event.clone().map(Event::into_owned);
                self.model
                    .receive(if self.has_ended { &[] } else { &input[..used] });
                let event = received.event.map(|event| match event {
                    Event::Data(data) => {
                        assert!(!data.is_empty());
                        self.data.extend_from_slice(data);
                        None
                    }
                    event => {
                        let expected = self.model.next().expect("an event");
                        begun = check_event(&self.config, &mut self.data, event, &expected);
                        Some(expected)
                    }
                });
                if event.is_none() {
                    assert_eq!(
                        self.model.next(),
                        Err(Failure::Incomplete),
                        "{:?}",
                        self.machine
                    );
                }
                (used, event)
            }
            Err(fault) if self.has_ended => {
                assert_eq!(self.machine.fault(), Some(&fault), "errors are sticky");
                (0, None)
            }
            Err(fault) => {
                self.has_ended = true;
                self.model.receive(input);
                match (self.model.next(), &fault) {
                    (Err(Failure::Peer), ClientError::Peer(_)) => {}
                    (Err(Failure::Server { code, message }), ClientError::Server(error)) => {
                        assert_eq!((error.code.code(), &error.message), (code, &message));
                    }
                    (expected, _) => panic!("{fault:?}, expected: {expected:?}"),
                }
                (0, None)
            }
        };
        if event == Some(None) {
            assert_eq!(self.machine.data(input), &self.data[before..]);
        }
        if begun.is_some_and(|_| self.undecoded) {
            self.machine.leave_undecoded().unwrap();
        } else if begun.is_none() && !self.has_ended {
            assert_eq!(self.machine.leave_undecoded(), Err(Misuse::NoImageBegun));
        }
        self.check();
        (used, event)
    }

    /// Passes bytes of the server until they are used, and returns the events.
    pub(crate) fn receive_all(&mut self, mut input: &[u8], now: Time) -> Vec<model::Event> {
        let mut events = Vec::new();
        while let (used, Some(event)) = self.receive(input, now) {
            events.extend(event);
            input = &input[used..];
        }
        events
    }

    /// The stream of the server ends.
    pub(crate) fn end(&mut self, now: Time) {
        let was_over = self.machine.fault().is_some();
        let is_complete = self.has_ended || self.model.end();
        let result = self.machine.receive_eof(now);
        assert_eq!(result.is_ok(), is_complete && !was_over, "{:?}", self.model);
        self.has_ended = true;
        self.check();
    }

    pub(crate) fn advance_time(&mut self, now: Time) -> bool {
        let was_over = self.machine.fault().is_some();
        let result = self.machine.handle_timeout(now);
        if result.is_err() {
            self.has_ended = true;
            self.model.abandon();
        }
        assert!(self.machine.deadline().is_none_or(|at| at > now));
        self.check();
        result.is_err() && !was_over
    }

    /// Calls that do not fit the state return an error and change nothing.
    pub(crate) fn misuse(&mut self, now: Time) {
        let before = format!("{:?}", self.machine);
        let too_many = Request::GetById(vec![ImageId(0); MAX_GET + 1]);
        assert!(self.machine.request(too_many, true, now).is_err());
        // After the end a write may have been in progress.
        let excess = self.machine.transmitted(self.offered.len() + 1, now);
        assert_eq!(excess.is_err(), !self.has_ended);
        assert_eq!(
            format!("{:?}", self.machine),
            before,
            "misuse changed the state"
        );
    }

    /// What holds after every call.
    fn check(&mut self) {
        let machine = &self.machine;
        let output = machine.transmit();
        // Two windows: the one being sent, and the refill, which starts when half of it is left.
        assert!(output.len() <= 40 * 1024, "too much buffered output");
        if self.has_ended {
            assert!(output.is_empty() && machine.deadline().is_none() && !machine.is_reusable());
            self.offered.clear();
        } else {
            assert!(
                output.starts_with(&self.offered),
                "offered output was withdrawn"
            );
            self.model.shown(&output[self.offered.len()..]);
            self.offered = output.to_vec();
            assert_eq!(machine.outstanding(), self.model.outstanding());
            // What may be sent is offered at once, a window at a time. // S1 R7
            assert!(
                output.len() >= 8 * 1024 || !self.model.has_more(),
                "{:?}",
                self.model
            );
            let is_idle = self.model.is_idle() && output.is_empty();
            assert_eq!(machine.is_idle(), is_idle, "{:?}", self.model);
        }
        if machine.fault().is_some() {
            assert!(self.has_ended && !machine.is_idle());
        }
    }
}

/// Compares an event, and returns the image if one begins.
fn check_event(
    config: &ClientConfig,
    data: &mut Vec<u8>,
    event: Event<'_>,
    expected: &model::Event,
) -> Option<Image> {
    use model::Event as Expected;
    assert_eq!(event.clone().into_owned(), event);
    let same = match (event, expected) {
        (
            Event::Begin { kind, count },
            Expected::Begin {
                request,
                count: expected,
            },
        ) => (code(kind), count) == (*request, *expected),
        (Event::Entry(received), Expected::Entry(expected))
        | (Event::NewImage(received), Expected::NewImage(expected)) => {
            let name = nfc(&expected.name).into_owned();
            entry(&received)
                == model::Entry {
                    name,
                    image: expected.image,
                }
        }
        (Event::Image(image), Expected::Image(expected)) => {
            data.clear();
            assert_eq!(modelled(image), *expected);
            return Some(image);
        }
        (
            Event::PacketEnd { image },
            Expected::Body {
                image: expected,
                bytes,
            },
        ) => modelled(image) == *expected && data == bytes,
        (
            Event::ImageEnd { image, verdict },
            Expected::Body {
                image: expected,
                bytes,
            },
        ) => {
            check_verdict(config, image, bytes, data, verdict);
            modelled(image) == *expected
        }
        (Event::End { kind }, Expected::End { request })
        | (Event::Cancelled { kind }, Expected::Cancelled { request }) => code(kind) == *request,
        (event, expected) => panic!("{event:?}, expected: {expected:?}"),
    };
    assert!(same, "expected: {expected:?}");
    None
}

/// The verdict is that of the ID, of the limit, and of a receiver that gets the body as a whole. // R2 R4
fn check_verdict(
    config: &ClientConfig,
    image: Image,
    bytes: &[u8],
    data: &[u8],
    verdict: Result<Verified, ImageFault>,
) {
    assert!(data.len() as u64 <= config.max_image_size(), "R4");
    let (mut whole, mut rest) = (Vec::new(), bytes);
    let mut receiver = BodyReceiver::new(config.max_image_size(), config.max_window());
    receiver.begin(image);
    while !rest.is_empty() {
        let received = receiver.receive(rest);
        whole.extend_from_slice(received.data);
        rest = &rest[received.used..];
    }
    assert_eq!(
        receiver.verdict().map(|whole| whole.is_ok()),
        Some(verdict.is_ok())
    );
    if !image.flags.is_compressed() && !image.flags.is_encrypted() {
        let fits = bytes.len() as u64 <= config.max_image_size();
        assert_eq!(
            verdict.is_ok(),
            fits && ImageId::of(bytes) == image.id,
            "R2"
        );
    }
    if let Ok(verified) = verdict {
        assert_eq!(
            (verified.image(), verified.id()),
            (image, ImageId::of(data)),
            "R2"
        );
        assert!(whole == data);
    }
}
