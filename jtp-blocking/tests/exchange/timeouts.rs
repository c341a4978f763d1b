//! The clocks, set short and told apart by their reasons, and what can be switched off. // T4 T6 S10

use jtp_core::server::Timeout;

use super::*;

#[test]
fn t6_a_silent_server_is_given_up() -> Result {
    let (near, _far) = duplex(64);
    let config = ClientConfig::new().with_response_timeout(SOON);
    let failed = over(&near, config)?.list().unwrap_err();
    assert!(
        matches!(failed, Error::Protocol(ClientError::TimedOut)),
        "{failed}"
    );
    Ok(())
}

#[test]
fn t4_each_clock_ends_the_connection() -> Result {
    let config = ServerConfig::new()
        .with_first_request_timeout(SOON)
        .with_idle_timeout(SOON)
        .with_request_grace(SOON)
        .with_write_timeout(SOON)
        .with_cancel_timeout(SOON);
    for (sent, expected) in [
        (&[][..], Timeout::FirstRequest),
        (&[1, 1], Timeout::Idle),
        (&[1], Timeout::Request),
        (&[4, 0, 3], Timeout::Cancel),
    ] {
        let server = Server::builder(store(1)).config(config).build();
        let (mut near, far) = duplex(64);
        near.write_all(sent)?;
        let serving = serving(server, &far);
        let mut got = Vec::new();
        near.read_to_end(&mut got)?;
        near.finish()?;
        let reason = serving.join().unwrap()?;
        assert_eq!(reason, Some(CloseReason::Timeout(expected)));
    }
    // Output that does not move: the stream holds 64 bytes and nobody reads.
    let server = Server::builder(store(100)).config(config).build();
    let (mut near, far) = duplex(64);
    near.write_all(&[5, 1])?;
    let reason = serving(server, &far).join().unwrap()?;
    assert_eq!(reason, Some(CloseReason::Timeout(Timeout::Write)));
    Ok(())
}

#[test]
fn t4_a_tls_handshake_has_its_clock() -> Result {
    let tls = tls();
    let server = with_tls(&tls, 1)
        .handshake_timeout(SOON)
        .first_byte_timeout(SOON)
        .build();
    let running = Running::start(server);
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
fn s10_watch_can_be_switched_off() -> Result {
    let config = ServerConfig::new().with_watch(false);
    let running = Running::start(Server::builder(store(1)).config(config).build());
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
