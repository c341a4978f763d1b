//! Runs the programs `server` and `client` as processes and checks their effects, output and exit codes.
#![cfg(unix)]

mod caching;
mod certificates;
mod confined;
mod failures;
mod fetching;
mod folders;
mod identity;
mod json;
mod left_out;
mod logging;
mod metrics;
mod migration;
mod mirror;
mod pages;
mod pipes;
mod planning;
mod progress;
mod proxy_protocol;
mod readme;
mod reload;
mod replicas;
mod selecting;
mod server;
mod service_manager;
mod signals;
mod support;
mod tls;
mod trust;
mod usage;
mod watching;
mod web;
