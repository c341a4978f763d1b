//! JTP/1 as RFC.md specifies it, on bytes, without any code of jtp-core: what a server may answer (the table of section
//! 6.2), and what a client sends and reports (the tables of sections 9.3 and 9.4).
//!
//! A model is no second implementation. It follows a connection from outside, step by step, and panics where that does
//! what the tables do not allow. It knows no sockets, no limits of memory and no time: where a table leaves a choice,
//! for instance when a packet begins, the caller says what happened.

mod client;
mod server;
mod wire;

pub use client::{Client, Event, Failure};
pub use server::{Server, Snapshot};
pub use wire::{Entry, Head, Image, Stop};

/// The type bytes of requests. // Section 4
pub const GET_BY_ID: u8 = 0;
/// See [`GET_BY_ID`].
pub const LIST: u8 = 1;
/// See [`GET_BY_ID`].
pub const BATCH: u8 = 2;
/// See [`GET_BY_ID`].
pub const CANCEL: u8 = 3;
/// See [`GET_BY_ID`].
pub const WATCH: u8 = 4;
/// See [`GET_BY_ID`].
pub const LIST_AND_GET: u8 = 5;

/// The header of the response to a request. // Section 5
fn header_of(request: u8) -> [u8; 4] {
    match request {
        GET_BY_ID => *b"JTPD",
        LIST => *b"JTPL",
        BATCH => *b"JTPB",
        WATCH => *b"JTPW",
        LIST_AND_GET => *b"JTPG",
        other => panic!("the model does not know the answer to type {other}"),
    }
}
