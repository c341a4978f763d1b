//! One direction of a connection: bytes arrive in order after a delay.

use std::collections::VecDeque;
use std::time::Duration;

use jtp_core::Time;
use jtp_kit::Rng;

#[derive(Debug)]
pub(crate) struct Pipe {
    /// Arrival time and bytes of each write, and how many of them are still unread.
    in_flight: VecDeque<(Time, Vec<u8>, usize)>,
    length: usize,
    /// Total socket buffer size of both ends, in bytes.
    capacity: usize,
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
    pub(crate) fn new(rng: &mut Rng, now: Time) -> Pipe {
        // Slow, but fast enough for every client to finish before the end.
        let (capacity, latency) = *rng.pick(&[
            (600, 2_000),
            (3_000, 10),
            (3_000, 60_000),
            (60_000, 400_000),
        ]);
        Pipe {
            in_flight: VecDeque::new(),
            length: 0,
            capacity,
            latency: Duration::from_micros(latency),
            time_per_kilobyte: Duration::from_micros(*rng.pick(&[0, 1, 100, 2_000])),
            last: now,
            end: None,
            end_reported: false,
            stalled: now,
        }
    }

    pub(crate) fn room(&self) -> usize {
        self.capacity - self.length
    }

    pub(crate) fn send(&mut self, bytes: &[u8], now: Time) {
        assert!(self.end.is_none(), "sent after the end");
        let duration = self.time_per_kilobyte * u32::try_from(bytes.len()).unwrap() / 1_000;
        self.last = self.last.max(now + self.latency) + duration;
        self.length += bytes.len();
        self.in_flight
            .push_back((self.last, bytes.to_vec(), bytes.len()));
    }

    pub(crate) fn finish(&mut self, now: Time) {
        self.last = self.last.max(now + self.latency);
        self.end.get_or_insert(self.last);
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.end.is_some()
    }

    /// Reads up to `max` bytes that have arrived.
    pub(crate) fn take(&mut self, max: usize, now: Time) -> Vec<u8> {
        if now < self.stalled {
            return Vec::new();
        }
        let Some((arrives, bytes, left)) = self.in_flight.front_mut() else {
            return Vec::new();
        };
        if *arrives > now {
            return Vec::new();
        }
        let at = bytes.len() - *left;
        let piece = bytes[at..at + max.min(*left)].to_vec();
        *left -= piece.len();
        if *left == 0 {
            self.in_flight.pop_front();
        }
        self.length -= piece.len();
        piece
    }

    /// Whether the end has arrived; true only once.
    pub(crate) fn take_end(&mut self, now: Time) -> bool {
        let arrived = self.end.is_some_and(|end| end <= now)
            && self.in_flight.is_empty()
            && now >= self.stalled;
        arrived && !std::mem::replace(&mut self.end_reported, true)
    }

    pub(crate) fn is_end_reported(&self) -> bool {
        self.end_reported
    }

    /// When the next bytes, or the end, can be read; `None` if nothing is in flight.
    pub(crate) fn next_arrival(&self) -> Option<Time> {
        let end = self.end.filter(|_| !self.end_reported);
        let first = self.in_flight.front().map(|(arrives, ..)| *arrives).or(end);
        first.map(|arrives| arrives.max(self.stalled))
    }
}
