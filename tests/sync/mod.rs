//! The sync engine, `jtp_sync::FolderSync`, on each runtime, against scripted servers that behave like deployed ones, and
//! against our own. Linux only: some tests mount file systems.
//!
//! - `quirks`: catalogs and responses that lack something, or contain what nobody asked for.
//! - `gaps`: servers that fail in the place of certain images.
//! - `connections`: servers that admit few connections.
//! - `endless`: servers that never come to an end.
//! - `cancel`: cancelling a sync, and dropping its future, at any moment.
//! - `select`: which images are fetched.
//! - `dry_run`: what a run would do, and how a folder differs.
//! - `scanning`: the progress of a scan.
//! - `resume`: runs after a run, totals, observers that panic, folders that vanish.
//! - `replicas`: several servers with one catalog, of which some fail.
//! - `follow`: bursts of events, restarts of the server, files that the user deletes.
//!
//! Where the engine waits for seconds or minutes, its runtime's clock is accelerated (`world`).

mod job;
mod log;
mod world;

mod cancel;
mod connections;
mod dry_run;
mod endless;
mod follow;
mod gaps;
mod mirror;
mod quirks;
mod replicas;
mod resume;
mod scanning;
mod select;
mod user;
