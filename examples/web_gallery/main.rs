//! One process serves the same images by JTP and as a web page.
//!
//! axum serves a page with all images at `/`, each image at `/images/ID`, and server-sent events that make new images
//! appear on open pages. Images are streamed from the store, in ranges if the browser asks for them; none is loaded as a
//! whole. An ID is the hash of an image, so a browser may keep each image for good.
//!
//! ```console
//! $ cargo run --example web_gallery -- 127.0.0.1:8443 127.0.0.1:8080 images
//! ```

use std::process::ExitCode;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, ETAG, IF_NONE_MATCH, RANGE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use futures_lite::{Stream, stream};
use jtp_examples::{Result, exit};
use jtp_store::DirStore;
use jtp_tokio::bytes::Bytes;
use jtp_tokio::jtp_core::wire::entry::Entry;
use jtp_tokio::jtp_core::{FileType, ImageId};
use jtp_tokio::store::{ImageStore, OpenImage, StoreError};
use jtp_tokio::{Server, ShutdownSignal};
use tokio::net::TcpListener;

use range::ByteRange;

mod events;
mod range;

const PAGE: &str = include_str!("index.html");

/// The bytes that are read from the store at once.
const CHUNK: u64 = 256 * 1024;

#[derive(Clone)]
pub(crate) struct Gallery {
    pub(crate) store: Arc<dyn ImageStore>,
    /// Ends the streams of events: a graceful shutdown of axum waits for them.
    pub(crate) shutdown: ShutdownSignal,
}

impl Gallery {
    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/", get(page))
            .route("/images/{id}", get(image))
            .route("/events/{generation}", get(events::events))
            .with_state(self)
    }
}

async fn page(State(gallery): State<Gallery>) -> Html<String> {
    let catalog = gallery.store.catalog().snapshot();
    let figures: String = catalog.entries().map(figure).collect();
    let generation = catalog.generation().to_string();
    // The names last: they may hold anything.
    let page = PAGE.replace("{{generation}}", &generation);
    Html(page.replace("{{figures}}", &figures))
}

fn figure(entry: Entry<'_>) -> String {
    let (id, name) = (entry.id, escape(entry.name));
    format!(
        "\n<figure id=\"{id}\"><img src=\"/images/{id}\" alt=\"{name}\" loading=\"lazy\">\
         <figcaption>{name}</figcaption></figure>"
    )
}

fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

async fn image(
    State(gallery): State<Gallery>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    let id: ImageId = id.parse().map_err(|_| HttpError::NotFound)?;
    let catalog = gallery.store.catalog().snapshot();
    let entry = catalog.entry(id).ok_or(HttpError::NotFound)?;
    let etag = format!("\"{id}\"");
    let fixed = [
        (ETAG, etag.as_str()),
        (CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (CONTENT_TYPE, content_type(entry)),
        // The type is a guess from foreign bytes: nothing in them is to run.
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; sandbox",
        ),
        (ACCEPT_RANGES, "bytes"),
    ];
    if headers
        .get(IF_NONE_MATCH)
        .is_some_and(|known| known == etag.as_str())
    {
        return Ok((StatusCode::NOT_MODIFIED, fixed).into_response());
    }

    // The raw image, also if the store sends a compressed variant to JTP clients.
    let opened = Arc::clone(&gallery.store).open_raw(id, 0).await?;
    let length = u64::from(opened.image().length);
    let asked = headers.get(RANGE).and_then(|range| range.to_str().ok());
    let range = ByteRange::parse(asked, length);
    let (status, range) = match range {
        ByteRange::Whole => (StatusCode::OK, 0..length),
        ByteRange::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        ByteRange::NotSatisfiable => {
            let content_range = [(CONTENT_RANGE, format!("bytes */{length}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, content_range).into_response());
        }
    };
    let content_length = [(CONTENT_LENGTH, (range.end - range.start).to_string())];
    let content_range = (status == StatusCode::PARTIAL_CONTENT).then(|| {
        let (first, last) = (range.start, range.end - 1);
        [(CONTENT_RANGE, format!("bytes {first}-{last}/{length}"))]
    });
    let body = Body::from_stream(bytes_of(opened, range));
    Ok((status, fixed, content_length, content_range, body).into_response())
}

/// The bytes of a range, read one chunk at a time as the browser takes them. An error ends the connection before all of
/// Content-Length was sent, which tells the browser.
fn bytes_of(
    opened: OpenImage,
    range: std::ops::Range<u64>,
) -> impl Stream<Item = Result<Bytes, StoreError>> {
    stream::try_unfold((opened, range), |(opened, range)| async move {
        if range.is_empty() {
            return Ok(None);
        }
        let length = usize::try_from(CHUNK.min(range.end - range.start)).unwrap_or(0);
        let bytes = opened.read(range.start, length).await?;
        let read = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let rest = range.start + read..range.end;
        Ok(Some((bytes, (opened, rest))))
    })
}

/// The type that the bytes have, else what the name says.
fn content_type(entry: Entry<'_>) -> &'static str {
    match entry.flags.file_type() {
        FileType::Other => {
            let extension = entry
                .name
                .rsplit_once('.')
                .map_or("", |(_, extension)| extension);
            match extension.to_ascii_lowercase().as_str() {
                "avif" => "image/avif",
                "ico" => "image/x-icon",
                "svg" => "image/svg+xml",
                "tif" | "tiff" => "image/tiff",
                "webp" => "image/webp",
                _ => FileType::Other.mime(),
            }
        }
        known => known.mime(),
    }
}

enum HttpError {
    NotFound,
    Store(StoreError),
}

impl From<StoreError> for HttpError {
    fn from(error: StoreError) -> HttpError {
        HttpError::Store(error)
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        match self {
            HttpError::NotFound | HttpError::Store(StoreError::Gone(_)) => {
                StatusCode::NOT_FOUND.into_response()
            }
            HttpError::Store(error) if error.is_transient() => {
                let retry = [(RETRY_AFTER, "5")];
                (StatusCode::SERVICE_UNAVAILABLE, retry, error.to_string()).into_response()
            }
            HttpError::Store(error) => {
                (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
            }
        }
    }
}

async fn run(args: &[String]) -> Result {
    let [address, http_address, folder] = args else {
        return Err("usage: web_gallery ADDRESS HTTP-ADDRESS FOLDER".into());
    };
    let shutdown = ShutdownSignal::new();
    let gallery = Gallery {
        store: Arc::new(DirStore::open_folder(folder)?),
        shutdown: shutdown.clone(),
    };
    let server = Server::builder(Arc::clone(&gallery.store)).build();
    let listener = TcpListener::bind(address).await?;
    let http_listener = TcpListener::bind(http_address).await?;
    println!("listening on {}", listener.local_addr()?);
    println!("gallery on http://{}/", http_listener.local_addr()?);

    let interrupted = shutdown.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        interrupted.begin();
    });
    let http = axum::serve(http_listener, gallery.router());
    let http = http.with_graceful_shutdown(shutdown.wait());
    tokio::try_join!(server.serve(listener, shutdown.wait()), async {
        http.await
    })?;
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    exit(run(&args).await)
}
