//! Seeded randomness.

use std::collections::VecDeque;
use std::fmt::Debug;

/// A source of random choices: a seed, which gives the same choices again, or bytes, which a fuzzer chooses.
#[derive(Debug, Clone)]
pub struct Rng(Source);

#[derive(Debug, Clone)]
enum Source {
    /// The state of SplitMix64. All seeds are good ones.
    Seed(u64),
    Bytes(VecDeque<u8>),
}

impl Rng {
    /// The choices of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Rng {
        Rng(Source::Seed(seed))
    }

    /// The choices that these bytes make. After the last byte, each is the first one of those possible, and nothing that
    /// happens [once in a while](Self::one_in) does.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Rng {
        Rng(Source::Bytes(bytes.iter().copied().collect()))
    }

    /// The next number.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.next_bytes(8)
    }

    /// The next number. Bytes of a fuzzer give one of this many bytes.
    fn next_bytes(&mut self, count: usize) -> u64 {
        match &mut self.0 {
            Source::Seed(state) => {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut mixed = *state;
                mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                mixed ^ (mixed >> 31)
            }
            Source::Bytes(bytes) => {
                let mut next = || u64::from(bytes.pop_front().unwrap_or(0));
                (0..count).fold(0, |number, _| number << 8 | next())
            }
        }
    }

    /// Less than `end`; 0 if that is 0.
    pub fn below<N: TryFrom<u64> + TryInto<u64>>(&mut self, end: N) -> N
    where
        <N as TryFrom<u64>>::Error: Debug,
        <N as TryInto<u64>>::Error: Debug,
    {
        let end: u64 = end.try_into().expect("not negative");
        let bytes = match end {
            0..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            _ => 8,
        };
        N::try_from(self.next_bytes(bytes) % end.max(1)).expect("less than `end`")
    }

    /// True in this many of 100 calls on average.
    pub fn percent<N: TryInto<u64>>(&mut self, chance: N) -> bool
    where
        N::Error: Debug,
    {
        self.below(100) < chance.try_into().expect("not negative")
    }

    /// True once in `count` calls on average.
    pub fn one_in(&mut self, count: u64) -> bool {
        let is_used_up = matches!(&self.0, Source::Bytes(bytes) if bytes.is_empty());
        !is_used_up && self.below(count) == 0
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// `None` if there is nothing to pick.
    pub fn pick_any<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| self.pick(from).clone())
    }
}
