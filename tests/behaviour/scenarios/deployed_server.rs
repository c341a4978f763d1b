//! R7: a server that behaves like deployed ones.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support::bytes::*;
use crate::support::peer::Peer;

/// A server with the behaviour of deployed ones:
/// - LIST gives raw sizes and no compressed bit, while BMPs are sent compressed;
/// - during `JTPD` it reads one byte between packets: it treats a 3 as a complete CANCEL, and reads the CANCEL's
///   flags byte as the next request's type; any other byte is lost;
/// - such a 3 also ends WATCH;
/// - `JTPB` and `JTPG` are sent completely before CANCEL is answered;
/// - it may send RateLimited at accept, before any request, and may close keep-alive connections after any response.
pub(crate) struct DeployedServer {
    pub(crate) images: Vec<TestImage>,
    /// The number of connections that get RateLimited.
    rate_limited: AtomicUsize,
    /// The number of responses after which a keep-alive connection is closed.
    responses_per_connection: usize,
    /// The number of bytes lost during `JTPD`.
    pub(crate) lost_bytes: AtomicUsize,
    pub(crate) connections: AtomicUsize,
    /// The images that watchers are notified of.
    new_images: Mutex<Receiver<TestImage>>,
}

/// The server, its address, and a sender of images to notify watchers of.
pub(crate) type Started = (Arc<DeployedServer>, SocketAddr, Sender<TestImage>);

impl DeployedServer {
    /// Starts a server that runs until the test ends.
    pub(crate) fn start(
        images: Vec<TestImage>,
        rate_limited: usize,
        responses_per_connection: usize,
    ) -> Started {
        let (notify, new_images) = channel();
        let deployed = Arc::new(DeployedServer {
            images,
            rate_limited: AtomicUsize::new(rate_limited),
            responses_per_connection,
            lost_bytes: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            new_images: Mutex::new(new_images),
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Arc::clone(&deployed);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let server = Arc::clone(&server);
                server.connections.fetch_add(1, Ordering::Relaxed);
                // A client that disconnects ends its thread by a panic, which is ignored.
                thread::spawn(move || server.serve(Peer::on(stream.unwrap())));
            }
        });
        (deployed, address, notify)
    }

    fn serve(&self, mut peer: Peer) {
        let limited = self
            .rate_limited
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        if limited.is_ok() {
            let _ = peer.try_send(error(RATE_LIMITED, "Rate limit exceeded"));
            peer.half_close();
            peer.read_up_to(1 << 20);
            return;
        }
        for _ in 0..self.responses_per_connection {
            let [kind, flags] = peer.read_up_to(2)[..] else {
                return;
            };
            let sent = match kind {
                LIST => {
                    let flags_of = |p: &TestImage| entry(p.kind, p.id, &p.name, raw_len(p));
                    let entries: Vec<u8> = self.images.iter().flat_map(flags_of).collect();
                    peer.try_send([head(b"JTPL", self.images.len()), entries].concat())
                }
                GET => self.get(&mut peer),
                BATCH => {
                    let have: Vec<u64> = (0..peer.varint()).map(|_| peer.u64()).collect();
                    self.all(&mut peer, b"JTPB", &have)
                }
                LIST_AND_GET => self.all(&mut peer, b"JTPG", &[]),
                3 => peer.try_send(b"JTPC"),
                4 => self.watch(&mut peer),
                _ => peer.try_send(error(UNSUPPORTED_FEATURE, "Unsupported request type")),
            };
            if sent.is_err() || (flags & 1 == 0 && ![3, 4].contains(&kind)) {
                return;
            }
        }
    }

    fn get(&self, peer: &mut Peer) -> std::io::Result<()> {
        let count = peer.read(1)[0];
        let ids: Vec<u64> = (0..count).map(|_| peer.u64()).collect();
        let of = |id: &u64| self.images.iter().find(|p| p.id == *id);
        let found: Vec<&TestImage> = ids.iter().filter_map(of).collect();
        peer.try_send(data_head(u8::try_from(found.len()).unwrap()))?;
        let last = found.len().saturating_sub(1);
        for (n, image) in found.into_iter().enumerate() {
            peer.try_send(travelling(image))?;
            if n == last {
                break; // The next byte belongs to the next request.
            }
            match peer.look() {
                Some(3) => return peer.try_send(b"JTPC"), // Its flags byte stays unread.
                Some(_) => drop(self.lost_bytes.fetch_add(1, Ordering::Relaxed)),
                None => {}
            }
        }
        Ok(())
    }

    fn all(&self, peer: &mut Peer, header: &[u8; 4], have: &[u64]) -> std::io::Result<()> {
        let missing = self.images.iter().filter(|p| !have.contains(&p.id));
        let missing: Vec<&TestImage> = missing.collect();
        peer.try_send(head(header, missing.len()))?;
        missing
            .into_iter()
            .try_for_each(|p| peer.try_send(travelling(p)))
    }

    fn watch(&self, peer: &mut Peer) -> std::io::Result<()> {
        let new_images = self.new_images.lock().unwrap();
        loop {
            if let Ok(p) = new_images.recv_timeout(std::time::Duration::from_millis(5)) {
                peer.try_send(p.event())?;
            }
            match peer.look() {
                Some(3) => return peer.try_send(b"JTPC"), // Its flags byte stays unread.
                Some(_) => return Err(ErrorKind::InvalidData.into()),
                None => {}
            }
        }
    }
}

fn raw_len(image: &TestImage) -> u32 {
    u32::try_from(image.bytes.len()).unwrap()
}

/// The packet; BMPs are sent compressed.
fn travelling(image: &TestImage) -> Vec<u8> {
    if image.kind == 3 {
        let data = zstd::encode_all(&image.bytes[..], 3).unwrap();
        packet(image.kind | ZSTD, image.id, &data)
    } else {
        image.packet()
    }
}
