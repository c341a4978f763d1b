//! The programs `server` and `client` as processes: what they do, print, and exit with.
#![cfg(unix)]

mod caching;
mod failures;
mod fetching;
mod readme;
mod server;
mod signals;
mod support;
mod tls;
mod usage;
mod watching;
