//! What lies between a client and a server, and what shape it gives to the bytes.

pub(crate) mod pipe;
pub(crate) mod proxy;
pub(crate) mod streams;

/// How the bytes come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// As they are written.
    Whole,
    /// One at a time.
    Bytes,
    /// In pieces of any size, from a seed.
    Pieces(u64),
    /// The same, with hardly any room, and every other read and write in vain.
    Stalls(u64),
}

/// Rolls the sizes of a shape's pieces.
#[derive(Clone, Debug)]
pub(crate) struct Pieces {
    shape: Shape,
    state: u64,
    in_vain: bool,
}

impl Pieces {
    pub(crate) fn new(shape: Shape, salt: u64) -> Pieces {
        let seed = match shape {
            Shape::Whole | Shape::Bytes => 0,
            Shape::Pieces(seed) | Shape::Stalls(seed) => seed,
        };
        Pieces {
            shape,
            state: (seed ^ salt.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            in_vain: false,
        }
    }

    /// The most bytes of the next read or write.
    pub(crate) fn next(&mut self) -> usize {
        // xorshift64*
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let roll = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        let roll = usize::try_from(roll).unwrap();
        match self.shape {
            Shape::Whole => usize::MAX,
            Shape::Bytes => 1,
            // Mostly small ones, some large: the bytes of heads are to be torn as well as those of bodies.
            Shape::Pieces(_) | Shape::Stalls(_) => match roll % 4 {
                0 => 1,
                1 => 1 + (roll >> 2) % 12,
                2 => 1 + (roll >> 2) % 700,
                _ => 1 + (roll >> 2) % 20_000,
            },
        }
    }

    /// Whether this try is in vain although there is something to do.
    pub(crate) fn stalls(&mut self) -> bool {
        if matches!(self.shape, Shape::Stalls(_)) {
            self.in_vain = !self.in_vain;
        }
        self.in_vain
    }

    /// How much is on its way at most.
    pub(crate) fn capacity(&self) -> usize {
        match self.shape {
            Shape::Stalls(_) => 900,
            _ => 16 * 1024,
        }
    }
}
