//! What must come of a connection's requests: a model that reads what the client puts on the wire, what the
//! server was shown and what the client was told, and knows nothing of either machine.

use std::collections::VecDeque;
use std::rc::Rc;

use jtp_core::client::{Event, Request, ResponseKind};
use jtp_core::wire::Decoded;
use jtp_core::wire::request::{self, CANCEL, RequestHead, RequestKind};
use jtp_core::{Image, ImageId};

use super::store::{Shown, Store};

/// A request, and what became of it.
#[derive(Debug)]
pub(crate) struct Asked {
    request: Request,
    keep_alive: bool,
    /// Up to where in the client's stream its CANCEL goes, once that was sent.
    cancel_at: Option<u64>,
    /// The snapshot that the server answered from. // S3
    shown: Option<Rc<Shown>>,
    /// For WATCH: the place in the history from where on it is told. // N1 N5
    from: usize,
    packets: Vec<Image>,
    begun: bool,
    ended: bool,
    /// How many entries, images or events were told.
    told: usize,
    image: Option<Image>,
    body: Vec<u8>,
}

impl Asked {
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
    asked: Vec<Asked>,
    /// The first one that is not wholly answered.
    front: usize,
    /// How many the server was shown.
    accepted: usize,
    /// How many have begun to be sent.
    begun: usize,
    /// What of the one being sent, or of a CANCEL, is still to come.
    due: VecDeque<u8>,
    /// Lengths of what the client sent, and of what the server used of it.
    sent: u64,
    used: u64,
    /// CANCELs that the client agreed to, sent, and was told the answer of.
    agreed: usize,
    sent_cancels: usize,
    answered_cancels: usize,
    /// Where the WATCH begins that directly follows the LIST before it. // N5
    watch_from: Option<usize>,
}

impl Model {
    pub(crate) fn new(pipeline: bool) -> Model {
        Model {
            pipeline,
            ..Model::default()
        }
    }

    pub(crate) fn asks(&mut self, request: Request, keep_alive: bool) {
        self.asked.push(Asked {
            request,
            keep_alive,
            cancel_at: None,
            shown: None,
            from: 0,
            packets: Vec::new(),
            begun: false,
            ended: false,
            told: 0,
            image: None,
            body: Vec::new(),
        });
    }

    pub(crate) fn agreed_to_cancel(&mut self) {
        self.agreed += 1;
    }

    /// Requests not wholly answered.
    pub(crate) fn outstanding(&self) -> usize {
        self.asked.len() - self.front
    }

    /// The client put bytes on the wire: the requests in order, each whole, and CANCELs behind them.
    pub(crate) fn sends(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.sent += 1;
            if self.due.is_empty() {
                self.begins(byte);
            }
            assert_eq!(self.due.pop_front(), Some(byte), "not what was asked");
        }
    }

    fn begins(&mut self, byte: u8) {
        let before = self.begun.checked_sub(1);
        if byte == CANCEL {
            let target = &mut self.asked[before.expect("CANCEL before any request")];
            assert!(
                target.cancel_at.is_none(),
                "two CANCELs for one request: C1"
            );
            assert!(target.keep_alive || target.is_watch(), "C4");
            target.cancel_at = Some(self.sent + 1);
            self.sent_cancels += 1;
            self.due = [CANCEL, 0].into();
            return;
        }
        if let Some(before) = before {
            let open = self.front <= before;
            let last = &self.asked[before];
            assert!(last.keep_alive || last.is_watch(), "S2: it was the last");
            assert!(!(open && last.is_watch()) || last.cancel_at.is_some(), "N3");
            if !self.pipeline {
                let alone = matches!(last.request, Request::GetById(_) | Request::Watch);
                assert!(!(open && alone) && last.cancel_at.is_none(), "R7");
            }
        }
        self.due = self.asked[self.begun].bytes();
        self.begun += 1;
    }

    /// The server used bytes; `stopped` is asked if among them was the CANCEL of a response under way.
    pub(crate) fn used(&mut self, count: usize, stopped: impl Fn() -> bool) {
        let before = self.used;
        self.used += count as u64;
        assert!(self.used <= self.sent, "used what was never sent");
        let cancels = |at: u64| before < at && at <= self.used;
        if self.accepted > 0 && self.asked[self.accepted - 1].cancel_at.is_some_and(cancels) {
            assert!(stopped(), "C2: packets go on after CANCEL");
        }
    }

    /// The server has a request to decide on.
    pub(crate) fn requested(&mut self, head: RequestHead) {
        assert!(self.accepted < self.begun, "a request that was never sent");
        assert_eq!(self.asked[self.accepted].head(), head);
        self.accepted += 1;
    }

    /// The server answers it from this snapshot; `rest` is the input that it has and has not used.
    pub(crate) fn accepted(&mut self, shown: Rc<Shown>, rest: &[u8]) {
        let follows = match RequestHead::decode(rest) {
            Ok(Decoded::Complete { value, .. }) => value.kind == RequestKind::Watch,
            _ => false,
        };
        let asked = &mut self.asked[self.accepted - 1];
        let direct = asked.cancel_at.is_none_or(|at| at > self.used);
        let watch_from = self.watch_from.take();
        asked.packets = match &asked.request {
            Request::GetById(ids) => ids.iter().filter_map(|id| shown.get(*id)).collect(),
            Request::Batch(have) => {
                let missing = |(_, image): &&(String, Image)| !have.contains(image.id);
                let images = shown.entries.iter().filter(missing);
                images.map(|(_, image)| *image).collect()
            }
            Request::ListAndGet => shown.entries.iter().map(|(_, image)| *image).collect(),
            Request::List => {
                if follows && direct && asked.keep_alive {
                    self.watch_from = Some(shown.told);
                }
                Vec::new()
            }
            _ => {
                asked.from = watch_from.unwrap_or(shown.told);
                Vec::new()
            }
        };
        asked.shown = Some(shown);
    }

    /// The client is told something. `true` if that may be the last of the request.
    pub(crate) fn told(&mut self, store: &Store, event: Event<'_>) {
        let asked = self
            .asked
            .get_mut(self.front)
            .expect("an event, and nothing was asked");
        let kind_asked = asked.request.kind();
        let shown = asked
            .shown
            .as_ref()
            .expect("an answer before the server decided");
        match event {
            Event::Begin { kind, count } => {
                assert!(
                    !asked.begun && kind == kind_asked,
                    "answered twice, or another"
                );
                asked.begun = true;
                let expected = match kind {
                    ResponseKind::List => shown.entries.len(),
                    _ => asked.packets.len(),
                };
                assert_eq!(count as usize, expected, "the count");
            }
            Event::Entry(entry) => {
                let (name, image) = &shown.entries[asked.told];
                assert_eq!((&*entry.name, entry.id), (name.as_str(), image.id));
                assert_eq!(
                    (entry.flags, entry.length),
                    (image.flags, image.length),
                    "S6"
                );
                asked.told += 1;
            }
            Event::Image(image) => {
                assert_eq!(asked.image, None, "an image within another");
                assert_eq!(image, asked.packets[asked.told], "S5 S7 S8");
                asked.image = Some(image);
                asked.body.clear();
            }
            Event::Data(data) => {
                assert!(!data.is_empty() && asked.image.is_some());
                asked.body.extend_from_slice(data);
            }
            Event::ImageEnd { image, verdict } => {
                assert_eq!(asked.image.take(), Some(image));
                assert_eq!(verdict.map(|verified| verified.image()), Ok(image));
                assert!(asked.body == store.raw(image.id), "other bytes");
                asked.told += 1;
            }
            Event::PacketEnd { image } => {
                assert_eq!(asked.image.take(), Some(image));
                assert!(asked.body == store.wire(image), "other bytes");
                asked.told += 1;
            }
            Event::NewImage(entry) => {
                assert!(asked.is_watch());
                let (name, image) = &store.history[asked.from + asked.told];
                assert_eq!((&*entry.name, entry.id), (name.as_str(), image.id), "N1 N2");
                assert_eq!(
                    (entry.flags, entry.length),
                    (image.flags, image.length),
                    "S6"
                );
                asked.told += 1;
            }
            Event::End { kind } => {
                assert!(asked.begun && !asked.ended && kind == kind_asked);
                let expected = match kind {
                    ResponseKind::List => shown.entries.len(),
                    _ => asked.packets.len(),
                };
                assert_eq!(asked.told, expected, "ended short");
                asked.ended = true;
            }
            Event::Cancelled { kind } => {
                assert!(asked.cancel_at.is_some(), "JTPC without CANCEL");
                assert_eq!(kind, kind_asked);
                assert!(
                    asked.begun || asked.is_watch(),
                    "C2: the header comes first"
                );
                assert!(
                    kind != ResponseKind::List || asked.ended,
                    "C2: the catalog first"
                );
                assert!(asked.image.is_none(), "C2: inside a packet");
                self.answered_cancels += 1;
            }
            other => panic!("{other:?}"),
        }
    }

    /// After each event: how many requests the client says are not wholly answered.
    pub(crate) fn outstanding_is(&mut self, count: usize) {
        while self.outstanding() > count {
            let asked = &self.asked[self.front];
            assert!(
                asked.ended || asked.cancel_at.is_some(),
                "gone without an answer"
            );
            self.front += 1;
        }
        assert_eq!(self.outstanding(), count, "requests came back");
    }

    /// Whether the server can have seen the first byte of a CANCEL for what it answers now.
    pub(crate) fn cancel_begun(&self) -> bool {
        let asked = self.accepted.checked_sub(1).map(|at| &self.asked[at]);
        asked.is_some_and(|asked| asked.cancel_at.is_some_and(|at| at <= self.used + 1))
    }

    /// Everything has come to rest and nothing went wrong: each request is answered exactly once.
    pub(crate) fn check_complete(&self, store: &Store) {
        assert_eq!(self.agreed, self.sent_cancels, "a CANCEL not sent");
        assert_eq!(self.sent_cancels, self.answered_cancels, "C1: {self:?}");
        assert_eq!(self.used, self.sent, "input not used");
        match self.asked.get(self.front) {
            None => {}
            Some(last) => {
                assert!(
                    last.is_watch() && last.cancel_at.is_none(),
                    "not answered: {last:?}"
                );
                assert_eq!(self.outstanding(), 1);
                assert_eq!(
                    last.from + last.told,
                    store.history.len(),
                    "N2: events missed"
                );
            }
        }
    }

    /// The connection ended in the way that still answers what the server took (T5, S16).
    pub(crate) fn check_accepted(&self, truncated: bool) {
        let taken = self.accepted - usize::from(truncated);
        let open = self.asked.get(self.front..taken).unwrap_or_default();
        let cancelled = |asked: &&Asked| asked.cancel_at.is_some_and(|at| at <= self.used);
        let first = open.iter().find(|asked| !asked.is_watch() && !asked.ended);
        assert!(first.is_none(), "T5 S16: not answered: {first:?}");
        assert!(!open.iter().any(|asked| cancelled(&asked)), "C1");
    }
}
