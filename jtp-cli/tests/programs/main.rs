//! Runs the programs `server` and `client` as processes and checks their effects, output and exit codes.
#![cfg(unix)]

mod caching;
mod certificates;
mod failures;
mod fetching;
mod planning;
mod readme;
mod selecting;
mod server;
mod signals;
mod support;
mod tls;
mod usage;
mod watching;
