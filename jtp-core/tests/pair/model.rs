//! A model of the requests of a connection. It sees the bytes that the client sends, the requests that the server
//! receives and the events that the client reports, and is independent of both state machines.

use std::collections::VecDeque;
use std::rc::Rc;

use jtp_core::client::{Event, Request, ResponseKind};
use jtp_core::wire::Decoded;
use jtp_core::wire::request::{self, CANCEL, RequestHead, RequestKind};
use jtp_core::{Image, ImageId};

use super::store::{Snapshot, Store};

/// A request and its progress.
#[derive(Debug)]
pub(crate) struct RequestState {
    request: Request,
    keep_alive: bool,
    /// End offset of its CANCEL in the client's stream, once that was sent.
    cancel_at: Option<u64>,
    /// The snapshot that the response was computed from. // S3
    snapshot: Option<Rc<Snapshot>>,
    /// For WATCH: its history, and the position of its first event there. // N1 N5
    history: usize,
    from: usize,
    /// The images in the order of their packets: as listed, and once opened, as opened.
    packets: Vec<Image>,
    /// Number of images opened.
    opened: usize,
    started: bool,
    ended: bool,
    /// Number of entries, images or events delivered.
    delivered: usize,
    image: Option<Image>,
    body: Vec<u8>,
}

impl RequestState {
    fn head(&self) -> RequestHead {
        let count = |ids: &[ImageId]| u32::try_from(ids.len()).unwrap();
        let kind = match &self.request {
            Request::List => RequestKind::List,
            Request::GetById(ids) => RequestKind::GetById {
                count: u8::try_from(ids.len()).unwrap(),
            },
            Request::Batch(have) => RequestKind::Batch {
                have: count(have.as_slice()),
            },
            Request::ListAndGet => RequestKind::ListAndGet,
            Request::Watch => RequestKind::Watch,
            other => panic!("{other:?}"),
        };
        RequestHead::new(kind, self.keep_alive && kind != RequestKind::Watch)
    }

    fn bytes(&self) -> VecDeque<u8> {
        let mut out = Vec::new();
        self.head().encode(&mut out);
        match &self.request {
            Request::GetById(ids) => request::encode_ids(ids, &mut out),
            Request::Batch(have) => request::encode_ids(have.as_slice(), &mut out),
            _ => {}
        }
        out.into()
    }

    fn is_watch(&self) -> bool {
        self.request == Request::Watch
    }
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    pipeline: bool,
    requests: Vec<RequestState>,
    /// Index of the first request not completely answered.
    front: usize,
    /// Number of requests received by the server.
    received: usize,
    /// Number of requests that the client has started to send.
    started: usize,
    /// Bytes of the current request or CANCEL still to be sent.
    due: VecDeque<u8>,
    /// Bytes sent by the client, and consumed by the server.
    sent: u64,
    consumed: u64,
    /// Number of CANCELs accepted by the client, sent, and answered.
    accepted_cancels: usize,
    sent_cancels: usize,
    answered_cancels: usize,
    /// The history and first event of a WATCH that directly follows the LIST before it. // N5
    watch_from: Option<(usize, usize)>,
}

impl Model {
    pub(crate) fn new(pipeline: bool) -> Model {
        Model {
            pipeline,
            ..Model::default()
        }
    }

    pub(crate) fn request(&mut self, request: Request, keep_alive: bool) {
        self.requests.push(RequestState {
            request,
            keep_alive,
            cancel_at: None,
            snapshot: None,
            history: 0,
            from: 0,
            packets: Vec::new(),
            opened: 0,
            started: false,
            ended: false,
            delivered: 0,
            image: None,
            body: Vec::new(),
        });
    }

    pub(crate) fn cancel_accepted(&mut self) {
        self.accepted_cancels += 1;
    }

    /// Number of requests not completely answered.
    pub(crate) fn outstanding(&self) -> usize {
        self.requests.len() - self.front
    }

    /// Checks the bytes that the client sends: the requests in order, each whole, with CANCELs between them.
    pub(crate) fn sent(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.sent += 1;
            if self.due.is_empty() {
                self.begin_frame(byte);
            }
            assert_eq!(self.due.pop_front(), Some(byte), "not the requested bytes");
        }
    }

    fn begin_frame(&mut self, byte: u8) {
        let before = self.started.checked_sub(1);
        if byte == CANCEL {
            let target = &mut self.requests[before.expect("CANCEL before any request")];
            assert!(
                target.cancel_at.is_none(),
                "C1: two CANCELs for one request"
            );
            assert!(target.keep_alive || target.is_watch(), "C4");
            target.cancel_at = Some(self.sent + 1);
            self.sent_cancels += 1;
            self.due = [CANCEL, 0].into();
            return;
        }
        if let Some(before) = before {
            let open = self.front <= before;
            let last = &self.requests[before];
            assert!(
                last.keep_alive || last.is_watch(),
                "S2: a request after the last one"
            );
            assert!(!(open && last.is_watch()) || last.cancel_at.is_some(), "N3");
            if !self.pipeline {
                let alone = matches!(last.request, Request::GetById(_) | Request::Watch);
                assert!(!(open && alone) && last.cancel_at.is_none(), "R7");
            }
        }
        self.due = self.requests[self.started].bytes();
        self.started += 1;
    }

    /// The server consumed bytes. `stopped` is called if they contain the CANCEL of the current response.
    pub(crate) fn consumed(&mut self, count: usize, stopped: impl Fn() -> bool) {
        let before = self.consumed;
        self.consumed += count as u64;
        assert!(
            self.consumed <= self.sent,
            "consumed bytes that were not sent"
        );
        let cancels = |at: u64| before < at && at <= self.consumed;
        if self.received > 0
            && self.requests[self.received - 1]
                .cancel_at
                .is_some_and(cancels)
        {
            assert!(stopped(), "C2: more packets after CANCEL");
        }
    }

    /// The server reports a request head.
    pub(crate) fn head_received(&mut self, head: RequestHead) {
        assert!(self.received < self.started, "a request that was not sent");
        assert_eq!(self.requests[self.received].head(), head);
        self.received += 1;
    }

    /// The server answers the request from this snapshot; `rest` is its unconsumed input.
    pub(crate) fn accept(&mut self, snapshot: Rc<Snapshot>, rest: &[u8]) {
        let follows = match RequestHead::decode(rest) {
            Ok(Decoded::Complete { value, .. }) => value.kind == RequestKind::Watch,
            _ => false,
        };
        let request = &mut self.requests[self.received - 1];
        let direct = request.cancel_at.is_none_or(|at| at > self.consumed);
        let watch_from = self.watch_from.take();
        request.packets = match &request.request {
            Request::GetById(ids) => ids.iter().filter_map(|id| snapshot.get(*id)).collect(),
            Request::Batch(have) => {
                let missing = |(_, image): &&(String, Image)| !have.contains(image.id);
                let images = snapshot.entries.iter().filter(missing);
                images.map(|(_, image)| *image).collect()
            }
            Request::ListAndGet => snapshot.entries.iter().map(|(_, image)| *image).collect(),
            Request::List => {
                if follows && direct && request.keep_alive {
                    self.watch_from = Some((snapshot.history, snapshot.events));
                }
                Vec::new()
            }
            Request::Watch => {
                // A LIST of another history does not determine the first event.
                let watch_from = watch_from.filter(|(history, _)| *history == snapshot.history);
                request.history = snapshot.history;
                request.from = watch_from.map_or(snapshot.events, |(_, events)| events);
                Vec::new()
            }
            other => panic!("the model does not know the answer to {other:?}"),
        };
        request.snapshot = Some(snapshot);
    }

    /// The server opens the next image. Its packet must describe the opened variant. // S6
    pub(crate) fn open(&mut self, listed: Image, opened: Image) {
        let request = &mut self.requests[self.received - 1];
        let next = &mut request.packets[request.opened];
        assert_eq!(*next, listed, "S5 S7 S8");
        *next = opened;
        request.opened += 1;
    }

    /// Checks an event of the client.
    pub(crate) fn event(&mut self, store: &Store, event: Event<'_>) {
        let request = self
            .requests
            .get_mut(self.front)
            .expect("an event without a request");
        let request_kind = request.request.kind();
        let snapshot = request
            .snapshot
            .as_ref()
            .expect("a response before the server accepted the request");
        match event {
            Event::Begin { kind, count } => {
                assert!(
                    !request.started && kind == request_kind,
                    "a second response, or one of another kind"
                );
                request.started = true;
                let expected = match kind {
                    ResponseKind::List => snapshot.entries.len(),
                    _ => request.packets.len(),
                };
                assert_eq!(count as usize, expected, "wrong count");
            }
            Event::Entry(entry) => {
                let (name, image) = &snapshot.entries[request.delivered];
                assert_eq!((&*entry.name, entry.id), (name.as_str(), image.id));
                assert_eq!(
                    (entry.flags, entry.length),
                    (image.flags, image.length),
                    "S6"
                );
                request.delivered += 1;
            }
            Event::Image(image) => {
                assert_eq!(request.image, None, "an image inside another");
                assert_eq!(image, request.packets[request.delivered], "S5 S7 S8");
                request.image = Some(image);
                request.body.clear();
            }
            Event::Data(data) => {
                assert!(!data.is_empty() && request.image.is_some());
                request.body.extend_from_slice(data);
            }
            Event::ImageEnd { image, verdict } => {
                assert_eq!(request.image.take(), Some(image));
                assert_eq!(verdict.map(|verified| verified.image()), Ok(image));
                assert!(request.body == store.raw(image.id), "wrong bytes");
                request.delivered += 1;
            }
            Event::PacketEnd { image } => {
                assert_eq!(request.image.take(), Some(image));
                assert!(request.body == store.wire(image), "wrong bytes");
                request.delivered += 1;
            }
            Event::NewImage(entry) => {
                assert!(request.is_watch());
                let (name, image) =
                    &store.history(request.history)[request.from + request.delivered];
                assert_eq!((&*entry.name, entry.id), (name.as_str(), image.id), "N1 N2");
                assert_eq!(
                    (entry.flags, entry.length),
                    (image.flags, image.length),
                    "S6"
                );
                request.delivered += 1;
            }
            Event::End { kind } => {
                assert!(request.started && !request.ended && kind == request_kind);
                let expected = match kind {
                    ResponseKind::List => snapshot.entries.len(),
                    _ => request.packets.len(),
                };
                assert_eq!(request.delivered, expected, "ended early");
                request.ended = true;
            }
            Event::Cancelled { kind } => {
                assert!(request.cancel_at.is_some(), "JTPC without CANCEL");
                assert_eq!(kind, request_kind);
                assert!(
                    request.started || request.is_watch(),
                    "C2: the header must come first"
                );
                assert!(
                    kind != ResponseKind::List || request.ended,
                    "C2: the catalog must come first"
                );
                assert!(request.image.is_none(), "C2: inside a packet");
                self.answered_cancels += 1;
            }
            other => panic!("{other:?}"),
        }
    }

    /// Checks the number of outstanding requests that the client reports after each event.
    pub(crate) fn check_outstanding(&mut self, count: usize) {
        while self.outstanding() > count {
            let request = &self.requests[self.front];
            assert!(
                request.ended || request.cancel_at.is_some(),
                "dropped without an answer"
            );
            self.front += 1;
        }
        assert_eq!(self.outstanding(), count, "outstanding requests increased");
    }

    /// Whether the server may have seen the first byte of a CANCEL for its current response.
    pub(crate) fn is_cancel_started(&self) -> bool {
        let request = self.received.checked_sub(1).map(|at| &self.requests[at]);
        request.is_some_and(|request| request.cancel_at.is_some_and(|at| at <= self.consumed + 1))
    }

    /// Checks an idle connection without faults: each request was answered exactly once.
    pub(crate) fn check_complete(&self, store: &Store) {
        assert_eq!(
            self.accepted_cancels, self.sent_cancels,
            "a CANCEL was not sent"
        );
        assert_eq!(self.sent_cancels, self.answered_cancels, "C1: {self:?}");
        assert_eq!(self.consumed, self.sent, "unconsumed input");
        match self.requests.get(self.front) {
            None => {}
            Some(last) => {
                assert!(
                    last.is_watch() && last.cancel_at.is_none(),
                    "not answered: {last:?}"
                );
                assert_eq!(self.outstanding(), 1);
                assert_eq!(
                    last.from + last.delivered,
                    store.history(last.history).len(),
                    "N2: events missed"
                );
            }
        }
    }

    /// Checks a connection that ended in a way that still answers every accepted request. // T5 S16
    pub(crate) fn check_accepted(&self, truncated: bool) {
        let end = self.received - usize::from(truncated);
        let open = self.requests.get(self.front..end).unwrap_or_default();
        let cancelled =
            |request: &&RequestState| request.cancel_at.is_some_and(|at| at <= self.consumed);
        let first = open
            .iter()
            .find(|request| !request.is_watch() && !request.ended);
        assert!(first.is_none(), "T5 S16: not answered: {first:?}");
        assert!(!open.iter().any(|request| cancelled(&request)), "C1");
    }
}
