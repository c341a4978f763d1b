//! A server, a network and many clients on simulated time, rolled from seeds: bytes are late and in pieces,
//! connections stall, break and are made anew, files vanish, the catalog changes, watchers are slow, the
//! server shuts down and comes back. Whatever happens, in the end every job is done: each image that was
//! delivered is the right one, each request that its connection survived was answered exactly once, no
//! watcher missed an event or heard one twice, and all memory has come back.
//!
//! A seed that fails is printed. `JTP_WORLD_SEED=17 cargo test -p jtp-core --test world` runs that one alone,
//! `JTP_WORLD_SEEDS=2000` so many of them. `pair` is beside it: there every call is rolled, here every
//! delay.

#[path = "world/mod.rs"]
mod world;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// How many seeds an ordinary run takes.
const SEEDS: u64 = 40;

thread_local! {
    /// What this thread has allocated and not given back, in bytes; it wraps where memory comes from another.
    static LIVE: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, counted.
struct Counting;

// SAFETY: everything is done by the system's allocator; beside it a number is changed.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.set(LIVE.get().wrapping_add(layout.size()));
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get().wrapping_sub(layout.size()));
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Says which seed it was.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with JTP_WORLD_SEED={}", self.0);
        }
    }
}

fn play(seed: u64, total: &mut world::Counts) {
    let name = Seed(seed);
    let before = LIVE.get();
    *total += world::play(seed);
    assert_eq!(LIVE.get(), before, "memory did not come back");
    drop(name);
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn s1_s13_c1_n2_n5_r2_r6_every_world_comes_to_a_good_end() {
    let mut total = world::Counts::default();
    if let Some(seed) = number("JTP_WORLD_SEED") {
        play(seed, &mut total);
    } else {
        let seeds = number("JTP_WORLD_SEEDS").unwrap_or(SEEDS);
        (0..seeds).for_each(|seed| play(seed, &mut total));
        // Everything that can happen has happened.
        assert!(total.all_above_zero(), "{total:?}");
    }
    println!("{total:?}");
}
