//! Reaching a server.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::Error;
use crate::stream::Stream;

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
    pub(crate) config: std::sync::Arc<rustls::ClientConfig>,
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

    pub(crate) fn connect(&self) -> Result<Box<dyn Stream>, Error> {
        let stream = self.connect_tcp().map_err(|source| Error::Connect {
            address: self.address.clone(),
            source,
        })?;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return match self.handshake(tls, stream) {
                Ok(stream) => Ok(Box::new(stream)),
                Err(error) => Err(self.tls_error(error)),
            };
        }
        Ok(Box::new(stream))
    }

    /// Tries all addresses of the name, each for as long as T6 says.
    fn connect_tcp(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in self.address.to_socket_addrs()? {
            let connected = match self.connect_timeout {
                Some(limit) => TcpStream::connect_timeout(&address, limit),
                None => TcpStream::connect(address),
            };
            match connected {
                Ok(stream) => {
                    stream.set_nodelay(self.tcp_nodelay)?;
                    stream.set_nonblocking(true)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    #[cfg(feature = "tls")]
    fn handshake(&self, tls: &Tls, stream: TcpStream) -> io::Result<crate::stream::Tls> {
        let connection = rustls::ClientConnection::new(tls.config.clone(), tls.name.clone());
        let connection = connection.map_err(io::Error::other)?;
        let mut stream = crate::stream::Tls::new(connection, stream);
        stream.handshake(crate::clock::after(self.tls_timeout), &[])?;
        Ok(stream)
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
