//! The adapters have one public interface: a program that changes the runtime changes the crate's name, and adds or
//! removes `.await`. [`interface`] uses every public name and method once, with its types, and is compiled for each
//! adapter; [`streams`] does the same for the methods that take sockets, streams and futures. In their place jtp-blocking
//! has those of [`blocking_differences`], which its docs list.

/// Compiles the same program for one adapter. `$wait!(call)` waits for a call.
macro_rules! interface {
    (
        $name:ident: $($adapter:ident)::+, $runtime:ident, $wait:ident $(, $async:tt)?
    ) => {
        mod $name {
            #![allow(dead_code, unused_imports, reason = "the compiler is the test")]

            use std::net::SocketAddr;
            use std::sync::Arc;
            use std::time::Duration;

            use $($adapter)::+ as adapter;
            use adapter::client::{
                CatalogEntry, Client as _, ClientBuilder as _, ClientConfig, Error as _,
                HaveSet, ImageError as _, Images as _, Incoming as _, ReplicaError, Undecoded as _,
                Watch as _,
            };
            use adapter::jtp_core::{Image, ImageId, Misuse, Verified};
            use adapter::rustls::pki_types::ServerName;
            use adapter::server::{
                CloseReason, ConnectionEnd, Counters, Decision as _, ErrorCode, Observer,
                Peer as _, PlainPolicy, Request as _, RequestKind, RequestSummary, Server as _,
                ServerBuilder as _, ServerConfig, TlsPeer, limits,
            };
            use adapter::store::{
                Blocking, BlockingBody, BlockingStore, BoxFuture, ImageBody, ImageStore,
                InsertError, IntoStore, LiveCatalog, MemoryStore, OpenImage, NoThread, PoolJob,
                ReadAhead, ReadPool, StoreError, Subscription,
            };
            use adapter::{
                ALPN, Client, ClientBuilder, Decision, Error, ImageError, Images, Incoming, Peer,
                Request, Server, ServerBuilder, ShutdownSignal, $runtime, Undecoded, Watch, bytes,
            };

            fn is_sent_between_threads<T: Send + std::fmt::Debug>(value: T) -> T {
                value
            }

            fn client(
                config: Arc<adapter::rustls::ClientConfig>,
                name: ServerName<'static>,
            ) -> Client {
                let builder: ClientBuilder = Client::builder("gallery.example:8443");
                let builder: ClientBuilder = builder
                    .config(ClientConfig::new())
                    .tls(config, name)
                    .keep_alive(true)
                    .connect_timeout(Some(Duration::from_secs(1)))
                    .retries(3_u32)
                    .tcp_nodelay(true)
                    .replica(Client::builder("mirror.example:8443"))
                    .on_retry(|_: &Error, _: Duration| {})
                    .without_retries()
                    .catalog_limits(1_usize, 1_usize)
                    .clone();
                let _: ClientBuilder =
                    Client::builder_on($runtime::default(), String::from("gallery.example:8443"));
                is_sent_between_threads(builder.build())
            }

            $($async)? fn requests(client: &mut Client, have: HaveSet) -> Result<(), Error> {
                let (): () = $wait!(client.connect())?;
                let _: Vec<CatalogEntry<'static>> = $wait!(client.list())?;
                let _: Images<'_> = client.batch(have);
                drop(client.entries_and_images());
                let _: Images<'_> = client.list_and_get();
                let mut images: Images<'_> = client.get([ImageId(1)]);
                if let Some(image) = $wait!(images.next())? {
                    let _: Result<Vec<u8>, ImageError> = $wait!(image.bytes(1_usize));
                }
                let _: &[ImageId] = images.absent();
                let _: u64 = images.announced();
                let (): () = $wait!(images.cancel())?;
                let _: Watch<'_> = $wait!(client.watch())?;
                let (_, mut watch): (Vec<CatalogEntry<'static>>, Watch<'_>) =
                    $wait!(client.list_and_watch())?;
                let _: CatalogEntry<'static> = $wait!(watch.next())?;
                let _: Vec<CatalogEntry<'static>> = $wait!(watch.cancel())?;
                let failed: Result<ReplicaError, Error> = client.fail_over(Error::Failed);
                let _: Option<&str> = client.address();
                let _: Vec<ReplicaError> = client.replica_errors();
                let (): () = $wait!(client.close());
                failed.map(|_| ())
            }

            $($async)? fn image(mut image: Incoming<'_, '_>) -> Result<(), ImageError> {
                let _: Image = image.image();
                let _: u64 = image.received();
                let _: Option<&[u8]> = $wait!(image.chunk())?;
                let _: Option<Verified> = image.verified();
                let undecoded: Result<Undecoded<'_, '_>, Misuse> = image.undecoded();
                if let Ok(mut packet) = undecoded {
                    let _: Image = packet.image();
                    let _: Option<&[u8]> = $wait!(packet.chunk())?;
                    let _: std::ops::Range<usize> = packet.move_chunk(&mut Vec::new());
                }
                Ok(())
            }

            fn server(
                store: Arc<MemoryStore>,
                config: Arc<adapter::rustls::ServerConfig>,
                observer: Arc<dyn Observer>,
            ) -> Server {
                let _: ServerBuilder = Server::builder(MemoryStore::new());
                let _: ServerBuilder = Server::builder(Arc::clone(&store) as Arc<dyn ImageStore>);
                let builder: ServerBuilder = Server::builder_on($runtime::default(), store);
                let builder: ServerBuilder = builder
                    .config(ServerConfig::new())
                    .tls(config)
                    .plain(PlainPolicy::Loopback)
                    .handshake_timeout(None)
                    .first_byte_timeout(None)
                    .rate_limit(1_u32, Duration::from_secs(1))
                    .max_connections(1_usize)
                    .max_connections_per_ip(1_usize)
                    .max_watchers(1_usize)
                    .max_handshakes(1_usize)
                    .tcp_nodelay(true)
                    .drain_timeout(None)
                    .decision_timeout(None)
                    .observer(observer)
                    .proxy_protocol(|_| true)
                    .on_request(|request: Request| async move { decide(request) });
                is_sent_between_threads(builder.build())
            }

            fn decide(request: Request) -> Decision {
                let peer: &Peer = request.peer();
                let (_, _): (&Option<SocketAddr>, &Option<TlsPeer>) = (&peer.address, &peer.tls);
                match request.kind() {
                    RequestKind::List => request.accept(),
                    RequestKind::Watch => request.accept_with(MemoryStore::new()),
                    _ => request.refuse(ErrorCode::UnsupportedFeature, "no"),
                }
            }

            $($async)? fn serving(server: &Server) {
                let (): () = $wait!(server.shutdown());
                let _: Counters = server.counters();
                let _: Server = server.clone();
            }
        }
    };
}

/// Waits for a call of an async crate. Its future can move between threads.
macro_rules! wait_async {
    ($call:expr) => {{
        fn is_send<T: Send>(future: T) -> T {
            future
        }
        is_send($call).await
    }};
}

macro_rules! wait_blocking {
    ($call:expr) => {
        $call
    };
}

/// The methods of the async crates that take what is the runtime's own.
macro_rules! streams {
    ($name:ident: $($adapter:ident)::+, $($net:ident)::+) => {
        mod $name {
            #![allow(dead_code, reason = "the compiler is the test")]

            use std::future::pending;
            use std::io;
            use std::net::SocketAddr;

            use $($adapter)::+ as adapter;
            use $($net)::+::{TcpListener, TcpStream};
            use adapter::client::{Client, ClientConfig};
            use adapter::server::{CloseReason, Peer, Server};

            fn client(stream: TcpStream) -> Client {
                Client::from_stream(stream, ClientConfig::new())
            }

            async fn serve(server: &Server, listener: TcpListener) -> io::Result<()> {
                wait_async!(server.serve(listener, pending()))
            }

            async fn serve_tcp(
                server: &Server,
                socket: TcpStream,
                address: SocketAddr,
            ) -> io::Result<Option<CloseReason>> {
                wait_async!(server.serve_tcp(socket, address))
            }

            async fn serve_stream(
                server: &Server,
                stream: TcpStream,
            ) -> io::Result<Option<CloseReason>> {
                wait_async!(server.serve_stream(stream, Peer::new(None)))
            }
        }
    };
}

interface!(tokio: jtp_tokio, Tokio, wait_async, async);
interface!(async_std: jtp_async_std, AsyncStd, wait_async, async);
interface!(smol: jtp_async_std::smol, Smol, wait_async, async);
interface!(blocking: jtp_blocking, Threads, wait_blocking);

streams!(tokio_streams: jtp_tokio, tokio::net);
streams!(async_std_streams: jtp_async_std, async_std::net);
streams!(smol_streams: jtp_async_std::smol, smol::net);

/// A sync can be spawned as a task.
#[allow(dead_code, reason = "the compiler is the test")]
async fn sync<R: jtp_driver::Runtime>(mut sync: jtp_sync::FolderSync<R>) -> jtp_sync::Error {
    let _ = wait_async!(sync.dry_run());
    let _ = wait_async!(sync.check());
    let _ = wait_async!(sync.run());
    wait_async!(sync.follow()).unwrap_err()
}

mod blocking_differences {
    #![allow(dead_code, reason = "the compiler is the test")]

    use std::io;
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::time::Duration;

    use jtp_blocking::client::{CatalogEntry, ClientConfig};
    use jtp_blocking::server::CloseReason;
    use jtp_blocking::{CancelHandle, Client, Error, Peer, Server, ShutdownSignal, Watch};

    fn client(reader: TcpStream, writer: TcpStream, closer: TcpStream) -> io::Result<Client> {
        let client = Client::from_stream(reader, writer, closer, ClientConfig::new())?;
        let _: CancelHandle = client.cancel_handle();
        Ok(client)
    }

    fn watch(watch: &mut Watch<'_>) -> Result<Option<CatalogEntry<'static>>, Error> {
        watch.next_timeout(Duration::from_secs(1))
    }

    fn serve(server: &Server, listener: TcpListener, shutdown: &ShutdownSignal) -> io::Result<()> {
        server.serve(listener, shutdown)
    }

    fn serve_tcp(
        server: &Server,
        socket: TcpStream,
        address: SocketAddr,
    ) -> io::Result<Option<CloseReason>> {
        server.serve_tcp(socket, address)
    }

    fn serve_stream(
        server: &Server,
        [reader, writer, closer]: [TcpStream; 3],
    ) -> io::Result<Option<CloseReason>> {
        server.serve_stream(reader, writer, closer, Peer::new(None))
    }
}

/// The names of a manifest's features, without those that choose a runtime.
fn features(manifest: &'static str) -> Vec<&'static str> {
    let table = manifest.split("[features]").nth(1).unwrap();
    let table = table.split("\n[").next().unwrap();
    let names = table.lines().filter_map(|line| line.split_once(" = "));
    let names = names.map(|(name, _)| name);
    names
        .filter(|name| !["async-std", "smol"].contains(name))
        .collect()
}

#[test]
fn adapters_have_the_same_features() {
    let tokio = features(include_str!("../jtp-tokio/Cargo.toml"));
    assert!(tokio.len() >= 7, "{tokio:?}");
    for manifest in [
        include_str!("../jtp-async-std/Cargo.toml"),
        include_str!("../jtp-blocking/Cargo.toml"),
    ] {
        assert_eq!(features(manifest), tokio);
    }
}
