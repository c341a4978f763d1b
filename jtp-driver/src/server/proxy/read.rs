//! Reads the header of a connection from a proxy.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{ProxyHeader, parse};
use crate::runtime::Transport;
use crate::server::limits::LogThrottle;

/// The limit for the whole header. A proxy sends it as soon as it is connected.
pub(in crate::server) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Which addresses are proxies whose connections begin with a header.
pub(in crate::server) struct ProxyProtocol {
    is_proxy: Box<dyn Fn(IpAddr) -> bool + Send + Sync>,
    failures: Mutex<LogThrottle>,
}

impl ProxyProtocol {
    pub(in crate::server) fn new(
        is_proxy: impl Fn(IpAddr) -> bool + Send + Sync + 'static,
    ) -> ProxyProtocol {
        ProxyProtocol {
            is_proxy: Box::new(is_proxy),
            failures: Mutex::default(),
        }
    }

    pub(in crate::server) fn is_proxy(&self, address: SocketAddr) -> bool {
        (self.is_proxy)(address.ip().to_canonical())
    }

    /// Logs a header that did not come or is none: the proxy is configured wrongly.
    pub(in crate::server) fn log_failure(
        &self,
        proxy: SocketAddr,
        error: &io::Error,
        now: Instant,
    ) {
        use io::ErrorKind::{InvalidData, TimedOut, UnexpectedEof};

        if !matches!(error.kind(), InvalidData | TimedOut | UnexpectedEof) {
            return; // The network.
        }
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = failures.record(now) {
            tracing::warn!(%proxy, %error, count, "cannot read the PROXY protocol header");
        }
    }
}

impl fmt::Debug for ProxyProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyProtocol").finish_non_exhaustive()
    }
}

/// Whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Source {
    /// A client's.
    Client(SocketAddr),
    /// The proxy's own, for a health check.
    Proxy,
    /// The connection ended without a byte: a health check, too.
    Closed,
}

/// Reads a header, and nothing after it.
pub(in crate::server) async fn read_source(transport: &mut impl Transport) -> io::Result<Source> {
    // On the heap: some runtimes have small stacks.
    let mut header = Vec::new();
    let mut filled = 0;
    loop {
        let parsed = parse(&header[..filled])
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let length = match parsed {
            ProxyHeader::Incomplete { length } => length,
            ProxyHeader::Complete { client, .. } => {
                return Ok(client.map_or(Source::Proxy, Source::Client));
            }
        };
        header.resize(length, 0); // At most `MAX_HEADER`.
        let missing = &mut header[filled..];
        match poll_fn(|cx| transport.poll_read(cx, missing)).await? {
            0 if filled == 0 => return Ok(Source::Closed),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
    }
}
