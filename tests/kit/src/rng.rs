//! Seeded randomness.

use std::fmt::Debug;

/// SplitMix64: a seed gives the same numbers again.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// All seeds are good ones.
    #[must_use]
    pub const fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// The next number.
    #[allow(clippy::should_implement_trait)]
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than `end`; 0 if that is 0.
    pub fn below<N: TryFrom<u64> + TryInto<u64>>(&mut self, end: N) -> N
    where
        <N as TryFrom<u64>>::Error: Debug,
        <N as TryInto<u64>>::Error: Debug,
    {
        let end: u64 = end.try_into().expect("not negative");
        N::try_from(self.next() % end.max(1)).expect("less than `end`")
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
        self.below(count) == 0
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
