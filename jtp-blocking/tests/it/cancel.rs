//! A cancelled client returns at once, whatever it waits for.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use jtp_blocking::{CancelHandle, Client, ClientBuilder, Error, ImageError};
use jtp_core::client::ClientConfig;

/// How long a call may take to return, on a busy machine. What the client waits for takes longer.
const PROMPT: Duration = Duration::from_secs(2);

use crate::Result;

/// A server that stops answering.
struct StalledServer {
    address: String,
    thread: JoinHandle<()>,
    /// Receives a message when the client waits for the server.
    stalled: mpsc::Receiver<()>,
}

/// Accepts one connection, answers its first bytes with `answer`, and then waits for its end.
fn stalled_server(answer: Vec<u8>) -> Result<StalledServer> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let (sender, stalled) = mpsc::channel();
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        assert_ne!(stream.read(&mut [0; 64]).unwrap(), 0);
        stream.write_all(&answer).unwrap();
        sender.send(()).unwrap();
        // Until the end, or a reset: the client has closed the connection.
        while stream.read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
    });
    Ok(StalledServer {
        address,
        thread,
        stalled,
    })
}

/// Cancels after a short while. The thread returns the time of the cancellation.
fn cancel_soon(handle: CancelHandle) -> JoinHandle<Instant> {
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        let now = Instant::now();
        handle.cancel();
        now
    })
}

#[track_caller]
fn assert_prompt(cancelled: JoinHandle<Instant>) {
    let took = cancelled.join().unwrap().elapsed();
    assert!(took < PROMPT, "{took:?}");
    println!("returned after {took:?}");
}

#[track_caller]
fn assert_cancelled<T>(result: Result<T, Error>) {
    match result {
        Err(Error::Cancelled) => {}
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("not cancelled"),
    }
}

/// Every later call fails in the same way, at once, and the connection is closed.
fn assert_stays_cancelled(client: &mut Client, server: JoinHandle<()>) {
    server.join().unwrap();
    let begun = Instant::now();
    assert_cancelled(client.list());
    assert_cancelled(client.connect());
    assert_cancelled(client.list_and_get().next());
    assert_cancelled(client.watch());
    client.close();
    assert!(begun.elapsed() < PROMPT);
}

/// A client of a server that sends `answer` and is then silent. It is cancelled soon after it waits: `wait` returns at once.
fn cancel_while(
    answer: &[u8],
    build: impl FnOnce(ClientBuilder) -> Result<Client>,
    wait: impl FnOnce(&mut Client) -> Result,
) -> Result {
    let server = stalled_server(answer.to_vec())?;
    let mut client = build(Client::builder(&server.address))?;
    let (handle, stalled) = (client.cancel_handle(), server.stalled);
    let cancelled = thread::spawn(move || {
        stalled.recv().unwrap();
        cancel_soon(handle).join().unwrap()
    });
    wait(&mut client)?;
    assert_prompt(cancelled);
    assert_stays_cancelled(&mut client, server.thread);
    Ok(())
}

fn build(builder: ClientBuilder) -> Result<Client> {
    Ok(builder.build())
}

fn list(client: &mut Client) -> Result {
    assert_cancelled(client.list());
    Ok(())
}

#[test]
fn list_from_a_silent_server_also_over_a_stream_of_the_callers() -> Result {
    cancel_while(b"", build, list)?;
    let over_a_stream = |builder: ClientBuilder| {
        let address = builder.build().address().ok_or("no address")?.to_owned();
        let stream = TcpStream::connect(address)?;
        let (reader, writer) = (stream.try_clone()?, stream.try_clone()?);
        Ok(Client::from_stream(
            reader,
            writer,
            stream,
            ClientConfig::new(),
        )?)
    };
    cancel_while(b"", over_a_stream, list)
}

#[test]
fn a_tls_handshake_with_a_silent_server() -> Result {
    use rustls::pki_types::ServerName;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config = rustls::ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let localhost = ServerName::try_from("localhost")?;
    let build = |builder: ClientBuilder| {
        let builder = builder.tls(config, localhost).connect_timeout(None);
        Ok(builder.build())
    };
    cancel_while(b"", build, |client| {
        assert_cancelled(client.connect());
        Ok(())
    })
}

#[test]
fn a_body_that_stalls() -> Result {
    // One image of 100 bytes, of which 10 arrive.
    let head = [&b"JTPG\x01\x00\x64"[..], &[0; 8], &[7; 10]].concat();
    cancel_while(&head, build, |client| {
        let mut images = client.list_and_get();
        let mut image = images.next()?.ok_or("no image")?;
        let error = loop {
            match image.chunk() {
                Ok(Some(chunk)) => assert!(chunk.len() <= 10),
                Ok(None) => panic!("the image is complete"),
                Err(error) => break error,
            }
        };
        let is_cancelled = matches!(error, ImageError::Fatal(Error::Cancelled));
        assert!(is_cancelled, "{error:?}");
        assert_cancelled(images.next());
        Ok(())
    })
}

#[test]
fn a_watch_without_new_images() -> Result {
    cancel_while(b"JTPL\x00", build, |client| {
        let (_, mut watch) = client.list_and_watch()?;
        assert_cancelled(watch.next());
        assert_cancelled(watch.next_timeout(Duration::from_secs(60)));
        assert_cancelled(watch.cancel());
        Ok(())
    })
}

/// A listener whose queue is full: further connections are neither accepted nor refused.
#[cfg(target_os = "linux")]
#[test]
fn a_connect_that_is_not_answered() -> Result {
    use socket2::{Domain, Socket, Type};
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    listener.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>()?.into())?;
    listener.listen(0)?;
    let address = listener.local_addr()?.as_socket().ok_or("no address")?;
    let limit = Duration::from_millis(100);
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, limit) {
        queued.push(stream);
    }
    let mut client = Client::builder(address.to_string())
        .connect_timeout(None)
        .build();
    let cancelled = cancel_soon(client.cancel_handle());
    assert_cancelled(client.connect());
    assert_prompt(cancelled);
    Ok(())
}

#[test]
fn a_pause_between_retries() -> Result {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let server = thread::spawn(move || {
        // Each try ends early, and the pauses grow.
        while let Ok((mut stream, _)) = listener.accept() {
            let count = stream.read(&mut [0; 64]).unwrap_or(0);
            if count == 0 {
                return;
            }
        }
    });
    let mut client = Client::builder(&address).retries(1000).build();
    let cancelled = cancel_soon(client.cancel_handle());
    assert_cancelled(client.list());
    assert_prompt(cancelled);
    drop(TcpStream::connect(address)); // Ends the server, unless that has ended.
    server.join().unwrap();
    Ok(())
}

#[test]
fn between_calls_the_connection_is_closed_at_once() -> Result {
    let server = stalled_server(b"JTPL\x00".to_vec())?;
    let mut client = Client::builder(&server.address).build();
    assert!(client.list()?.is_empty());
    let handle = client.cancel_handle();
    assert!(!handle.is_cancelled());
    let (sent, received) = mpsc::channel();
    thread::spawn(move || {
        handle.cancel();
        sent.send(handle.is_cancelled()).unwrap();
    });
    assert!(received.recv()?);
    assert_stays_cancelled(&mut client, server.thread);
    Ok(())
}
