//! What is smol's: its sockets, timers, TLS and executors, and both runtimes in one program. What all adapters do alike is
//! in the behaviour suite of `tests/`, on async-std.
#![cfg(feature = "smol")]

#[cfg(feature = "async-std")]
mod both;
mod executor;
mod sockets;
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
mod tls;

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;
