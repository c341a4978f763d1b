//! R1 R2 R6: our clients against servers that break the protocol, or break off.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::slice::from_ref;
use std::thread;

use jtp_core::ImageId;
use jtp_core::client::HaveSet;

use crate::suite::adapters::Adapter;
use crate::suite::ends::{self, ClientEnd, Failure, Next, Seen, Then};
use crate::suite::script::Script;
use crate::support::Result;
use crate::support::bytes::*;

crate::suite::each_adapter! {
    r1_each_violation_is_an_error_and_never_a_wrong_image,
    r1_jtpe_is_legal_wherever_a_frame_may_begin,
    r1_jtpe_while_a_large_request_is_being_sent_stops_it,
    r2_a_broken_image_is_thrown_away_and_asked_for_once_more,
    r1_r6_the_end_at_every_byte_of_a_response,
}

/// A server that answers each connection's first bytes with a script, and ends.
fn scripted(scripts: Vec<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for script in scripts {
            let Ok((mut stream, _)) = listener.accept() else {
                return;
            };
            // The client may have gone before the end.
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(&script);
            let _ = stream.shutdown(Shutdown::Write);
            while stream.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {}
        }
    });
    address
}

fn client(
    adapter: Adapter,
    address: SocketAddr,
    keep_alive: bool,
    retries: u32,
) -> Box<dyn ClientEnd> {
    let script = Script::of([]).setup(|setup| {
        setup.keep_alive = keep_alive;
        setup.retries = retries;
    });
    (adapter.client)(&script.setup, address, false)
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

fn ask(client: &mut dyn ClientEnd, ask: Ask, ids: &[u64], came: &mut Came) -> Result<(), Failure> {
    let ask = match ask {
        Ask::List => return client.list().map(drop),
        Ask::Watch => return client.watch(false, &mut |_| Then::Wait).map(drop),
        Ask::Get => ends::Ask::Get(ids.iter().map(|id| ImageId(*id)).collect()),
        Ask::Batch => ends::Ask::Batch(HaveSet::default()),
        Ask::ListAndGet => ends::Ask::All,
    };
    let (mut id, mut body) = (0, Vec::new());
    let ended = client.fetch(&ask, &mut |seen| {
        match seen {
            Seen::Image(image) => {
                id = image.id.0;
                body.clear();
            }
            Seen::Bytes(bytes) => body.extend_from_slice(bytes),
            Seen::Good => {
                assert_eq!(id_of(&body), id, "R2: never a wrong image");
                came.images.push(body.clone());
            }
            Seen::Fault { .. } | Seen::Interrupted => came.broken += 1,
        }
        Next::Go
    });
    ended.map(drop)
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

fn r1_each_violation_is_an_error_and_never_a_wrong_image(adapter: Adapter) {
    for (what, asked, script) in violations() {
        let mut client = client(adapter, scripted(vec![script]), true, 3);
        let mut came = Came::default();
        let end = ask(&mut *client, asked, &[one().id], &mut came);
        let label = format!("{what} for {asked:?}: {end:?}, {came:?}");
        if what.starts_with("data behind") {
            // The response was whole and good. What follows is found when the connection is used again, and
            // is not taken for an answer.
            assert_eq!(came.images, [one().bytes], "{label}");
            assert!(client.list().is_err(), "{label}");
            continue;
        }
        let told = end.expect_err(&label);
        assert!(
            told.starts_with("protocol: the server violated the protocol"),
            "{label}"
        );
        assert!(came.images.is_empty(), "{label}");
    }
}

fn r1_jtpe_is_legal_wherever_a_frame_may_begin(adapter: Adapter) {
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
    for (asked, script) in scripts {
        let mut client = client(adapter, scripted(vec![script]), true, 0);
        let end = ask(&mut *client, asked, &[one.id], &mut Came::default());
        let told = end.unwrap_err();
        let wanted = "protocol: the server reports ServerError: no more";
        assert_eq!(told, wanted, "{asked:?}");
    }
}

/// The server reads the head of an 8 MB BATCH and no more.
fn r1_jtpe_while_a_large_request_is_being_sent_stops_it(adapter: Adapter) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
        let refusal = error(INVALID_REQUEST, "too many");
        stream.write_all(&refusal).unwrap();
        // Neither read nor closed before the client has gone.
        stream
    });
    let have = HaveSet::try_from_iter((1..=1_000_000).map(ImageId)).unwrap();
    let mut client = client(adapter, address, true, 3);
    let ended = client.fetch(&ends::Ask::Batch(have), &mut |seen| panic!("{seen:?}"));
    let wanted = "protocol: the server reports InvalidRequest: too many";
    assert_eq!(ended.unwrap_err(), wanted);
    drop(server.join().unwrap());
}

fn r2_a_broken_image_is_thrown_away_and_asked_for_once_more(adapter: Adapter) {
    let (one, two) = (one(), two());
    let zstd = zstd::encode_all(&one.bytes[..], 3).unwrap();
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
        packet(ZSTD, one.id, &zstd::encode_all(&wrong[..], 3).unwrap()),
        flipped(0),
        flipped(6),
        packet(0x10, one.id, &one.bytes), // encrypted
    ];
    for (n, bad) in broken.into_iter().enumerate() {
        // The stream goes on behind it; then it comes well, or badly again.
        let first = [head(b"JTPG", 2), bad.clone(), two.packet()].concat();
        for (again, good) in [(one.packet(), true), (bad, false)] {
            let second = [data_head(1), again].concat();
            let address = scripted(vec![first.clone(), second]);
            let mut client = client(adapter, address, false, 3);
            let mut came = Came::default();
            ask(&mut *client, Ask::ListAndGet, &[], &mut came).unwrap();
            assert_eq!(came.broken, if good { 1 } else { 2 }, "{n}: {came:?}");
            let mut wanted = vec![two.bytes.clone()];
            wanted.extend(good.then(|| one.bytes.clone()));
            assert_eq!(came.images, wanted, "{n}");
        }
    }
}

fn r1_r6_the_end_at_every_byte_of_a_response(adapter: Adapter) {
    let (one, two) = (one(), two());
    let zstd = zstd::encode_all(&two.bytes[..], 3).unwrap();
    let two_packet = packet(two.kind | ZSTD, two.id, &zstd);
    let whole = [head(b"JTPG", 2), one.packet(), two_packet].concat();
    let wanted = [one.bytes.clone(), two.bytes.clone()];
    let at = &|cut: usize| {
        let first_whole = cut >= 5 + one.packet().len();
        // The rest is asked for on a new connection: all again, or what is missing.
        let rest = if first_whole {
            images_of(b"JTPB", from_ref(&two))
        } else {
            whole.clone()
        };
        // R1: a cut is not taken for the end, whatever the place.
        let alone = scripted(vec![whole[..cut].to_vec()]);
        let mut came = Came::default();
        let mut first = client(adapter, alone, true, 0);
        let end = ask(&mut *first, Ask::ListAndGet, &[], &mut came);
        assert_eq!(
            end.unwrap_err(),
            "protocol: the connection ended before the response was complete",
            "{cut}"
        );
        assert_eq!(came.images, wanted[..usize::from(first_whole)], "{cut}");
        // R6: what was complete stands.
        let mended = scripted(vec![whole[..cut].to_vec(), rest]);
        let mut came = Came::default();
        let mut second = client(adapter, mended, true, 3);
        ask(&mut *second, Ask::ListAndGet, &[], &mut came).unwrap();
        assert_eq!(came.images, wanted, "{cut}");
    };
    // Each waits before it tries again: at once they wait together.
    thread::scope(|scope| {
        for cut in 0..whole.len() {
            scope.spawn(move || at(cut));
        }
    });
}
