//! Servers over asynchronous stores: look-ahead, errors, abandoned reads, other variants.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jtp_async_std::smol::{Server, ServerBuilder};
use jtp_core::client::ClientError;
use jtp_core::wire::response::ErrorCode;
use jtp_core::{FileType, Flags, Image, ImageId};
use jtp_driver::store::{
    Blocking, BlockingBody, BlockingStore, ImageBody, ImageStore, LiveCatalog, OpenImage,
    ReadAhead, StoreError,
};
use jtp_driver::{BoxFuture, Error};
use smol::Timer;
use smol::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{client, fetch_all, socket_pair, start};

/// Counts calls under way.
#[derive(Debug, Default)]
struct Calls {
    running: AtomicUsize,
    peak: AtomicUsize,
    dropped: AtomicUsize,
}

/// A call under way.
struct Call {
    calls: Arc<Calls>,
    completed: bool,
}

impl Calls {
    fn begin(self: &Arc<Self>) -> Call {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(running, Ordering::SeqCst);
        Call {
            calls: Arc::clone(self),
            completed: false,
        }
    }
}

impl Call {
    /// By value, so that a future that completes a call owns all of it.
    fn complete(mut self) {
        self.completed = true;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.calls.running.fetch_sub(1, Ordering::SeqCst);
        if !self.completed {
            self.calls.dropped.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn png(id: ImageId, length: usize) -> Image {
    let length = u32::try_from(length).unwrap();
    Image::new(id, Flags::new(FileType::Png, false), length)
}

/// A catalog of these images, in their order.
fn listing(images: impl Iterator<Item = Image>) -> LiveCatalog {
    let catalog = LiveCatalog::new();
    catalog.edit(|writer| {
        for (n, image) in images.enumerate() {
            writer.insert(&format!("{n:06}.png"), image).unwrap();
        }
    });
    catalog
}

/// A store behind a slow network: images of `length` bytes, each of its number.
struct Remote {
    catalog: LiveCatalog,
    images: Vec<Bytes>,
    delay: Duration,
    opens: Arc<Calls>,
    reads: Arc<Calls>,
    /// Bytes of whole images that are in the server's memory.
    held: Arc<AtomicUsize>,
    fail: Option<fn(ImageId) -> StoreError>,
}

/// Bytes that are counted while they are in memory.
struct Held(Bytes, Arc<AtomicUsize>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.1.fetch_sub(self.0.len(), Ordering::SeqCst);
    }
}

impl Remote {
    fn new(count: usize, length: usize, delay: Duration) -> Remote {
        let images: Vec<Bytes> = (0..count)
            .map(|n| n.to_be_bytes().into_iter().cycle().take(length).collect())
            .collect();
        let listed = images.iter().map(|bytes| png(ImageId::of(bytes), length));
        let catalog = listing(listed);
        Remote {
            catalog,
            images,
            delay,
            opens: Arc::default(),
            reads: Arc::default(),
            held: Arc::default(),
            fail: None,
        }
    }

    fn bytes(&self, id: ImageId) -> Option<Bytes> {
        let found = self.images.iter().find(|bytes| ImageId::of(bytes) == id);
        found.cloned()
    }

    fn body(&self, bytes: Bytes) -> Arc<RemoteBody> {
        Arc::new(RemoteBody {
            bytes,
            delay: self.delay,
            reads: Arc::clone(&self.reads),
        })
    }
}

struct RemoteBody {
    bytes: Bytes,
    delay: Duration,
    reads: Arc<Calls>,
}

impl ImageBody for RemoteBody {
    fn read(self: Arc<Self>, offset: u64, length: usize) -> BoxFuture<Result<Bytes, StoreError>> {
        let call = self.reads.begin();
        Box::pin(async move {
            Timer::after(self.delay).await;
            call.complete();
            let at = usize::try_from(offset).unwrap();
            let end = self.bytes.len().min(at + length);
            Ok(self.bytes.slice(at..end))
        })
    }
}

impl ImageStore for Remote {
    fn catalog(&self) -> &LiveCatalog {
        &self.catalog
    }

    fn open(
        self: Arc<Self>,
        image: Image,
        max_first: usize,
    ) -> BoxFuture<Result<OpenImage, StoreError>> {
        let call = self.opens.begin();
        Box::pin(async move {
            Timer::after(self.delay).await;
            call.complete();
            if let Some(fail) = self.fail {
                return Err(fail(image.id));
            }
            let bytes = self.bytes(image.id).ok_or(StoreError::Gone(image.id))?;
            if bytes.len() <= max_first {
                self.held.fetch_add(bytes.len(), Ordering::SeqCst);
                let held = Held(bytes, Arc::clone(&self.held));
                return Ok(OpenImage::whole(image, Bytes::from_owner(held)));
            }
            let body = self.body(bytes);
            Ok(OpenImage::streamed(image, Bytes::new(), body))
        })
    }
}

/// A connection whose peer requests all images, reads nothing, and leaves at the end of `stay`.
async fn silent_peer(server: Server, stay: impl Future<Output = ()>) {
    let (ours, mut theirs) = socket_pair().await;
    // Less than one call opens.
    let socket = jtp_driver::SockRef::from(&ours);
    socket.set_send_buffer_size(16 * 1024).unwrap();
    let serving = server.serve_stream(ours, jtp_driver::Peer::new(None));
    let asking = async {
        theirs.write_all(&[5, 1]).await.unwrap(); // LIST_AND_GET
        stay.await;
    };
    smol::future::or(async { drop(serving.await) }, asking).await;
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        smol::future::yield_now().await;
    }
}

fn server(store: &Arc<Remote>) -> Server {
    Server::builder(Arc::clone(store)).build()
}

#[test]
fn images_and_ranges_of_a_remote_store_are_requested_at_once_and_arrive_in_order() {
    smol::block_on(async {
        // The images, their length, and how many of them and of their ranges are requested at once. Of the next image, the
        // first range is as well.
        for (count, length, opens, reads) in
            [(200, 500, 64..=128, 0..=0), (3, 5_000_001, 1..=3, 4..=7)]
        {
            let delay = Duration::from_millis(5);
            let store = Arc::new(Remote::new(count, length, delay));
            let address = start(&server(&store)).await;
            let images = fetch_all(&mut client(&address)).await.unwrap();
            assert!(images == store.images);
            let peak = |calls: &Calls| calls.peak.load(Ordering::SeqCst);
            let (opened, read) = (peak(&store.opens), peak(&store.reads));
            assert!(opens.contains(&opened), "{opened} images at once");
            assert!(reads.contains(&read), "{read} ranges at once");
        }
    });
}

#[test]
fn t8_peers_that_do_not_read_hold_a_bounded_part_of_the_memory_and_leave_some() {
    smol::block_on(async {
        const MIB: usize = 1 << 20;
        let store = Arc::new(Remote::new(6, 2 * MIB, Duration::ZERO));
        let server = server(&store);
        let silent = || smol::spawn(silent_peer(server.clone(), std::future::pending()));
        let silent: Vec<_> = (0..10).map(|_| silent()).collect();
        let held = || store.held.load(Ordering::SeqCst);
        until(|| held() >= 40 * MIB).await;
        let address = start(&server).await;
        let images = fetch_all(&mut client(&address)).await.unwrap();
        assert!(images == store.images);
        assert!(held() <= 64 * MIB, "{}", held());
        drop(silent);
        until(|| held() == 0).await;
    });
}

#[test]
fn calls_to_a_store_are_dropped_when_the_peer_has_left() {
    smol::block_on(async {
        let store = Arc::new(Remote::new(50, 500, Duration::from_secs(3600)));
        // The connection's future is dropped with its task.
        let is_opening = || store.opens.running.load(Ordering::SeqCst) > 0;
        silent_peer(server(&store), until(is_opening)).await;
        assert_eq!(store.opens.running.load(Ordering::SeqCst), 0);
        assert!(store.opens.dropped.load(Ordering::SeqCst) > 0);
    });
}

#[test]
fn s12_a_backend_that_is_down_is_reported_where_the_packet_would_begin() {
    smol::block_on(async {
        let mut store = Remote::new(3, 1_000_000, Duration::ZERO);
        store.fail = Some(|id| StoreError::unavailable(id, "the disk is on fire"));
        let address = start(&server(&Arc::new(store))).await;
        let mut client = client(&address);
        let mut images = client.list_and_get();
        let error = images.next().await.err().unwrap();
        let Error::Protocol(ClientError::Server(error)) = error else {
            panic!("{error:?}");
        };
        assert_eq!(error.code, ErrorCode::ServerError);
        assert!(!error.message.contains("fire"), "{}", error.message);
    });
}

/// A store on this machine. Counts the calls that open many images.
struct Local(Remote, AtomicUsize);

impl ImageStore for Local {
    fn catalog(&self) -> &LiveCatalog {
        &self.0.catalog
    }

    fn open(self: Arc<Self>, image: Image, _: usize) -> BoxFuture<Result<OpenImage, StoreError>> {
        let bytes = self.0.bytes(image.id).unwrap();
        Box::pin(async move { Ok(OpenImage::whole(image, bytes)) })
    }

    fn open_many(
        self: Arc<Self>,
        images: Vec<Image>,
    ) -> Option<BoxFuture<Vec<Result<OpenImage, StoreError>>>> {
        self.1.fetch_add(1, Ordering::SeqCst);
        let bytes = move |image: &Image| self.0.bytes(image.id).unwrap();
        let opened = images
            .iter()
            .map(|image| Ok(OpenImage::whole(*image, bytes(image))));
        let opened = opened.collect();
        Some(Box::pin(async move { opened }))
    }

    fn read_ahead(&self) -> ReadAhead {
        ReadAhead::local()
    }
}

#[test]
fn the_next_images_of_a_local_store_are_opened_while_those_before_are_being_sent() {
    smol::block_on(async {
        let remote = Remote::new(1_000, 2_000, Duration::ZERO);
        let store = Arc::new(Local(remote, AtomicUsize::new(0)));
        let server = Server::builder(Arc::clone(&store)).build();
        let calls = || store.1.load(Ordering::SeqCst);
        let stay = async {
            until(|| calls() >= 2).await;
            for _ in 0..1_000 {
                smol::future::yield_now().await;
            }
            assert_eq!(calls(), 2, "the peer reads nothing, so the rest waits");
        };
        silent_peer(server, stay).await;
    });
}

/// A store that opens images by a function, and counts the reports of wrong bytes.
struct Opens<F>(LiveCatalog, F, AtomicUsize);

impl<F: Fn(Image, usize) -> OpenImage> Opens<F> {
    fn new(catalog: LiveCatalog, open: F) -> Arc<Opens<F>> {
        Arc::new(Opens(catalog, open, AtomicUsize::new(0)))
    }
}

impl<F: Fn(Image, usize) -> OpenImage + Send + Sync + 'static> ImageStore for Opens<F> {
    fn catalog(&self) -> &LiveCatalog {
        &self.0
    }

    fn open(
        self: Arc<Self>,
        image: Image,
        max_first: usize,
    ) -> BoxFuture<Result<OpenImage, StoreError>> {
        Box::pin(std::future::ready(Ok(self.1(image, max_first))))
    }

    fn report_mismatch(&self, _: &Image) {
        self.2.fetch_add(1, Ordering::SeqCst);
    }
}

#[cfg(feature = "zstd")]
#[test]
fn s6_a_store_may_send_another_variant_than_it_listed() {
    smol::block_on(async {
        let raw = vec![7; 100_000];
        let id = ImageId::of(&raw);
        let bytes: Bytes = zstd::bulk::compress(&raw, 3).unwrap().into();
        let length = u32::try_from(bytes.len()).unwrap();
        let variant = Image::new(id, Flags::new(FileType::Bmp, true), length);
        let live = LiveCatalog::new();
        let listed = Image::new(id, Flags::new(FileType::Bmp, false), 100_000);
        live.replace([("a.bmp", listed)]).unwrap();
        let store = Opens::new(live, move |_, _| OpenImage::whole(variant, bytes.clone()));
        let address = start(&Server::builder(store).build()).await;
        assert_eq!(fetch_all(&mut client(&address)).await.unwrap(), [raw]);
    });
}

#[test]
fn s13_a_store_that_opens_another_image_or_a_wrong_number_of_bytes_fails_the_request() {
    smol::block_on(async {
        let (abc, xyz) = (ImageId::of(b"abc"), ImageId::of(b"xyz"));
        let body = Remote::new(0, 0, Duration::ZERO).body(Bytes::new());
        let whole = |id, bytes: &'static [u8]| OpenImage::whole(png(id, 3), bytes);
        let longer = OpenImage::streamed(png(abc, 3), &b"abcd"[..], body);
        for opened in [whole(xyz, b"xyz"), whole(abc, b"ab"), longer] {
            let first = opened.first().clone();
            let opened = std::sync::Mutex::new(Some(opened));
            let store = Opens::new(listing([png(abc, 3)].into_iter()), move |_, _| {
                opened.lock().unwrap().take().unwrap()
            });
            let address = start(&Server::builder(Arc::clone(&store)).build()).await;
            let mut client = client(&address);
            let error = client.list_and_get().next().await.err().unwrap();
            let is_reported = matches!(error, Error::Protocol(ClientError::Server(_)));
            assert!(is_reported, "{first:?}: {error:?}");
            assert_eq!(store.2.load(Ordering::SeqCst), 1, "{first:?}");
        }
    });
}

#[test]
fn s13_a_range_that_is_too_short_ends_the_connection() {
    smol::block_on(async {
        let whole = Bytes::from(vec![7; 600_000]);
        let listed = listing([png(ImageId::of(&whole), whole.len())].into_iter());
        let short = Remote::new(0, 0, Duration::ZERO).body(whole.slice(1..));
        let store = Opens::new(listed, move |image, _| {
            OpenImage::streamed(image, Bytes::new(), short.clone())
        });
        let address = start(&Server::builder(Arc::clone(&store)).build()).await;
        assert!(fetch_all(&mut client(&address)).await.is_err());
        assert_eq!(store.2.load(Ordering::SeqCst), 1);
    });
}

/// A blocking store, of which one image is in memory and the others stall.
struct Stalling {
    catalog: LiveCatalog,
    in_memory: Bytes,
    release: std::sync::Mutex<std::sync::mpsc::Receiver<()>>,
}

impl BlockingStore for Stalling {
    fn catalog(&self) -> &LiveCatalog {
        &self.catalog
    }

    fn open(&self, image: &Image) -> Result<(Image, Arc<dyn BlockingBody>), StoreError> {
        let _ = self.release.lock().unwrap().recv();
        Err(StoreError::Gone(image.id))
    }

    fn in_memory(&self, image: &Image) -> Option<Bytes> {
        (image.id == ImageId::of(&self.in_memory)).then(|| self.in_memory.clone())
    }
}

#[test]
fn a_stalled_backend_does_not_delay_images_in_memory() {
    smol::block_on(async {
        let in_memory = Bytes::from_static(b"in memory");
        let stalling = (1..=100).map(|n| png(ImageId(n), 10));
        let catalog = listing(stalling.chain([png(ImageId::of(&in_memory), 9)]));
        let (release, stalled) = std::sync::mpsc::channel();
        let store = Blocking::new(Stalling {
            catalog,
            in_memory: in_memory.clone(),
            release: std::sync::Mutex::new(stalled),
        });
        let builder: ServerBuilder = Server::builder(store);
        let address = start(&builder.build()).await;
        // More requests than the pool has threads, all stalled.
        let stalled: Vec<_> = (1..=100)
            .map(|n| {
                let mut client = client(&address);
                smol::spawn(async move {
                    let mut images = client.get([ImageId(n)]);
                    images.next().await.is_err()
                })
            })
            .collect();
        let mut client = client(&address);
        let mut images = client.get([ImageId::of(&in_memory)]);
        let image = images.next().await.unwrap().unwrap();
        assert_eq!(image.bytes(100).await.unwrap(), in_memory);
        drop(release);
        for stalled in stalled {
            assert!(stalled.await);
        }
    });
}

#[test]
fn ranges_of_an_open_image_are_read_from_its_first_bytes_and_its_body() {
    smol::block_on(async {
        let store = Arc::new(Remote::new(1, 1_000, Duration::ZERO));
        let bytes = store.images[0].clone();
        let image = png(ImageId::of(&bytes), 1_000);
        let opened = OpenImage::streamed(image, bytes.slice(..100), store.body(bytes.clone()));
        let expected = [
            (0, 10, 0..10),
            (90, 50, 90..100),
            (100, 50, 100..150),
            (990, 50, 990..1000),
        ];
        for (offset, max, range) in expected {
            assert_eq!(opened.read(offset, max).await.unwrap(), bytes[range]);
        }
        let beyond = opened.read(1_000, 1).await;
        assert!(matches!(beyond, Err(StoreError::OutOfRange { .. })));
    });
}

/// A store that gives the bytes of other images of the same length.
fn lying(store: Remote) -> Arc<Opens<impl Fn(Image, usize) -> OpenImage + Send + Sync + 'static>> {
    Opens::new(store.catalog.clone(), move |image: Image, max_first| {
        let mut bytes = store.bytes(image.id).unwrap().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        let bytes = Bytes::from(bytes);
        match bytes.len() <= max_first {
            true => OpenImage::whole(image, bytes),
            false => OpenImage::streamed(image, bytes.slice(..max_first), store.body(bytes)),
        }
    })
}

#[test]
fn s13_wrong_bytes_of_a_small_image_are_refused_before_its_packet() {
    smol::block_on(async {
        let store = lying(Remote::new(2, 1_000, Duration::ZERO));
        let address = start(&Server::builder(Arc::clone(&store)).build()).await;
        let mut client = client(&address);
        let mut images = client.list_and_get();
        let error = images.next().await.err().unwrap();
        assert!(
            matches!(error, Error::Protocol(ClientError::Server(_))),
            "{error:?}"
        );
        assert_eq!(store.2.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn s13_the_last_byte_of_wrong_bytes_is_never_sent() {
    smol::block_on(async {
        let store = lying(Remote::new(1, 1_000_000, Duration::ZERO));
        let address = start(&Server::builder(Arc::clone(&store)).build()).await;
        let mut stream = smol::net::TcpStream::connect(&address).await.unwrap();
        stream.write_all(&[5, 0]).await.unwrap(); // LIST_AND_GET
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.unwrap();
        // JTPG and its count; flags, length (3 bytes) and ID of the packet.
        let head = 5 + 1 + 3 + 8;
        assert!((head + 500_000..head + 1_000_000).contains(&received.len()));
        assert_eq!(store.2.load(Ordering::SeqCst), 1);
    });
}
