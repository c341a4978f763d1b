//! R7: our client against a server with the habits of deployed ones.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use jtp_core::ImageId;
use jtp_core::client::HaveSet;
use jtp_tokio::{Client, ClientBuilder};

use crate::requests::fetch;
use crate::support::Result;
use crate::support::bytes::*;
use crate::support::files::{noise, pictures, samples_folder};
use crate::support::peer::Peer;
use crate::support::serve::{in_time, run};

/// A server as they are deployed:
/// - LIST gives raw sizes and no compressed bit, while BMPs travel compressed;
/// - during `JTPD` it looks for one byte between packets: a 3 is taken for a whole CANCEL, whose flags byte
///   it leaves for the next request's type; anything else is lost;
/// - WATCH ends by such a 3 as well;
/// - `JTPB` and `JTPG` are sent to their end before CANCEL is answered;
/// - it may say RateLimited at accept, before any request, and close keep-alive connections when it likes.
struct Deployed {
    pictures: Vec<Picture>,
    /// So many connections are told RateLimited.
    rate_limited: AtomicUsize,
    /// The responses after which a keep-alive connection is closed.
    patience: usize,
    /// Bytes that got lost during `JTPD`.
    lost: AtomicUsize,
    connections: AtomicUsize,
    /// What watchers are told.
    news: Mutex<Receiver<Picture>>,
}

/// The server, its address, and the way to tell its watchers of new images.
type Started = (Arc<Deployed>, SocketAddr, Sender<Picture>);

impl Deployed {
    /// It runs until the test ends.
    fn start(pictures: Vec<Picture>, rate_limited: usize, patience: usize) -> Started {
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

fn samples() -> Vec<Picture> {
    pictures(&samples_folder())
}

fn ids(pictures: &[Picture]) -> Vec<u64> {
    pictures.iter().map(|p| p.id).collect()
}

async fn everything(client: ClientBuilder, pictures: &[Picture]) -> Result {
    let mut client: Client = client.build();
    let all = ids(pictures);
    assert_eq!(client.list().await?.len(), all.len());
    assert_eq!(fetch(client.list_and_get(), pictures).await?, all);
    let have = HaveSet::try_from(vec![ImageId(all[1])])?;
    assert_eq!(
        fetch(client.batch(have), pictures).await?.len(),
        all.len() - 1
    );
    let wanted: Vec<ImageId> = all.iter().map(|id| ImageId(*id)).collect();
    assert_eq!(fetch(client.get(wanted), pictures).await?, all);
    client.close().await;
    Ok(())
}

#[test]
fn r7_every_image_comes_verified_from_a_deployed_server() -> Result {
    for keep_alive in [true, false] {
        let (server, address, _news) = Deployed::start(samples(), 0, usize::MAX);
        let client = Client::builder(address.to_string()).keep_alive(keep_alive);
        run(in_time(everything(client, &server.pictures)))?;
        assert_eq!(server.lost.load(Ordering::Relaxed), 0, "R7");
    }
    Ok(())
}

#[test]
fn r7_nothing_is_sent_behind_an_unfinished_get() -> Result {
    // More images than one request can ask for.
    let many: Vec<Picture> = (0..700)
        .map(|n| Picture::new(&format!("{n}.png"), noise(300, n)))
        .collect();
    let (server, address, _news) = Deployed::start(many, 0, usize::MAX);
    run(in_time(everything(
        Client::builder(address.to_string()),
        &server.pictures,
    )))?;
    assert_eq!(server.lost.load(Ordering::Relaxed), 0, "R7");
    assert_eq!(server.connections.load(Ordering::Relaxed), 1);
    Ok(())
}

#[test]
fn r6_a_server_that_closes_between_responses_is_connected_to_again() -> Result {
    for patience in [1, 2] {
        let (server, address, _news) = Deployed::start(samples(), 0, patience);
        run(in_time(everything(
            Client::builder(address.to_string()),
            &server.pictures,
        )))?;
    }
    Ok(())
}

#[test]
fn r7_r6_rate_limited_at_accept_before_any_request_is_tried_again() -> Result {
    let (server, address, _news) = Deployed::start(samples(), 1, usize::MAX);
    run(in_time(everything(
        Client::builder(address.to_string()),
        &server.pictures,
    )))?;
    assert_eq!(server.connections.load(Ordering::Relaxed), 2);
    // And told, where nothing is to be tried again.
    let (_server, address, _news) = Deployed::start(samples(), 1, usize::MAX);
    let mut client = Client::builder(address.to_string()).retries(0).build();
    let refused = run(in_time(client.list())).unwrap_err();
    assert!(refused.is_rate_limited(), "{refused}");
    Ok(())
}

#[test]
fn r7_after_a_cancel_everything_still_comes() -> Result {
    let (server, address, _news) = Deployed::start(samples(), 0, usize::MAX);
    let all: Vec<ImageId> = ids(&server.pictures).into_iter().map(ImageId).collect();
    run(in_time(async {
        let mut client = Client::builder(address.to_string()).build();
        for n in 0..3 {
            let mut images = match n {
                0 => client.get(all.clone()),
                1 => client.list_and_get(),
                _ => client.batch(HaveSet::default()),
            };
            let mut first = images.next().await?.unwrap();
            first.chunk().await?;
            images.cancel().await?;
            // On a new connection: whatever became of the CANCEL, it cannot spoil this.
            assert_eq!(
                fetch(client.list_and_get(), &server.pictures).await?.len(),
                14
            );
            assert_eq!(
                fetch(client.get(all.clone()), &server.pictures)
                    .await?
                    .len(),
                14
            );
        }
        Ok(())
    }))
}

#[test]
fn r7_a_watch_of_a_deployed_server_and_its_end() -> Result {
    let (server, address, news) = Deployed::start(samples(), 0, usize::MAX);
    run(in_time(async {
        let mut client = Client::builder(address.to_string()).build();
        let (listed, mut watch) = client.list_and_watch().await?;
        assert_eq!(listed.len(), 14);
        for n in 0..3 {
            let new = Picture::new("new.png", noise(100, n));
            news.send(new.clone())?;
            assert_eq!(watch.next().await?.id.0, new.id);
        }
        watch.cancel().await?;
        assert_eq!(
            fetch(client.list_and_get(), &server.pictures).await?.len(),
            14
        );
        Ok(())
    }))
}
