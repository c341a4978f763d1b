//! What the tests of several crates share. It depends on no crate of this workspace, so each can use it, and is never
//! published: a dev-dependency without a version is left out of packages.

mod allocations;
mod collision;
mod folder;
mod images;
mod log;
pub mod model;
mod output;
mod process;
mod rng;
mod seeds;
mod signal;
mod stopwatch;

pub use allocations::Allocations;
pub use collision::{collision, long_collision};
pub use folder::Folder;
#[cfg(unix)]
pub use folder::stamps;
pub use images::{bmp, noise};
pub use log::logged_by;
pub use output::{Args, Output};
pub use process::{Lines, Process, has_strace};
pub use rng::Rng;
pub use seeds::{for_each_seed, number, seed};
pub use signal::Signal;
pub use stopwatch::Stopwatch;

use std::time::{Duration, Instant};

/// Several pieces of bytes in one. (`flat_map` moves each byte by itself, which takes long without optimisation.)
pub fn joined(pieces: impl IntoIterator<Item: AsRef<[u8]>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in pieces {
        bytes.extend_from_slice(piece.as_ref());
    }
    bytes
}

/// Polls until a condition that no notification announces is true. Only a failing test waits for a minute.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        let waited = begun.elapsed();
        assert!(waited < Duration::from_secs(60), "timed out: {what}");
        // A loop without a pause would take the processor from the code under test.
        std::thread::sleep(Duration::from_millis(2));
    }
}
