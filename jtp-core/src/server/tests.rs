//! The server's machine against scripted clients, on simulated time.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use super::*;
use crate::catalog::CatalogWriter;
use crate::image::{FileType, Flags, ImageId};
use crate::wire::{Decoded, entry, packet, varint};

const SECOND: Duration = Duration::from_secs(1);

/// A server in memory with its machine, a client's bytes, and what the client got.
struct Scene {
    writer: CatalogWriter,
    images: BTreeMap<ImageId, Vec<u8>>,
    connection: ServerConnection,
    now: Time,
    input: Vec<u8>,
    got: Vec<u8>,
    half_closed: bool,
    /// The application answers requests and loads bodies by itself.
    decides: bool,
    loads: bool,
    /// So many bytes of output are taken at once.
    step: usize,
    requests: Vec<RequestHead>,
}

impl Scene {
    fn new(count: u8) -> Scene {
        Scene::with(count, ServerConfig::new())
    }

    fn with(count: u8, config: ServerConfig) -> Scene {
        let mut scene = Scene {
            writer: CatalogWriter::new(),
            images: BTreeMap::new(),
            connection: ServerConnection::new(config, Time::ZERO),
            now: Time::ZERO,
            input: Vec::new(),
            got: Vec::new(),
            half_closed: false,
            decides: true,
            loads: true,
            step: usize::MAX,
            requests: Vec::new(),
        };
        for n in 0..count {
            scene.add(&format!("{n:03}.png"), vec![n; 100]);
        }
        scene.writer.publish();
        scene
    }

    fn add(&mut self, name: &str, bytes: Vec<u8>) -> ImageId {
        let id = ImageId::of(&bytes);
        let length = u32::try_from(bytes.len()).unwrap();
        let image = Image {
            id,
            flags: Flags::new(FileType::Png, false),
            length,
        };
        self.writer.insert(name, image).unwrap();
        self.images.insert(id, bytes);
        id
    }

    fn publish(&mut self) {
        let catalog = self.writer.publish();
        self.connection.catalog_changed(&catalog, self.now);
    }

    /// The client sends, and everything that can happen happens.
    fn send(&mut self, bytes: &[u8]) -> &mut Scene {
        if self.connection.wants_read(&self.input) || self.input.len() < 64 * 1024 {
            self.input.extend_from_slice(bytes);
        }
        self.run()
    }

    fn feed(&mut self) {
        loop {
            let received = self.connection.receive(&self.input, self.now);
            self.input.drain(..received.used);
            let Some(request) = received.request else {
                return;
            };
            self.requests.push(request);
            if !self.decides {
                return;
            }
            self.connection
                .accept(self.writer.snapshot(), self.now)
                .unwrap();
        }
    }

    /// Takes one step of output; whether there was any.
    fn take(&mut self) -> bool {
        if self.loads {
            if let Some(wanted) = self.connection.wants_body() {
                let count = wanted.image.length - wanted.offset;
                self.connection.body_loaded(count, self.now).unwrap();
            }
        }
        let shown = self.connection.transmit();
        let mut bytes = shown.bytes.to_vec();
        if let Some(span) = shown.body {
            bytes.extend_from_slice(&self.images[&span.image.id][span.range()]);
        }
        bytes.truncate(self.step);
        self.got.extend_from_slice(&bytes);
        self.connection.transmitted(bytes.len(), self.now).unwrap();
        !bytes.is_empty()
    }

    fn run(&mut self) -> &mut Scene {
        self.feed();
        while self.take() {
            self.feed();
        }
        if self.connection.wants_finish() {
            self.half_closed = true;
            self.connection.finished(self.now).unwrap();
            self.feed();
        }
        self
    }

    fn eof(&mut self) -> &mut Scene {
        self.connection.receive_eof();
        self.run()
    }

    fn pass(&mut self, time: Duration) -> &mut Scene {
        self.now = self.now + time;
        self.connection.handle_timeout(self.now);
        self.run()
    }

    fn id(&self, n: u8) -> ImageId {
        ImageId::of(&[n; 100])
    }

    /// Takes all that was got, read as frames and written as text.
    fn frames(&mut self) -> Vec<String> {
        let got = core::mem::take(&mut self.got);
        let mut texts = Vec::new();
        let mut rest = &got[..];
        let mut packets = 0;
        while !rest.is_empty() {
            if packets > 0 && rest[0] != b'J' {
                packets -= 1;
                let Decoded::Complete { value, used } = packet::decode_head(rest).unwrap() else {
                    texts.push(format!("cut in a head ({})", rest.len()));
                    break;
                };
                let end = used + value.length as usize;
                let Some(body) = rest.get(used..end) else {
                    texts.push(format!("cut in a body ({})", rest.len() - used));
                    break;
                };
                assert_eq!(
                    ImageId::of(body),
                    value.id,
                    "S13: never a packet of wrong bytes"
                );
                texts.push(format!("packet {}", body.first().copied().unwrap_or(0)));
                rest = &rest[end..];
                continue;
            }
            let (header, after) = rest.split_at(4);
            rest = after;
            match header {
                b"JTPC" => texts.push("JTPC".into()),
                b"JTPE" => {
                    let Decoded::Complete { value, used } = ErrorFrame::decode_body(rest).unwrap()
                    else {
                        panic!("a cut error frame")
                    };
                    texts.push(format!("JTPE {}", value.code));
                    rest = &rest[used..];
                }
                b"JTPW" => {
                    let Decoded::Complete { value, used } = entry::decode(rest).unwrap() else {
                        panic!("a cut event")
                    };
                    texts.push(format!("JTPW {}", value.name));
                    rest = &rest[used..];
                }
                b"JTPL" => {
                    let Decoded::Complete { value, used } = varint::decode(rest).unwrap() else {
                        panic!("a cut count")
                    };
                    rest = &rest[used..];
                    let mut names = Vec::new();
                    for _ in 0..value {
                        let Decoded::Complete { value, used } = entry::decode(rest).unwrap() else {
                            panic!("a cut entry")
                        };
                        names.push(String::from(value.name.trim_end_matches(".png")));
                        rest = &rest[used..];
                    }
                    texts.push(format!("JTPL {}", names.join(" ")));
                }
                b"JTPD" => {
                    packets = u32::from(rest[0]);
                    rest = &rest[1..];
                    texts.push(format!("JTPD {packets}"));
                }
                b"JTPB" | b"JTPG" => {
                    let Decoded::Complete { value, used } = varint::decode(rest).unwrap() else {
                        panic!("a cut count")
                    };
                    packets = value;
                    rest = &rest[used..];
                    texts.push(format!("{} {packets}", header.escape_ascii()));
                }
                other => panic!("no header: {}", other.escape_ascii()),
            }
        }
        texts
    }

    fn reason(&self) -> Option<CloseReason> {
        self.connection.close_reason()
    }
}

const LIST: &[u8] = &[1, 1];
const CANCEL: &[u8] = &[3, 0];
const WATCH: &[u8] = &[4, 0];
const GET_ALL: &[u8] = &[5, 1];

fn get(keep_alive: bool, ids: &[ImageId]) -> Vec<u8> {
    let mut bytes = vec![0, u8::from(keep_alive), u8::try_from(ids.len()).unwrap()];
    request::encode_ids(ids, &mut bytes);
    bytes
}

fn batch(keep_alive: bool, ids: &[ImageId]) -> Vec<u8> {
    let mut bytes = vec![2, u8::from(keep_alive)];
    varint::encode(u32::try_from(ids.len()).unwrap(), &mut bytes);
    request::encode_ids(ids, &mut bytes);
    bytes
}

#[test]
fn s1_pipelined_requests_are_answered_in_order() {
    let mut scene = Scene::new(2);
    let mut input = LIST.to_vec();
    input.extend(get(true, &[scene.id(1)]));
    input.extend_from_slice(LIST);
    scene.send(&input);
    assert_eq!(
        scene.frames(),
        ["JTPL 000 001", "JTPD 1", "packet 1", "JTPL 000 001"]
    );
}

#[test]
fn s1_while_a_response_is_under_way_reading_stops_at_what_is_no_cancel() {
    let mut scene = Scene::new(2);
    scene.loads = false;
    scene.send(GET_ALL);
    assert!(scene.connection.wants_read(&[]));
    assert!(scene.connection.wants_read(&[3]));
    assert!(!scene.connection.wants_read(&[1]));
    assert!(
        !scene.connection.wants_read(&[3, 0xff]),
        "an invalid CANCEL has its turn later"
    );
    assert_eq!(scene.connection.receive(&[1, 1, 3, 0], scene.now).used, 0);
}

#[test]
fn s2_keep_alive_decides_what_follows_a_response() {
    let mut scene = Scene::new(1);
    scene.send(LIST).send(&[1, 0]).send(LIST).send(&[9, 9]);
    assert_eq!(
        scene.frames(),
        ["JTPL 000", "JTPL 000"],
        "what follows is thrown away"
    );
    assert!(scene.half_closed);
    assert_eq!(scene.reason(), Some(CloseReason::NoKeepAlive));
    scene.eof();
    assert!(scene.connection.is_closed());
}

#[test]
fn s3_a_response_is_computed_from_one_snapshot() {
    let mut scene = Scene::new(2);
    scene.loads = false;
    scene.send(GET_ALL);
    scene.add("zzz.png", vec![9; 10]);
    scene.writer.remove(scene.id(0));
    scene.publish();
    scene.loads = true;
    scene.run().send(LIST);
    assert_eq!(
        scene.frames(),
        ["JTPG 2", "packet 0", "packet 1", "JTPL 001 zzz"]
    );
}

#[test]
fn s7_get_answers_in_the_order_asked_and_leaves_out_unknown_ids() {
    let mut scene = Scene::new(3);
    let (a, b) = (scene.id(0), scene.id(2));
    scene.send(&get(true, &[b, ImageId(7), a, b]));
    assert_eq!(
        scene.frames(),
        ["JTPD 3", "packet 2", "packet 0", "packet 2"]
    );
    scene.send(&get(true, &[])).send(&get(true, &[ImageId(7)]));
    assert_eq!(scene.frames(), ["JTPD 0", "JTPD 0"]);
}

#[test]
fn s5_s8_batch_sends_what_the_client_lacks_in_catalog_order() {
    let mut scene = Scene::new(5);
    let had = [scene.id(3), ImageId(1), scene.id(0), scene.id(3)];
    scene.send(&batch(true, &had));
    assert_eq!(
        scene.frames(),
        ["JTPB 3", "packet 1", "packet 2", "packet 4"]
    );
    scene.send(&batch(true, &[])).send(GET_ALL);
    assert_eq!(scene.frames().len(), 12);
}

#[test]
fn s8_too_many_ids_are_refused_before_any_is_read() {
    let mut scene = Scene::new(1);
    scene.send(&[2, 1, 0xc1, 0x84, 0x3d]); // 1,000,001
    assert_eq!(scene.frames(), ["JTPE InvalidRequest"]);
    assert!(scene.requests.is_empty());
    let mut scene = Scene::new(1);
    scene.send(&[2, 1, 0xc0, 0x84, 0x3d]);
    assert!(scene.frames().is_empty(), "a million is allowed");
    assert_eq!(scene.requests.len(), 1);
}

#[test]
fn s8_ids_are_matched_however_they_are_cut() {
    let ids: Vec<ImageId> = (0..4).map(|n| ImageId::of(&[n; 100])).collect();
    let whole = batch(true, &ids);
    for size in 1..whole.len() {
        let mut scene = Scene::new(6);
        for piece in whole.chunks(size) {
            scene.send(piece);
        }
        assert_eq!(
            scene.frames(),
            ["JTPB 2", "packet 4", "packet 5"],
            "pieces of {size}"
        );
    }
}

#[test]
fn s10_bad_requests_get_their_error_and_the_connection_ends() {
    for (bytes, expected) in [
        (&[6][..], "JTPE UnsupportedFeature"),
        (&[255, 255], "JTPE UnsupportedFeature"),
        (&[1, 2], "JTPE InvalidRequest"),
        (&[3, 0x80], "JTPE InvalidRequest"),
        (&[2, 1, 0x80, 0x00], "JTPE InvalidRequest"),
        (&[2, 1, 0xff, 0xff, 0xff, 0xff, 0x10], "JTPE InvalidRequest"),
    ] {
        let mut scene = Scene::new(1);
        scene.send(bytes).send(LIST);
        assert_eq!(scene.frames(), [expected], "{bytes:?}");
        assert!(scene.half_closed);
    }
}

#[test]
fn s10_watch_switched_off_is_unsupported_and_bit_0_of_watch_and_cancel_is_ignored() {
    let mut scene = Scene::with(1, ServerConfig::new().with_watch(false));
    scene.send(WATCH);
    assert_eq!(scene.frames(), ["JTPE UnsupportedFeature"]);
    assert_eq!(scene.reason(), Some(CloseReason::WatchOff));
    let mut scene = Scene::new(1);
    scene.send(&[4, 1, 3, 1]).send(LIST);
    assert_eq!(scene.frames(), ["JTPC", "JTPL 000"]);
}

#[test]
fn s10_eof_inside_a_request_finishes_earlier_responses_and_closes_unanswered() {
    for inside in [
        &[1][..],
        &[3],
        &[0, 1],
        &[0, 1, 2, 0xff],
        &[2, 1, 0x85],
        &[2, 1, 1, 0, 0],
    ] {
        let mut scene = Scene::new(1);
        let mut input = LIST.to_vec();
        input.extend_from_slice(inside);
        scene.send(&input).eof();
        assert_eq!(scene.frames(), ["JTPL 000"], "{inside:?}");
        assert!(scene.connection.is_closed());
        assert_eq!(scene.reason(), Some(CloseReason::TruncatedRequest));
    }
}

#[test]
fn s11_every_close_is_a_lingering_one() {
    let mut scene = Scene::new(1);
    scene.send(&[6]);
    assert!(scene.half_closed && !scene.connection.is_closed());
    assert!(scene.connection.wants_read(&[]));
    assert_eq!(scene.connection.deadline(), Some(scene.now + 5 * SECOND));
    let junk = vec![0xff; 1024 * 1024];
    for _ in 0..15 {
        scene.send(&junk);
        assert!(!scene.connection.is_closed());
    }
    scene.send(&junk).send(&junk);
    assert!(scene.connection.is_closed(), "over 16 MiB");

    let mut scene = Scene::new(1);
    scene.send(&[6]).pass(5 * SECOND);
    assert!(scene.connection.is_closed(), "over 5 s");

    let mut scene = Scene::new(1);
    scene.send(&[6]).eof();
    assert!(scene.connection.is_closed(), "the client closed");
}

#[test]
fn s12_an_image_that_cannot_be_opened_is_an_error_where_its_packet_would_begin() {
    let mut scene = Scene::new(3);
    scene.loads = false;
    scene.send(GET_ALL);
    scene.connection.body_loaded(100, scene.now).unwrap();
    scene.run();
    assert_eq!(scene.connection.wants_body().unwrap().image.id, scene.id(1));
    scene
        .connection
        .body_failed("001.png vanished", scene.now)
        .unwrap();
    scene.run();
    assert_eq!(scene.frames(), ["JTPG 3", "packet 0", "JTPE ServerError"]);
    assert_eq!(scene.reason(), Some(CloseReason::Body));
}

#[test]
fn s13_an_image_that_changes_under_way_closes_the_connection_short() {
    let mut scene = Scene::new(3);
    scene.loads = false;
    scene.send(GET_ALL);
    scene.connection.body_loaded(40, scene.now).unwrap();
    scene.run();
    assert_eq!(scene.connection.wants_body().unwrap().offset, 40);
    scene.connection.body_loaded(9, scene.now).unwrap();
    scene.connection.body_failed("changed", scene.now).unwrap();
    assert_eq!(scene.connection.wants_body(), None);
    scene.run();
    assert_eq!(scene.frames(), ["JTPG 3", "cut in a body (49)"]);
    assert!(scene.half_closed);
}

#[test]
fn s16_shutdown_closes_idle_connections_and_finishes_the_response_under_way() {
    let mut scene = Scene::new(1);
    scene.connection.shutdown(scene.now);
    scene.run();
    assert!(scene.half_closed && scene.frames().is_empty());
    scene.pass(SECOND);
    assert!(scene.connection.is_closed());

    let mut scene = Scene::new(2);
    scene.loads = false;
    let mut input = GET_ALL.to_vec();
    input.extend_from_slice(LIST);
    scene.send(&input);
    scene.connection.shutdown(scene.now);
    scene.loads = true;
    scene.run();
    assert_eq!(
        scene.frames(),
        ["JTPG 2", "packet 0", "packet 1"],
        "what was behind it is dropped"
    );
    assert_eq!(scene.reason(), Some(CloseReason::Shutdown));
}

#[test]
fn s16_shutdown_ends_a_watch_at_an_event_boundary() {
    let mut scene = Scene::new(0);
    scene.send(WATCH);
    scene.step = 3;
    scene.add("a.png", vec![1]);
    scene.publish();
    assert!(scene.take());
    scene.connection.shutdown(scene.now);
    assert!(!scene.connection.wants_finish());
    scene.run();
    assert_eq!(scene.frames(), ["JTPW a.png"]);
    assert!(scene.half_closed);
}

#[test]
fn c1_c3_cancel_on_an_idle_keep_alive_connection_is_answered_at_once() {
    let mut scene = Scene::new(1);
    scene.send(LIST).send(CANCEL).send(CANCEL).send(LIST);
    assert_eq!(scene.frames(), ["JTPL 000", "JTPC", "JTPC", "JTPL 000"]);
}

#[test]
fn c2_cancel_stops_at_the_next_packet_boundary() {
    for sent_before in 0..=112 {
        let mut scene = Scene::new(3);
        scene.loads = false;
        scene.send(GET_ALL);
        scene.connection.body_loaded(100, scene.now).unwrap();
        scene.step = 1;
        for _ in 0..sent_before {
            scene.take();
        }
        scene.send(CANCEL).send(LIST);
        let first = "packet 0";
        assert_eq!(
            scene.frames(),
            ["JTPG 3", first, "JTPC", "JTPL 000 001 002"]
        );
    }
}

#[test]
fn c2_the_header_and_count_are_always_sent_first() {
    for request in [
        GET_ALL.to_vec(),
        batch(true, &[]),
        get(true, &[ImageId::of(&[0; 100])]),
    ] {
        let mut scene = Scene::new(1);
        scene.loads = false;
        scene.step = 1;
        scene.input.extend_from_slice(&request);
        scene.feed();
        scene.send(CANCEL).send(LIST);
        let frames = scene.frames();
        assert!(frames[0].ends_with(" 1"), "{frames:?}");
        assert_eq!(frames[1..], ["JTPC", "JTPL 000"]);
    }
}

#[test]
fn c2_a_catalog_is_finished_first() {
    let mut scene = Scene::new(2);
    scene.step = 1;
    scene.input.extend_from_slice(LIST);
    scene.feed();
    scene.take();
    scene.send(CANCEL).send(LIST);
    assert_eq!(scene.frames(), ["JTPL 000 001", "JTPC", "JTPL 000 001"]);
}

#[test]
fn c2_cancel_while_the_application_holds_the_request() {
    let mut scene = Scene::new(2);
    scene.decides = false;
    scene.send(GET_ALL).send(CANCEL);
    scene
        .connection
        .accept(scene.writer.snapshot(), scene.now)
        .unwrap();
    scene.run();
    assert_eq!(scene.frames(), ["JTPG 2", "JTPC"]);
}

#[test]
fn c4_cancel_without_anything_to_cancel_is_invalid() {
    let mut scene = Scene::new(1);
    scene.send(CANCEL);
    assert_eq!(scene.frames(), ["JTPE InvalidRequest"]);

    let mut scene = Scene::new(3);
    scene.loads = false;
    scene.send(&[5, 0]);
    scene.connection.body_loaded(100, scene.now).unwrap();
    scene.send(CANCEL);
    assert_eq!(
        scene.frames(),
        ["JTPG 3", "packet 0", "JTPE InvalidRequest"]
    );

    let mut scene = Scene::new(1);
    scene.send(&[1, 0]).send(CANCEL);
    assert_eq!(
        scene.frames(),
        ["JTPL 000"],
        "nothing once it has half-closed"
    );
}

#[test]
fn c5_cancel_behind_another_request_waits_for_that_one() {
    let mut scene = Scene::new(2);
    scene.loads = false;
    let mut input = GET_ALL.to_vec();
    input.extend_from_slice(LIST);
    input.extend_from_slice(CANCEL);
    scene.send(&input);
    scene.loads = true;
    scene.run();
    assert_eq!(
        scene.frames(),
        ["JTPG 2", "packet 0", "packet 1", "JTPL 000 001", "JTPC"]
    );
}

#[test]
fn c6_no_more_than_one_packet_is_ever_offered() {
    let mut scene = Scene::new(3);
    scene.loads = false;
    scene.send(GET_ALL);
    scene.connection.body_loaded(100, scene.now).unwrap();
    assert_eq!(
        scene.connection.wants_body(),
        None,
        "the next one waits for this one"
    );
    assert!(scene.connection.transmit().len() <= packet::MAX_HEAD_LEN + 100);
}

#[test]
fn n1_each_new_image_is_told_once_and_none_from_before() {
    let mut scene = Scene::new(2);
    scene.send(WATCH);
    scene.add("b.png", vec![1]);
    scene.add("a.png", vec![2]);
    scene.publish();
    scene.run();
    scene.add("c.png", vec![3]);
    scene.publish();
    scene.run();
    assert_eq!(scene.frames(), ["JTPW b.png", "JTPW a.png", "JTPW c.png"]);
}

#[test]
fn n2_a_watcher_that_falls_too_far_behind_is_disconnected() {
    let mut scene = Scene::with(0, ServerConfig::new().with_max_watch_lag(2));
    scene.send(WATCH);
    scene.step = 0;
    for n in 0..4 {
        scene.add(&format!("{n}.png"), vec![n]);
        scene.publish();
    }
    assert_eq!(scene.reason(), None, "first the event that is on its way");
    scene.step = usize::MAX;
    scene.run();
    assert_eq!(scene.frames(), ["JTPW 0.png"]);
    assert_eq!(scene.reason(), Some(CloseReason::Lag));
}

#[test]
fn n2_a_watcher_that_takes_nothing_for_30_s_is_disconnected() {
    let mut scene = Scene::new(0);
    scene.send(WATCH).pass(1000 * SECOND);
    assert_eq!(scene.connection.deadline(), None, "N4");
    scene.step = 0;
    scene.add("a.png", vec![1]);
    scene.publish();
    scene.pass(29 * SECOND);
    assert!(!scene.connection.is_closed());
    scene.pass(SECOND);
    assert!(scene.connection.is_closed());
    assert_eq!(scene.reason(), Some(CloseReason::Timeout(Timeout::Write)));
}

#[test]
fn n2_many_events_at_once_are_all_told_and_cancel_need_not_wait_for_all() {
    let mut scene = Scene::new(0);
    scene.send(WATCH);
    for n in 0..2_000u32 {
        scene.add(&format!("{n:04}.png"), n.to_be_bytes().to_vec());
    }
    scene.step = 1;
    scene.publish();
    scene.take();
    assert!(scene.connection.transmit().len() <= 16 * 1024);
    scene.step = usize::MAX;
    scene.input.extend_from_slice(CANCEL);
    scene.run();
    let frames = scene.frames();
    assert_eq!(frames.last().unwrap(), "JTPC");
    assert!(frames.len() < 1_000);
    scene.send(WATCH);
    assert!(scene.frames().is_empty(), "N1: a new WATCH begins now");
}

#[test]
fn n3_cancel_ends_a_watch_and_the_connection_is_an_ordinary_one_again() {
    let mut scene = Scene::new(1);
    scene
        .send(WATCH)
        .send(&[3])
        .send(&[0])
        .send(LIST)
        .send(CANCEL);
    assert_eq!(scene.frames(), ["JTPC", "JTPL 000", "JTPC"]);
}

#[test]
fn n3_anything_but_cancel_during_watch_is_invalid() {
    for bytes in [LIST, &[4], &[3, 4], &[0xff]] {
        let mut scene = Scene::new(1);
        scene.send(WATCH).send(bytes);
        assert_eq!(scene.frames(), ["JTPE InvalidRequest"], "{bytes:?}");
    }
}

#[test]
fn n3_a_cancel_begun_must_be_whole_within_10_s() {
    let mut scene = Scene::new(1);
    scene.send(WATCH).pass(SECOND).send(&[3]);
    assert_eq!(scene.connection.deadline(), Some(Time::ZERO + 11 * SECOND));
    scene.pass(10 * SECOND);
    assert!(scene.half_closed && scene.frames().is_empty());
    assert_eq!(scene.reason(), Some(CloseReason::Timeout(Timeout::Cancel)));
}

#[test]
fn n5_a_watch_in_the_input_begins_at_the_snapshot_of_the_list_before_it() {
    let mut scene = Scene::new(1);
    scene.step = 0;
    let mut input = LIST.to_vec();
    input.extend_from_slice(WATCH);
    scene.send(&input);
    scene.add("between.png", vec![1]);
    scene.publish();
    scene.step = usize::MAX;
    scene.run();
    assert_eq!(scene.frames(), ["JTPL 000", "JTPW between.png"]);

    // One that comes later begins when it is read.
    let mut scene = Scene::new(1);
    scene.step = 0;
    scene.send(LIST);
    scene.add("between.png", vec![1]);
    scene.publish();
    scene.step = usize::MAX;
    scene.send(WATCH);
    assert_eq!(scene.frames(), ["JTPL 000"]);
}

#[test]
fn n5_another_request_between_list_and_watch_ends_the_bond() {
    let mut scene = Scene::new(1);
    scene.send(LIST);
    scene.step = 0;
    let mut input = LIST.to_vec();
    input.extend_from_slice(CANCEL);
    input.extend_from_slice(WATCH);
    scene.send(&input);
    scene.add("between.png", vec![1]);
    scene.publish();
    scene.step = usize::MAX;
    scene.run();
    assert_eq!(scene.frames(), ["JTPL 000", "JTPL 000", "JTPC"]);
}

#[test]
fn n6_eof_ends_a_watch_after_the_event_begun() {
    let mut scene = Scene::new(0);
    scene.send(WATCH);
    scene.step = 3;
    scene.add("a.png", vec![1]);
    scene.publish();
    scene.take();
    scene.eof();
    scene.add("b.png", vec![2]);
    scene.publish();
    scene.run();
    assert_eq!(scene.frames(), ["JTPW a.png"]);
    assert!(scene.connection.is_closed());
}

#[test]
fn t4_silence_ends_a_connection() {
    let mut scene = Scene::new(1);
    scene.pass(59 * SECOND);
    assert!(!scene.half_closed);
    scene.pass(SECOND);
    assert!(scene.half_closed);
    assert_eq!(
        scene.reason(),
        Some(CloseReason::Timeout(Timeout::FirstByte))
    );

    let mut scene = Scene::new(1);
    scene
        .pass(50 * SECOND)
        .send(LIST)
        .pass(29 * SECOND)
        .send(LIST)
        .pass(29 * SECOND);
    assert!(!scene.half_closed);
    scene.pass(SECOND);
    assert_eq!(scene.reason(), Some(CloseReason::Timeout(Timeout::Idle)));
    assert_eq!(
        scene.frames(),
        ["JTPL 000", "JTPL 000"],
        "without an error frame"
    );
}

#[test]
fn t4_a_request_must_come_at_16_kib_a_second_after_10_s() {
    let mut scene = Scene::new(1);
    scene.send(&[2, 1, 0xc0, 0x84, 0x3d]);
    // 16 KiB a second is fast enough; so is a pause of no more than the grace.
    for _ in 0..50 {
        scene.pass(SECOND).send(&vec![0; 16 * 1024]);
        assert_eq!(scene.reason(), None);
    }
    scene.pass(10 * SECOND);
    assert_eq!(scene.reason(), None);
    scene.pass(SECOND);
    assert_eq!(scene.reason(), Some(CloseReason::Timeout(Timeout::Request)));
}

#[test]
fn t4_the_request_clock_stands_while_the_application_holds_the_request() {
    let mut scene = Scene::new(1);
    scene.decides = false;
    scene.send(&get(true, &[ImageId(1)])[..5]);
    scene.pass(1000 * SECOND);
    assert_eq!(scene.connection.deadline(), None);
    scene
        .connection
        .accept(scene.writer.snapshot(), scene.now)
        .unwrap();
    scene.pass(9 * SECOND);
    assert_eq!(scene.reason(), None);
    scene.pass(2 * SECOND);
    assert_eq!(scene.reason(), Some(CloseReason::Timeout(Timeout::Request)));
}

#[test]
fn t4_output_must_move_in_30_s_but_the_disk_may_work_as_long_as_it_likes() {
    let mut scene = Scene::new(2);
    scene.loads = false;
    scene.send(GET_ALL).pass(1000 * SECOND);
    assert_eq!(scene.connection.deadline(), None);
    scene.step = 1;
    scene.connection.body_loaded(1, scene.now).unwrap();
    for _ in 0..5 {
        scene.take();
        scene.now = scene.now + 29 * SECOND;
        scene.connection.handle_timeout(scene.now);
        assert!(!scene.connection.is_closed());
    }
    scene.now = scene.now + 30 * SECOND;
    scene.connection.handle_timeout(scene.now);
    assert!(scene.connection.is_closed());
}

#[test]
fn t5_a_half_close_is_no_abort() {
    let mut scene = Scene::new(2);
    scene.step = 1;
    let mut input = GET_ALL.to_vec();
    input.extend_from_slice(LIST);
    scene.input.extend_from_slice(&input);
    scene.connection.receive_eof();
    scene.run();
    assert_eq!(
        scene.frames(),
        ["JTPG 2", "packet 0", "packet 1", "JTPL 000 001"]
    );
    assert!(scene.connection.is_closed());
    assert_eq!(scene.reason(), Some(CloseReason::PeerClosed));
}

#[test]
fn the_application_can_refuse_a_request_or_a_whole_connection() {
    let mut scene = Scene::new(1);
    scene.decides = false;
    scene.send(LIST);
    scene
        .connection
        .refuse(ErrorCode::RateLimited, "slow down", scene.now)
        .unwrap();
    scene.run();
    assert_eq!(scene.frames(), ["JTPE RateLimited"]);

    let mut scene = Scene::new(1);
    let config = ServerConfig::new();
    scene.connection = ServerConnection::refused(
        config,
        ErrorCode::UnsupportedFeature,
        TLS_NEEDED,
        Time::ZERO,
    );
    scene.send(LIST);
    assert_eq!(scene.frames(), ["JTPE UnsupportedFeature"]);
    assert!(scene.half_closed);
}

#[test]
fn calls_that_do_not_fit_answer_misuse_and_change_nothing() {
    let mut scene = Scene::new(1);
    let (now, catalog) = (scene.now, Arc::clone(scene.writer.snapshot()));
    let connection = &mut scene.connection;
    assert_eq!(connection.accept(&catalog, now), Err(Misuse::NoRequest));
    assert_eq!(
        connection.refuse(ErrorCode::NotFound, "", now),
        Err(Misuse::NoRequest)
    );
    assert_eq!(connection.body_loaded(0, now), Err(Misuse::NoBody));
    assert_eq!(connection.body_failed("", now), Err(Misuse::NoBody));
    assert_eq!(connection.transmitted(1, now), Err(Misuse::TooMuch));
    assert_eq!(connection.finished(now), Err(Misuse::NoFinish));
    connection.catalog_changed(&catalog, now);
    scene.loads = false;
    scene.send(GET_ALL);
    assert_eq!(scene.connection.body_loaded(101, now), Err(Misuse::NoBody));
    scene.connection.body_loaded(100, now).unwrap();
    assert_eq!(scene.connection.wants_body(), None);
    assert_eq!(scene.connection.body_loaded(0, now), Err(Misuse::NoBody));
    scene.loads = true;
    scene.run().send(LIST);
    assert_eq!(scene.frames(), ["JTPG 1", "packet 0", "JTPL 000"]);
}

#[test]
fn c1_a_cancel_that_came_before_the_decision_is_answered_for_every_request() {
    for request in [
        LIST.to_vec(),
        get(true, &[]),
        batch(true, &[]),
        GET_ALL.to_vec(),
    ] {
        let mut scene = Scene::new(1);
        scene.decides = false;
        scene.send(&request).send(CANCEL);
        assert!(
            scene.input.is_empty(),
            "the CANCEL is looked at ahead of its turn"
        );
        scene
            .connection
            .accept(scene.writer.snapshot(), scene.now)
            .unwrap();
        scene.run();
        let frames = scene.frames();
        assert_eq!(frames.len(), 2, "{frames:?}");
        assert_eq!(frames[1], "JTPC");
    }
}

#[test]
fn n5_a_watch_behind_a_cancelled_list_does_not_directly_follow_it() {
    let mut scene = Scene::new(1);
    scene.decides = false;
    scene.send(&[1, 1, 3, 0, 4, 0]).run();
    scene
        .connection
        .accept(scene.writer.snapshot(), scene.now)
        .unwrap();
    scene.add("new.png", vec![9; 10]);
    scene.writer.publish();
    scene.decides = true;
    scene.run();
    assert_eq!(
        scene.frames(),
        ["JTPL 000", "JTPC"],
        "it is in the catalog already"
    );
    scene.add("newer.png", vec![8; 10]);
    scene.publish();
    scene.run();
    assert_eq!(scene.frames(), ["JTPW newer.png"]);
}

#[test]
fn an_earlier_time_is_taken_as_no_time_having_passed() {
    let mut scene = Scene::new(1);
    scene.now = Time::ZERO + 100 * SECOND;
    scene.loads = false;
    scene.send(GET_ALL);
    let connection = &mut scene.connection;
    connection.body_loaded(100, Time::ZERO).unwrap();
    connection.transmitted(1, Time::ZERO).unwrap();
    assert_eq!(connection.deadline(), Some(Time::ZERO + 130 * SECOND));
}

#[test]
fn an_empty_catalog_and_an_empty_image_travel() {
    let mut scene = Scene::new(0);
    scene.send(LIST).send(GET_ALL).send(&batch(true, &[]));
    assert_eq!(scene.frames(), ["JTPL ", "JTPG 0", "JTPB 0"]);
    scene.add("empty.png", Vec::new());
    scene.publish();
    scene.send(GET_ALL);
    assert_eq!(scene.frames(), ["JTPG 1", "packet 0"]);
}

/// Every exchange gives the same output, however the input and the output are cut.
#[test]
fn pieces_of_any_size_make_no_difference() {
    let mut script = LIST.to_vec();
    script.extend(get(true, &[ImageId::of(&[1; 100]), ImageId(9)]));
    script.extend(batch(true, &[ImageId::of(&[0; 100])]));
    script.extend_from_slice(GET_ALL);
    script.extend_from_slice(LIST);
    script.extend_from_slice(&[1, 0, 99]);
    let mut whole = Scene::new(3);
    whole.send(&script);
    let expected = whole.got.clone();
    for input in 1..8 {
        for output in 1..8 {
            let mut scene = Scene::new(3);
            scene.step = output;
            for piece in script.chunks(input) {
                scene.send(piece);
            }
            assert_eq!(scene.got, expected);
        }
    }
}
