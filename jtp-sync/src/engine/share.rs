//! What several connections take over of one request for everything.
//!
//! The first connection does what one connection does alone: it requests the catalog and everything, and receives the
//! images in the order of the catalog (S5). The others request images by ID from the end of the catalog, only as many as
//! arrive before the first connection gets there. So they cost no time if the line or the processors are the bottleneck,
//! and save some if the first connection is. Once all images have arrived, the first connection is closed.

use std::time::{Duration, Instant};

use jtp_core::ImageId;
use jtp_core::wire::request::MAX_GET;

use super::pace::Pace;
use super::request::MIN_BYTES;
use crate::planner::Planner;

/// How often the other connections look whether there is something for them.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(25);

/// How long nothing may arrive until the other connections take over as much as they can.
const OVERDUE: Duration = Duration::from_secs(1);

/// A request for everything that is under way.
#[derive(Debug)]
pub(super) struct Share {
    begun: Instant,
    /// When the bytes were last looked at that had arrived, after the first image began, and how many those were.
    seen: Option<(Instant, u64)>,
    /// The most bytes that have arrived over the first connection in the time until an image arrives over another one.
    ahead: u64,
    /// The place of the last one in the catalog.
    place: usize,
    /// The time from a request to its first image over another connection, as far as known.
    latency: Duration,
    /// The bytes of all images.
    total: u64,
    /// Those of the images that others took over.
    taken: u64,
    /// Whether more may be taken over.
    is_open: bool,
}

/// The size of a request, in bytes.
#[derive(Debug, Clone, Copy)]
struct Size {
    images: u64,
    /// A single image may be longer than that.
    image: u64,
}

impl Share {
    pub(super) fn new(begun: Instant, latency: Duration, total: u64) -> Share {
        Share {
            begun,
            seen: None,
            ahead: 0,
            place: 0,
            latency,
            total,
            taken: 0,
            is_open: true,
        }
    }

    /// An image begins to arrive over the first connection: the one in this place of the catalog, if that names it. If images
    /// do not come in order, the end does not come last. // S5
    pub(super) fn image_begins(&mut self, place: Option<usize>, now: Instant) {
        self.seen.get_or_insert((now, 0));
        self.is_open &= place.is_none_or(|place| place >= self.place);
        self.place = place.unwrap_or(self.place);
    }

    /// Whether it is of use to look again.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Whether any image was taken over.
    pub(super) fn is_taken(&self) -> bool {
        self.taken > 0
    }

    /// Nothing more is to be taken over.
    pub(super) fn close(&mut self) {
        self.is_open = false;
    }

    /// The images that another one of this number of connections requests now. `received`: the bytes that have arrived over
    /// the first connection.
    pub(super) fn next(
        &mut self,
        planner: &mut Planner,
        (now, received): (Instant, u64),
        connections: usize,
        pace: Option<Pace>,
    ) -> Option<Vec<ImageId>> {
        let size = self.size(now, received, connections, pace)?;
        let (mut ids, mut bytes) = (Vec::new(), 0);
        while ids.len() < MAX_GET {
            let most = match ids.is_empty() {
                true => size.image,
                false => size.images.saturating_sub(bytes),
            };
            let most = u32::try_from(most).unwrap_or(u32::MAX);
            let Some((id, length)) = planner.next_of_all(most) else {
                break;
            };
            bytes += u64::from(length);
            ids.push(id);
        }
        self.taken += bytes.max(u64::from(!ids.is_empty()));
        (!ids.is_empty()).then_some(ids)
    }

    /// Whether [`next`](Self::next) would return images.
    pub(super) fn has_work(
        &mut self,
        now: Instant,
        received: u64,
        connections: usize,
        pace: Option<Pace>,
    ) -> bool {
        self.size(now, received, connections, pace).is_some()
    }

    fn size(
        &mut self,
        now: Instant,
        received: u64,
        connections: usize,
        pace: Option<Pace>,
    ) -> Option<Size> {
        let left = self.total.saturating_sub(received + self.taken);
        let n = u64::try_from(connections.max(2)).unwrap_or(u64::MAX);
        if !self.is_open {
            return None;
        }
        let since = |then| now.saturating_duration_since(then);
        let Some((then, before)) = self.seen else {
            let is_overdue = since(self.begun) > OVERDUE.max(self.latency.saturating_mul(4));
            let images = left / (2 * n);
            return is_overdue.then_some(Size {
                images,
                image: left,
            });
        };
        if since(then) >= LOOK_INTERVAL {
            // It is the faster the fewer others receive at the same time.
            let wait = (self.latency + LOOK_INTERVAL).as_nanos();
            let ahead = u128::from(received.saturating_sub(before)) * wait / since(then).as_nanos();
            self.ahead = self.ahead.max(u64::try_from(ahead).unwrap_or(u64::MAX));
            self.seen = Some((now, received));
        } else if before == 0 {
            return None;
        }
        let ahead = self.ahead.max(pace.map_or(0, |pace| pace.min_request(1)));
        if left < ahead.saturating_mul(4).max(4 * MIN_BYTES) {
            return None;
        }
        // As much is left for the first connection, at least.
        let image = (left - ahead) / 2;
        let images = (left / (2 * n)).max(ahead).max(MIN_BYTES).min(image);
        Some(Size { images, image })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use jtp_core::FileType::Png;
    use jtp_kit::{Rng, for_each_seed};

    use super::*;
    use crate::{Inventory, Options};

    /// A line between a client and a server: bytes in a millisecond, and milliseconds from a request to its first image.
    #[derive(Debug, Clone, Copy)]
    struct Line {
        rate: f64,
        rate_of_each: f64,
        latency: u64,
    }

    /// A connection, and what it receives.
    #[derive(Default)]
    struct Receiving {
        from: u64,
        coming: VecDeque<(ImageId, f64)>,
    }

    /// The milliseconds until all images have arrived.
    fn time(images: &[u32], line: Line, connections: usize) -> u64 {
        let mut planner = Planner::new(Options::new());
        planner.set_folder(Inventory::new());
        planner.begin_list();
        for (n, length) in (0..).zip(images) {
            planner.entry(ImageId(n), &format!("{n}.png"), Png, *length);
        }
        let _ = planner.end_list(true);
        let total = planner.fetch_all().bytes;
        let start = Instant::now();
        let mut share = Share::new(start, Duration::from_millis(line.latency), total);
        let mut all: Vec<Receiving> = (0..connections).map(|_| Receiving::default()).collect();
        all[0].coming = (0..)
            .map(ImageId)
            .zip(images.iter().copied().map(f64::from))
            .collect();
        let mut received = 0.0;
        for ms in 0.. {
            let now = start + Duration::from_millis(ms);
            for other in all.iter_mut().skip(1) {
                let looks = other.coming.is_empty() && ms >= other.from;
                if !looks {
                    continue;
                }
                other.from = ms + 25;
                if let Some(ids) =
                    share.next(&mut planner, (now, received as u64), connections, None)
                {
                    let length = |id: ImageId| f64::from(images[usize::try_from(id.0).unwrap()]);
                    other.coming = ids.into_iter().map(|id| (id, length(id))).collect();
                    other.from = ms + line.latency;
                }
            }
            let active = |one: &&mut Receiving| one.from <= ms && !one.coming.is_empty();
            let count = all.iter_mut().filter(active).count() as f64;
            for (number, one) in all.iter_mut().enumerate().filter(|(_, one)| one.from <= ms) {
                let mut bytes = (line.rate / count.max(1.0)).min(line.rate_of_each);
                while let Some((id, left)) = one.coming.front_mut() {
                    let some = bytes.min(*left);
                    (bytes, *left) = (bytes - some, *left - some);
                    if number == 0 {
                        share.image_begins(planner.place(*id), now);
                        received += some;
                    }
                    if *left > 0.0 {
                        break;
                    }
                    let _ = planner.fetched(*id);
                    one.coming.pop_front();
                }
            }
            if planner.requested().images == 0 {
                return ms;
            }
        }
        unreachable!()
    }

    #[test]
    fn s5_nothing_is_taken_over_from_a_server_whose_images_come_in_another_order() {
        for (places, is_open) in [
            ([Some(0), Some(4)], true),
            ([Some(4), None], true),
            ([Some(4), Some(3)], false),
        ] {
            let start = Instant::now();
            let mut share = Share::new(start, Duration::ZERO, 100_000_000);
            places
                .into_iter()
                .for_each(|place| share.image_begins(place, start));
            let later = start + Duration::from_secs(1);
            assert_eq!(
                share.size(later, 1, 4, None).is_some(),
                is_open,
                "{places:?}"
            );
        }
    }

    #[test]
    fn several_connections_take_no_longer_than_one_and_less_if_each_is_slow() {
        for_each_seed(30, |seed| {
            let rng = &mut Rng::new(seed);
            let count = rng.below(1_500) + 1;
            let longest = *rng.pick(&[10_000, 100_000, 5_000_000]);
            let images: Vec<u32> = (0..count).map(|_| rng.below(longest)).collect();
            let total: u64 = images.iter().copied().map(u64::from).sum();
            let rate = (total / (rng.below(3_000u64) + 10) + 1) as f64;
            let (latency, connections) = (rng.below(300), rng.below(31usize) + 2);
            let line = Line {
                rate,
                rate_of_each: rate,
                latency,
            };
            let (alone, together) = (time(&images, line, 1), time(&images, line, connections));
            assert!(
                together <= alone + alone / 100 + 2,
                "{line:?}, {connections}: {alone}, {together}"
            );

            let line = Line {
                rate_of_each: rate / 4.0,
                ..line
            };
            let (alone, together) = (time(&images, line, 1), time(&images, line, connections));
            assert!(
                together <= alone + alone / 100 + 2,
                "{line:?}, {connections}: {alone}, {together}"
            );
            if total > 3_000_000 && count > 100 && connections > 4 && alone > 40 * (latency + 25) {
                assert!(
                    2 * together < alone,
                    "{line:?}, {connections}: {alone}, {together}"
                );
            }
        });
    }
}
