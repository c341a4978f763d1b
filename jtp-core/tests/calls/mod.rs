//! Each state machine alone against an arbitrary peer, with valid and invalid calls in any order. The test
//! `calls` generates the choices, the fuzz target `calls` reads them from its input.

pub(crate) mod client;
mod output;
pub(crate) mod server;

/// A source of random numbers: returns a number below its argument.
pub(crate) type RngFn<'a> = &'a mut dyn FnMut(u32) -> u32;

/// Random bytes, fewer than `limit`.
fn garbage(rng: RngFn<'_>, limit: u32) -> Vec<u8> {
    (0..rng(limit))
        .map(|_| u8::try_from(rng(256)).unwrap())
        .collect()
}

/// A number up to `total`: in half of the cases `total` itself.
fn part(rng: RngFn<'_>, total: usize) -> usize {
    match rng(4) {
        0 => total.min(1),
        1 => usize::try_from(rng(u32::try_from(total).unwrap().saturating_add(1))).unwrap(),
        _ => total,
    }
}
