//! Seeded simulation of a server, a network and many clients on simulated time. Bytes arrive late and in
//! pieces, connections stall, break and are reopened, files vanish, the catalog changes, watchers are slow,
//! the server shuts down and restarts. In the end every client finishes its job: each delivered image has the
//! right bytes, each request on a surviving connection was answered exactly once, each watcher received every
//! event exactly once, and all memory was freed.
//!
//! A failing seed is printed. `JTP_SEED=17 cargo test -p jtp-core --test world` runs one seed,
//! `JTP_SEEDS=2000` runs the first 2000. The test `pair` randomizes the order of calls; this one
//! randomizes delays.

#[path = "world/mod.rs"]
mod world;

use jtp_kit::{Allocations, for_each_seed};

/// Number of seeds of a default run.
const SEEDS: u64 = 40;

#[global_allocator]
static ALLOCATOR: Allocations = Allocations::new();

#[test]
fn s1_s13_c1_n2_n5_r2_r6_every_client_finishes_in_every_simulated_world() {
    let mut total = world::Counts::default();
    let all = for_each_seed(SEEDS, |seed| {
        let before = ALLOCATOR.of_thread();
        total += world::run(seed);
        assert_eq!(ALLOCATOR.of_thread(), before, "memory was not freed");
    });
    // Every kind of event occurred at least once.
    assert!(!all || total.all_above_zero(), "{total:?}");
    println!("{total:?}");
}
