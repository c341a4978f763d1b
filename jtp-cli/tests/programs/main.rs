//! Runs the programs `server` and `client` as processes and checks their effects, output and exit codes.
#![cfg(unix)]

mod caching;
mod certificates;
mod failures;
mod fetching;
mod metrics;
mod proxy_protocol;
mod readme;
mod server;
mod service_manager;
mod signals;
mod support;
mod tls;
mod usage;
mod watching;
