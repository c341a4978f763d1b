//! Socket activation: a listening socket that the service manager passes (`LISTEN_FDS`), in place of `--bind`.

use std::net::TcpListener;

use crate::exit::Failure;

/// The TCP listener that the service manager passed to this process, if any.
///
/// Removes `LISTEN_FDS` and `LISTEN_PID` from the environment. Call it while the process has one thread.
///
/// # Errors
///
/// Several sockets were passed, or one that is not a TCP listener.
#[cfg(unix)]
pub(super) fn take() -> Result<Option<TcpListener>, Failure> {
    // listenfd accepts sockets without LISTEN_PID as well. Variables for another process are not for this one.
    let for_this_process = std::env::var("LISTEN_PID")
        .is_ok_and(|pid| pid.parse().is_ok_and(|pid: u32| pid == std::process::id()));
    if !for_this_process {
        return Ok(None);
    }
    let count: Option<usize> = std::env::var("LISTEN_FDS")
        .ok()
        .and_then(|count| count.parse().ok());
    match count {
        None | Some(0) => return Ok(None),
        Some(1) => {}
        Some(count) => {
            return Err(Failure::other(format!(
                "the service manager passed {count} sockets, and the server takes one; keep one ListenStream= in the socket unit"
            )));
        }
    }
    let listener = listenfd::ListenFd::from_env()
        .take_tcp_listener(0)
        .ok()
        .flatten()
        .filter(is_listening);
    match listener {
        Some(listener) => Ok(Some(listener)),
        None => Err(Failure::other(
            "the socket that the service manager passed is not a TCP listener; the socket unit needs ListenStream= with a TCP port, and Accept=no",
        )),
    }
}

/// Whether a TCP socket listens, rather than being a connection.
#[cfg(all(unix, not(target_vendor = "apple")))]
fn is_listening(socket: &TcpListener) -> bool {
    rustix::net::sockopt::socket_acceptconn(socket).unwrap_or(false)
}

/// The same where the system does not say whether a socket listens: one without a peer may.
#[cfg(target_vendor = "apple")]
fn is_listening(socket: &TcpListener) -> bool {
    rustix::net::getpeername(socket).is_err()
}

#[cfg(not(unix))]
pub(super) fn take() -> Result<Option<TcpListener>, Failure> {
    Ok(None)
}
