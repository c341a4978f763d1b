//! JTP end to end: real sockets on loopback, real images, and both programs as processes.
//!
//! - `requests`: our client against our server, every request.
//! - `exact`: a scripted client that sends and expects exact bytes; `cancel`, `changing`, `watching` and
//!   `closing` do so for one matter each, `encryption` for TLS.
//! - `deployed` and `misbehaving`: our client against scripted servers.
//! - `large`: large images and large requests.
//! - `programs`: `server` and `client` as processes.
//!
//! What the peers send and expect is written by hand in `support::bytes`, without the project's codec.

// Shared with `hostile`, which has needs of its own.
#[allow(dead_code)]
mod support;

mod cancel;
mod changing;
mod closing;
mod deployed;
mod encryption;
mod exact;
mod large;
mod misbehaving;
mod programs;
mod requests;
mod watching;
