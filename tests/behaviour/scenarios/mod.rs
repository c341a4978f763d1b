//! The scenarios, by what they are about.

mod accepting;
mod bodies;
mod cancel;
mod changes;
mod clocks;
mod closing;
mod deadlines;
mod deployed;
mod deployed_server;
mod dropped;
mod eof;
mod keep_alive;
mod large;
mod limits;
mod misbehaving;
mod raw_cancel;
mod raw_clocks;
mod raw_requests;
mod requests;
mod undecoded;
mod watch;

/// More than lies between a server and a client: when the client has seen its first byte the server is still in
/// the middle of it, and its first piece is not the last.
const LARGE: usize = 1_000_000;
