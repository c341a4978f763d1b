//! The implementation of the programs `server` and `client`.
//!
//! This is a library only so that it can be tested. Its interface is not stable. To embed JTP, use `jtp-core` and one
//! of the adapters.
//!
//! Results go to stdout; logs, progress and errors go to stderr. An error is one line that names what failed, the cause
//! and the remedy; the [exit code](exit::Exit) gives its kind.
#![forbid(unsafe_code)]

pub mod address;
pub mod cache;
pub mod client;
pub mod client_args;
pub mod connect;
pub mod endpoint;
pub mod escape;
pub mod exit;
mod json;
pub mod json_log;
pub mod limits;
pub mod list;
pub mod logging;
pub mod network;
pub mod pattern_args;
pub mod plan;
pub mod report;
pub mod select_args;
pub mod server;
pub mod server_args;
pub mod service_manager;
pub mod signals;
pub mod sync;
pub mod terminal;
pub mod tls;
pub mod units;
