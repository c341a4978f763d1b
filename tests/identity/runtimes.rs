//! The runtimes, for tests that are generic over them.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use jtp_driver::store::MemoryStore;
use jtp_driver::{
    BoxFuture, Client, ClientBuilder, Server, ServerBuilder, ShutdownSignal, TlsRuntime,
};

use crate::support::TEST_TIMEOUT;
use crate::support::tls::localhost;

/// A runtime, and what its trait does not have.
pub(super) trait World: TlsRuntime + Default {
    fn listener(&self, listener: TcpListener) -> Self::Listener;

    fn block_on<T>(test: impl Future<Output = T>) -> T;
}

impl World for jtp_tokio::Tokio {
    fn listener(&self, listener: TcpListener) -> tokio::net::TcpListener {
        tokio::net::TcpListener::from_std(listener).unwrap()
    }

    fn block_on<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
            .block_on(test)
    }
}

impl World for jtp_async_std::AsyncStd {
    fn listener(&self, listener: TcpListener) -> async_std::net::TcpListener {
        listener.into()
    }

    fn block_on<T>(test: impl Future<Output = T>) -> T {
        async_std::task::block_on(test)
    }
}

impl World for jtp_async_std::smol::Smol {
    fn listener(&self, listener: TcpListener) -> smol::net::TcpListener {
        listener.try_into().unwrap()
    }

    fn block_on<T>(test: impl Future<Output = T>) -> T {
        smol::block_on(test)
    }
}

impl World for jtp_blocking::Threads {
    fn listener(&self, listener: TcpListener) -> Arc<TcpListener> {
        Arc::new(listener)
    }

    fn block_on<T>(test: impl Future<Output = T>) -> T {
        jtp_blocking::runtime::block_on(test)
    }
}

/// A server of one image, until this is dropped.
pub(super) struct Serving<W: World> {
    pub(super) runtime: W,
    pub(super) server: Server<W>,
    pub(super) store: Arc<MemoryStore>,
    pub(super) address: SocketAddr,
    shutdown: ShutdownSignal,
}

impl<W: World> Drop for Serving<W> {
    fn drop(&mut self) {
        self.shutdown.begin();
    }
}

impl<W: World> Serving<W> {
    pub(super) fn start(setup: impl FnOnce(ServerBuilder<W>) -> ServerBuilder<W>) -> Serving<W> {
        let runtime = W::default();
        let store = Arc::new(MemoryStore::new());
        store.insert("a.png", b"pixels".as_slice()).unwrap();
        let server = setup(Server::builder_on(runtime.clone(), Arc::clone(&store))).build();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let listener = runtime.listener(listener);
        let shutdown = ShutdownSignal::new();
        let (running, stop) = (server.clone(), shutdown.wait());
        let task: BoxFuture<()> =
            Box::pin(async move { running.serve(listener, stop).await.unwrap() });
        runtime.spawn(format_args!("server"), task).unwrap();
        Serving {
            runtime,
            server,
            store,
            address,
            shutdown,
        }
    }

    /// A client that connects once, with this configuration of TLS or on plain TCP.
    pub(super) fn client(&self, tls: Option<&Arc<rustls::ClientConfig>>) -> Client<W> {
        let mut builder: ClientBuilder<W> =
            ClientBuilder::new(self.runtime.clone(), self.address.to_string()).retries(0);
        if let Some(config) = tls {
            builder = builder.tls(Arc::clone(config), localhost());
        }
        builder.build()
    }

    /// Fails if `work` takes longer than any test does.
    pub(super) async fn in_time<T>(&self, work: impl Future<Output = T>) -> T {
        let limit: Option<Duration> = Some(TEST_TIMEOUT);
        let done = jtp_driver::timeout(&self.runtime, limit, work).await;
        done.expect("in time")
    }
}

/// Runs a test that is generic over the runtime on each of them.
macro_rules! on_each_runtime {
    ($($test:ident),* $(,)?) => {$(
        mod $test {
            #[test]
            fn on_tokio() {
                super::$test::<jtp_tokio::Tokio>();
            }

            #[test]
            fn on_async_std() {
                super::$test::<jtp_async_std::AsyncStd>();
            }

            #[test]
            fn on_smol() {
                super::$test::<jtp_async_std::smol::Smol>();
            }

            #[test]
            fn on_blocking() {
                super::$test::<jtp_blocking::Threads>();
            }
        }
    )*};
}

pub(super) use on_each_runtime;
