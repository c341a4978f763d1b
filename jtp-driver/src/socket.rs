//! Socket options: whether a peer still exists (N4), and what the system buffers for it (T8).

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// TCP keep-alive probes start after this time without a byte from the peer,
const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(60);

/// are repeated at this interval,
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// and this often. A vanished peer is noticed after 90 s, on systems that support these options.
const KEEP_ALIVE_PROBES: u32 = 3;

/// Turns on TCP keep-alive: a connection in WATCH has no deadline that would notice a vanished peer.
pub(crate) fn set_keep_alive(socket: &SockRef<'_>) {
    let times = TcpKeepalive::new().with_time(KEEP_ALIVE_IDLE);
    // Other systems use their own values.
    #[cfg(any(
        target_os = "android",
        target_os = "freebsd",
        target_os = "ios",
        target_os = "linux",
        target_os = "macos",
        target_os = "netbsd",
        windows,
    ))]
    let times = times
        .with_interval(KEEP_ALIVE_INTERVAL)
        .with_retries(KEEP_ALIVE_PROBES);
    log_failure("keep-alive", socket.set_tcp_keepalive(&times));
}

/// Limits how long the system keeps unacknowledged data (`TCP_USER_TIMEOUT`, Linux). Without it the system retries for
/// 15 minutes or more, and keep-alive sends no probes while data is pending. Never shorter than the write timeout (T4)
/// or the keep-alive time; not set if there is no write timeout.
#[cfg(any(feature = "server", test))]
pub(crate) fn set_user_timeout(socket: &SockRef<'_>, write_timeout: Option<Duration>) {
    #[cfg(target_os = "linux")]
    if let Some(limit) = write_timeout {
        let limit = limit.max(KEEP_ALIVE_IDLE + KEEP_ALIVE_INTERVAL * KEEP_ALIVE_PROBES);
        log_failure("user timeout", socket.set_tcp_user_timeout(Some(limit)));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, write_timeout);
}

/// The most bytes that the system holds for a peer beyond what the peer's receive window admits. Less than a chunk of a
/// body, and enough to keep the connection busy until the task runs again.
#[cfg(all(feature = "server", any(target_os = "android", target_os = "linux")))]
const UNSENT: u32 = 128 * 1024;

/// The receive buffer; Linux doubles it. A client sends requests, of which the largest is 8 MB; a response does not
/// depend on it.
#[cfg(feature = "server")]
const RECEIVE_BUFFER: usize = 128 * 1024;

/// Limits what the system buffers for a connection of a server. // T8
///
/// Unsent data (`TCP_NOTSENT_LOWAT`, Linux): without it, a peer that does not read costs as much as the send buffer can
/// grow, some megabytes. Other systems keep their own limit of the send buffer, since a fixed one would also limit the
/// speed of distant peers.
///
/// Unread data: while a response is under way, the server reads no further requests (S1). The receive buffer would
/// otherwise grow to some megabytes for a client that sends a few large requests first.
#[cfg(feature = "server")]
pub(crate) fn limit_buffers(socket: &SockRef<'_>) {
    #[cfg(any(target_os = "android", target_os = "linux"))]
    log_failure("unsent data", socket.set_tcp_notsent_lowat(UNSENT));
    log_failure(
        "receive buffer",
        socket.set_recv_buffer_size(RECEIVE_BUFFER),
    );
}

/// Resets the connection when the socket is closed, so that the system discards at once what the peer did not read.
/// // T8
#[cfg(feature = "server")]
pub(crate) fn reset_on_close(socket: &SockRef<'_>) {
    log_failure("linger", socket.set_linger(Some(Duration::ZERO)));
}

/// Limits how long the system tries to deliver the last bytes after the write side was closed (`TCP_USER_TIMEOUT`,
/// Linux): without progress for the write timeout, like the server itself (T4). The connection is not counted any
/// longer then. // T8
#[cfg(feature = "server")]
pub(crate) fn limit_delivery(socket: &SockRef<'_>, write_timeout: Option<Duration>) {
    #[cfg(target_os = "linux")]
    if let Some(limit) = write_timeout {
        log_failure("user timeout", socket.set_tcp_user_timeout(Some(limit)));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, write_timeout);
}

/// These options are an aid that nothing depends on; some systems refuse them once the peer is gone.
fn log_failure(option: &str, result: io::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(option, %error, "cannot set a socket option");
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn n4_keep_alive_is_set() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let socket = SockRef::from(&stream);
        assert!(!socket.keepalive().unwrap());
        set_keep_alive(&socket);
        assert!(socket.keepalive().unwrap());
        #[cfg(target_os = "linux")]
        {
            assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEP_ALIVE_IDLE);
            assert_eq!(
                socket.tcp_keepalive_interval().unwrap(),
                KEEP_ALIVE_INTERVAL
            );
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEP_ALIVE_PROBES);
        }
    }

    #[cfg(all(feature = "server", target_os = "linux"))]
    #[test]
    fn t8_buffers_are_limited_and_a_reset_discards_them() {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let socket = SockRef::from(&socket);
        limit_buffers(&socket);
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT);
        assert!(socket.recv_buffer_size().unwrap() <= 2 * RECEIVE_BUFFER);
        assert_eq!(socket.linger().unwrap(), None);
        reset_on_close(&socket);
        assert_eq!(socket.linger().unwrap(), Some(Duration::ZERO));
        set_user_timeout(&socket, Some(Duration::from_secs(30)));
        limit_delivery(&socket, Some(Duration::from_secs(30)));
        let timeout = socket.tcp_user_timeout().unwrap();
        assert_eq!(timeout, Some(Duration::from_secs(30)));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn t4_user_timeout_is_at_least_the_write_timeout() {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let timeout_for = |write_timeout: Option<u64>| {
            set_user_timeout(
                &SockRef::from(&socket),
                write_timeout.map(Duration::from_secs),
            );
            socket.tcp_user_timeout().unwrap()
        };
        assert_eq!(timeout_for(None), None);
        assert_eq!(timeout_for(Some(30)), Some(Duration::from_secs(90)));
        assert_eq!(timeout_for(Some(600)), Some(Duration::from_secs(600)));
    }
}
