//! Each state machine alone, with calls in any order that the input chooses. The checks are those of jtp-core's
//! test `calls`.

#[path = "../../jtp-core/tests/calls/mod.rs"]
mod machines;

use crate::ByteReader;

pub fn run(data: &[u8]) {
    let mut reader = ByteReader(data);
    let is_server = reader.byte() % 2 == 0;
    // A step reads at least two bytes.
    let steps = u32::try_from(data.len() / 2).unwrap_or(0).min(400);
    let mut rng = |limit: u32| reader.below(limit);
    if is_server {
        machines::server::run(steps, &mut rng);
    } else {
        machines::client::run(steps, &mut rng);
    }
}
