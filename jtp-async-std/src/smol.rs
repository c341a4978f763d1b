//! JTP on smol: the names of the crate's root, for that runtime.
//!
//! ```
//! use std::sync::Arc;
//!
//! use jtp_async_std::smol::{Client, Server};
//! use jtp_async_std::store::MemoryStore;
//! use smol::net::TcpListener;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! smol::block_on(async {
//!     let store = Arc::new(MemoryStore::new());
//!     let id = store.insert("a.png", b"pixels".as_slice())?;
//!
//!     let listener = TcpListener::bind("127.0.0.1:0").await?;
//!     let address = listener.local_addr()?.to_string();
//!     let server = Server::builder(store).build();
//!     let serving = smol::spawn(async move {
//!         server.serve(listener, std::future::pending()).await
//!     });
//!
//!     let mut client = Client::builder(address).build();
//!     assert_eq!(client.list().await?[0].id, id);
//! #   drop(serving);
//!     Ok(())
//! })
//! # }
//! ```

use std::fmt;
use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_io::{AsyncRead, AsyncWrite};
use jtp_driver::{BoxFuture, Runtime, SockRef, Socket, WrapStream};
use smol::Executor;
use smol::net::{TcpListener, TcpStream};

pub use crate::futures_io::Io;

/// smol, with its global executor or one of the program's.
#[derive(Clone, Default)]
pub struct Smol {
    executor: Option<Arc<Executor<'static>>>,
}

impl Smol {
    /// Starts the tasks of connections on this executor. The program runs it.
    #[must_use]
    pub fn with_executor(executor: Arc<Executor<'static>>) -> Smol {
        Smol {
            executor: Some(executor),
        }
    }
}

impl fmt::Debug for Smol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Smol").finish_non_exhaustive()
    }
}

crate::futures_io::sockets!(Smol, TcpStream);
jtp_driver::adapter!(crate::smol::Smol);

impl Runtime for Smol {
    type Sleep = Sleep;
    type Socket = Io<Tcp>;
    type Listener = TcpListener;

    fn sleep_until(&self, deadline: Instant) -> Sleep {
        Sleep(smol::Timer::at(deadline))
    }

    fn spawn(&self, _: fmt::Arguments<'_>, task: BoxFuture<()>) -> io::Result<()> {
        match &self.executor {
            Some(executor) => executor.spawn(task).detach(),
            None => smol::spawn(task).detach(),
        }
        Ok(())
    }

    async fn accept(&self, listener: &TcpListener) -> io::Result<(Io<Tcp>, SocketAddr)> {
        let (stream, address) = listener.accept().await?;
        Ok((stream.into(), address))
    }

    async fn resolve(&self, address: &str) -> io::Result<Vec<SocketAddr>> {
        smol::net::resolve(address).await
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<Io<Tcp>> {
        TcpStream::connect(address).await.map(Io::from)
    }
}

/// A timer.
#[derive(Debug)]
pub struct Sleep(smol::Timer);

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx).map(drop)
    }
}

impl jtp_driver::Sleep for Sleep {
    fn reset(&mut self, deadline: Instant) {
        self.0.set_at(deadline);
    }
}
