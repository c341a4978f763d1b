//! The laws of the planner (R8), on single cases and on random histories.
//!
//! `JTP_SEEDS=20000 cargo test -p jtp-sync --test laws` tries more histories; `JTP_SEED=17` repeats one and prints its
//! log.

mod calls;
mod cases;
mod executor;
mod folders;
mod histories;
mod left_out;
mod model;
mod requests;
mod script;
mod unlisted;
