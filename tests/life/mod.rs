//! The life of a folder: a user who changes the server's folder and the clients' output folders step by step, while a
//! real server and real clients run, connections break, and processes are stopped, killed and restarted. All steps come
//! from a seed. At quiet points, the rules must hold: the server lists what its folder has; each client has each listed
//! image; nothing is lost, no file of the user changes, nothing is left over. // R8 S4 S5 S13
//!
//! `JTP_LIFE_SECONDS` is the time to go on with new seeds, `JTP_SEED` the first seed, `JTP_LIFE_ROUNDS` the quiet
//! points of each. `JTP_LIFE_KEEP=1` keeps the folders of a seed that fails, `JTP_LIFE_VERBOSE=1` makes its server log
//! more.

mod client;
mod pictures;
mod server;
mod tree;
mod user;
mod walk;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jtp_kit::number;

use walk::Walk;

#[test]
fn r8_a_random_life_of_a_folder_loses_nothing_and_leaves_nothing() {
    let start = Instant::now();
    let time = Duration::from_secs(number("JTP_LIFE_SECONDS").unwrap_or(0));
    // A long run has other seeds each time.
    let clock = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs()
    };
    let default = if time.is_zero() { 1 } else { clock() };
    let mut seed = jtp_kit::seed().unwrap_or(default);
    let rounds = number("JTP_LIFE_ROUNDS").unwrap_or(if time.is_zero() { 2 } else { 12 });
    loop {
        let steps = Walk::new(seed, rounds).run();
        println!("seed {seed}: {steps} steps, {:?}", start.elapsed());
        if start.elapsed() >= time {
            break;
        }
        seed += 1;
    }
}
