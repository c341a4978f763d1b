//! TCP's own look at whether a peer is still there. // N4

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// After so long in which nothing came the peer is asked whether it is there,
const SILENCE: Duration = Duration::from_secs(60);

/// and again after so long,
const INTERVAL: Duration = Duration::from_secs(10);

/// so often. All in all a peer that has vanished is noticed after 90 s, on systems that can be told so.
const PROBES: u32 = 3;

/// Has the system find out that a peer has vanished which nobody waits for: one that watches has no deadline.
pub(crate) fn look_after(socket: &SockRef<'_>) {
    let times = TcpKeepalive::new().with_time(SILENCE);
    // Elsewhere these two are the system's.
    #[cfg(any(
        target_os = "android",
        target_os = "freebsd",
        target_os = "ios",
        target_os = "linux",
        target_os = "macos",
        target_os = "netbsd",
        windows,
    ))]
    let times = times.with_interval(INTERVAL).with_retries(PROBES);
    told("keep-alive", socket.set_tcp_keepalive(&times));
}

/// Has the system give up what it has taken for a peer that takes none of it: by itself it goes on for a quarter
/// of an hour, and longer, where [`look_after`] asks nothing since there is something to send already. It is no
/// shorter than the time in which output may wait (T4), and not set where that has no limit.
pub(crate) fn give_up_unsent(socket: &SockRef<'_>, write_timeout: Option<Duration>) {
    #[cfg(target_os = "linux")]
    if let Some(limit) = write_timeout {
        let limit = limit.max(SILENCE + INTERVAL * PROBES);
        told("unsent", socket.set_tcp_user_timeout(Some(limit)));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, write_timeout);
}

/// It is a help, and nothing depends on it: also some systems refuse it once the peer has gone.
fn told(what: &str, set: io::Result<()>) {
    if let Err(error) = set {
        tracing::debug!(what, %error, "cannot be set");
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn n4_the_system_looks_after_the_peer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let socket = SockRef::from(&stream);
        assert!(!socket.keepalive().unwrap());
        look_after(&socket);
        assert!(socket.keepalive().unwrap());
        #[cfg(target_os = "linux")]
        {
            assert_eq!(socket.tcp_keepalive_time().unwrap(), SILENCE);
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), INTERVAL);
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), PROBES);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn t4_what_is_unsent_is_given_up_no_sooner_than_output_may_wait() {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let of = |write_timeout: Option<u64>| {
            give_up_unsent(
                &SockRef::from(&socket),
                write_timeout.map(Duration::from_secs),
            );
            socket.tcp_user_timeout().unwrap()
        };
        assert_eq!(of(None), None);
        assert_eq!(of(Some(30)), Some(Duration::from_secs(90)));
        assert_eq!(of(Some(600)), Some(Duration::from_secs(600)));
    }
}
