//! Keeps a folder in step with a JTP server.
//!
//! [`FolderSync`] fetches what a folder lacks, over one or several connections, and goes on with each new image if that
//! is wanted. It works on every runtime:
//!
//! ```no_run
//! use jtp_sync::{FolderSync, SyncEvent};
//! # use jtp_driver::client::{Client, ClientBuilder};
//! # use jtp_driver::Runtime;
//! # async fn sync<R: Runtime>(server: ClientBuilder<R, Client<R>>) -> Result<(), jtp_sync::Error> {
//!
//! // `server` is a `jtp_tokio::Client::builder("pictures.example:8443")`, or that of another adapter.
//! let mut sync = FolderSync::builder(server, "pictures")
//!     .observer(|event: &SyncEvent<'_>| {
//!         if let SyncEvent::Placed { name, .. } = event {
//!             println!("{name}");
//!         }
//!     })
//!     .build();
//! let totals = sync.run().await?;
//! println!("{} new images, {} failed", totals.placed.images, totals.failed());
//! # Ok(())
//! # }
//! ```
//!
//! # How it is made
//!
//! A [`Planner`] compares what a server lists with what a folder contains ([`Inventory`]), and says step by step what
//! to do: fetch an image, rename a file, place an image. It performs no I/O, and is tested with thousands of random
//! folders, servers and failures. Its guarantees are those of rule R8. [`FolderSync`] carries its steps out; a program
//! with another idea of connections or folders can use the planner alone.
#![forbid(unsafe_code)]
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod blocker;
mod change;
mod engine;
mod files;
mod inventory;
mod mirror;
mod options;
mod planner;
mod selection;
mod step;

pub use jtp_core::{FileType, ImageFault, ImageId};
pub use jtp_driver::ShutdownSignal;
pub use jtp_store::{FileName, OutputError, PatternError, Patterns};

pub use blocker::{Blocker, BlockerKind};
pub use change::{Change, Comparison, Difference};
pub use engine::{Cause, Error, FolderSync, FolderSyncBuilder, Observer, SyncEvent};
pub use inventory::{FileKind, Inventory};
pub use mirror::{MaxDelete, NotDeleted, ParseMaxDeleteError, Unlisted};
pub use options::{Fetch, Names, Options};
pub use planner::Planner;
pub use selection::Selection;
pub use step::{Count, Expect, FetchFailure, ListReport, Outcome, Reason, Received, Step, Totals};
