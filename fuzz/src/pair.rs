//! Client and server joined in memory, with calls that the input chooses. The model is that of jtp-core's test
//! `pair`.

#[allow(dead_code)]
#[path = "../../jtp-core/tests/pair/mod.rs"]
mod simulation;

use crate::ByteReader;
use simulation::{Plan, Rng};

pub fn run(data: &[u8]) {
    let mut reader = ByteReader(data);
    let connections = [1, 2][usize::from(reader.byte() % 2)];
    // A step reads at least two bytes.
    let steps = u32::try_from(data.len() / 2).unwrap_or(0).min(400);
    let mut below = |limit: u32| reader.below(limit);
    let plan = Plan { connections, steps };
    simulation::run(plan, &mut Rng(&mut below));
}
