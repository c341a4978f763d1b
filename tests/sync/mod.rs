//! Shared helpers: runtimes, syncs and their events, scripted servers.

mod job;
mod log;
mod stub;
mod world;

mod cancel;
mod connections;
mod dry_run;
mod endless;
mod follow;
mod gaps;
mod memory;
mod mirror;
mod quirks;
mod replicas;
mod resume;
mod scanning;
mod select;
mod user;
