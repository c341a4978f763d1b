//! A stream in memory.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};

/// One end of a stream in memory.
pub(crate) struct Duplex {
    reader: piper::Reader,
    writer: piper::Writer,
}

/// Both ends of a stream that buffers `capacity` bytes in each direction.
pub(crate) fn duplex(capacity: usize) -> (Duplex, Duplex) {
    let (near_reader, far_writer) = piper::pipe(capacity);
    let (far_reader, near_writer) = piper::pipe(capacity);
    let client_end = Duplex {
        reader: near_reader,
        writer: near_writer,
    };
    let server_end = Duplex {
        reader: far_reader,
        writer: far_writer,
    };
    (client_end, server_end)
}

impl AsyncRead for Duplex {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.reader).poll_read(cx, buf)
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_close(cx)
    }
}
