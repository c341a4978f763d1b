//! The behaviour suite. Each scenario is written once and becomes a test for each pair of server and client adapter,
//! over plain TCP and TLS. What the applications at both ends observe must equal what they observe with two bare
//! `jtp-core` state machines, connected in memory with simulated time.
//!
//! # A scenario
//!
//! A scenario is a function that returns a [`Script`](script::Script): the images, the settings, then the steps.
//!
//! ```text
//! crate::suite::each_pair! { during_a_get }
//!
//! /// C2: the packet in flight is the last.
//! fn during_a_get() -> Script {
//!     Script::of([png("a.png", LARGE), png("b.png", 10)])     // the images in the catalog
//!         .pipelining()                                       // settings of both ends
//!         .fetch(                                             // a call of the client's API
//!             Selection::Get(vec!["a.png", "b.png"]),
//!             [trigger("a.png", 1, ClientAction::Cancel)],    // what its application does meanwhile
//!         )
//!         .list()                                             // the next call
//!         .expect_log("cancelled, 2 promised")                // what the log must contain
//! }
//! ```
//!
//! [`play`](play::play) executes the steps through the two traits of [`traits`]: the client, and its environment
//! ([`ServerAction`](script::ServerAction): the catalog changes, a held body is released, the server shuts down, the
//! transport stalls). The [`reference`] implements the traits with the bare state machines, [`adapters`] and [`run`]
//! with the public API of the adapters, so a script means the same to both. The log of each run ([`log::Log`]) has
//! the client's part (entries, images and verdicts, watch events, errors) and the server's part (requests as the
//! handler saw them, and the close reason of each connection). The logs are compared for equality. `expect_log` is
//! checked on the reference, so that a scenario cannot silently test something else.
//!
//! # Races
//!
//! The script decides races; nothing sleeps to decide one:
//!
//! - [`Script::gate`](script::Script::gate) holds a body back until
//!   [`ServerAction::OpenGate`](script::ServerAction::OpenGate) (in units of an adapter's read, 256 KiB);
//! - an image of `LARGE` bytes does not fit into the buffers between the ends: when the client sees its first byte,
//!   the server is still sending it;
//! - [`ClientAction::Cancel`](script::ClientAction::Cancel) stops the bytes to the client until the server's state
//!   machine has the CANCEL, which the server logs;
//! - [`Setup::on_request`](script::Setup::on_request) changes the catalog immediately before the snapshot is taken;
//! - a watch starts with a probe image that is added and removed until the watcher receives its event; the probe is
//!   not logged;
//! - [`ServerAction::Shutdown`](script::ServerAction::Shutdown) returns when an idle connection has been closed by
//!   the shutdown;
//! - the timeout under test is short and all others are long; the log shows which one fired.
//!
//! # Transports and shapes
//!
//! Plain runs use sockets through a proxy, and a pipe in memory (`serve_stream`, `Client::from_stream`); TLS runs use the
//! proxy. Each transport is run unchanged and with a [`transport::Shape`]: byte by byte if the exchange is short, in
//! pieces of seeded random sizes, and with reads and writes that stall. With stalls, the async clients also drop each
//! pending future and call again. A failure prints scenario, pair, transport, shape and seed, and the two logs as a
//! diff; `JTP_SEED=17 cargo test -p jtp-tests --test behaviour during_a_get` repeats a run with that seed.
//!
//! # Peers that are not ours
//!
//! [`raw`] is the low-level part of the language: a client that sends and expects exact bytes, against each server
//! and the bare server state machine (`each_server!`). `scenarios::deployed` and `scenarios::misbehaving` are such
//! servers, against each client (`each_adapter!`).

mod adapters;
mod events;
mod log;
mod play;
mod raw;
mod reference;
mod run;
mod scenarios;
mod script;
mod store;
mod stub;
mod traits;
mod transport;

use std::time::Duration;

/// Far longer than any run takes: only a failing test waits until it elapses.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Makes a test for each pair of adapters, plain and TLS, of each scenario: a function without arguments that
/// returns a [`Script`](script::Script).
macro_rules! each_pair {
    ($($(#[$meta:meta])* $name:ident),+ $(,)?) => {$(
        mod $name {
            use $crate::suite::adapters::{ASYNC_STD, BLOCKING, TOKIO};

            $crate::suite::pairs! { $name
                tokio_tokio TOKIO TOKIO,
                tokio_async_std TOKIO ASYNC_STD,
                tokio_blocking TOKIO BLOCKING,
                async_std_tokio ASYNC_STD TOKIO,
                async_std_async_std ASYNC_STD ASYNC_STD,
                async_std_blocking ASYNC_STD BLOCKING,
                blocking_tokio BLOCKING TOKIO,
                blocking_async_std BLOCKING ASYNC_STD,
                blocking_blocking BLOCKING BLOCKING,
            }
        }
    )+};
}

/// Pairs are named server first, then client.
macro_rules! pairs {
    ($name:ident $($pair:ident $server:ident $client:ident),+ $(,)?) => {$(
        mod $pair {
            use super::*;

            #[test]
            fn plain() {
                let name = stringify!($name);
                $crate::suite::run::check(name, &super::super::$name(), $server, $client, false);
            }

            #[test]
            fn tls() {
                let name = stringify!($name);
                $crate::suite::run::check(name, &super::super::$name(), $server, $client, true);
            }
        }
    )+};
}

/// Like `each_pair`, but the given function runs the scenario, over memory.
macro_rules! each_pair_by {
    ($run:path: $($name:ident),+ $(,)?) => {$(
        mod $name {
            use $crate::suite::adapters::{ASYNC_STD, BLOCKING, TOKIO};

            $crate::suite::pairs_by! { $run, $name
                tokio_tokio TOKIO TOKIO,
                tokio_async_std TOKIO ASYNC_STD,
                tokio_blocking TOKIO BLOCKING,
                async_std_tokio ASYNC_STD TOKIO,
                async_std_async_std ASYNC_STD ASYNC_STD,
                async_std_blocking ASYNC_STD BLOCKING,
                blocking_tokio BLOCKING TOKIO,
                blocking_async_std BLOCKING ASYNC_STD,
                blocking_blocking BLOCKING BLOCKING,
            }
        }
    )+};
}

macro_rules! pairs_by {
    ($run:path, $name:ident $($pair:ident $server:ident $client:ident),+ $(,)?) => {$(
        #[test]
        fn $pair() {
            $run(stringify!($name), &super::$name(), $server, $client);
        }
    )+};
}

/// Tests of a single adapter: functions that take an [`Adapter`](adapters::Adapter).
macro_rules! each_adapter {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use $crate::suite::adapters::{ASYNC_STD, BLOCKING, TOKIO};

            #[test]
            fn tokio() {
                super::$name(TOKIO);
            }

            #[test]
            fn async_std() {
                super::$name(ASYNC_STD);
            }

            #[test]
            fn blocking() {
                super::$name(BLOCKING);
            }
        }
    )+};
}

use {each_adapter, each_pair, each_pair_by, pairs, pairs_by};
