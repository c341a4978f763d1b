//! A server's connection: its peer sends requests and anything else, its application calls what it likes.

use std::time::Duration;

use jtp_core::server::{BodyRequest, CloseReason, ServerConfig, ServerConnection};
use jtp_core::wire::Decoded;
use jtp_core::wire::request::{RequestHead, RequestKind};
use jtp_core::wire::response::ErrorCode;
use jtp_core::{Catalog, CatalogWriter, FileType, Flags, Image, ImageId, Misuse, Time};

use super::output::Output;
use super::{Dice, garbage, part};

struct Scene {
    server: ServerConnection,
    writer: CatalogWriter,
    made: u32,
    now: Time,
    input: Vec<u8>,
    /// What was used while the connection was open, read as requests.
    used: Vec<u8>,
    cancels: usize,
    deciding: Option<RequestHead>,
    shown: Vec<u8>,
    output: Output,
    reason: Option<CloseReason>,
    /// The peer took nothing for so long that the rest was given up. // T4
    given_up: bool,
}

/// Plays `steps` calls, and then to the connection's end.
pub(crate) fn play(steps: u32, dice: Dice<'_>) {
    let some = |dice: Dice<'_>, seconds| (dice(4) > 0).then_some(Duration::from_secs(seconds));
    let config = ServerConfig::new()
        .with_watch(dice(8) > 0)
        .with_max_have([1_000_000, 3][dice(2) as usize])
        .with_max_watch_lag([1_000_000, 2][dice(2) as usize])
        .with_first_request_timeout(some(dice, 60))
        .with_idle_timeout(some(dice, 30))
        .with_request_grace(some(dice, 10))
        .with_write_timeout(some(dice, 30))
        .with_cancel_timeout(some(dice, 10));
    let mut scene = Scene {
        server: ServerConnection::new(config, Time::ZERO),
        writer: CatalogWriter::new(),
        made: 0,
        now: Time::ZERO,
        input: Vec::new(),
        used: Vec::new(),
        cancels: 0,
        deciding: None,
        shown: Vec::new(),
        output: Output::default(),
        reason: None,
        given_up: false,
    };
    for _ in 0..dice(6) {
        scene.change(dice);
    }
    scene.writer.publish();
    for _ in 0..steps {
        scene.step(dice);
        scene.check();
    }
    scene.settle();
}

impl Scene {
    fn change(&mut self, dice: Dice<'_>) {
        if dice(4) == 0 {
            self.writer.remove(ImageId(dice(self.made + 1).into()));
            return;
        }
        self.made += 1;
        let image = Image::new(
            ImageId(self.made.into()),
            Flags::new(FileType::Png, false),
            [0, 1, 300, 70_000][dice(4) as usize],
        );
        let name = format!("{}.png", dice(9));
        self.writer.insert(&name, image).unwrap();
    }

    fn request(&mut self, dice: Dice<'_>) -> Vec<u8> {
        let keep_alive = u8::from(dice(8) > 0);
        let ids = |dice: Dice<'_>, count: u32| -> Vec<u8> {
            let id = |_| u64::from(dice(8)).to_be_bytes();
            (0..count).flat_map(id).collect()
        };
        match dice(10) {
            0 | 1 => vec![1, keep_alive],
            2 | 3 => {
                let count = dice(5);
                [vec![0, keep_alive, count as u8], ids(dice, count)].concat()
            }
            4 => {
                let count = dice(5);
                [vec![2, keep_alive, count as u8], ids(dice, count)].concat()
            }
            5 => vec![5, keep_alive],
            6 => vec![4, 0],
            7 | 8 => vec![3, 0],
            _ => garbage(dice, 6),
        }
    }

    fn step(&mut self, dice: Dice<'_>) {
        let now = if dice(16) == 0 { Time::ZERO } else { self.now };
        match dice(24) {
            0..5 => {
                let request = self.request(dice);
                let count = if dice(6) == 0 {
                    part(dice, request.len())
                } else {
                    request.len()
                };
                self.input.extend_from_slice(&request[..count]);
            }
            5..9 => {
                let count = part(dice, self.input.len());
                self.receive(count, now);
            }
            9..12 => {
                let refuse = dice(16) == 0;
                self.fits(self.deciding.is_some(), |server, catalog| {
                    if refuse {
                        server.refuse(ErrorCode::RateLimited, "later", now)
                    } else {
                        server.accept(catalog, now)
                    }
                });
                if let Some(head) = self.deciding.take().filter(|_| !refuse) {
                    self.output.accepted(head);
                }
            }
            12..15 => {
                let wanted = self.server.wants_body();
                let rest = wanted.map_or(0, BodyRequest::remaining);
                let (failed, more) = (dice(32) == 0, dice(16) == 0);
                let count = part(dice, rest as usize) as u32 + u32::from(more);
                let fits = wanted.is_some() && (failed || count <= rest);
                self.fits(fits, |server, _| {
                    if failed {
                        server.body_failed("gone", now)
                    } else {
                        server.body_loaded(count, now)
                    }
                });
            }
            15..19 => {
                let more = dice(32) == 0;
                let count = part(dice, self.shown.len()) + usize::from(more);
                self.send(count, now);
            }
            19 => {
                let due = self.server.wants_finish();
                self.fits(due, |server, _| server.finished(now));
            }
            20 => {
                let millis = [1, 900, 11_000, 31_000, 400_000][dice(5) as usize];
                self.now = self.now + Duration::from_millis(millis);
                let open = !self.server.is_closed() && !self.shown.is_empty();
                for _ in 0..4 {
                    self.server.handle_timeout(self.now);
                }
                self.given_up |= open && self.server.is_closed();
                let deadline = self.server.deadline();
                assert!(
                    deadline.is_none_or(|at| at > self.now),
                    "no end of timeouts"
                );
            }
            21 => {
                self.change(dice);
                let catalog = self.writer.publish();
                self.server.catalog_changed(&catalog, now);
            }
            22 if dice(6) == 0 => self.server.receive_eof(),
            23 if dice(6) == 0 => self.server.shutdown(now),
            _ => {}
        }
    }

    /// A call that is valid or not: if not it is refused, and changes nothing.
    #[track_caller]
    fn fits(
        &mut self,
        fits: bool,
        call: impl FnOnce(&mut ServerConnection, &std::sync::Arc<Catalog>) -> Result<(), Misuse>,
    ) {
        let before = (!fits).then(|| format!("{:?}", self.server));
        let result = call(&mut self.server, self.writer.snapshot());
        assert_eq!(result.is_ok(), fits, "{result:?}");
        if let Some(before) = before {
            assert_eq!(
                format!("{:?}", self.server),
                before,
                "misuse changed something"
            );
        }
    }

    fn receive(&mut self, count: usize, now: Time) {
        let open = self.server.close_reason().is_none();
        let received = self.server.receive(&self.input[..count], now);
        assert!(received.used <= count);
        if open {
            self.used.extend_from_slice(&self.input[..received.used]);
            self.count_cancels();
        }
        self.input.drain(..received.used);
        if let Some(head) = received.event {
            assert!(
                self.deciding.replace(head).is_none(),
                "two requests at once"
            );
            assert!(open && self.server.close_reason().is_none());
        }
    }

    /// Reads the requests that were used, whole ones only.
    fn count_cancels(&mut self) {
        while let Ok(Decoded::Complete { value, used }) = RequestHead::decode(&self.used) {
            let length = used + value.kind.ids() as usize * 8;
            if self.used.len() < length {
                return;
            }
            self.used.drain(..length);
            self.cancels += usize::from(value.kind == RequestKind::Cancel);
        }
    }

    fn send(&mut self, count: usize, now: Time) {
        let (fits, bytes) = (count <= self.shown.len(), self.shown.clone());
        self.fits(fits, |server, _| server.transmitted(count, now));
        if fits {
            self.output.takes(&bytes[..count]);
            self.shown.drain(..count);
        }
    }

    /// What holds after every call.
    fn check(&mut self) {
        let transmit = self.server.transmit();
        let mut shown = transmit.bytes.to_vec();
        shown.resize(transmit.len(), 0);
        if self.server.is_closed() {
            assert!(shown.is_empty() && self.server.deadline().is_none());
            assert!(!self.server.wants_read(&[]) && self.server.wants_body().is_none());
            assert!(!self.server.wants_finish() && self.server.close_reason().is_some());
        } else {
            assert!(shown.starts_with(&self.shown), "output taken back");
        }
        // C6: the frames in hand, and at most one body.
        assert!(transmit.bytes.len() <= 80 * 1024 && shown.len() <= 160 * 1024);
        self.shown = shown;
        if let Some(reason) = self.reason {
            assert_eq!(self.server.close_reason(), Some(reason), "another reason");
        }
        self.reason = self.server.close_reason();
        if let Some(wanted) = self.server.wants_body() {
            let rest = wanted.remaining();
            assert!(rest > 0 || wanted.image().length == 0);
        }
    }

    /// Everything that is due happens, and the peer has closed.
    fn settle(&mut self) {
        self.server.receive_eof();
        let mut rounds = 0;
        while !self.server.is_closed() {
            let now = self.now;
            self.receive(self.input.len(), now);
            if let Some(head) = self.deciding.take() {
                self.server.accept(self.writer.snapshot(), now).unwrap();
                self.output.accepted(head);
            }
            if let Some(wanted) = self.server.wants_body() {
                let rest = wanted.remaining();
                self.server.body_loaded(rest, now).unwrap();
            }
            self.check();
            self.send(self.shown.len(), now);
            if self.server.wants_finish() {
                self.server.finished(now).unwrap();
            }
            self.check();
            rounds += 1;
            assert!(rounds < 10_000, "no end: {:?}", self.server);
        }
        if self.given_up {
            return;
        }
        match self.server.close_reason().unwrap() {
            // The peer did not take it, or a body broke off. // S13
            CloseReason::Timeout(_) | CloseReason::BodyFailed => {}
            CloseReason::PeerClosed | CloseReason::NoKeepAlive | CloseReason::TruncatedRequest => {
                self.output.check_whole(&self.server);
                assert_eq!(self.output.cancelled, self.cancels, "C1: {:?}", self.server);
            }
            _ => {
                self.output.check_whole(&self.server);
                assert!(self.output.cancelled <= self.cancels, "C1");
            }
        }
    }
}
