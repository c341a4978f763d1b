//! Connecting to a server.

use std::io;
use std::marker::PhantomData;
#[cfg(feature = "tls")]
use std::sync::Arc;
use std::time::Duration;

use super::Error;
#[cfg(feature = "tls")]
use crate::runtime::TlsRuntime;
use crate::runtime::{BoxTransport, Runtime, Socket};
use crate::socket::set_keep_alive;
use crate::wait::timeout_io;

/// The server to connect to, and how.
#[derive(Clone, Debug)]
pub(super) struct Target<R: Runtime> {
    /// `HOST:PORT`
    pub(super) address: String,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) tcp_nodelay: bool,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<Tls<R>>,
    #[cfg(feature = "tls")]
    pub(super) tls_timeout: Option<Duration>,
    pub(super) runtime: PhantomData<fn() -> R>,
}

/// Performs TLS handshakes, for runtimes that may have no TLS.
#[cfg(feature = "tls")]
type Connect<R> = dyn Fn(&R, <R as Runtime>::Socket) -> Handshake + Send + Sync;

#[cfg(feature = "tls")]
type Handshake = crate::BoxFuture<io::Result<BoxTransport>>;

#[cfg(feature = "tls")]
#[derive(Clone)]
pub(super) struct Tls<R: Runtime> {
    connect: Arc<Connect<R>>,
    name: rustls::pki_types::ServerName<'static>,
}

#[cfg(feature = "tls")]
impl<R: TlsRuntime> Tls<R> {
    pub(super) fn new(
        mut config: rustls::ClientConfig,
        name: rustls::pki_types::ServerName<'static>,
    ) -> Tls<R> {
        config.alpn_protocols = vec![crate::ALPN.to_vec()];
        let config = Arc::new(config);
        let server = name.clone();
        let connect = move |runtime: &R, socket| -> Handshake {
            Box::pin(runtime.connect_tls(Arc::clone(&config), server.clone(), socket))
        };
        Tls {
            connect: Arc::new(connect),
            name,
        }
    }
}

#[cfg(feature = "tls")]
impl<R: Runtime> std::fmt::Debug for Tls<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tls").field(&self.name).finish()
    }
}

impl<R: Runtime> Target<R> {
    pub(super) fn is_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }

    pub(super) async fn connect(&self, runtime: &R) -> Result<BoxTransport, Error> {
        let stream = self
            .connect_tcp(runtime)
            .await
            .map_err(|source| Error::Connect {
                address: self.address.clone(),
                source,
            })?;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let handshake = timeout_io(runtime, self.tls_timeout, (tls.connect)(runtime, stream));
            return handshake.await.map_err(|error| self.tls_error(error));
        }
        Ok(Box::new(stream))
    }

    /// Tries all addresses of the name, each within its time limit. // T6
    async fn connect_tcp(&self, runtime: &R) -> io::Result<R::Socket> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in runtime.resolve(&self.address).await? {
            let connecting = runtime.connect(address);
            match timeout_io(runtime, self.connect_timeout, connecting).await {
                Ok(stream) => {
                    stream.options().set_tcp_nodelay(self.tcp_nodelay)?;
                    set_keep_alive(&stream.options());
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    #[cfg(feature = "tls")]
    fn tls_error(&self, source: io::Error) -> Error {
        let address = self.address.clone();
        match super::error::tls_cause(&source) {
            // The server answered with bytes that are no TLS record.
            Some(rustls::Error::InvalidMessage(_)) => Error::PlainServer { address },
            None if super::error::is_end(&source) => Error::Tls { address, source }.refused(),
            _ => Error::from_tls(source, &address),
        }
    }
}
