//! Hostile peers against the real programs, crashes and failing disks. Linux only: the tests read `/proc`.
//!
//! `cargo test --test hostile` takes a few seconds and is part of the ordinary test run. At full scale, with its
//! figures printed, it takes about six minutes on two cores:
//!
//! ```sh
//! JTP_HOSTILE=full cargo test --release --test hostile -- --nocapture --test-threads 1
//! ```
//!
//! Attackers and honest clients share the machine, so the slowdown of the honest ones depends as much on its cores as
//! on the server. Tests of failing disks and of vanished peers need root or user namespaces; without them they print
//! that they are skipped.

#![cfg(target_os = "linux")]

#[allow(dead_code)]
mod support;

#[path = "hostile/mod.rs"]
mod hostile;
