//! Socket options that find out whether a peer still exists. // N4

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
