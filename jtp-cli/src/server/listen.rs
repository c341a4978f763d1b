//! The socket that the server listens on.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use tokio::net::{TcpListener, TcpSocket};

use crate::address::Address;
use crate::exit::Failure;

/// Length of the listen queue.
const BACKLOG: u32 = 1024;

/// A socket that does not accept connections yet.
pub(super) enum Socket {
    /// Bound to the address of `--bind`.
    Bound(TcpSocket),
    /// Passed by the service manager, which listens on it. Connections wait in its queue.
    Passed(std::net::TcpListener),
}

impl Socket {
    /// The socket that the service manager passed, else one that is bound to `address`.
    pub(super) fn new(
        passed: Option<std::net::TcpListener>,
        address: &Address,
    ) -> Result<Socket, Failure> {
        match passed {
            Some(listener) => Ok(Socket::Passed(listener)),
            None => bind(address).map(Socket::Bound),
        }
    }

    /// Accepts connections from now on.
    pub(super) fn listen(self, address: &Address) -> Result<(TcpListener, SocketAddr), Failure> {
        let listener = match self {
            Socket::Bound(socket) => socket.listen(BACKLOG),
            Socket::Passed(listener) => listener
                .set_nonblocking(true)
                .and_then(|()| TcpListener::from_std(listener)),
        };
        listener
            .and_then(|listener| {
                let bound = listener.local_addr()?;
                Ok((listener, bound))
            })
            .map_err(|error| listen_failure(address, &error))
    }
}

/// Binds to an address of `--bind`, without listening.
fn bind(address: &Address) -> Result<TcpSocket, Failure> {
    let found = (address.host.as_str(), address.port)
        .to_socket_addrs()
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

fn listen_failure(address: &Address, error: &io::Error) -> Failure {
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
