//! Hostile peers against the real programs, crashes and bad disks. Linux only: it looks into `/proc`.
//!
//! `cargo test --test hostile` takes some seconds and belongs to every run of the tests. At full scale, with
//! its figures, in some six minutes on two cores:
//!
//! ```sh
//! JTP_HOSTILE=full cargo test --release --test hostile -- --nocapture --test-threads 1
//! ```
//!
//! Attackers and honest clients share this machine, so how much slower the honest ones become says as much
//! about its cores as about the server. Disks that fail need more than a test can ask for: without root, or
//! user namespaces, those tests say that they were left out. So with peers that vanish, for which a network of its own
//! is cut.

#![cfg(target_os = "linux")]

#[allow(dead_code)]
mod support;

#[path = "hostile/mod.rs"]
mod hostile;
