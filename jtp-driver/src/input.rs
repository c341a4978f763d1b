//! What was read and not used yet.

use std::io;
use std::task::{Context, Poll};

pub(crate) use jtp_core::InputBuffer as Input;

use crate::runtime::Transport;

/// Reads what is there. `Ready(0)` is the end.
pub(crate) fn poll_fill<T: Transport + ?Sized>(
    input: &mut Input,
    cx: &mut Context<'_>,
    io: &mut T,
) -> Poll<io::Result<usize>> {
    let read = io.poll_read(cx, input.room());
    match &read {
        Poll::Ready(Ok(count)) => input.filled(*count),
        Poll::Ready(Err(_)) => {}
        Poll::Pending => input.rest(),
    }
    read
}
