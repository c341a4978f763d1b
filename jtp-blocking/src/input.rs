//! What was read and not used yet.

use std::io::{self, Read};

pub(crate) use jtp_core::InputBuffer as Input;

/// Reads what is there, without waiting. `Ok(0)` is the end.
pub(crate) fn fill<T: Read + ?Sized>(input: &mut Input, io: &mut T) -> io::Result<usize> {
    let read = io.read(input.room());
    if let Ok(count) = read {
        input.filled(count);
    }
    read
}
