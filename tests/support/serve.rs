//! Our server with a folder or another store.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use jtp_core::Catalog;
use jtp_core::compress::Threshold;
use jtp_store::DirStore;
use jtp_tokio::store::ImageStore;
use jtp_tokio::{Client, ClientBuilder, Server, ServerBuilder};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::TEST_TIMEOUT;
use super::bytes::TestImage;
use super::files;
use super::peer::Peer;

/// A server that runs until this is dropped. Then it is shut down, and must complete the shutdown quickly.
pub(crate) struct TestServer<S = DirStore> {
    pub(crate) address: SocketAddr,
    pub(crate) store: Arc<S>,
    pub(crate) server: Server,
    folder: Option<TempDir>,
    runtime: Runtime,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<std::io::Result<()>>>,
}

/// A store of the folder without compression, so that every sent byte is known.
pub(crate) fn raw_store(folder: &Path) -> DirStore {
    let off = Threshold::new(0.0).unwrap();
    DirStore::builder(folder).compression(off).open().unwrap()
}

impl TestServer<DirStore> {
    /// Serves the sample images, uncompressed, on plain TCP.
    pub(crate) fn samples() -> TestServer {
        TestServer::folder(files::samples())
    }

    /// Serves a folder, uncompressed, on plain TCP.
    pub(crate) fn folder(folder: TempDir) -> TestServer {
        TestServer::folder_with(folder, |server| server)
    }

    pub(crate) fn folder_with(
        folder: TempDir,
        setup: impl FnOnce(ServerBuilder) -> ServerBuilder,
    ) -> TestServer {
        let mut served = TestServer::store(raw_store(folder.path()), setup);
        served.folder = Some(folder);
        served
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.as_ref().unwrap().path()
    }

    /// The current content of the folder.
    pub(crate) fn images(&self) -> Vec<TestImage> {
        files::images_in(self.path())
    }
}

impl<S: ImageStore> TestServer<S> {
    pub(crate) fn store(
        store: S,
        setup: impl FnOnce(ServerBuilder) -> ServerBuilder,
    ) -> TestServer<S> {
        TestServer::store_on(SocketAddr::from(([127, 0, 0, 1], 0)), store, setup)
    }

    pub(crate) fn store_on(
        address: SocketAddr,
        store: S,
        setup: impl FnOnce(ServerBuilder) -> ServerBuilder,
    ) -> TestServer<S> {
        let store = Arc::new(store);
        let builder = Server::builder(Arc::clone(&store)).drain_timeout(Some(TEST_TIMEOUT));
        let server = setup(builder).build();
        let listener = listener(address);
        let address = listener.local_addr().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = server.clone();
        let task = runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            serving.serve(listener, async { drop(stopped.await) }).await
        });
        TestServer {
            address,
            store,
            server,
            folder: None,
            runtime,
            stop: Some(stop),
            task: Some(task),
        }
    }

    /// A plain client.
    pub(crate) fn client(&self) -> ClientBuilder {
        Client::builder(self.address.to_string())
    }

    /// A raw client.
    pub(crate) fn peer(&self) -> Peer {
        Peer::connect(self.address)
    }

    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Waits until the catalog meets a condition.
    #[track_caller]
    pub(crate) fn wait_for(&self, wanted: impl Fn(&Catalog) -> bool) {
        let start = Instant::now();
        let mut watch = self.store.catalog().subscribe();
        let mut catalog = self.store.catalog().snapshot();
        while !wanted(&catalog) {
            catalog = watch
                .wait_timeout(TEST_TIMEOUT.saturating_sub(start.elapsed()))
                .expect("the catalog changes in time");
        }
    }

    /// Waits until the catalog has exactly these images.
    #[track_caller]
    pub(crate) fn wait_for_images(&self, images: &[TestImage]) {
        self.wait_for(|catalog| {
            let entries = catalog.entries().map(|e| (e.name.to_owned(), e.id.0));
            entries.eq(images.iter().map(|p| (p.name.clone(), p.id)))
        });
    }
}

impl<S> TestServer<S> {
    /// Begins the shutdown.
    pub(crate) fn shut_down(&mut self) {
        drop(self.stop.take());
    }
}

impl<S> Drop for TestServer<S> {
    fn drop(&mut self) {
        self.shut_down();
        if let Some(task) = self.task.take() {
            let ended = self
                .runtime
                .block_on(async { tokio::time::timeout(TEST_TIMEOUT / 2, task).await });
            if !std::thread::panicking() {
                ended
                    .expect("the server shuts down in time") // S16
                    .expect("the server does not panic")
                    .unwrap();
            }
        }
    }
}

/// Listens with small socket buffers, which connections inherit: a test knows the server's progress to within a few
/// hundred kilobytes.
fn listener(address: SocketAddr) -> std::net::TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_send_buffer_size(128 * 1024).unwrap();
    socket.set_recv_buffer_size(128 * 1024).unwrap();
    // A restarted server listens on the same port.
    socket.set_reuse_address(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(128).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.into()
}

/// Limits the duration of a whole test.
pub(crate) async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(TEST_TIMEOUT, work)
        .await
        .expect("in time")
}
