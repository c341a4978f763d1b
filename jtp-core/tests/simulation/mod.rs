//! Simulations of both state machines. All random choices come from one source, which a test seeds and a fuzz target fills
//! with its input; all images and catalogs from one store; and each connection is followed by the models of jtp-kit.

pub(crate) mod calls;
pub(crate) mod client;
mod link;
mod network;
pub(crate) mod pair;
pub(crate) mod server;
pub(crate) mod store;
pub(crate) mod world;
