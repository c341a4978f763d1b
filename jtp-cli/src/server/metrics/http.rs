//! The HTTP listener. It answers one request on each connection, and limits what a peer can make it keep: connections,
//! time, and header bytes.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use super::super::status::Phase;
use super::Metrics;

/// Connections that are served at once. Another one ends the oldest: idle connections must not keep a probe of the health
/// waiting, after which a service manager would restart the server.
const MAX_CONNECTIONS: usize = 32;

/// The longest time of a connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest request line and headers.
const MAX_HEAD: usize = 16 << 10;

/// The largest number of headers.
const MAX_HEADERS: usize = 64;

/// The pause after an accept error that is likely to last (no file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

const TEXT: &str = "text/plain; charset=utf-8";

/// Prometheus' text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves until the runtime ends.
pub(super) async fn serve(listener: TcpListener, metrics: Arc<Metrics>) {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                open.retain(|connection| !connection.is_finished());
                if open.len() >= MAX_CONNECTIONS {
                    open.drain(..1).for_each(|oldest| oldest.abort());
                }
                let metrics = Arc::clone(&metrics);
                let task = tokio::spawn(async move {
                    let served =
                        tokio::time::timeout(CONNECTION_TIMEOUT, connection(stream, metrics));
                    // What a client of this listener does wrong is of no interest.
                    let _ = served.await;
                });
                open.push_back(task.abort_handle());
            }
            Err(error) => {
                tracing::debug!("cannot accept a connection for metrics: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, metrics: Arc<Metrics>) -> hyper::Result<()> {
    let service = service_fn(|request| answer(request, Arc::clone(&metrics)));
    http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn answer(
    request: Request<Incoming>,
    metrics: Arc<Metrics>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path();
    if !matches!(path, "/metrics" | "/healthz") {
        return Ok(text(StatusCode::NOT_FOUND, TEXT, "not found\n"));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, TEXT, "method not allowed\n");
        let allow = HeaderValue::from_static("GET, HEAD");
        refused.headers_mut().insert(ALLOW, allow);
        return Ok(refused);
    }
    if path == "/healthz" {
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        return Ok(match metrics.phase() {
            Phase::Starting => text(unavailable, TEXT, "starting\n"),
            Phase::Serving => text(StatusCode::OK, TEXT, "ok\n"),
            Phase::Draining => text(unavailable, TEXT, "draining\n"),
        });
    }
    let page = tokio::task::spawn_blocking(move || metrics.page()).await;
    Ok(match page {
        Ok(page) => text(StatusCode::OK, METRICS, page),
        Err(error) => {
            tracing::warn!(
                "cannot make the page of metrics: {}",
                io::Error::from(error)
            );
            text(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "failed\n")
        }
    })
}

fn text(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
