//! Runs a server connection on an input, for the targets `server_bytes` and `server_chunks`.

use std::sync::Arc;

use jtp_core::server::{CloseReason, ServerConfig, ServerConnection};
use jtp_core::wire::request::RequestHead;
use jtp_core::{Catalog, CatalogWriter, FileType, Flags, Image, ImageId, Time};

use crate::{ByteReader, IMAGES};

/// Maximum number of IDs of a BATCH.
pub const MAX_HAVE: u32 = 1_000;

const NOW: Time = Time::ZERO;

pub fn catalog() -> Arc<Catalog> {
    let mut writer = CatalogWriter::new();
    for (name, bytes) in IMAGES {
        let image = Image::new(
            ImageId::of(bytes),
            Flags::new(FileType::from_extension(&name[2..]), false),
            u32::try_from(bytes.len()).unwrap(),
        );
        writer.insert(name, image).unwrap();
    }
    writer.publish()
}

pub fn body(id: ImageId) -> &'static [u8] {
    IMAGES
        .into_iter()
        .find(|(_, bytes)| ImageId::of(bytes) == id)
        .unwrap()
        .1
}

/// Everything observable about a connection.
#[derive(Debug, PartialEq, Eq)]
pub struct ServerOutcome {
    pub output: Vec<u8>,
    pub requests: Vec<RequestHead>,
    pub reason: Option<CloseReason>,
}

/// Passes the input to a server in pieces of the lengths that `cut` returns, then EOF. Output is sent in steps of the
/// sizes that `step` returns, and only once the input read so far is processed: so the outcome does not depend on
/// the pieces. At each offset in `pauses` all output is sent before later input is read.
pub fn serve(
    watch: bool,
    input: &[u8],
    pauses: &[usize],
    cut: &mut dyn FnMut() -> usize,
    step: &mut ByteReader<'_>,
) -> ServerOutcome {
    let config = ServerConfig::new()
        .with_watch(watch)
        .with_max_have(MAX_HAVE);
    let mut server = ServerConnection::new(config, NOW);
    let catalog = catalog();
    let (mut output, mut requests, mut offered) = (Vec::new(), Vec::new(), Vec::new());
    let (mut read, mut used, mut ended) = (0, 0, false);
    let mut ends = pauses.iter().copied().chain([input.len()]).peekable();
    loop {
        let end = *ends.peek().unwrap();
        // Offered output that is not sent yet may only grow.
        let bytes = transmitted(&server);
        assert!(bytes.starts_with(&offered), "offered output was withdrawn");
        offered = bytes;

        let received = server.receive(&input[used..read], NOW);
        assert!(received.used <= read - used);
        used += received.used;
        if let Some(head) = received.event {
            assert!(server.close_reason().is_none(), "a request after the close");
            requests.push(head);
            server.accept(&catalog, NOW).unwrap();
            continue;
        }
        if received.used > 0 {
            continue;
        }
        if read < end && server.wants_read(&input[used..read]) {
            read = end.min(read.saturating_add(cut().max(1)));
            continue;
        }
        if read == input.len() && !ended {
            ended = true;
            server.receive_eof();
            assert!(!server.wants_read(&input[used..read]));
            continue;
        }
        if let Some(wanted) = server.wants_body() {
            let rest = wanted.remaining();
            let count = rest.min(match step.byte() {
                0 => rest,
                count => u32::from(count),
            });
            server.body_loaded(count, NOW).unwrap();
            if count < rest && offered.len() < transmitted(&server).len() {
                continue;
            }
        }
        let bytes = transmitted(&server);
        if !bytes.is_empty() {
            let count = bytes.len().min(match step.byte() {
                0 => usize::MAX,
                count => usize::from(count),
            });
            output.extend_from_slice(&bytes[..count]);
            server.transmitted(count, NOW).unwrap();
            offered = bytes[count..].to_vec();
            continue;
        }
        if server.wants_finish() {
            server.finished(NOW).unwrap();
            continue;
        }
        if server.wants_body().is_some() {
            continue;
        }
        if read < input.len() && !server.is_closed() {
            ends.next();
            continue;
        }
        break;
    }
    assert!(server.is_closed(), "not closed after EOF: {server:?}");
    let reason = server.close_reason();
    assert!(reason.is_some());
    // A closed connection stays closed.
    assert_eq!(server.receive(&[1, 1], NOW).used, 0);
    server.shutdown(NOW);
    server.handle_timeout(NOW);
    assert!(server.is_closed() && transmitted(&server).is_empty() && server.deadline().is_none());
    assert_eq!(server.close_reason(), reason);
    ServerOutcome {
        output,
        requests,
        reason,
    }
}

fn transmitted(server: &ServerConnection) -> Vec<u8> {
    let offered = server.transmit();
    let mut bytes = offered.bytes.to_vec();
    if let Some(span) = offered.body {
        bytes.extend_from_slice(&body(span.image.id)[span.range()]);
    }
    assert_eq!(bytes.len(), offered.len());
    bytes
}
