//! Timeouts, distinguished by the close reason or error, and disabled features. // T4 T6 S10

use super::*;

#[test]
fn t6_silent_server_times_out() -> Result {
    let (client_end, _server_end) = duplex(64);
    let config = ClientConfig::new().with_response_timeout(SHORT);
    let failed = over(&client_end, config)?.list().unwrap_err();
    assert!(
        matches!(failed, Error::Protocol(ClientError::TimedOut)),
        "{failed}"
    );
    Ok(())
}

#[test]
fn t4_each_timeout_ends_the_connection() -> Result {
    let config = ServerConfig::new()
        .with_first_request_timeout(SHORT)
        .with_idle_timeout(SHORT)
        .with_request_grace(SHORT)
        .with_request_rate(16 * 1024)
        .with_write_timeout(SHORT)
        .with_cancel_timeout(SHORT);
    for (sent, expected) in [
        (&[][..], "timed out: the peer sent nothing"),
        (&[1, 1], "timed out: the peer sent no further request"),
        (&[1], "timed out: a request arrived too slowly"),
        (&[4, 0, 3], "timed out: a CANCEL was not completed"),
    ] {
        let server = Server::builder(store(1)).config(config).build();
        let (mut client_end, server_end) = duplex(64);
        client_end.write_all(sent)?;
        let serving = serving(server, &server_end);
        let mut got = Vec::new();
        client_end.read_to_end(&mut got)?;
        client_end.finish()?;
        let reason = serving.join().unwrap()?;
        assert_eq!(reason.unwrap().to_string(), expected);
    }
    // The write timeout: the stream holds 64 bytes, and the peer does not read.
    let server = Server::builder(store(100)).config(config).build();
    let (mut client_end, server_end) = duplex(64);
    client_end.write_all(&[5, 1])?;
    let reason = serving(server, &server_end).join().unwrap()?;
    assert_eq!(
        reason.unwrap().to_string(),
        "timed out: the peer accepted no output"
    );
    Ok(())
}

#[test]
fn t4_tls_handshake_timeouts() -> Result {
    let tls = tls();
    let server = with_tls(&tls, 1)
        .handshake_timeout(SHORT)
        .first_byte_timeout(SHORT)
        .build();
    let running = RunningServer::start(server);
    for sent in [&[][..], &[0x16, 3, 1]] {
        let mut stream = TcpStream::connect(&running.address)?;
        stream.write_all(sent)?;
        let mut got = Vec::new();
        let _ = stream.read_to_end(&mut got);
        assert!(got.is_empty());
    }
    running.stop();
    Ok(())
}

#[test]
fn s10_watch_can_be_disabled() -> Result {
    let config = ServerConfig::new().with_watch(false);
    let running = RunningServer::start(Server::builder(store(1)).config(config).build());
    let mut client = running.client().build();
    let mut watch = client.watch()?;
    let refused = watch.next().unwrap_err();
    assert!(
        refused.to_string().contains("UnsupportedFeature"),
        "{refused}"
    );
    drop(client);
    running.stop();
    Ok(())
}
