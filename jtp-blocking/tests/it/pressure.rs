//! Full streams, and many watchers.

use std::io::{Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use jtp_blocking::store::MemoryStore;
use jtp_blocking::{Client, Close, Peer, Server};

use crate::memory::duplex;
use crate::{Result, RunningServer, store};

/// Reads packets with bodies of `length` bytes up to `JTPC`; returns their number.
fn packets_before_cancelled(stream: &mut impl Read, length: usize) -> Result<usize> {
    // Flags, a length of two bytes, and the ID.
    let head = 1 + 2 + 8;
    for count in 0.. {
        let mut start = [0; 4];
        stream.read_exact(&mut start)?;
        if &start == b"JTPC" {
            return Ok(count);
        }
        let rest = u64::try_from(head - start.len() + length)?;
        let skipped = std::io::copy(&mut stream.take(rest), &mut std::io::sink())?;
        assert_eq!(skipped, rest);
    }
    unreachable!("an endless loop");
}

#[test]
fn s1_c2_cancel_is_seen_while_a_write_blocks() -> Result {
    // The stream holds 64 bytes, so every write blocks. C6: small packets already coalesced into one write still arrive.
    for (length, max) in [(10_000, 1), (1000, 33)] {
        let (mut client_end, server_end) = duplex(64);
        let store = MemoryStore::new();
        for n in 0..100 {
            store.insert(&format!("{n:03}.png"), vec![n; length])?;
        }
        let server = Server::builder(store).build();
        let (reader, writer) = (server_end.clone(), server_end.clone());
        let serving =
            thread::spawn(move || server.serve_stream(reader, writer, server_end, Peer::default()));
        client_end.write_all(&[5, 1])?;
        let mut head = [0; 5];
        client_end.read_exact(&mut head)?;
        assert_eq!(&head, b"JTPG\x64");
        client_end.write_all(&[3, 0])?;
        client_end.wait_until_read();
        let packets = packets_before_cancelled(&mut client_end, length)?;
        assert!(packets <= max, "{packets} packets of {length} bytes");
        client_end.close();
        let _ = serving.join().unwrap();
    }
    Ok(())
}

#[test]
fn n1_many_watchers_are_notified_of_each_change_once() -> Result {
    let store = store(1);
    let running = RunningServer::start(Server::builder(Arc::clone(&store)).build());
    let mut clients: Vec<Client> = (0..20).map(|_| running.client().build()).collect();
    let mut watches = Vec::new();
    for client in &mut clients {
        watches.push(client.list_and_watch()?.1);
    }
    for n in 0..20 {
        let id = store.insert(&format!("new{n}.gif"), vec![n; 100])?;
        for watch in &mut watches {
            assert_eq!(watch.next()?.id, id);
        }
    }
    let no_event = watches[0].next_timeout(Duration::from_millis(1))?;
    assert_eq!(no_event, None);
    drop(watches);
    drop(clients);
    running.stop();
    Ok(())
}
