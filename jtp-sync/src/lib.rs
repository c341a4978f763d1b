//! Keeps a folder in step with a JTP server: the planner.
//!
//! A [`Planner`] compares what a server lists with what a folder contains ([`Inventory`]), and says step by step what
//! to do: fetch an image, rename a file, place an image. It performs no I/O, so it works with each runtime, and it is
//! tested with thousands of random folders, servers and failures. Its guarantees are those of rule R8.
//!
//! [`Planner`] has an example. The parts that a program adds are the connection, the received images until they are
//! placed, and the folder, for example with [`OutputFolder`](jtp_store::OutputFolder).
#![forbid(unsafe_code)]
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod files;
mod inventory;
mod options;
mod planner;
mod step;

pub use jtp_core::{FileType, ImageId};
pub use jtp_store::FileName;

pub use inventory::{FileKind, Inventory};
pub use options::{Fetch, Names, Options};
pub use planner::Planner;
pub use step::{Count, Expect, FetchFailure, ListReport, Outcome, Reason, Received, Step, Totals};
