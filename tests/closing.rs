//! How connections end: without close_notify, lingering. The rest is in the behaviour suite.

use crate::support::bytes::*;
use crate::support::files::{generated, samples};
use crate::support::serve::TestServer;
use crate::support::tls::tls;

/// Requests with their responses.
/// The responses to the requests that are complete in the first `cut` bytes.
#[test]
fn t1_t5_s10_end_of_a_tls_stream_without_close_notify() {
    let served = TestServer::folder_with(generated(3, 700), |s| s.tls(tls().server.clone()));
    let images = served.images();
    let requests = [vec![LIST, KEEP], get(KEEP, &[images[2].id])].concat();
    let answers = [list_of(&images), data_of(&[&images[2]])];
    for cut in 0..=requests.len() {
        let mut peer = served.peer().tls(tls().client());
        peer.send(&requests[..cut]);
        peer.half_close();
        // T5: complete requests are answered in full; S10: the end inside a request causes no error frame.
        let complete = usize::from(cut >= 2) + usize::from(cut == requests.len());
        peer.expect(answers[..complete].concat());
        peer.expect_end();
    }
}

#[test]
fn s11_s2_last_bytes_arrive_without_reset_after_megabytes_of_input() {
    let served = TestServer::folder_with(samples(), |s| s.tls(tls().server.clone()));
    let over_the_limit = [vec![BATCH, KEEP], varint(2_000_000)].concat(); // S8
    for secure in [false, true] {
        for (request, code) in [
            (vec![255, 0], Some(UNSUPPORTED_FEATURE)),
            (vec![LIST, 0x80], Some(INVALID_REQUEST)),
            (over_the_limit.clone(), Some(INVALID_REQUEST)),
            (vec![LIST, 0], None),
        ] {
            let mut peer = served.peer();
            if secure {
                peer = peer.tls(tls().client());
            }
            peer.send(&request);
            // The client reads nothing until all of this is sent: more than any socket buffer holds.
            for _ in 0..12 {
                peer.send(vec![0x55; 1 << 20]);
            }
            match code {
                Some(code) => assert!(!peer.expect_error(code).is_empty()),
                None => {
                    peer.expect(list_of(&served.images()));
                    peer.expect_end();
                }
            }
        }
    }
}

#[test]
fn s11_linger_byte_limit() {
    // 16 MiB by default: the server does not discard input without limit.
    let served = TestServer::samples();
    let mut peer = served.peer();
    peer.send([255, 0]);
    let chunk = vec![0x55; 1 << 20];
    let sent = (0..64)
        .take_while(|_| peer.try_send(&chunk).is_ok())
        .count();
    assert!((16..40).contains(&sent), "{sent} MiB were accepted");
}

/// T8: what the system has buffered for a client that does not read is bounded, and given up with the connection.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn t8_what_the_system_buffers_is_bounded_and_given_back() {
    use std::io::Write;
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::time::Duration;

    let store = jtp_tokio::store::MemoryStore::new();
    store.insert("a.png", vec![0; 32 << 20]).unwrap();
    let config = jtp_core::server::ServerConfig::new();
    let config = config.with_write_timeout(Some(Duration::from_secs(1)));
    let server = jtp_tokio::Server::builder(store).config(config).build();
    for is_small in [true, false] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let request = if is_small { LIST } else { LIST_AND_GET };
        client.write_all(&[request, 0]).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let (socket, address) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let same = socket2::Socket::from(socket.try_clone().unwrap());
        let socket = tokio::net::TcpStream::from_std(socket).unwrap();
        server.serve_tcp(socket, address).await.unwrap();
        assert_eq!(same.tcp_notsent_lowat().unwrap(), 128 * 1024);
        // The last bytes, if no byte of them is acknowledged. After T4, a reset.
        let limit = same.tcp_user_timeout().unwrap();
        assert_eq!(limit == Some(Duration::from_secs(1)), is_small, "{limit:?}");
        let is_reset = same.linger().unwrap() == Some(Duration::ZERO);
        assert_eq!(is_reset, !is_small);
    }
}
