//! The socket that the server listens on.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpSocket;

use crate::address::Address;
use crate::exit::Failure;

/// Length of the listen queue.
pub(super) const BACKLOG: u32 = 1024;

/// Binds to an address of `--bind`, without listening.
pub(super) async fn bind(address: &Address) -> Result<TcpSocket, Failure> {
    let found = tokio::net::lookup_host((address.host.as_str(), address.port))
        .await
        .map_err(|error| {
            Failure::other(format!(
                "cannot resolve {}: {error}; choose an address of this machine with --bind",
                address.host
            ))
        })?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no addresses");
    for address in found {
        match bind_one(address) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(listen_failure(address, &last))
}

fn bind_one(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // Allows reuse of the port while old connections are in TIME_WAIT. On Windows the option has another meaning.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

pub(super) fn listen_failure(address: &Address, error: &io::Error) -> Failure {
    Failure::other(match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "cannot listen on {address}: the port is in use; stop the program that uses it, or choose another with --bind"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "cannot listen on {address}: permission denied; choose a port above 1023 with --bind"
        ),
        io::ErrorKind::AddrNotAvailable => format!(
            "cannot listen on {address}: not an address of this machine; choose another with --bind"
        ),
        _ => format!("cannot listen on {address}: {error}"),
    })
}
