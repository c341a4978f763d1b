//! All that comes from a runtime: sockets, tasks, timers, and threads that may block.
//!
//! The rest of the crate is written against futures-io and does not know which one it runs on.

#[cfg(feature = "async-std")]
mod chosen {
    use std::io;
    use std::net::SocketAddr;

    use async_std::net::ToSocketAddrs;
    pub(crate) use async_std::net::{TcpListener, TcpStream};
    pub(crate) use async_std::task::{JoinHandle as Blocking, sleep, spawn_blocking};

    pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
        // Dropping the handle detaches the task.
        drop(async_std::task::spawn(task));
    }

    pub(crate) async fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
        Ok(address.to_socket_addrs().await?.collect())
    }
}

#[cfg(all(feature = "smol", not(feature = "async-std")))]
mod chosen {
    use std::time::Duration;

    pub(crate) use smol::net::{TcpListener, TcpStream, resolve};
    pub(crate) use smol::{Task as Blocking, unblock as spawn_blocking};

    pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
        smol::spawn(task).detach();
    }

    pub(crate) async fn sleep(duration: Duration) {
        smol::Timer::after(duration).await;
    }
}

pub(crate) use chosen::*;
