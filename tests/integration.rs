//! JTP end to end: real sockets on loopback, real images, and both programs as processes.
//!
//! - `requests`: our client against our server, every request.
//! - `exact`: a scripted client that sends and expects exact bytes; `cancel`, `changing`, `watching` and
//!   `closing` do so for one matter each, `encryption` for TLS.
//! - our clients against scripted servers: in the other target, `behaviour`.
//! - `face`: the public names and methods of the adapters, against each other.
//! - `large`: large images and large requests.
//! - `programs`: `server` and `client` as processes.
//!
//! What the peers send and expect is written by hand in `support::bytes`, without the project's codec.

#[allow(dead_code, reason = "shared with the other test targets")]
mod support;

mod cancel;
mod changing;
mod closing;
mod encryption;
mod exact;
mod face;
mod large;
mod programs;
mod requests;
mod watching;
