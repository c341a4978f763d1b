//! The client's TLS stream over any transport.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, ReadTraffic,
    UnbufferedStatus,
};

use crate::buffer::InputBuffer;
use crate::runtime::{BoxTransport, SockRef, Transport};

/// The most bytes of one read of the transport: some 8 records of full size. The buffer must also have room for the
/// longest handshake message that rustls accepts, 64 KiB, and for the record that follows it.
const READ_SIZE: usize = 128 * 1024;

/// The most bytes of one write that are encrypted: 4 records, which go out in one call.
const WRITE_SIZE: usize = 64 * 1024;

/// The output buffer that is kept after a flush. Larger ones are freed.
const KEPT_OUTPUT: usize = 4096;

/// What a record adds at most to its content: header, nonce, content type, tag.
const RECORD_OVERHEAD: usize = 64;

/// The longest content of a record.
const RECORD_SIZE: usize = 16 * 1024;

/// Performs the client's TLS handshake over a transport, for [`TlsRuntime::connect_tls`](crate::TlsRuntime::connect_tls).
///
/// The stream reads up to 128 KiB at once, decrypts in place, and writes up to 4 records at once. It keeps the buffer
/// of 128 KiB until it is dropped.
///
/// # Errors
///
/// Errors of the transport. Those of TLS are of kind [`io::ErrorKind::InvalidData`] and have the [`rustls::Error`] as
/// [`io::Error::get_ref`].
pub async fn connect<T: Transport + Send + 'static>(
    config: Arc<rustls::ClientConfig>,
    name: ServerName<'static>,
    transport: T,
) -> io::Result<BoxTransport> {
    let connection = UnbufferedClientConnection::new(config, name).map_err(io::Error::other)?;
    let mut stream = ClientStream::new(connection, transport);
    poll_fn(|cx| stream.poll_handshake(cx)).await?;
    Ok(Box::new(stream))
}

/// A TLS connection of a client.
struct ClientStream<T> {
    transport: T,
    connection: UnbufferedClientConnection,
    /// What was received and not decrypted.
    input: InputBuffer,
    /// What was decrypted and had no room in the caller's buffer: the rest of a record, or what a write found before
    /// it. At most as long as `input`.
    plaintext: Vec<u8>,
    plaintext_used: usize,
    /// Records to send. Those before `sent` were.
    output: Vec<u8>,
    sent: usize,
    /// An error that follows bytes which were returned before it.
    error: Option<rustls::Error>,
    /// close_notify was received.
    peer_closed: bool,
    /// close_notify was queued.
    closing: bool,
}

/// What [`ClientStream::advance`] is for.
enum Task<'a> {
    Handshake,
    Read(&'a mut [u8]),
    Write(&'a [u8]),
    Close,
}

impl<T: Transport> ClientStream<T> {
    fn new(connection: UnbufferedClientConnection, transport: T) -> ClientStream<T> {
        ClientStream {
            transport,
            connection,
            input: InputBuffer::new(READ_SIZE, READ_SIZE),
            plaintext: Vec::new(),
            plaintext_used: 0,
            output: Vec::new(),
            sent: 0,
            error: None,
            peer_closed: false,
            closing: false,
        }
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let advanced = self.advance(Task::Handshake);
            // Also the alert that says why the handshake failed.
            let sent = self.poll_output(cx);
            advanced.map_err(invalid_data)?;
            if !self.connection.is_handshaking() {
                return sent;
            }
            if let Poll::Ready(Err(error)) = sent {
                return Poll::Ready(Err(error));
            }
            if ready!(self.poll_input(cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Lets rustls process the input as far as the task needs it. Returns the number of bytes that a read decrypted or
    /// a write encrypted.
    fn advance(&mut self, mut task: Task<'_>) -> Result<usize, rustls::Error> {
        let mut count = 0;
        loop {
            let UnbufferedStatus { discard, state } =
                self.connection.process_tls_records(self.input.unused_mut());
            let mut used = discard;
            let goes_on = match state {
                Ok(ConnectionState::ReadTraffic(traffic)) => {
                    let buf = match &mut task {
                        Task::Read(buf) => buf.get_mut(count..).unwrap_or_default(),
                        _ => &mut [],
                    };
                    let (taken, discard) = take_records(traffic, buf, &mut self.plaintext)?;
                    count += taken;
                    used += discard;
                    match &task {
                        Task::Read(buf) => count < buf.len(),
                        _ => true,
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(&mut self.output, 0, |out| encode(&mut data, out))?;
                    true
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    // The bytes are in `output` and go out in their order.
                    data.done();
                    true
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.peer_closed = true;
                    true
                }
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let output = &mut self.output;
                    match &task {
                        Task::Write(data) => {
                            let data = data.get(..WRITE_SIZE).unwrap_or(data);
                            append(output, sealed_size(data.len()), |out| {
                                encrypted(traffic.encrypt(data, out))
                            })?;
                            count = data.len();
                        }
                        Task::Close => append(output, RECORD_OVERHEAD, |out| {
                            encrypted(traffic.queue_close_notify(out))
                        })?,
                        Task::Handshake | Task::Read(_) => {}
                    }
                    false
                }
                // Needs more input, or is closed on both sides. There is no early data on this side.
                Ok(_) => false,
                Err(error) => {
                    self.queue_alert(&error);
                    if count == 0 {
                        return Err(error);
                    }
                    // The bytes before it are returned first.
                    self.error = Some(error);
                    return Ok(count);
                }
            };
            self.input.consume(used);
            if !goes_on {
                return Ok(count);
            }
        }
    }

    /// After an error: the alert that rustls has for the peer. Asked once only: without an alert, rustls would process
    /// the rest of the input.
    fn queue_alert(&mut self, error: &rustls::Error) {
        if matches!(error, rustls::Error::AlertReceived(_)) {
            return; // It is not answered.
        }
        let status = self.connection.process_tls_records(self.input.unused_mut());
        if let Ok(ConnectionState::EncodeTlsData(mut data)) = status.state {
            // Without the alert, the peer sees the end of the connection.
            let _ = append(&mut self.output, 0, |out| encode(&mut data, out));
        }
    }

    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.is_full() {
            let error = rustls::Error::General("a TLS message is too long".to_owned());
            return Poll::Ready(Err(invalid_data(error)));
        }
        self.input.poll_fill(cx, &mut self.transport)
    }

    /// Sends the output.
    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest @ [_, ..]) = self.output.get(self.sent..) {
            match ready!(
                self.transport
                    .poll_write_vectored(cx, &[IoSlice::new(rest)])
            )? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.sent += count,
            }
        }
        self.output.clear();
        self.output.shrink_to(KEPT_OUTPUT);
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Takes what was decrypted before.
    fn take_plaintext(&mut self, buf: &mut [u8]) -> usize {
        let rest = self
            .plaintext
            .get(self.plaintext_used..)
            .unwrap_or_default();
        let count = copy(rest, buf);
        self.plaintext_used += count;
        if self.plaintext_used >= self.plaintext.len() {
            self.plaintext.clear();
            self.plaintext_used = 0;
        }
        count
    }
}

impl<T: Transport> Transport for ClientStream<T> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut count = self.take_plaintext(buf);
        loop {
            if count < buf.len() && self.error.is_none() {
                let room = buf.get_mut(count..).unwrap_or_default();
                match self.advance(Task::Read(room)) {
                    Ok(read) => count += read,
                    Err(error) => self.error = Some(error),
                }
                // An alert, or the answer to a key update. An error is that of the next write.
                let _ = self.poll_output(cx);
            }
            if count > 0 || buf.is_empty() {
                return Poll::Ready(Ok(count));
            }
            if let Some(error) = self.error.take() {
                return Poll::Ready(Err(invalid_data(error)));
            }
            if self.peer_closed {
                return Poll::Ready(Ok(0));
            }
            if ready!(self.poll_input(cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())); // T1
            }
        }
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_output(cx))?;
        let Some(data) = bufs.iter().find(|buf| !buf.is_empty()) else {
            return Poll::Ready(Ok(0));
        };
        let count = self.advance(Task::Write(data)).map_err(invalid_data)?;
        // What the transport does not take now goes out with the next write or flush.
        match self.poll_output(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(count)),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_output(cx))?;
        self.transport.poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.closing, true) {
            self.advance(Task::Close).map_err(invalid_data)?;
        }
        ready!(self.poll_output(cx))?;
        self.transport.poll_close(cx)
    }

    fn socket(&self) -> Option<SockRef<'_>> {
        self.transport.socket()
    }
}

/// Copies decrypted records to `buf`, and what has no room to `rest`. Returns the number of bytes in `buf`, and how much
/// input to discard.
fn take_records(
    mut traffic: ReadTraffic<'_, '_, ClientConnectionData>,
    buf: &mut [u8],
    rest: &mut Vec<u8>,
) -> Result<(usize, usize), rustls::Error> {
    let (mut count, mut discard) = (0, 0);
    while let Some(record) = traffic.next_record() {
        let record = record?;
        discard += record.discard;
        let copied = copy(record.payload, buf.get_mut(count..).unwrap_or_default());
        count += copied;
        rest.extend_from_slice(record.payload.get(copied..).unwrap_or_default());
    }
    Ok((count, discard))
}

/// Copies as much as there is room for.
fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let count = from.len().min(to.len());
    to[..count].copy_from_slice(&from[..count]);
    count
}

/// Appends what `encode` writes. `size` is the expected size; `encode` may require more.
fn append(
    output: &mut Vec<u8>,
    mut size: usize,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, Option<InsufficientSizeError>>,
) -> Result<(), rustls::Error> {
    let before = output.len();
    loop {
        output.resize(before + size, 0);
        match encode(output.get_mut(before..).unwrap_or_default()) {
            Ok(count) => {
                output.truncate(before + count);
                return Ok(());
            }
            Err(Some(InsufficientSizeError { required_size })) if required_size > size => {
                size = required_size;
            }
            Err(_) => {
                output.truncate(before);
                return Err(rustls::Error::EncryptError);
            }
        }
    }
}

/// The size of the records with `count` bytes of content, or a little more.
fn sealed_size(count: usize) -> usize {
    count + RECORD_OVERHEAD * count.div_ceil(RECORD_SIZE)
}

fn encode(
    data: &mut EncodeTlsData<'_, ClientConnectionData>,
    out: &mut [u8],
) -> Result<usize, Option<InsufficientSizeError>> {
    data.encode(out).map_err(|error| match error {
        EncodeError::InsufficientSize(size) => Some(size),
        EncodeError::AlreadyEncoded => None,
    })
}

fn encrypted(
    encrypted: Result<usize, EncryptError>,
) -> Result<usize, Option<InsufficientSizeError>> {
    encrypted.map_err(|error| match error {
        EncryptError::InsufficientSize(size) => Some(size),
        EncryptError::EncryptExhausted => None,
    })
}

fn invalid_data(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
