//! The programs `server` and `client` on real folders, in situations of everyday use: files that are renamed, change
//! or cannot be replaced, images that appear during a run, locks, kills, and users who change the output folder.
//!
//! Rule R8 says what holds in each of them. Linux only: the tests use `/proc`, `flock` and Linux's file attributes.
//! Tests that need root, `strace` or file attributes print that they are skipped where those are missing.

#![cfg(target_os = "linux")]

#[allow(dead_code, reason = "shared with the other test targets")]
mod support;

#[path = "everyday/mod.rs"]
mod everyday;

#[path = "life/mod.rs"]
mod life;
