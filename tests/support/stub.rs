//! Scripted servers.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use jtp_tokio::store::MemoryStore;

use super::TEST_TIMEOUT;
use super::bytes::*;
use super::files::noise;

/// A request as received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    List,
    Get(Vec<u64>),
    Batch(Vec<u64>),
    All,
    Watch,
    Cancel,
}

/// A connection of a stub.
pub(crate) struct Connection {
    /// 0 for the first one that the stub accepted.
    pub(crate) number: usize,
    /// Connections that are open, with this one.
    pub(crate) open: usize,
    stream: TcpStream,
    requests: Arc<Mutex<Vec<Request>>>,
}

/// A server that calls a function for each connection on a thread of its own, until it is dropped.
pub(crate) struct Stub {
    pub(crate) address: SocketAddr,
    stop: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<Request>>>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Stub {
    pub(crate) fn new(serve: impl Fn(&mut Connection) + Send + Sync + 'static) -> Stub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stub = Stub {
            address,
            stop: Arc::default(),
            accepted: Arc::default(),
            open: Arc::default(),
            requests: Arc::default(),
            streams: Arc::default(),
        };
        let (stop, accepted) = (Arc::clone(&stub.stop), Arc::clone(&stub.accepted));
        let (requests, streams) = (Arc::clone(&stub.requests), Arc::clone(&stub.streams));
        let (serve, open) = (Arc::new(serve), Arc::clone(&stub.open));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                stream.set_read_timeout(Some(2 * TEST_TIMEOUT)).unwrap();
                stream.set_nodelay(true).unwrap();
                streams.lock().unwrap().push(stream.try_clone().unwrap());
                let mut connection = Connection {
                    number: accepted.fetch_add(1, Ordering::SeqCst),
                    open: open.fetch_add(1, Ordering::SeqCst) + 1,
                    stream,
                    requests: Arc::clone(&requests),
                };
                let (serve, open) = (Arc::clone(&serve), Arc::clone(&open));
                thread::spawn(move || {
                    serve(&mut connection);
                    // Counted before the client notices the end.
                    open.fetch_sub(1, Ordering::SeqCst);
                    connection.close();
                });
            }
        });
        stub
    }

    /// Calls a function for each request, until the client ends the connection.
    pub(crate) fn answering(
        answer: impl Fn(&mut Connection, Request) + Send + Sync + 'static,
    ) -> Stub {
        Stub::new(move |connection| {
            while let Some(request) = connection.request() {
                answer(connection, request);
            }
        })
    }

    /// Answers as a correct server with these images, but calls a function to send each image. If that returns false, it
    /// ends the connection.
    pub(crate) fn sending(
        images: &[TestImage],
        send: impl Fn(&mut Connection, &TestImage) -> bool + Send + Sync + 'static,
    ) -> Stub {
        let images = images.to_vec();
        Stub::new(move |connection| {
            while let Some(request) = connection.request() {
                if matches!(request, Request::List | Request::Watch) {
                    connection.answer(&images, &request);
                    continue;
                }
                let (head, selected) = response_of(&images, &request);
                connection.send(head);
                if !selected.iter().all(|image| send(connection, image)) {
                    return;
                }
            }
        })
    }

    /// Answers all requests with these images.
    pub(crate) fn of(images: Vec<TestImage>) -> Stub {
        Stub::answering(move |connection, request| {
            connection.answer(&images, &request);
        })
    }

    /// The number of accepted connections.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// The number of connections that neither side has closed.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Connection {
    /// Reads the next request; `None` at the end of the stream.
    pub(crate) fn request(&mut self) -> Option<Request> {
        let head: [u8; 2] = self.read(2)?.try_into().unwrap();
        let request = match head[0] {
            GET => {
                let count = usize::from(self.read(1)?[0]);
                Request::Get(self.ids(count)?)
            }
            LIST => Request::List,
            BATCH => {
                let mut count = 0;
                for shift in (0..).step_by(7) {
                    let byte = self.read(1)?[0];
                    count |= usize::from(byte & 0x7f) << shift;
                    if byte & 0x80 == 0 {
                        break;
                    }
                }
                Request::Batch(self.ids(count)?)
            }
            3 => Request::Cancel,
            4 => Request::Watch,
            LIST_AND_GET => Request::All,
            other => panic!("an unknown request: {other}"),
        };
        self.requests.lock().unwrap().push(request.clone());
        Some(request)
    }

    fn read(&mut self, count: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).ok()?;
        Some(bytes)
    }

    fn ids(&mut self, count: usize) -> Option<Vec<u64>> {
        let bytes = self.read(count * 8)?;
        let id = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().unwrap());
        Some(bytes.chunks(8).map(id).collect())
    }

    /// Sends bytes. Returns whether the client may still read them.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Sends an image, with another last byte if it is damaged.
    pub(crate) fn send_image(&mut self, image: &TestImage, is_damaged: bool) -> bool {
        let mut packet = image.packet();
        *packet.last_mut().unwrap() ^= u8::from(is_damaged);
        self.send(packet)
    }

    /// Answers a request as a correct server with these images does. WATCH has no events.
    pub(crate) fn answer(&mut self, images: &[TestImage], request: &Request) -> bool {
        match request {
            Request::List => self.send(list_of(images)),
            Request::Watch => true,
            Request::Cancel => self.send(b"JTPC"),
            _ => {
                let (head, selected) = response_of(images, request);
                let packets = joined(selected.iter().map(|image| image.packet()));
                self.send([head, packets].concat())
            }
        }
    }

    /// Whether the client closes the connection within this time.
    pub(crate) fn has_ended_within(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let read = self.stream.read(&mut [0; 1024]);
        self.stream
            .set_read_timeout(Some(2 * TEST_TIMEOUT))
            .unwrap();
        match read {
            Ok(count) => count == 0,
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }

    /// Waits until the client closes the connection.
    pub(crate) fn await_end(&mut self) {
        let mut bytes = [0; 4096];
        while matches!(self.stream.read(&mut bytes), Ok(1..)) {}
    }

    /// Sends what is due, then closes, without a reset. // S11
    fn close(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        self.await_end();
    }
}

/// The beginning of a correct response, and the images that belong in it.
pub(crate) fn response_of<'a>(
    images: &'a [TestImage],
    request: &Request,
) -> (Vec<u8>, Vec<&'a TestImage>) {
    let (header, selected): (_, Vec<&TestImage>) = match request {
        Request::All => (b"JTPG", images.iter().collect()),
        Request::Batch(have) => {
            let missing = images.iter().filter(|image| !have.contains(&image.id));
            (b"JTPB", missing.collect())
        }
        Request::Get(ids) => {
            let found = |id: &u64| images.iter().find(|image| image.id == *id);
            (b"JTPD", ids.iter().filter_map(found).collect())
        }
        other => panic!("{other:?} is not answered with images"),
    };
    let head = match header {
        b"JTPD" => data_head(u8::try_from(selected.len()).unwrap()),
        _ => head(header, selected.len()),
    };
    (head, selected)
}

/// Adds images to a store.
pub(crate) fn insert(store: &MemoryStore, images: &[TestImage]) {
    for image in images {
        store.insert(&image.name, image.bytes.clone()).unwrap();
    }
}

/// `count` different images of some hundred bytes.
pub(crate) fn images(count: usize) -> Vec<TestImage> {
    images_from(0, count)
}

/// Images with these numbers.
pub(crate) fn images_from(first: usize, count: usize) -> Vec<TestImage> {
    (first..first + count)
        .map(|n| image_of(n, 200 + n % 50))
        .collect()
}

/// 250 different images, together large enough for this number of connections.
pub(crate) fn images_for(connections: usize) -> Vec<TestImage> {
    (0..250)
        .map(|n| image_of(n, (connections << 20) / 250 + 1))
        .collect()
}

fn image_of(number: usize, length: usize) -> TestImage {
    let bytes = noise(length, u64::try_from(number).unwrap());
    TestImage::new(&format!("{number:05}.png"), bytes)
}
