//! Tests in simulated time, on a backend in memory.

mod bodies;
mod cache;
mod executor;
mod failures;
mod functions;
mod lease;
mod schedules;
mod variants;
mod world;
