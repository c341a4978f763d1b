//! What was read and not used yet.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

pub(crate) use jtp_core::InputBuffer as Input;
use tokio::io::{AsyncRead, ReadBuf};

/// Reads what is there. `Ready(0)` is the end.
pub(crate) fn poll_fill<T: AsyncRead + Unpin>(
    input: &mut Input,
    cx: &mut Context<'_>,
    io: &mut T,
) -> Poll<io::Result<usize>> {
    let mut read = ReadBuf::new(input.room());
    match Pin::new(io).poll_read(cx, &mut read) {
        Poll::Ready(Ok(())) => {
            let count = read.filled().len();
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
