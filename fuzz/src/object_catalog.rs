//! Any bytes as the objects of a catalog in an object store: no panic, memory bounded by the input, and what is accepted is
//! encoded and decoded to the same object.

use jtp_object_store::{check_decoding, framed};

/// The first byte selects whether the rest is a whole object, or the body of one with a valid header and checksum, which
/// the fuzzer would not find.
pub fn run(data: &[u8]) {
    match data.split_first() {
        Some((kind @ 0..4, body)) => check_decoding(&framed(*kind, body)),
        Some((_, bytes)) => check_decoding(bytes),
        None => {}
    }
}
