//! Checks the core and jtp-store against the test vectors of `tests/vectors`, which implementations in other
//! languages read too: frames, images, names, and exchanges with both state machines. Checks also that the examples
//! of RFC.md are these vectors.

#[path = "vectors/rust/client.rs"]
mod client;
#[path = "vectors/rust/dissector.rs"]
mod dissector;
#[path = "vectors/rust/frames.rs"]
mod frames;
#[path = "vectors/rust/images.rs"]
mod images;
#[path = "vectors/rust/read.rs"]
mod read;
#[path = "vectors/rust/rfc.rs"]
mod rfc;
#[path = "vectors/rust/server.rs"]
mod server;
#[allow(dead_code)]
#[path = "../jtp-core/tests/simulation/mod.rs"]
mod simulation;
