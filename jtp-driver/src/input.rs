//! What was read and not used yet.

use std::io;
use std::task::{Context, Poll};

pub(crate) use jtp_core::InputBuffer as Input;

use crate::runtime::Transport;

/// Reads what is there, at most so much. `Ready(0)` is the end.
pub(crate) fn poll_fill<T: Transport + ?Sized>(
    input: &mut Input,
    cx: &mut Context<'_>,
    io: &mut T,
    most: usize,
) -> Poll<io::Result<usize>> {
    let room = input.room();
    let most = most.min(room.len());
    let read = io.poll_read(cx, room.get_mut(..most).unwrap_or_default());
    match &read {
        Poll::Ready(Ok(count)) => input.filled(*count),
        Poll::Ready(Err(_)) => {}
        Poll::Pending => input.rest(),
    }
    read
}
