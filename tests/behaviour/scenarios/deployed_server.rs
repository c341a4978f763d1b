//! R7: a server with the habits of deployed ones.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support::bytes::*;
use crate::support::peer::Peer;

/// A server as they are deployed:
/// - LIST gives raw sizes and no compressed bit, while BMPs travel compressed;
/// - during `JTPD` it looks for one byte between packets: a 3 is taken for a whole CANCEL, whose flags byte
///   it leaves for the next request's type; anything else is lost;
/// - WATCH ends by such a 3 as well;
/// - `JTPB` and `JTPG` are sent to their end before CANCEL is answered;
/// - it may say RateLimited at accept, before any request, and close keep-alive connections when it likes.
pub(crate) struct Deployed {
    pub(crate) pictures: Vec<Picture>,
    /// So many connections are told RateLimited.
    rate_limited: AtomicUsize,
    /// The responses after which a keep-alive connection is closed.
    patience: usize,
    /// Bytes that got lost during `JTPD`.
    pub(crate) lost: AtomicUsize,
    pub(crate) connections: AtomicUsize,
    /// What watchers are told.
    news: Mutex<Receiver<Picture>>,
}

/// The server, its address, and the way to tell its watchers of new images.
pub(crate) type Started = (Arc<Deployed>, SocketAddr, Sender<Picture>);

impl Deployed {
    /// It runs until the test ends.
    pub(crate) fn start(pictures: Vec<Picture>, rate_limited: usize, patience: usize) -> Started {
        let (tell, news) = channel();
        let deployed = Arc::new(Deployed {
            pictures,
            rate_limited: AtomicUsize::new(rate_limited),
            patience,
            lost: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            news: Mutex::new(news),
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Arc::clone(&deployed);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let server = Arc::clone(&server);
                server.connections.fetch_add(1, Ordering::Relaxed);
                // A client that has gone ends its thread by a panic, which is nobody's business.
                thread::spawn(move || server.serve(Peer::on(stream.unwrap())));
            }
        });
        (deployed, address, tell)
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
        for _ in 0..self.patience {
            let [kind, flags] = peer.read_up_to(2)[..] else {
                return;
            };
            let sent = match kind {
                LIST => {
                    let flags_of = |p: &Picture| entry(p.kind, p.id, &p.name, raw_len(p));
                    let entries: Vec<u8> = self.pictures.iter().flat_map(flags_of).collect();
                    peer.try_send([head(b"JTPL", self.pictures.len()), entries].concat())
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
        let of = |id: &u64| self.pictures.iter().find(|p| p.id == *id);
        let found: Vec<&Picture> = ids.iter().filter_map(of).collect();
        peer.try_send(data_head(u8::try_from(found.len()).unwrap()))?;
        for picture in found {
            peer.try_send(travelling(picture))?;
            match peer.look() {
                Some(3) => return peer.try_send(b"JTPC"), // Its flags byte stays.
                Some(_) => drop(self.lost.fetch_add(1, Ordering::Relaxed)),
                None => {}
            }
        }
        Ok(())
    }

    fn all(&self, peer: &mut Peer, header: &[u8; 4], have: &[u64]) -> std::io::Result<()> {
        let lacking = self.pictures.iter().filter(|p| !have.contains(&p.id));
        let lacking: Vec<&Picture> = lacking.collect();
        peer.try_send(head(header, lacking.len()))?;
        lacking
            .into_iter()
            .try_for_each(|p| peer.try_send(travelling(p)))
    }

    fn watch(&self, peer: &mut Peer) -> std::io::Result<()> {
        let news = self.news.lock().unwrap();
        loop {
            if let Ok(p) = news.recv_timeout(std::time::Duration::from_millis(5)) {
                peer.try_send([&b"JTPW"[..], &p.entry()].concat())?;
            }
            match peer.look() {
                Some(3) => return peer.try_send(b"JTPC"), // Its flags byte stays.
                Some(_) => return Err(ErrorKind::InvalidData.into()),
                None => {}
            }
        }
    }
}

fn raw_len(picture: &Picture) -> u32 {
    u32::try_from(picture.bytes.len()).unwrap()
}

/// The packet: BMPs travel compressed.
fn travelling(picture: &Picture) -> Vec<u8> {
    if picture.kind == 3 {
        let data = zstd::encode_all(&picture.bytes[..], 3).unwrap();
        packet(picture.kind | ZSTD, picture.id, &data)
    } else {
        picture.packet()
    }
}
