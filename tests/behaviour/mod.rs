//! The suite: each scenario is written once, and is a test for each pair of server and client adapter, plain and
//! TLS. What the applications at the two ends see has to be what they see of two bare machines of `jtp-core`,
//! joined in memory on simulated time.
//!
//! # A scenario
//!
//! is a function that makes a [`Script`](script::Script): the images, the settings, then one step after another.
//!
//! ```text
//! crate::suite::each_pair! { during_a_get }
//!
//! /// C2: the packet under way is the last.
//! fn during_a_get() -> Script {
//!     Script::of([png("a.png", LARGE), png("b.png", 10)])     // what is there
//!         .pipelining()                                       // how both ends are set
//!         .fetch(                                             // a call of the client
//!             Which::Get(vec!["a.png", "b.png"]),
//!             [when("a.png", 1, Act::Cancel)],                // what its application does in the middle
//!         )
//!         .list()                                             // the next call
//!         .must("cancelled, 2 promised")                      // what has to be in the log
//! }
//! ```
//!
//! [`play`](play::play) gives the steps their meaning, by two traits of [`ends`]: what a client can do, and what
//! happens around it ([`Deed`](script::Deed): the catalog changes, a body is let go, the server shuts down, nothing
//! comes through any more). The [`reference`] implements them over the bare machines, [`adapters`] and [`run`] over
//! the public face of the adapters; so a script means the same to both. The log that each run leaves
//! ([`log::Log`]) has the client's part (entries, images and verdicts, news, errors) and the server's (requests as
//! the application was asked about them, and why each connection ended), and is compared as it is. `must` is
//! checked on the reference: a scenario that is about something else than it says fails.
//!
//! # Races
//!
//! are decided by the script, never by sleeping:
//!
//! - a body is held back by [`Script::gate`](script::Script::gate) until [`Deed::Open`](script::Deed::Open) (its
//!   grain is the piece that an adapter reads at once, 256 KiB);
//! - an image of `LARGE` bytes does not fit between the two ends: when the client has seen its beginning the
//!   server is in the middle of it;
//! - [`Act::Cancel`](script::Act::Cancel) lets nothing more come down until the server has read the CANCEL;
//! - [`Setup::on_request`](script::Setup::on_request) changes the catalog at the last moment before the snapshot;
//! - a watch begins with an image that comes and goes until the watcher has told of it, and is in no log;
//! - [`Deed::Shutdown`](script::Deed::Shutdown) returns when an idle connection has seen the shutdown;
//! - clocks are set so short that they run out, while all others are long; what is told says which it was.
//!
//! # Transports and shapes
//!
//! Plain runs go over a socket, through a proxy, and over a pipe in memory (`serve_stream`, `Client::over`); TLS
//! over the proxy. Each way is run as it comes, and shaped ([`transport::Shape`]): byte by byte where that is not
//! too long, in seeded pieces, with writes and reads that stall; there the async clients also drop what they wait
//! for whenever it is pending, and ask again. A failure names scenario, pair, transport, shape and seed, and shows
//! the two logs as a diff; `JTP_SUITE_SEED=17 cargo test -p jtp-tests --test behaviour during_a_get` runs with that
//! seed.
//!
//! # Peers that are none of ours
//!
//! [`raw`] is the low half of the language: a client that sends and expects exact bytes, against each server and
//! the bare server machine (`each_server!`). `scenarios::deployed` and `scenarios::misbehaving` are servers of that
//! kind, against each client (`each_adapter!`).

mod adapters;
mod court;
mod ends;
mod listening;
mod log;
mod play;
mod raw;
mod reference;
mod run;
mod scenarios;
mod script;
mod store;
mod transport;

use std::time::Duration;

/// Far longer than anything takes: only a failing test waits for so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A test for each pair of adapters, plain and TLS, of each scenario: a function without arguments that makes a
/// [`Script`](script::Script).
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

/// The server's name first, then the client's.
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

/// Scenarios that a function of their own runs, over memory, on each pair of adapters.
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

/// Tests of each adapter on its own: functions of an [`Adapter`](adapters::Adapter).
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
