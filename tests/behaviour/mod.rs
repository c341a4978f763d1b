//! The suite.

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

/// Tests of each client on its own: functions of an [`Adapter`](adapters::Adapter).
macro_rules! each_client {
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

use {each_client, each_pair, each_pair_by, pairs, pairs_by};
