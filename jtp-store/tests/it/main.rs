//! Tests of stores and folders that can run in one process: linking them once takes half the processor time. Those that start
//! programs, use up descriptors or count allocations have a process of their own.
#![cfg(unix)]

#[path = "../common/mod.rs"]
mod common;

mod bursts;
mod cache_attacks;
mod dir_store;
mod distrust;
mod first_bytes;
mod following;
mod life;
mod links;
mod opening;
mod recursive;
mod swapped_folders;
mod variants;
mod writers;
