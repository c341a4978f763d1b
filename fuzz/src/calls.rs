//! Each machine alone, its calls in any order, the fuzzer's bytes for dice; what has to hold is in jtp-core's
//! test `calls`.

#[path = "../../jtp-core/tests/calls/mod.rs"]
mod machines;

use crate::Choices;

pub fn run(data: &[u8]) {
    let mut choices = Choices(data);
    let is_server = choices.byte() % 2 == 0;
    // A step takes two bytes at least.
    let steps = u32::try_from(data.len() / 2).unwrap_or(0).min(400);
    let mut roll = |limit: u32| choices.below(limit);
    if is_server {
        machines::server::play(steps, &mut roll);
    } else {
        machines::client::play(steps, &mut roll);
    }
}
