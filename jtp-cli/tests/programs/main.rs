//! Runs the programs `server` and `client` as processes and checks their effects, output and exit codes.
#![cfg(unix)]
// Some tests are for Linux alone, and what they share is then not used.
#![cfg_attr(not(target_os = "linux"), allow(dead_code, unused_imports))]

mod backups;
mod caching;
mod certificates;
mod confined;
mod failures;
mod fetching;
mod folders;
mod identity;
mod indexing;
mod json;
mod left_out;
mod logging;
mod metrics;
mod migration;
mod mirror;
mod mirror_bounds;
mod mirror_reports;
mod object_store;
mod options;
mod pages;
mod pipes;
mod planning;
mod progress;
mod proxy_protocol;
mod readme;
mod recursive;
mod reload;
#[cfg(target_os = "linux")]
mod replaced_folder;
mod replicas;
mod selecting;
mod server;
mod service_manager;
mod signals;
mod support;
mod system_calls;
mod tls;
mod trees;
mod trust;
mod two_clients;
mod watching;
