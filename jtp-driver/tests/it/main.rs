//! Servers and clients over one runtime: smol, or a simulated one.

mod accept;
mod client;
mod memory;
mod replicas;
mod serving;
mod stores;
mod support;
