//! One behaviour, whichever adapters are at the two ends. See [`suite`].

#[path = "behaviour/mod.rs"]
mod suite;
#[allow(
    dead_code,
    unused_imports,
    reason = "shared with the other test targets"
)]
mod support;
