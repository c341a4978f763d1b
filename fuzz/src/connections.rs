//! The connections of client and server, with calls and bytes that the input chooses. The simulations are those of jtp-core's
//! test `simulation`.

#[allow(dead_code)]
#[path = "../../jtp-core/tests/simulation/mod.rs"]
mod simulation;

use jtp_kit::Rng;
use simulation::{calls, pair};

use crate::IMAGES;

/// A step reads at least two bytes.
fn steps(data: &[u8]) -> usize {
    (data.len() / 2).min(400)
}

/// Client and server joined in memory. The first byte says how many connections there may be.
pub fn pair(data: &[u8]) {
    let (first, choices) = data.split_first().unwrap_or((&0, &[]));
    let connections = usize::from(first % 2) + 1;
    pair::run(connections, steps(data), &mut Rng::of_bytes(choices));
}

/// One of them alone. The first byte says which.
pub fn calls(data: &[u8]) {
    let (first, choices) = data.split_first().unwrap_or((&0, &[]));
    let run = [calls::server, calls::client][usize::from(first % 2)];
    run(steps(data), &mut Rng::of_bytes(choices));
}

/// Any bytes to a server, in any pieces.
pub fn server_bytes(data: &[u8]) {
    calls::server_bytes(&IMAGES, data);
}

/// Any bytes to a client with outstanding requests, in any pieces.
pub fn client_bytes(data: &[u8]) {
    calls::client_bytes(&IMAGES, data);
}
