//! Each machine alone against a peer that does what it likes, its calls in any order, fitting or not: driven
//! by dice, which the test beside this folder rolls, and the fuzz target `calls` reads from its input.

pub(crate) mod client;
mod output;
pub(crate) mod server;

/// A source of choices: a number below the one given.
pub(crate) type Dice<'a> = &'a mut dyn FnMut(u32) -> u32;

/// Up to so many bytes of anything.
fn garbage(dice: Dice<'_>, most: u32) -> Vec<u8> {
    (0..dice(most))
        .map(|_| u8::try_from(dice(256)).unwrap())
        .collect()
}

/// A part of what is there, all of it as often as not.
fn part(dice: Dice<'_>, of: usize) -> usize {
    match dice(4) {
        0 => of.min(1),
        1 => usize::try_from(dice(u32::try_from(of).unwrap().saturating_add(1))).unwrap(),
        _ => of,
    }
}
