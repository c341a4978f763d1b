//! What the programs `server` and `client` are made of.
//!
//! This is a library only so that it can be tested: its interface follows the needs of the two programs and
//! promises nothing to others. Whoever wants to embed JTP takes `jtp-core` and one of the adapters.
//!
//! Results go to stdout; logs, progress and errors go to stderr. An error is one line that says what failed,
//! where, and what to do about it; the [exit code](exit::Exit) says of which kind it was.
#![forbid(unsafe_code)]

pub mod address;
pub mod cache;
pub mod certificates;
pub mod client;
pub mod client_args;
pub mod connect;
mod disk;
pub mod escape;
pub mod exit;
pub mod fetch;
pub mod job;
pub mod limits;
pub mod list;
pub mod logging;
pub mod progress;
pub mod queue;
pub mod server;
pub mod server_args;
pub mod signals;
pub mod terminal;
pub mod trust;
pub mod units;
pub mod watch;
