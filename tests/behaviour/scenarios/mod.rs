//! The scenarios, by topic.

mod accepting;
mod adapter_timeouts;
mod bodies;
mod cancel;
mod changes;
mod deployed;
mod deployed_server;
mod dropped;
mod eof;
mod exhaustion;
mod keep_alive;
mod large;
mod limits;
mod misbehaving;
mod raw_cancel;
mod raw_requests;
mod raw_timeouts;
mod requests;
mod shutdown;
mod timeouts;
mod undecoded;
mod watch;

/// More than the buffers between server and client hold: when the client has received the first byte of such a body,
/// the server is still sending it. It also takes the server several reads.
const LARGE: usize = 1_000_000;
