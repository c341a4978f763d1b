//! The tests on async-std.

use jtp_async_std as adapter;

/// The runtime under test.
mod runtime {
    pub(super) use async_std::channel;
    pub(super) use async_std::net::{TcpListener, TcpStream};
    pub(super) use async_std::task::{JoinHandle, block_on, spawn};
}

#[path = "requests.rs"]
mod requests;
