//! Seeded simulation of a server, a network and many clients on simulated time. Bytes arrive late and in
//! pieces, connections stall, break and are reopened, files vanish, the catalog changes, watchers are slow,
//! the server shuts down and restarts. In the end every client finishes its job: each delivered image has the
//! right bytes, each request on a surviving connection was answered exactly once, each watcher received every
//! event exactly once, and all memory was freed.
//!
//! A failing seed is printed. `JTP_WORLD_SEED=17 cargo test -p jtp-core --test world` runs one seed,
//! `JTP_WORLD_SEEDS=2000` runs the first 2000. The test `pair` randomizes the order of calls; this one
//! randomizes delays.

#[path = "world/mod.rs"]
mod world;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Number of seeds of a default run.
const SEEDS: u64 = 40;

thread_local! {
    /// Bytes that this thread allocated minus bytes that it freed; wraps when it frees memory of another thread.
    static LIVE: Cell<usize> = const { Cell::new(0) };
}

/// The system allocator with a per-thread byte count.
struct CountingAllocator;

// SAFETY: all calls go to the system allocator; only a counter is added.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.set(LIVE.get().wrapping_add(layout.size()));
        // SAFETY: the caller upholds the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get().wrapping_sub(layout.size()));
        // SAFETY: the caller upholds the same contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Prints the seed if the test panics.
struct SeedReport(u64);

impl Drop for SeedReport {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with JTP_WORLD_SEED={}", self.0);
        }
    }
}

fn run(seed: u64, total: &mut world::Counts) {
    let report = SeedReport(seed);
    let before = LIVE.get();
    *total += world::run(seed);
    assert_eq!(LIVE.get(), before, "memory was not freed");
    drop(report);
}

fn env_number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn s1_s13_c1_n2_n5_r2_r6_every_client_finishes_in_every_simulated_world() {
    let mut total = world::Counts::default();
    if let Some(seed) = env_number("JTP_WORLD_SEED") {
        run(seed, &mut total);
    } else {
        let seeds = env_number("JTP_WORLD_SEEDS").unwrap_or(SEEDS);
        (0..seeds).for_each(|seed| run(seed, &mut total));
        // Every kind of event occurred at least once.
        assert!(total.all_above_zero(), "{total:?}");
    }
    println!("{total:?}");
}
