//! Full streams, many watchers, large images, and the shutdown of a busy server.

use super::*;

/// Reads packets with bodies of `length` bytes up to `JTPC`; returns their number.
fn packets_before_cancelled(stream: &mut impl Read, length: usize) -> Result<usize> {
    let head = packet_head_len(length);
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

fn packet_head_len(length: usize) -> usize {
    let bits = usize::BITS - length.leading_zeros();
    1 + bits.div_ceil(7) as usize + 8
}

fn store_of(count: u8, length: usize) -> Arc<MemoryStore> {
    let store = MemoryStore::new();
    for n in 0..count {
        store
            .insert(&format!("{n:03}.png"), vec![n; length])
            .unwrap();
    }
    Arc::new(store)
}

#[test]
fn s1_c2_cancel_is_seen_while_a_write_blocks() -> Result {
    // The stream holds 64 bytes, so every write blocks. C6: small packets already coalesced into one write still arrive.
    for (length, max) in [(10_000, 1), (1000, 33)] {
        let (mut client_end, server_end) = duplex(64);
        let serving = serving(Server::builder(store_of(100, length)).build(), &server_end);
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
fn s1_c2_cancel_is_seen_while_a_socket_is_full() -> Result {
    // More than the socket buffers hold, so that the first packet blocks until the client reads.
    const LENGTH: usize = 32 << 20;
    let running = RunningServer::start(Server::builder(store_of(3, LENGTH)).build());
    let mut stream = TcpStream::connect(&running.address)?;
    stream.write_all(&[5, 1])?;
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    assert_eq!(&head, b"JTPG\x03");
    stream.write_all(&[3, 0])?;
    assert_eq!(packets_before_cancelled(&mut stream, LENGTH)?, 1);
    drop(stream);
    running.stop();
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

#[test]
fn s16_response_in_progress_is_completed() -> Result {
    const LENGTH: usize = 32 << 20;
    let running = RunningServer::start(Server::builder(store_of(2, LENGTH)).build());
    let mut client = running.client().build();
    let mut images = client.list_and_get();
    let mut first = images.next()?.unwrap();
    assert!(first.chunk()?.is_some());
    running.stop.begin();
    let rest = first.bytes(LENGTH)?.len();
    assert!(rest > 0);
    assert_eq!(collect(&mut images)?.len(), 1);
    client.close();
    running.stop();
    Ok(())
}

#[test]
fn s16_connections_close_after_the_drain_time() -> Result {
    let server = Server::builder(store_of(2, 32 << 20))
        .drain_timeout(SHORT)
        .build();
    let running = RunningServer::start(server);
    let mut client = running.client().retries(0).build();
    let mut images = client.list_and_get();
    let mut first = images.next()?.unwrap();
    assert!(first.chunk()?.is_some());
    // The client stops reading; the server shuts down anyway.
    running.stop();
    assert!(matches!(first.bytes(1 << 30), Err(ImageError::Fatal(_))));
    Ok(())
}

#[test]
fn t1_large_images_and_cancel_over_tls() -> Result {
    let tls = tls();
    let store = store_of(20, 5_000_000);
    let server = Server::builder(store).tls(Arc::clone(&tls.server)).build();
    let running = RunningServer::start(server);
    let config = ClientConfig::new().with_pipeline(true);
    let builder = running.client().config(config);
    let mut client = builder.tls(Arc::clone(&tls.client), localhost()).build();
    assert_eq!(collect(&mut client.list_and_get())?.len(), 20);
    let mut images = client.list_and_get();
    let mut first = images.next()?.unwrap();
    assert!(first.chunk()?.is_some());
    images.cancel()?;
    assert_eq!(client.list()?.len(), 20);
    client.close();
    running.stop();
    Ok(())
}

#[test]
fn s1_large_requests_and_large_responses_do_not_wait_for_each_other() -> Result {
    // 8 MB of IDs and a response of 64 MB.
    let running = RunningServer::start(Server::builder(store_of(64, 1 << 20)).build());
    let have = HaveSet::try_from_iter((0..1_000_000).map(ImageId))?;
    let mut client = running.client().build();
    assert_eq!(collect(&mut client.batch(have))?.len(), 64);
    client.close();
    running.stop();
    Ok(())
}

#[test]
fn a_server_serves_again_after_a_shutdown() -> Result {
    let server = Server::builder(store(3)).build();
    for _ in 0..2 {
        let running = RunningServer::start(server.clone());
        assert_eq!(running.client().build().list()?.len(), 3);
        running.stop();
    }
    Ok(())
}
