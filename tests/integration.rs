//! JTP end to end: real sockets on loopback, real images, and both programs as processes.
//!
//! - `exact`: a raw client that sends and expects exact bytes; likewise `cancel`, `changing` (files), `watching`,
//!   `closing` and `encryption` for one topic each.
//! - our clients against scripted servers are in the test target `behaviour`.
//! - `identity`: which clients a server admits, and which servers a client trusts, on every runtime.
//! - `face`: the public names and methods of the adapters, compared with each other.
//! - `large`: large images and large requests.
//! - `programs`: `server` and `client` as processes.
//! - `tls_stream`: the client's TLS stream, against rustls's own server in memory.
//! - `proxy_protocol`: connections through a proxy.
//! - `hostile`: hostile peers, failing disks and floods, against the programs.
//! - `sync`: the sync engine on each runtime, against scripted servers.
//!
//! The raw peers encode and decode with `support::bytes`, without the project's codec.

#[allow(dead_code, reason = "shared with the other test targets")]
mod support;

mod cancel;
mod changing;
mod closing;
mod encryption;
mod exact;
mod face;
#[cfg(target_os = "linux")]
mod hostile;
mod identity;
mod large;
mod programs;
mod proxy_protocol;
#[cfg(target_os = "linux")]
mod sync;
mod tls_stream;
mod watching;
