//! Our server on a folder.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use jtp_core::Catalog;
use jtp_core::compress::Threshold;
use jtp_store::{DirStore, ImageStore};
use jtp_tokio::{Client, ClientBuilder, Server, ServerBuilder};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::PATIENCE;
use super::bytes::Picture;
use super::files;
use super::peer::Peer;

/// A server that runs until this is dropped; then it is shut down, and has to be done at once.
pub(crate) struct Served<S = DirStore> {
    pub(crate) address: SocketAddr,
    pub(crate) store: Arc<S>,
    folder: Option<TempDir>,
    runtime: Runtime,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<std::io::Result<()>>>,
}

/// A store of the folder, in which nothing is compressed, so that every byte is known beforehand.
pub(crate) fn raw_store(folder: &Path) -> DirStore {
    let off = Threshold::new(0.0).unwrap();
    DirStore::builder(folder).compression(off).open().unwrap()
}

impl Served<DirStore> {
    /// The sample pictures, raw, on plain TCP.
    pub(crate) fn samples() -> Served {
        Served::folder(files::samples())
    }

    /// A folder, raw, on plain TCP.
    pub(crate) fn folder(folder: TempDir) -> Served {
        Served::folder_with(folder, |server| server)
    }

    pub(crate) fn folder_with(
        folder: TempDir,
        setup: impl FnOnce(ServerBuilder<DirStore>) -> ServerBuilder<DirStore>,
    ) -> Served {
        let mut served = Served::store(raw_store(folder.path()), setup);
        served.folder = Some(folder);
        served
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.as_ref().unwrap().path()
    }

    /// What the folder holds now.
    pub(crate) fn pictures(&self) -> Vec<Picture> {
        files::pictures(self.path())
    }
}

impl<S: ImageStore> Served<S> {
    pub(crate) fn store(
        store: S,
        setup: impl FnOnce(ServerBuilder<S>) -> ServerBuilder<S>,
    ) -> Served<S> {
        Served::store_on(SocketAddr::from(([127, 0, 0, 1], 0)), store, setup)
    }

    pub(crate) fn store_on(
        address: SocketAddr,
        store: S,
        setup: impl FnOnce(ServerBuilder<S>) -> ServerBuilder<S>,
    ) -> Served<S> {
        let store = Arc::new(store);
        let builder = Server::builder(Arc::clone(&store)).drain_timeout(Some(PATIENCE));
        let server = setup(builder).build();
        let listener = listener(address);
        let address = listener.local_addr().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            server.serve(listener, async { drop(stopped.await) }).await
        });
        Served {
            address,
            store,
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

    /// A scripted client.
    pub(crate) fn peer(&self) -> Peer {
        Peer::connect(self.address)
    }

    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Waits until the catalog is as wanted.
    #[track_caller]
    pub(crate) fn wait_for(&self, wanted: impl Fn(&Catalog) -> bool) {
        let begun = Instant::now();
        let mut watch = self.store.catalog().watch();
        let mut catalog = self.store.catalog().snapshot();
        while !wanted(&catalog) {
            catalog = watch
                .wait_timeout(PATIENCE.saturating_sub(begun.elapsed()))
                .expect("the catalog follows in time");
        }
    }

    /// Waits until the catalog has just these images.
    #[track_caller]
    pub(crate) fn wait_for_pictures(&self, pictures: &[Picture]) {
        self.wait_for(|catalog| {
            let entries = catalog.entries().map(|e| (e.name.to_owned(), e.id.0));
            entries.eq(pictures.iter().map(|p| (p.name.clone(), p.id)))
        });
    }
}

impl<S> Drop for Served<S> {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(task) = self.task.take() {
            let ended = self
                .runtime
                .block_on(async { tokio::time::timeout(PATIENCE / 2, task).await });
            if !std::thread::panicking() {
                ended
                    .expect("the server shuts down in time") // S16
                    .expect("the server does not panic")
                    .unwrap();
            }
        }
    }
}

/// On loopback, with small buffers in the system, which connections inherit: so little is under way
/// unseen, and the moment of what a test does is known to some hundred kilobytes.
fn listener(address: SocketAddr) -> std::net::TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_send_buffer_size(128 * 1024).unwrap();
    socket.set_recv_buffer_size(128 * 1024).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(128).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.into()
}

/// What a test may wait in all.
pub(crate) async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("in time")
}
