//! Client and server joined in memory, the fuzzer's bytes for dice; the model is that of jtp-core's test
//! `pair`.

#[allow(dead_code)]
#[path = "../../jtp-core/tests/pair/mod.rs"]
mod world;

use crate::Choices;
use world::{Dice, Plan};

pub fn run(data: &[u8]) {
    let mut choices = Choices(data);
    let links = [1, 2][usize::from(choices.byte() % 2)];
    // A step takes two bytes at least.
    let steps = u32::try_from(data.len() / 2).unwrap_or(0).min(400);
    let mut roll = |limit: u32| choices.below(limit);
    world::run(Plan { links, steps }, &mut Dice(&mut roll));
}
