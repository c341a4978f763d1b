//! Connecting without blocking.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::task::Poll;

use socket2::{Domain, Protocol, Socket, Type};

use crate::reactor::{PollFlags, wait_for};

/// Connects a socket in non-blocking mode. A dropped future closes it.
pub(crate) async fn connect(address: SocketAddr) -> io::Result<Arc<TcpStream>> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Ok(()) => return Ok(Arc::new(socket.into())),
        Err(error) if is_in_progress(&error) => {}
        Err(error) => return Err(error),
    }
    let stream: Arc<TcpStream> = Arc::new(socket.into());
    poll_fn(|cx| {
        if let Some(error) = stream.take_error()? {
            return Poll::Ready(Err(error));
        }
        // No error may also mean that it is still connecting, since this is polled for other reasons too.
        match stream.peer_addr() {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                wait_for(&stream, PollFlags::OUT, cx)
            }
            connected => Poll::Ready(connected.map(drop)),
        }
    })
    .await?;
    Ok(stream)
}

fn is_in_progress(error: &io::Error) -> bool {
    #[cfg(unix)]
    let in_progress =
        rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::INPROGRESS);
    #[cfg(not(unix))]
    let in_progress = false;
    // WSAEWOULDBLOCK on Windows.
    in_progress || error.kind() == io::ErrorKind::WouldBlock
}
