//! What is tokio's own: its runtimes, its paused clock, futures that are dropped, and fairness between its tasks. What all
//! adapters do alike is in the behaviour suite of `tests/`.

mod cancel_safety;
mod common;
mod fairness;
mod handle;
mod limits;
mod pause;
mod ready;
mod tls;

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;
