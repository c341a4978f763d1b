//! Reaching a server.

use std::io;
use std::marker::PhantomData;
#[cfg(feature = "tls")]
use std::pin::Pin;
#[cfg(feature = "tls")]
use std::sync::Arc;
use std::time::Duration;

use super::Error;
use crate::keep_alive::look_after;
#[cfg(feature = "tls")]
use crate::runtime::TlsRuntime;
use crate::runtime::{BoxTransport, Runtime, Socket};
use crate::wait::within;

/// How a server is reached.
#[derive(Clone, Debug)]
pub(crate) struct Target<R: Runtime> {
    /// `HOST:PORT`
    pub(crate) address: String,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) tcp_nodelay: bool,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Tls<R>>,
    #[cfg(feature = "tls")]
    pub(crate) tls_timeout: Option<Duration>,
    pub(crate) runtime: PhantomData<R>,
}

/// Makes TLS handshakes: what a runtime with TLS does, also for those that may have none.
#[cfg(feature = "tls")]
type Connect<R> = dyn Fn(<R as Runtime>::Socket) -> Connecting + Send + Sync;

#[cfg(feature = "tls")]
type Connecting = Pin<Box<dyn Future<Output = io::Result<BoxTransport>> + Send>>;

#[cfg(feature = "tls")]
#[derive(Clone)]
pub(crate) struct Tls<R: Runtime> {
    connect: Arc<Connect<R>>,
    name: rustls::pki_types::ServerName<'static>,
}

#[cfg(feature = "tls")]
impl<R: TlsRuntime> Tls<R> {
    pub(crate) fn new(
        mut config: rustls::ClientConfig,
        name: rustls::pki_types::ServerName<'static>,
    ) -> Tls<R> {
        config.alpn_protocols = vec![crate::ALPN.to_vec()];
        let config = Arc::new(config);
        let of = name.clone();
        let connect = move |socket| -> Connecting {
            Box::pin(R::connect_tls(Arc::clone(&config), of.clone(), socket))
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
    pub(crate) fn is_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }

    pub(crate) async fn connect(&self) -> Result<BoxTransport, Error> {
        let stream = self.connect_tcp().await.map_err(|source| Error::Connect {
            address: self.address.clone(),
            source,
        })?;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let handshake = within::<R, _>(self.tls_timeout, (tls.connect)(stream));
            return handshake.await.map_err(|error| self.tls_error(error));
        }
        Ok(Box::new(stream))
    }

    /// Tries all addresses of the name, each for as long as T6 says.
    async fn connect_tcp(&self) -> io::Result<R::Socket> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in R::resolve(&self.address).await? {
            let connecting = R::connect(address, self.connect_timeout);
            match within::<R, _>(self.connect_timeout, connecting).await {
                Ok(stream) => {
                    stream.options().set_tcp_nodelay(self.tcp_nodelay)?;
                    look_after(&stream.options());
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
        let inner = source
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            // Bytes that are no TLS record: the server answered in another tongue.
            Some(rustls::Error::InvalidMessage(_)) => Error::PlainServer { address },
            _ => Error::Tls { address, source },
        }
    }
}
