//! The behaviour suite: every pair of adapters must behave alike. See [`suite`].

#[path = "behaviour/mod.rs"]
mod suite;
#[allow(
    dead_code,
    unused_imports,
    reason = "shared with the other test targets"
)]
mod support;
