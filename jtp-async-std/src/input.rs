//! What was read and not used yet.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::AsyncRead;
pub(crate) use jtp_core::InputBuffer as Input;

/// Reads what is there. `Ready(0)` is the end.
pub(crate) fn poll_fill<T: AsyncRead + Unpin>(
    input: &mut Input,
    cx: &mut Context<'_>,
    io: &mut T,
) -> Poll<io::Result<usize>> {
    match Pin::new(io).poll_read(cx, input.room()) {
        Poll::Ready(Ok(count)) => {
            input.filled(count);
            Poll::Ready(Ok(count))
        }
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        Poll::Pending => {
            input.rest();
            Poll::Pending
        }
    }
}
