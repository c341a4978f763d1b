//! A connection: both machines, the network between them, and the server's application.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use jtp_core::client::{ClientConfig, ClientConnection, Event, Request, ResponseKind};
use jtp_core::server::{CloseReason, ServerConfig, ServerConnection};
use jtp_core::wire::response::ErrorCode;
use jtp_core::{Image, ImageId, Time};

use super::network::Pipe;
use super::shop::{Shop, Snapshot};
use super::{Counts, Dice};

/// What a client is told, for its own.
#[derive(Debug)]
pub(crate) enum Told {
    /// What the catalog had.
    Entry(ImageId),
    /// An image, with its bytes, and they are right.
    Image(ImageId),
    News(ImageId),
    /// The answer from this snapshot is complete.
    End(Rc<Snapshot>),
    Cancelled,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) client: ClientConnection,
    server: ServerConnection,
    up: Pipe,
    down: Pipe,
    input: Vec<u8>,
    /// When the application has made up its mind.
    decides: Option<Time>,
    /// When so much of a body has been read.
    loads: Option<(Time, u32)>,
    generation: usize,
    cut: bool,
    follows: Option<usize>,
    pub(crate) sight: Sight,
}

/// What its client has asked and was told.
#[derive(Debug, Default)]
pub(crate) struct Sight {
    asked: VecDeque<ResponseKind>,
    /// What the server answers from, request by request.
    answers: VecDeque<Rc<Snapshot>>,
    told: usize,
    body: Vec<u8>,
    cancels: usize,
    /// Where in the history a WATCH begins, and later how far it has come. // N1 N5
    pub(crate) watch_from: Option<usize>,
}

impl Link {
    pub(crate) fn new(pipeline: bool, dice: &mut Dice, now: Time) -> Link {
        Link {
            client: ClientConnection::new(ClientConfig::new().with_pipeline(pipeline), now),
            server: ServerConnection::new(ServerConfig::new(), now),
            up: Pipe::new(dice, now),
            down: Pipe::new(dice, now),
            input: Vec::new(),
            decides: None,
            loads: None,
            generation: 0,
            cut: false,
            follows: None,
            sight: Sight::default(),
        }
    }

    pub(crate) fn ask(&mut self, request: Request, now: Time) {
        let kind = request.kind();
        if self.client.request(request, true, now).is_ok() {
            self.sight.asked.push_back(kind);
        }
    }

    pub(crate) fn cancel(&mut self, now: Time) {
        if self.client.cancel(now).is_ok() {
            self.sight.cancels += 1;
        }
    }

    /// Whether everything asked for was answered. // S1
    pub(crate) fn is_answered(&self) -> bool {
        let Sight { asked, cancels, .. } = &self.sight;
        asked.iter().all(|kind| *kind == ResponseKind::Watch) && *cancels == 0
    }

    /// Nothing more will come of it, for the client.
    pub(crate) fn is_lost(&self) -> bool {
        self.client.fault().is_some() || self.down.is_over() || self.cut
    }

    pub(crate) fn reset(&mut self, now: Time) {
        self.cut = true;
        let _ = self.client.receive_eof(now);
    }

    pub(crate) fn was_cut(&self) -> bool {
        self.cut
    }

    pub(crate) fn stall(&mut self, time: Duration, both: bool, now: Time) {
        self.down.stalled = self.down.stalled.max(now + time);
        if both {
            self.up.stalled = self.up.stalled.max(now + time);
        }
    }

    pub(crate) fn shut_down(&mut self, now: Time) {
        self.server.shutdown(now);
    }

    /// All that it wants to send is sent: it closes its side. // T5
    pub(crate) fn half_close(&mut self, now: Time) -> bool {
        let done = self.client.transmit().is_empty() && !self.up.is_finished();
        if done {
            self.up.finish(now);
        }
        done
    }

    /// When something happens next, if nothing else does.
    pub(crate) fn wakes(&self, now: Time) -> Option<Time> {
        if self.cut {
            return None;
        }
        let loads = self.loads.map(|(at, _)| at);
        let deadlines = [self.server.deadline(), self.client.deadline()];
        let arrivals = [self.up.next(), self.down.next(), self.decides, loads];
        let all = arrivals.into_iter().chain(deadlines).flatten();
        // What has arrived and is not looked at waits for something else.
        all.filter(|at| *at > now).min()
    }

    /// Everything that can happen now; what the client is told. `None` if nothing happened.
    pub(crate) fn happens(
        &mut self,
        shop: &Shop,
        now: Time,
        dice: &mut Dice,
        counts: &mut Counts,
    ) -> Option<Vec<Told>> {
        if self.cut {
            return None;
        }
        let mut moved = false;
        // The client's program.
        let shown = self.client.transmit();
        let count = shown.len().min(self.up.room());
        if count > 0 && !self.up.is_finished() {
            self.up.send(&shown[..count], now);
            self.client.transmitted(count, now).unwrap();
            moved = true;
        }
        moved |= self.server_acts(shop, now, dice, counts);
        let mut told = Vec::new();
        moved |= self.client_reads(shop, now, dice, counts, &mut told);
        if self.client.deadline().is_some_and(|at| at <= now) {
            counts.timeouts += 1;
            moved |= self.client.handle_timeout(now).is_err();
        }
        moved.then_some(told)
    }

    fn server_acts(
        &mut self,
        shop: &Shop,
        now: Time,
        dice: &mut Dice,
        counts: &mut Counts,
    ) -> bool {
        let mut moved = false;
        if self.server.deadline().is_some_and(|at| at <= now) {
            self.server.handle_timeout(now);
            counts.timeouts += 1;
            moved = true;
        }
        if self.server.is_closed() {
            let open = !self.down.is_finished();
            self.down.finish(now);
            return moved | open;
        }
        if self.server.wants_read(&self.input) {
            let piece = self.up.take(dice.pick(&[1, 500, 9_000, 1 << 20]), now);
            moved |= !piece.is_empty();
            self.input.extend(piece);
            if self.up.ends(now) {
                self.server.receive_eof();
                moved = true;
            }
        }
        if self.server.is_watching() && self.generation != shop.shown.told {
            self.generation = shop.shown.told;
            self.server.catalog_changed(shop.catalog(), now);
            moved = true;
        }
        let received = self.server.receive(&self.input, now);
        self.input.drain(..received.used);
        moved |= received.used > 0;
        if received.event.is_some() {
            self.decides = Some(now + dice.millis(20));
        }
        if self.decides.is_some_and(|at| at <= now) {
            self.decides = None;
            self.decide(shop, now, dice, counts);
            moved = true;
        }
        moved |= self.server_loads(shop, now, dice);
        moved |= self.server_sends(shop, now);
        if self.server.wants_finish() {
            self.down.finish(now);
            self.server.finished(now).unwrap();
            moved = true;
        }
        moved
    }

    fn decide(&mut self, shop: &Shop, now: Time, dice: &mut Dice, counts: &mut Counts) {
        if dice.one_in(150) {
            counts.refusals += 1;
            self.server
                .refuse(ErrorCode::RateLimited, "later", now)
                .unwrap();
            return;
        }
        // Which one it is the client knows: answers come in the order of the requests.
        let watch = self.follows.take();
        let kind = self.sight.asked.get(self.sight.answers.len()).copied();
        if kind == Some(ResponseKind::List) && self.input.starts_with(&[4, 0]) {
            self.follows = Some(shop.shown.told); // N5
        }
        if kind == Some(ResponseKind::Watch) {
            self.sight.watch_from = Some(watch.unwrap_or(shop.shown.told));
        }
        self.sight.answers.push_back(Rc::clone(&shop.shown));
        self.server.accept(shop.catalog(), now).unwrap();
        self.generation = usize::MAX;
    }

    fn server_loads(&mut self, shop: &Shop, now: Time, dice: &mut Dice) -> bool {
        let Some(wanted) = self.server.wants_body() else {
            self.loads = None;
            return false;
        };
        let rest = wanted.remaining();
        match self.loads {
            None => {
                let count = rest.min(dice.pick(&[100, 60_000]));
                self.loads = Some((now + Duration::from_micros(dice.below(3_000).into()), count));
                true
            }
            Some((at, count)) if at <= now => {
                self.loads = None;
                // S13: also before the last byte goes out.
                if shop.is_on_disk(wanted.image().id) {
                    self.server.body_loaded(count, now).unwrap();
                } else {
                    self.server.body_failed("the file is gone", now).unwrap();
                }
                true
            }
            Some(_) => false,
        }
    }

    fn server_sends(&mut self, shop: &Shop, now: Time) -> bool {
        let shown = self.server.transmit();
        let mut bytes = shown.bytes.to_vec();
        if let Some(span) = shown.body {
            bytes.extend_from_slice(&shop.images[&span.image.id][span.range()]);
        }
        bytes.truncate(self.down.room());
        if bytes.is_empty() {
            return false;
        }
        self.down.send(&bytes, now);
        self.server.transmitted(bytes.len(), now).unwrap();
        true
    }

    fn client_reads(
        &mut self,
        shop: &Shop,
        now: Time,
        dice: &mut Dice,
        counts: &mut Counts,
        told: &mut Vec<Told>,
    ) -> bool {
        let piece = self.down.take(dice.pick(&[1, 500, 9_000, 1 << 20]), now);
        let mut moved = !piece.is_empty();
        let mut rest = &piece[..];
        while let Ok(received) = self.client.receive(rest, now) {
            rest = &rest[received.used..];
            let Some(event) = received.event else { break };
            told.extend(self.sight.event(shop, event, counts));
        }
        if self.down.ends(now) {
            let _ = self.client.receive_eof(now);
            moved = true;
        }
        if (self.client.fault().is_some() || self.down.is_over()) && !self.up.is_finished() {
            self.up.finish(now);
            moved = true;
        }
        if let Some(jtp_core::client::ClientError::Peer(error)) = self.client.fault() {
            panic!("a good server judged bad: {error}");
        }
        moved
    }

    /// Why the server has ended it.
    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        self.server.close_reason()
    }
}

impl Sight {
    /// Looks at an event: is it the one that is due?
    fn event(&mut self, shop: &Shop, event: Event<'_>, counts: &mut Counts) -> Option<Told> {
        match event {
            Event::Begin { kind, count } => {
                assert_eq!(self.asked.front(), Some(&kind), "S1: not in order");
                let most = self.answers[0].ids.len();
                assert!(kind == ResponseKind::GetById || count as usize <= most);
                assert!(
                    kind == ResponseKind::Batch
                        || kind == ResponseKind::GetById
                        || count as usize == most
                );
                self.told = 0;
                None
            }
            Event::Entry(entry) => {
                // S3 S5: the snapshot, in its order.
                assert_eq!(self.answers[0].ids[self.told], entry.id);
                self.told += 1;
                Some(Told::Entry(entry.id))
            }
            Event::Image(Image { id, .. }) => {
                assert!(self.answers[0].ids.contains(&id), "S3");
                self.body.clear();
                None
            }
            Event::Data(data) => {
                self.body.extend_from_slice(data);
                None
            }
            Event::ImageEnd { image, verdict } => {
                assert_eq!(verdict, Ok(()), "S13");
                assert!(self.body == shop.images[&image.id], "R2: other bytes");
                counts.images += 1;
                Some(Told::Image(image.id))
            }
            Event::NewImage(entry) => {
                // N1 N2: each event once, in order, from the beginning of the watch.
                let at = self.watch_from.as_mut().expect("news before a watch");
                assert_eq!(shop.history[*at], entry.id, "N2");
                *at += 1;
                counts.events += 1;
                Some(Told::News(entry.id))
            }
            Event::End { kind } => {
                assert_eq!(self.asked.pop_front(), Some(kind));
                counts.answers += 1;
                self.answers.pop_front().map(Told::End)
            }
            Event::Cancelled { kind } => {
                assert!(self.cancels == 1, "C1: not asked for, or told twice");
                self.cancels = 0;
                // Or its answer was complete before. // C3
                if self.asked.front() == Some(&kind) {
                    self.asked.pop_front();
                    self.answers.pop_front();
                }
                counts.cancels += 1;
                Some(Told::Cancelled)
            }
            other => panic!("{other:?}"),
        }
    }
}
