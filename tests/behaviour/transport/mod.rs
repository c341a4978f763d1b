//! The transports between client and server, and how they split the bytes.

pub(crate) mod pipe;
pub(crate) mod proxy;
pub(crate) mod streams;

/// How reads and writes are split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Not split.
    Whole,
    /// One byte at a time.
    Bytes,
    /// In pieces of seeded random sizes.
    Pieces(u64),
    /// Like `Pieces`, with small buffers; every other read and write would block.
    Stalls(u64),
}

use jtp_kit::Rng;

/// Draws the sizes of a shape's pieces from a seeded RNG.
#[derive(Clone, Debug)]
pub(crate) struct PieceSizes {
    shape: Shape,
    rng: Rng,
    stall_next: bool,
}

impl PieceSizes {
    pub(crate) fn new(shape: Shape, salt: u64) -> PieceSizes {
        let seed = match shape {
            Shape::Whole | Shape::Bytes => 0,
            Shape::Pieces(seed) | Shape::Stalls(seed) => seed,
        };
        PieceSizes {
            shape,
            rng: Rng::new(seed ^ salt.rotate_left(32)),
            stall_next: false,
        }
    }

    /// The maximum number of bytes of the next read or write.
    pub(crate) fn next(&mut self) -> usize {
        let mut up_to = |most: usize| 1 + self.rng.below(most);
        match self.shape {
            Shape::Whole => usize::MAX,
            Shape::Bytes => 1,
            // Mostly small sizes, some large, to split heads as well as bodies.
            Shape::Pieces(_) | Shape::Stalls(_) => match up_to(4) {
                1 => 1,
                2 => up_to(12),
                3 => up_to(700),
                _ => up_to(20_000),
            },
        }
    }

    /// Whether this attempt stalls although it could proceed.
    pub(crate) fn stalls(&mut self) -> bool {
        if matches!(self.shape, Shape::Stalls(_)) {
            self.stall_next = !self.stall_next;
        }
        self.stall_next
    }

    /// The capacity of one direction in bytes.
    pub(crate) fn capacity(&self) -> usize {
        match self.shape {
            Shape::Stalls(_) => 5_000,
            _ => 16 * 1024,
        }
    }
}
