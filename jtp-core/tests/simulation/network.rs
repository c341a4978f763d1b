//! One direction of a connection: bytes arrive in order after a delay.

use std::collections::VecDeque;
use std::time::Duration;

use jtp_core::Time;
use jtp_kit::Rng;

#[derive(Debug)]
pub(crate) struct Pipe {
    /// Arrival time and unread bytes of each write.
    in_flight: VecDeque<(Time, VecDeque<u8>)>,
    length: usize,
    /// Total socket buffer size of both ends, in bytes.
    pub(crate) capacity: usize,
    latency: Duration,
    /// Transmission time of 1,000 bytes.
    time_per_kilobyte: Duration,
    last: Time,
    end: Option<Time>,
    end_reported: bool,
    /// Nothing can be read before this time.
    pub(crate) stalled: Time,
}

impl Pipe {
    /// A pipe without delay.
    pub(crate) fn new(capacity: usize) -> Pipe {
        Pipe {
            in_flight: VecDeque::new(),
            length: 0,
            capacity,
            latency: Duration::ZERO,
            time_per_kilobyte: Duration::ZERO,
            last: Time::ZERO,
            end: None,
            end_reported: false,
            stalled: Time::ZERO,
        }
    }

    /// A slow one, but fast enough for every client to finish before the end.
    pub(crate) fn slow(rng: &mut Rng) -> Pipe {
        let (capacity, latency) = *rng.pick(&[
            (600, 2_000),
            (3_000, 10),
            (3_000, 60_000),
            (60_000, 400_000),
        ]);
        Pipe {
            latency: Duration::from_micros(latency),
            time_per_kilobyte: Duration::from_micros(*rng.pick(&[0, 1, 100, 2_000])),
            ..Pipe::new(capacity)
        }
    }

    pub(crate) fn room(&self) -> usize {
        self.capacity - self.length
    }

    pub(crate) fn send(&mut self, bytes: Vec<u8>, now: Time) {
        if bytes.is_empty() {
            return;
        }
        assert!(self.end.is_none(), "sent after the end");
        let duration = self.time_per_kilobyte * u32::try_from(bytes.len()).unwrap() / 1_000;
        self.last = self.last.max(now + self.latency) + duration;
        self.length += bytes.len();
        self.in_flight.push_back((self.last, bytes.into()));
    }

    pub(crate) fn finish(&mut self, now: Time) -> bool {
        self.last = self.last.max(now + self.latency);
        let is_new = self.end.is_none();
        self.end.get_or_insert(self.last);
        is_new
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.end.is_some()
    }

    /// Reads up to `max` bytes that have arrived.
    pub(crate) fn take(&mut self, max: usize, now: Time) -> Vec<u8> {
        let first = self.in_flight.front_mut();
        let Some((_, bytes)) = first.filter(|(at, _)| (*at).max(self.stalled) <= now) else {
            return Vec::new();
        };
        let piece: Vec<u8> = bytes.drain(..max.min(bytes.len())).collect();
        if bytes.is_empty() {
            self.in_flight.pop_front();
        }
        self.length -= piece.len();
        piece
    }

    /// Whether the end has arrived; true only once.
    pub(crate) fn take_end(&mut self, now: Time) -> bool {
        let has_arrived = self.end.is_some_and(|end| end.max(self.stalled) <= now);
        has_arrived && self.in_flight.is_empty() && !std::mem::replace(&mut self.end_reported, true)
    }

    pub(crate) fn is_end_reported(&self) -> bool {
        self.end_reported
    }

    /// When the next bytes, or the end, can be read; `None` if nothing is in flight.
    pub(crate) fn next_arrival(&self) -> Option<Time> {
        let end = self.end.filter(|_| !self.end_reported);
        let first = self.in_flight.front().map(|(at, _)| *at).or(end);
        first.map(|at| at.max(self.stalled))
    }
}
