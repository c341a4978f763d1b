//! Reaching a server.

use std::io;
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};

use super::Error;
use crate::clock::within;
use crate::runtime::{Tcp, TcpStream, resolve};

/// Whatever bytes go over.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// How a server is reached.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// `HOST:PORT`
    pub(crate) address: String,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) tcp_nodelay: bool,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<Tls>,
    #[cfg(feature = "tls")]
    pub(crate) tls_timeout: Option<Duration>,
}

#[cfg(feature = "tls")]
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) connector: futures_rustls::TlsConnector,
    pub(crate) name: rustls::pki_types::ServerName<'static>,
}

#[cfg(feature = "tls")]
impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tls").field(&self.name).finish()
    }
}

impl Target {
    pub(crate) fn is_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }

    pub(crate) async fn connect(&self) -> Result<Box<dyn Stream>, Error> {
        let stream = self.connect_tcp().await.map_err(|source| Error::Connect {
            address: self.address.clone(),
            source,
        })?;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let handshake = tls.connector.connect(tls.name.clone(), stream);
            return match within(self.tls_timeout, handshake).await {
                Ok(stream) => Ok(Box::new(stream)),
                Err(error) => Err(self.tls_error(error)),
            };
        }
        Ok(Box::new(stream))
    }

    /// Tries all addresses of the name, each for as long as T6 says.
    async fn connect_tcp(&self) -> io::Result<Tcp> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in resolve(&self.address).await? {
            match within(self.connect_timeout, TcpStream::connect(address)).await {
                Ok(stream) => {
                    stream.set_nodelay(self.tcp_nodelay)?;
                    return Ok(Tcp(stream));
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
