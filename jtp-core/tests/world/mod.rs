//! The world: its clock, what goes wrong in it, and what has to hold in the end.

mod connection;
mod network;
mod person;
mod shop;

use std::ops::AddAssign;
use std::time::Duration;

use jtp_core::Time;

use person::Person;
use shop::Shop;

/// Choices from a seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        u32::try_from(high % u64::from(limit)).unwrap()
    }

    pub(crate) fn one_in(&mut self, count: u32) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(u32::try_from(of.len()).unwrap()) as usize]
    }

    pub(crate) fn millis(&mut self, limit: u32) -> Duration {
        Duration::from_millis(self.below(limit).into())
    }
}

/// What happened, to see that it did.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) connections: u64,
    pub(crate) images: u64,
    pub(crate) answers: u64,
    pub(crate) cancels: u64,
    pub(crate) events: u64,
    pub(crate) resets: u64,
    pub(crate) stalls: u64,
    pub(crate) vanished: u64,
    pub(crate) timeouts: u64,
    pub(crate) restarts: u64,
    pub(crate) half_closes: u64,
    pub(crate) refusals: u64,
    /// Simulated.
    pub(crate) seconds: u64,
}

impl Counts {
    fn numbers(&self) -> [u64; 13] {
        let Counts {
            connections,
            images,
            answers,
            cancels,
            events,
            resets,
            stalls,
            vanished,
            timeouts,
            restarts,
            half_closes,
            refusals,
            seconds,
        } = *self;
        [
            connections,
            images,
            answers,
            cancels,
            events,
            resets,
            stalls,
            vanished,
            timeouts,
            restarts,
            half_closes,
            refusals,
            seconds,
        ]
    }

    pub(crate) fn all_above_zero(&self) -> bool {
        self.numbers().iter().all(|count| *count > 0)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.connections += other.connections;
        self.images += other.images;
        self.answers += other.answers;
        self.cancels += other.cancels;
        self.events += other.events;
        self.resets += other.resets;
        self.stalls += other.stalls;
        self.vanished += other.vanished;
        self.timeouts += other.timeouts;
        self.restarts += other.restarts;
        self.half_closes += other.half_closes;
        self.refusals += other.refusals;
        self.seconds += other.seconds;
    }
}

/// For so long things go wrong; after that everything has to come right.
const TROUBLE: Duration = Duration::from_secs(90);

/// By then every job is done. What takes longest is to find out that a connection is dead.
const END: Duration = Duration::from_secs(90 + 600);

pub(crate) fn play(seed: u64) -> Counts {
    let mut dice = Dice((seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0x2545_f491_4f6c_dd1d) | 1);
    let mut counts = Counts::default();
    let mut shop = Shop::new(&mut dice);
    let mut people: Vec<Person> = (0..3 + dice.below(9))
        .map(|_| Person::new(&mut dice))
        .collect();
    let (mut now, mut next_change) = (Time::ZERO, Time::ZERO);
    let trouble = Time::ZERO + TROUBLE;
    let mut calm = false;
    loop {
        if now >= trouble && !std::mem::replace(&mut calm, true) {
            shop.publish();
        }
        if !calm && now >= next_change {
            trouble_happens(&mut shop, &mut people, now, &mut dice, &mut counts);
            // Now and then many changes come close together.
            let longest = dice.pick(&[20, 200, 3_000]);
            next_change = now + dice.millis(longest);
        }
        for person in &mut people {
            let mut rounds = 0;
            while person.act(&shop, now, calm, &mut dice, &mut counts) {
                rounds += 1;
                assert!(rounds < 1_000_000, "no rest: {person:?}");
            }
        }
        if calm && people.iter().all(|person| person.is_content(&shop)) {
            break;
        }
        assert!(
            now < Time::ZERO + END,
            "not done in time: {:?}",
            people.iter().find(|p| !p.is_content(&shop))
        );
        let soonest = people.iter().filter_map(|person| person.wakes(now)).min();
        let change = (!calm).then_some(next_change);
        let then = soonest.into_iter().chain(change).min();
        let lacks = || people.iter().find(|person| !person.is_content(&shop));
        now = then.unwrap_or_else(|| panic!("nothing will happen any more: {:?}", lacks()));
    }
    for person in &mut people {
        person.check(&shop);
    }
    drop(people);
    shop.check_memory();
    counts.seconds = now.elapsed().as_secs();
    counts
}

fn trouble_happens(
    shop: &mut Shop,
    people: &mut [Person],
    now: Time,
    dice: &mut Dice,
    counts: &mut Counts,
) {
    match dice.below(10) {
        0..4 => {
            for _ in 0..dice.below(4) {
                shop.change(dice);
            }
            shop.publish();
        }
        4 => counts.vanished += u64::from(shop.vanish(dice)),
        // Late: the catalog learns of what has happened to the files.
        5 => shop.publish(),
        6 if dice.one_in(3) => {
            counts.restarts += 1;
            people
                .iter_mut()
                .for_each(|person| person.server_shuts_down(now));
        }
        _ => {
            let at = dice.below(u32::try_from(people.len()).unwrap()) as usize;
            match dice.below(3) {
                0 => counts.resets += u64::from(people[at].reset(now)),
                1 => counts.stalls += u64::from(people[at].stall(now, dice)),
                _ => {}
            }
        }
    }
}
