//! The tests on smol.

use jtp_async_std::smol as adapter;

/// The runtime under test.
mod runtime {
    pub(super) use smol::net::{TcpListener, TcpStream};
    pub(super) use smol::{Task as JoinHandle, block_on, channel, spawn};
}

#[path = "requests.rs"]
#[cfg_attr(
    feature = "async-std",
    expect(clippy::duplicate_mod, reason = "the same tests for each runtime")
)]
mod requests;
