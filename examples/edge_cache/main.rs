//! A server at the edge: it serves the images of an upstream server, and keeps those that were asked for in a folder.
//!
//! - The catalog is the upstream's. It is followed by WATCH, and listed again every 5 minutes and after each lost
//!   connection, so that removed images disappear here too.
//! - An image that is missing is fetched over one of several connections, verified by its ID, and kept as it travels,
//!   compressed or not. Clients that ask for one missing image at the same time share one fetch.
//! - The folder is bounded in bytes. Images that were not used for the longest time make room for new ones. An image
//!   over an eighth of the bound is not listed.
//! - While the upstream is away, images that are in the folder are served. For the others a client gets `ServerError`,
//!   and tries again.
//!
//! A missing image is served once it was fetched as a whole, since it is verified before anyone sees it. The upstream
//! has to be there when the program starts: the catalog is not kept.
//!
//! ```console
//! $ cargo run --example edge_cache -- gallery.example:8443 0.0.0.0:8444 /var/cache/jtp 10000000000
//! ```

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use jtp_examples::{Result, exit};
use jtp_tokio::jtp_core::Image;
use jtp_tokio::store::BoxFuture;
use jtp_tokio::store::{ImageStore, LiveCatalog, OpenImage, ReadAhead, StoreError};
use jtp_tokio::{Client, Server};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use cache::DiskCache;
use upstream::{Failure, Upstream};

mod cache;
mod follow;
mod upstream;

/// Connections to the upstream that fetch images.
const CONNECTIONS: usize = 8;

#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The upstream server: `HOST:PORT`.
    pub(crate) upstream: String,
    /// Where images are kept. The folder belongs to this program.
    pub(crate) folder: PathBuf,
    /// The most bytes of images that the folder holds.
    pub(crate) max_bytes: u64,
    /// The time after which the catalog is listed again. // N5
    pub(crate) relist: Duration,
}

/// The images of another server, the recently used ones from a folder.
pub(crate) struct EdgeStore {
    catalog: LiveCatalog,
    cache: Arc<DiskCache>,
    upstream: Arc<Upstream>,
    /// Dropping the store ends its tasks.
    _tasks: JoinSet<()>,
}

impl EdgeStore {
    /// Reads the upstream's catalog, and begins to follow it.
    pub(crate) async fn connect(config: Config) -> Result<EdgeStore> {
        let connections = u64::try_from(CONNECTIONS)?;
        // All connections can fetch an image of this size at once, and stay within the bound together.
        let max_length = u32::try_from(config.max_bytes / connections).unwrap_or(u32::MAX);
        let client = Client::builder(&config.upstream);
        let cache = Arc::new(DiskCache::open(config.folder, config.max_bytes)?);
        let upstream = Arc::new(Upstream::new(Arc::clone(&cache), max_length));
        let catalog = LiveCatalog::new();

        // The loop that follows the catalog has pauses of its own.
        let mut follower = client.clone().retries(0).build();
        follow::replace(&catalog, &follower.list().await?, max_length);
        let mut tasks = JoinSet::new();
        let followed = catalog.clone();
        tasks.spawn(follow::follow(
            followed,
            follower,
            config.relist,
            max_length,
        ));
        for _ in 0..CONNECTIONS {
            // One retry repairs a connection that the upstream closed while it was idle.
            let client = client.clone().retries(1).build();
            tasks.spawn(Arc::clone(&upstream).run(client));
        }
        Ok(EdgeStore {
            catalog,
            cache,
            upstream,
            _tasks: tasks,
        })
    }

    async fn open_cached(&self, image: Image, max_first: usize) -> Result<OpenImage, StoreError> {
        let id = image.id;
        loop {
            let cached = self.cache.get(id, max_first).await;
            if let Some(cached) = cached.map_err(|error| StoreError::unavailable(id, error))? {
                return Ok(cached.open(max_first));
            }
            // `None`: it was fetched between the two calls.
            let Some(fetched) = self.upstream.fetch(image).await else {
                continue;
            };
            return match fetched {
                Ok(fetched) => Ok(fetched.open(max_first)),
                Err(Failure::Gone) => {
                    self.catalog.edit(|writer| writer.remove(id));
                    Err(StoreError::Gone(id))
                }
                Err(Failure::Unavailable(error)) => Err(StoreError::unavailable(id, error)),
            };
        }
    }
}

impl ImageStore for EdgeStore {
    fn catalog(&self) -> &LiveCatalog {
        &self.catalog
    }

    fn open(
        self: Arc<Self>,
        image: Image,
        max_first: usize,
    ) -> BoxFuture<Result<OpenImage, StoreError>> {
        Box::pin(async move { self.open_cached(image, max_first).await })
    }

    fn read_ahead(&self) -> ReadAhead {
        // Enough for full requests on all connections to the upstream. The server bounds the bytes.
        ReadAhead::remote().with_opens(CONNECTIONS * upstream::MAX_BATCH)
    }
}

async fn run(args: &[String]) -> Result {
    let [upstream, address, folder, max_bytes] = args else {
        return Err("usage: edge_cache UPSTREAM ADDRESS FOLDER MAX-BYTES".into());
    };
    let config = Config {
        upstream: upstream.clone(),
        folder: folder.into(),
        max_bytes: max_bytes.parse()?,
        relist: Duration::from_secs(300),
    };
    let store = EdgeStore::connect(config).await?;
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    let interrupted = async { drop(tokio::signal::ctrl_c().await) };
    let server = Server::builder(store).build();
    server.serve(listener, interrupted).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    exit(run(&args).await)
}
