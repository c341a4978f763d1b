//! R1 R2 R6: our client against servers that break the protocol, or break off.

use std::fmt::Debug;
use std::slice::from_ref;

use jtp_core::ImageId;
use jtp_core::client::{ClientError, HaveSet};
use jtp_tokio::{Client, Error, ImageError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::Result;
use crate::support::bytes::*;
use crate::support::serve::{in_time, run};

/// A server that answers each connection's first bytes with a script, and ends. Once the scripts are used
/// up it answers nothing.
async fn scripted(scripts: Vec<Vec<u8>>) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        for script in scripts {
            let Ok((mut stream, _)) = listener.accept().await else {
                return;
            };
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(&script).await;
                let _ = stream.shutdown().await;
                while stream.read(&mut [0; 4096]).await.is_ok_and(|n| n > 0) {}
            });
        }
    });
    Ok(address)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Ask {
    List,
    Get,
    Batch,
    ListAndGet,
    Watch,
}

/// What came: the images that were verified, and how many were not.
#[derive(Debug, Default)]
struct Came {
    images: Vec<Vec<u8>>,
    broken: usize,
}

async fn ask(client: &mut Client, ask: Ask, ids: &[u64], came: &mut Came) -> Result<(), Error> {
    let mut images = match ask {
        Ask::List => return client.list().await.map(drop),
        Ask::Watch => {
            let mut watch = client.watch().await?;
            loop {
                watch.next().await?;
            }
        }
        Ask::Get => client.get(ids.iter().map(|id| ImageId(*id))),
        Ask::Batch => client.batch(HaveSet::default()),
        Ask::ListAndGet => client.list_and_get(),
    };
    while let Some(image) = images.next().await? {
        let id = image.image().id.0;
        match image.bytes(1 << 20).await {
            Ok(bytes) => {
                assert_eq!(id_of(&bytes), id, "R2: never a wrong image");
                came.images.push(bytes);
            }
            Err(ImageError::Fatal(error)) => return Err(error),
            Err(_) => came.broken += 1,
        }
    }
    Ok(())
}

fn one() -> Picture {
    Picture::new("one.png", b"the first image".to_vec())
}

fn two() -> Picture {
    Picture::new("two.gif", b"and the second".to_vec())
}

/// Each violation: what is asked, what comes.
fn violations() -> Vec<(&'static str, Ask, Vec<u8>)> {
    use Ask::*;
    let (one, two) = (one(), two());
    let listed = |entry: Vec<u8>| [head(b"JTPL", 1), entry].concat();
    let sent = |packet: Vec<u8>| [head(b"JTPG", 1), packet].concat();
    let mut all = vec![
        ("an unknown header", List, b"JTPX\0".to_vec()),
        (
            "another protocol",
            List,
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        ),
        (
            "the answer to another request",
            List,
            images_of(b"JTPG", from_ref(&one)),
        ),
        (
            "the answer to another request",
            Get,
            list_of(from_ref(&one)),
        ),
        (
            "the answer to another request",
            Batch,
            images_of(b"JTPG", from_ref(&one)),
        ),
        (
            "the answer to another request",
            ListAndGet,
            images_of(b"JTPB", from_ref(&one)),
        ),
        ("the answer to another request", Watch, list_of(&[])),
        ("JTPC without CANCEL", List, b"JTPC".to_vec()),
        ("JTPC without CANCEL", Watch, b"JTPC".to_vec()),
        (
            "JTPC without CANCEL",
            Get,
            [data_head(1), b"JTPC".to_vec()].concat(),
        ),
        (
            "JTPC without CANCEL",
            ListAndGet,
            [head(b"JTPG", 1), b"JTPC".to_vec()].concat(),
        ),
        (
            "JTPW outside WATCH",
            List,
            [&b"JTPW"[..], &one.entry()].concat(),
        ),
        (
            "JTPL for a packet",
            ListAndGet,
            [head(b"JTPG", 1), list_of(&[])].concat(),
        ),
        ("a long varint", List, b"JTPL\x80\x00".to_vec()),
        (
            "a varint over a u32",
            List,
            b"JTPL\xff\xff\xff\xff\x10".to_vec(),
        ),
        (
            "a varint of six bytes",
            ListAndGet,
            b"JTPG\x81\x81\x81\x81\x81\x01".to_vec(),
        ),
        ("a long varint", ListAndGet, b"JTPG\x01\0\x83\0".to_vec()),
        ("a name that is not UTF-8", List, {
            listed([&one.id.to_be_bytes()[..], &[0, 0, 2, 0xc3, 0x28, 1]].concat())
        }),
        ("a name that is not UTF-8", Watch, {
            [&b"JTPW"[..], &one.id.to_be_bytes(), &[0, 0, 1, 0xff, 1]].concat()
        }),
        ("error code 0", List, error(0, "none")),
        ("error code 6", ListAndGet, error(6, "unknown")),
        ("more images than asked for", Get, data_of(&[&one, &two])),
        ("an image that was not asked for", Get, data_of(&[&two])),
        (
            "data behind the response",
            ListAndGet,
            [images_of(b"JTPG", from_ref(&one)), vec![0]].concat(),
        ),
    ];
    for bit in 4..8 {
        let flags = 1 << bit;
        all.push((
            "a reserved flag of an entry",
            List,
            listed(entry(flags, 1, "a", 1)),
        ));
        all.push(("a reserved flag of news", Watch, {
            [&b"JTPW"[..], &entry(flags, 1, "a", 1)].concat()
        }));
        if bit > 4 {
            // Bit 4, the encrypted one, is the image's own matter. // R2
            all.push((
                "a reserved flag of a packet",
                ListAndGet,
                sent(packet(flags, one.id, &one.bytes)),
            ));
        }
    }
    all
}

#[test]
fn r1_each_violation_is_an_error_and_never_a_wrong_image() -> Result {
    run(in_time(async {
        for (what, asked, script) in violations() {
            let tell = |e: &dyn Debug| format!("{what} for {asked:?}: {e:?}");
            let address = scripted(vec![script]).await?;
            let mut client = Client::builder(address).build();
            let mut came = Came::default();
            let end = ask(&mut client, asked, &[one().id], &mut came).await;
            if what.starts_with("data behind") {
                // The response was whole and good. What follows is found when the connection is used again,
                // and is not taken for an answer.
                assert_eq!(came.images, [one().bytes], "{}", tell(&end));
                let next = client.list().await;
                assert!(next.is_err(), "{}", tell(&next));
                continue;
            }
            assert!(
                matches!(end, Err(Error::Protocol(ClientError::Peer(_)))),
                "{}",
                tell(&end)
            );
            assert!(came.images.is_empty(), "{}", tell(&came));
        }
        Ok(())
    }))
}

#[test]
fn r1_jtpe_is_legal_wherever_a_frame_may_begin() -> Result {
    let said = error(SERVER_ERROR, "no more");
    let one = one();
    let scripts = [
        (Ask::List, said.clone()),
        (Ask::Get, said.clone()),
        (Ask::Watch, said.clone()),
        (Ask::Watch, [&b"JTPW"[..], &one.entry(), &said].concat()),
        (Ask::ListAndGet, [head(b"JTPG", 2), said.clone()].concat()), // S12
        (
            Ask::ListAndGet,
            [head(b"JTPG", 2), one.packet(), said.clone()].concat(),
        ),
    ];
    run(in_time(async {
        for (asked, script) in scripts {
            let address = scripted(vec![script]).await?;
            let mut client = Client::builder(address).retries(0).build();
            let end = ask(&mut client, asked, &[one.id], &mut Came::default()).await;
            let told = end.unwrap_err().to_string();
            assert_eq!(told, "the server reports ServerError: no more", "{asked:?}");
        }
        Ok(())
    }))
}

#[test]
fn r1_jtpe_while_a_large_request_is_being_sent_stops_it() -> Result {
    // The server reads the head of an 8 MB BATCH and no more.
    run(in_time(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_exact(&mut [0; 5]).await.unwrap();
            let refusal = error(INVALID_REQUEST, "too many");
            stream.write_all(&refusal).await.unwrap();
            // Neither read nor closed before the client has gone.
            stream
        });
        let have: Vec<ImageId> = (1..=1_000_000).map(ImageId).collect();
        let mut client = Client::builder(address).build();
        let mut images = client.batch(HaveSet::try_from(have)?);
        let told = images.next().await.unwrap_err().to_string();
        assert_eq!(told, "the server reports InvalidRequest: too many");
        drop(server.await?);
        Ok(())
    }))
}

#[test]
fn r2_a_broken_image_is_thrown_away_and_asked_for_once_more() -> Result {
    let (one, two) = (one(), two());
    let zstd = zstd::encode_all(&one.bytes[..], 3)?;
    let mut wrong = one.bytes.clone();
    wrong[3] ^= 0x20;
    let flipped = |at: usize| {
        let mut zstd = zstd.clone();
        zstd[at] ^= 0xff;
        packet(ZSTD, one.id, &zstd)
    };
    let broken = [
        packet(0, one.id, &wrong),
        packet(0, one.id, b""),
        packet(ZSTD, one.id, b""), // W8
        packet(ZSTD, one.id, &one.bytes),
        packet(ZSTD, one.id, &zstd[..zstd.len() - 1]),
        packet(ZSTD, one.id, &[&zstd[..], b"more"].concat()), // W8
        packet(ZSTD, one.id, &zstd::encode_all(&wrong[..], 3)?),
        flipped(0),
        flipped(6),
        packet(0x10, one.id, &one.bytes), // encrypted
    ];
    run(in_time(async {
        for (n, bad) in broken.into_iter().enumerate() {
            // The stream goes on behind it; then it comes well, or badly again.
            let first = [head(b"JTPG", 2), bad.clone(), two.packet()].concat();
            for (again, good) in [(one.packet(), true), (bad, false)] {
                let second = [data_head(1), again].concat();
                let address = scripted(vec![first.clone(), second]).await?;
                let mut client = Client::builder(address).keep_alive(false).build();
                let mut came = Came::default();
                ask(&mut client, Ask::ListAndGet, &[], &mut came).await?;
                assert_eq!(came.broken, if good { 1 } else { 2 }, "{n}: {came:?}");
                let mut wanted = vec![two.bytes.clone()];
                wanted.extend(good.then(|| one.bytes.clone()));
                assert_eq!(came.images, wanted, "{n}");
            }
        }
        Ok(())
    }))
}

#[test]
fn r1_r6_the_end_at_every_byte_of_a_response() -> Result {
    let (one, two) = (one(), two());
    let zstd = zstd::encode_all(&two.bytes[..], 3)?;
    let two_packet = packet(two.kind | ZSTD, two.id, &zstd);
    let whole = [head(b"JTPG", 2), one.packet(), two_packet].concat();
    run(in_time(async {
        let mut tasks = tokio::task::JoinSet::new();
        for cut in 0..whole.len() {
            let first_whole = cut >= 5 + one.packet().len();
            // The rest is asked for on a new connection: all again, or what is missing.
            let rest = if first_whole {
                images_of(b"JTPB", from_ref(&two))
            } else {
                whole.clone()
            };
            // R1: a cut is not taken for the end, whatever the place.
            let alone = scripted(vec![whole[..cut].to_vec()]).await?;
            let mended = scripted(vec![whole[..cut].to_vec(), rest]).await?;
            let wanted = [one.bytes.clone(), two.bytes.clone()];
            tasks.spawn(async move {
                let mut client = Client::builder(alone).retries(0).build();
                let mut came = Came::default();
                let end = ask(&mut client, Ask::ListAndGet, &[], &mut came).await;
                assert!(end.is_err_and(|error| error.is_transient()), "{cut}");
                assert_eq!(came.images, wanted[..usize::from(first_whole)], "{cut}");
                // R6: what was complete stands.
                let mut client = Client::builder(mended).build();
                let mut came = Came::default();
                ask(&mut client, Ask::ListAndGet, &[], &mut came)
                    .await
                    .unwrap();
                assert_eq!(came.images, wanted, "{cut}");
            });
        }
        tasks.join_all().await;
        Ok(())
    }))
}
