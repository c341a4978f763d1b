//! One direction of a connection: bytes arrive some time after they were sent, in order.

use std::collections::VecDeque;
use std::time::Duration;

use jtp_core::Time;

use super::Dice;

#[derive(Debug)]
pub(crate) struct Pipe {
    /// What was sent at once, and how much of it is still to be taken.
    on_the_way: VecDeque<(Time, Vec<u8>, usize)>,
    length: usize,
    /// How much the systems at both ends take.
    capacity: usize,
    latency: Duration,
    /// For 1,000 bytes.
    slowness: Duration,
    last: Time,
    end: Option<Time>,
    end_told: bool,
    /// Until then nothing arrives, or nobody looks.
    pub(crate) stalled: Time,
}

impl Pipe {
    pub(crate) fn new(dice: &mut Dice, now: Time) -> Pipe {
        // Slow, but such that everything is done in time.
        let (capacity, latency) = dice.pick(&[
            (600, 2_000),
            (3_000, 10),
            (3_000, 60_000),
            (60_000, 400_000),
        ]);
        Pipe {
            on_the_way: VecDeque::new(),
            length: 0,
            capacity,
            latency: Duration::from_micros(latency),
            slowness: Duration::from_micros(dice.pick(&[0, 1, 100, 2_000])),
            last: now,
            end: None,
            end_told: false,
            stalled: now,
        }
    }

    pub(crate) fn room(&self) -> usize {
        self.capacity - self.length
    }

    pub(crate) fn send(&mut self, bytes: &[u8], now: Time) {
        assert!(self.end.is_none(), "sent behind the end");
        let takes = self.slowness * u32::try_from(bytes.len()).unwrap() / 1_000;
        self.last = self.last.max(now + self.latency) + takes;
        self.length += bytes.len();
        self.on_the_way
            .push_back((self.last, bytes.to_vec(), bytes.len()));
    }

    pub(crate) fn finish(&mut self, now: Time) {
        self.last = self.last.max(now + self.latency);
        self.end.get_or_insert(self.last);
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.end.is_some()
    }

    /// Up to so many bytes of what has arrived.
    pub(crate) fn take(&mut self, most: usize, now: Time) -> Vec<u8> {
        if now < self.stalled {
            return Vec::new();
        }
        let Some((arrives, bytes, left)) = self.on_the_way.front_mut() else {
            return Vec::new();
        };
        if *arrives > now {
            return Vec::new();
        }
        let at = bytes.len() - *left;
        let piece = bytes[at..at + most.min(*left)].to_vec();
        *left -= piece.len();
        if *left == 0 {
            self.on_the_way.pop_front();
        }
        self.length -= piece.len();
        piece
    }

    /// Whether the end has arrived; says so once.
    pub(crate) fn ends(&mut self, now: Time) -> bool {
        let arrived = self.end.is_some_and(|end| end <= now)
            && self.on_the_way.is_empty()
            && now >= self.stalled;
        arrived && !std::mem::replace(&mut self.end_told, true)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.end_told
    }

    /// When something arrives next, if anything is on its way.
    pub(crate) fn next(&self) -> Option<Time> {
        let end = self.end.filter(|_| !self.end_told);
        let first = self
            .on_the_way
            .front()
            .map(|(arrives, ..)| *arrives)
            .or(end);
        first.map(|arrives| arrives.max(self.stalled))
    }
}
