//! The server connection: its peer sends requests and other bytes, its application makes any calls.

use std::time::Duration;

use jtp_core::server::{BodyRequest, CloseReason, ServerConfig, ServerConnection};
use jtp_core::wire::Decoded;
use jtp_core::wire::request::{RequestHead, RequestKind};
use jtp_core::wire::response::ErrorCode;
use jtp_core::{Catalog, CatalogWriter, FileType, Flags, Image, ImageId, Misuse, Time};

use super::output::OutputChecker;
use super::{RngFn, garbage, part};

struct Harness {
    server: ServerConnection,
    writer: CatalogWriter,
    created: u32,
    now: Time,
    input: Vec<u8>,
    /// Input consumed while the connection was open, to be parsed as requests.
    consumed: Vec<u8>,
    cancels: usize,
    deciding: Option<RequestHead>,
    offered: Vec<u8>,
    output: OutputChecker,
    reason: Option<CloseReason>,
    /// The write timeout passed with output pending. // T4
    write_timed_out: bool,
}

/// Makes `steps` calls, then runs the connection to its end.
pub(crate) fn run(steps: u32, rng: RngFn<'_>) {
    let some = |rng: RngFn<'_>, seconds| (rng(4) > 0).then_some(Duration::from_secs(seconds));
    let config = ServerConfig::new()
        .with_watch(rng(8) > 0)
        .with_max_have([1_000_000, 3][rng(2) as usize])
        .with_max_watch_lag([1_000_000, 2][rng(2) as usize])
        .with_first_request_timeout(some(rng, 60))
        .with_idle_timeout(some(rng, 30))
        .with_request_grace(some(rng, 10))
        .with_write_timeout(some(rng, 30))
        .with_cancel_timeout(some(rng, 10));
    let mut harness = Harness {
        server: ServerConnection::new(config, Time::ZERO),
        writer: CatalogWriter::new(),
        created: 0,
        now: Time::ZERO,
        input: Vec::new(),
        consumed: Vec::new(),
        cancels: 0,
        deciding: None,
        offered: Vec::new(),
        output: OutputChecker::default(),
        reason: None,
        write_timed_out: false,
    };
    for _ in 0..rng(6) {
        harness.change(rng);
    }
    harness.writer.publish();
    for _ in 0..steps {
        harness.step(rng);
        harness.check();
    }
    harness.settle();
}

impl Harness {
    fn change(&mut self, rng: RngFn<'_>) {
        if rng(4) == 0 {
            self.writer.remove(ImageId(rng(self.created + 1).into()));
            return;
        }
        self.created += 1;
        let image = Image::new(
            ImageId(self.created.into()),
            Flags::new(FileType::Png, false),
            [0, 1, 300, 70_000][rng(4) as usize],
        );
        let name = format!("{}.png", rng(9));
        self.writer.insert(&name, image).unwrap();
    }

    fn request(&mut self, rng: RngFn<'_>) -> Vec<u8> {
        let keep_alive = u8::from(rng(8) > 0);
        let ids = |rng: RngFn<'_>, count: u32| -> Vec<u8> {
            let id = |_| u64::from(rng(8)).to_be_bytes();
            (0..count).flat_map(id).collect()
        };
        match rng(10) {
            0 | 1 => vec![1, keep_alive],
            2 | 3 => {
                let count = rng(5);
                [vec![0, keep_alive, count as u8], ids(rng, count)].concat()
            }
            4 => {
                let count = rng(5);
                [vec![2, keep_alive, count as u8], ids(rng, count)].concat()
            }
            5 => vec![5, keep_alive],
            6 => vec![4, 0],
            7 | 8 => vec![3, 0],
            _ => garbage(rng, 6),
        }
    }

    fn step(&mut self, rng: RngFn<'_>) {
        let now = if rng(16) == 0 { Time::ZERO } else { self.now };
        match rng(24) {
            0..5 => {
                let request = self.request(rng);
                let count = if rng(6) == 0 {
                    part(rng, request.len())
                } else {
                    request.len()
                };
                self.input.extend_from_slice(&request[..count]);
            }
            5..9 => {
                let count = part(rng, self.input.len());
                self.receive(count, now);
            }
            9..12 => {
                let refuse = rng(16) == 0;
                self.check_call(self.deciding.is_some(), |server, catalog| {
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
                let (failed, more) = (rng(32) == 0, rng(16) == 0);
                let count = part(rng, rest as usize) as u32 + u32::from(more);
                // Sometimes the image is opened as another variant. // S6
                let id = wanted.map_or(ImageId(1), |wanted| wanted.image().id);
                let variant = Flags::new(FileType::Bmp, true);
                let other = (rng(8) == 0).then(|| Image::new(id, variant, rng(300)));
                let valid = match other {
                    _ if failed => wanted.is_some(),
                    Some(image) => {
                        matches!(wanted, Some(BodyRequest::Open { .. })) && count <= image.length
                    }
                    None => wanted.is_some() && count <= rest,
                };
                self.check_call(valid, |server, _| {
                    if failed {
                        server.body_failed("gone", now)
                    } else if let Some(image) = other {
                        server.body_opened(image, count, now)
                    } else {
                        server.body_loaded(count, now)
                    }
                });
            }
            15..19 => {
                let more = rng(32) == 0;
                let count = part(rng, self.offered.len()) + usize::from(more);
                self.send(count, now);
            }
            19 => {
                let due = self.server.wants_finish();
                self.check_call(due, |server, _| server.finished(now));
            }
            20 => {
                let millis = [1, 900, 11_000, 31_000, 400_000][rng(5) as usize];
                self.now = self.now + Duration::from_millis(millis);
                let open = !self.server.is_closed() && !self.offered.is_empty();
                for _ in 0..4 {
                    self.server.handle_timeout(self.now);
                }
                self.write_timed_out |= open && self.server.is_closed();
                let deadline = self.server.deadline();
                assert!(
                    deadline.is_none_or(|at| at > self.now),
                    "the deadline does not move"
                );
            }
            21 => {
                self.change(rng);
                let catalog = self.writer.publish();
                self.server.catalog_changed(&catalog, now);
            }
            22 if rng(6) == 0 => self.server.receive_eof(),
            23 if rng(6) == 0 => self.server.shutdown(now),
            _ => {}
        }
    }

    /// Makes a call. An invalid one must return an error and change nothing.
    #[track_caller]
    fn check_call(
        &mut self,
        valid: bool,
        call: impl FnOnce(&mut ServerConnection, &std::sync::Arc<Catalog>) -> Result<(), Misuse>,
    ) {
        let before = (!valid).then(|| format!("{:?}", self.server));
        let result = call(&mut self.server, self.writer.snapshot());
        assert_eq!(result.is_ok(), valid, "{result:?}");
        if let Some(before) = before {
            assert_eq!(
                format!("{:?}", self.server),
                before,
                "misuse changed the state"
            );
        }
    }

    fn receive(&mut self, count: usize, now: Time) {
        let open = self.server.close_reason().is_none();
        let received = self.server.receive(&self.input[..count], now);
        assert!(received.used <= count);
        if open {
            self.consumed
                .extend_from_slice(&self.input[..received.used]);
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

    /// Parses the complete requests that were consumed.
    fn count_cancels(&mut self) {
        while let Ok(Decoded::Complete { value, used }) = RequestHead::decode(&self.consumed) {
            let length = used + value.kind.ids() as usize * 8;
            if self.consumed.len() < length {
                return;
            }
            self.consumed.drain(..length);
            self.cancels += usize::from(value.kind == RequestKind::Cancel);
        }
    }

    fn send(&mut self, count: usize, now: Time) {
        let (valid, bytes) = (count <= self.offered.len(), self.offered.clone());
        self.check_call(valid, |server, _| server.transmitted(count, now));
        if valid {
            self.output.push(&bytes[..count]);
            self.offered.drain(..count);
        }
    }

    /// Checks the invariants after every call.
    fn check(&mut self) {
        let transmit = self.server.transmit();
        let mut offered = transmit.bytes.to_vec();
        offered.resize(transmit.len(), 0);
        if self.server.is_closed() {
            assert!(offered.is_empty() && self.server.deadline().is_none());
            assert!(!self.server.wants_read(&[]) && self.server.wants_body().is_none());
            assert!(!self.server.wants_finish() && self.server.close_reason().is_some());
        } else {
            assert!(
                offered.starts_with(&self.offered),
                "offered output was withdrawn"
            );
        }
        // C6: the encoded frames and at most one body.
        assert!(transmit.bytes.len() <= 80 * 1024 && offered.len() <= 160 * 1024);
        self.offered = offered;
        if let Some(reason) = self.reason {
            assert_eq!(
                self.server.close_reason(),
                Some(reason),
                "the close reason changed"
            );
        }
        self.reason = self.server.close_reason();
        if let Some(wanted) = self.server.wants_body() {
            let rest = wanted.remaining();
            assert!(rest > 0 || wanted.image().length == 0);
        }
    }

    /// Closes the peer's side and runs until the server is closed.
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
            self.send(self.offered.len(), now);
            if self.server.wants_finish() {
                self.server.finished(now).unwrap();
            }
            self.check();
            rounds += 1;
            assert!(rounds < 10_000, "does not close: {:?}", self.server);
        }
        if self.write_timed_out {
            return;
        }
        match self.server.close_reason().unwrap() {
            // The peer stopped reading, or a body failed. // S13
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
