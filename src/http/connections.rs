//! Accepts connections and serves them with hyper, where `axum::serve` has no settings for what a server on a network
//! must bound.
//!
//! | what | bound |
//! |---|---|
//! | connections at once | `max_connections`; one more gets 503 and is closed |
//! | waiting for a request, and its head | [`HEAD_TIMEOUT`]; an idle connection is closed after it too |
//! | the head's size | [`MAX_HEAD`] |
//! | a peer that does not read | [`patient_stream`](super::patient_stream) |
//!
//! A shutdown closes what is idle at once and lets requests in flight finish. Response headers are written in title
//! case, and that of a WebSocket in the client's own: names of headers have no case, but the Python client `gql` finds
//! `Sec-WebSocket-Protocol` only as it wrote it itself.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::patient_stream::PatientStream;

/// How long a connection may take to send the whole head of its next request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes of a head, and of a connection's buffers.
const MAX_HEAD: usize = 64 << 10;
/// Wait after an accept that failed, most often for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(500);
/// What one connection too many gets.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\
    Content-Type: application/json; charset=utf-8\r\nContent-Length: 99\r\n\r\n\
    {\"errors\":[{\"message\":\"the server has too many connections\",\"extensions\":{\"code\":\"UNAVAILABLE\"}}]}\n";

/// Accepts until `closing`; each connection is one of the tasks.
pub(super) async fn accept(
    listener: TcpListener,
    router: Router,
    max_connections: usize,
    closing: &CancellationToken,
    tasks: &TaskTracker,
) {
    let places = Arc::new(Semaphore::new(max_connections));
    loop {
        let accepted = tokio::select! {
            () = closing.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) if is_of_one_connection(&error) => continue,
            Err(error) => {
                tracing::error!(error.cause = %error, "cannot accept connections at the moment");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        match places.clone().try_acquire_owned() {
            Ok(place) => {
                let stream = PatientStream::new(stream, place);
                tasks.spawn(serve_one(stream, router.clone(), closing.clone()));
            }
            Err(_) => refuse(&stream),
        }
    }
}

async fn serve_one(stream: PatientStream, router: Router, closing: CancellationToken) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .preserve_header_case(true)
        .title_case_headers(true);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection.with_upgrades());
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(error.cause = %error, "a connection broke off");
    }
}

/// The connection is young, so its buffer takes the answer; if not, it is closed without one.
fn refuse(stream: &TcpStream) {
    let _ = stream.try_write(FULL);
    tracing::warn!("a connection was refused, as there are max_connections of them");
}

/// True for a connection that was gone before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
