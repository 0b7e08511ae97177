//! Accepts connections and serves them with hyper, where `axum::serve` has no settings for what a server on a network
//! must bound.
//!
//! | what | bound |
//! |---|---|
//! | connections at once | `max_connections`, and `max_connections_per_address`; one more gets 503 and is closed |
//! | waiting for a request, and its head | [`HEAD_TIMEOUT`]; an idle connection is closed after it too |
//! | a TLS handshake | [`HANDSHAKE_TIMEOUT`] |
//! | the head's size | [`MAX_HEAD`] |
//! | a peer that does not read | [`patient_stream`](super::patient_stream) |
//!
//! A shutdown closes what is idle at once and lets requests in flight finish. Response headers are written in title
//! case, and that of a WebSocket in the client's own: names of headers have no case, but the Python client `gql` finds
//! `Sec-WebSocket-Protocol` only as it wrote it itself.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::limits::{Limiter, Share};
use super::patient_stream::PatientStream;
use super::peer::Peer;
use super::protective_headers;
use super::tls::TlsReceiver;
use super::traffic::{Lasting, Opened, Traffic};

/// How long a connection may take to send the whole head of its next request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a head, and of a connection's buffers.
const MAX_HEAD: usize = 64 << 10;
/// Wait after an accept that failed, most often for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(500);
/// What one connection too many gets.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\
    Content-Type: application/json; charset=utf-8\r\nContent-Length: 99\r\n\r\n\
    {\"errors\":[{\"message\":\"the server has too many connections\",\"extensions\":{\"code\":\"UNAVAILABLE\"}}]}\n";

/// What each connection is served with.
#[derive(Clone)]
pub(super) struct Serving {
    pub router: Router,
    pub limiter: Limiter,
    pub traffic: Traffic,
    /// None: connections are not encrypted.
    pub tls: Option<TlsReceiver>,
    pub closing: CancellationToken,
}

/// Accepts until `closing`; each connection is one of the tasks.
pub(super) async fn accept(
    listener: TcpListener,
    serving: Serving,
    max_connections: usize,
    tasks: &TaskTracker,
) {
    let places = Arc::new(Semaphore::new(max_connections));
    loop {
        let accepted = tokio::select! {
            () = serving.closing.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_connection(&error) => continue,
            Err(error) => {
                tracing::error!(error.cause = %error, "cannot accept connections at the moment");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let share = serving.limiter.connection(peer.ip());
        match (places.clone().try_acquire_owned(), share) {
            (Ok(place), Ok(share)) => {
                let opened = serving.traffic.open(Lasting::Connection);
                let place = Place { _among_all: place, _of_address: share, _opened: opened };
                let stream = PatientStream::new(stream, place);
                tasks.spawn(serve_one(stream, Peer(peer), serving.clone()));
            }
            (Ok(_), Err(_)) => refuse(&stream, &serving, "its address has too many"),
            (Err(_), _) => refuse(&stream, &serving, "there are max_connections of them"),
        }
    }
}

/// A connection's place, given up with it.
pub(super) struct Place {
    _among_all: OwnedSemaphorePermit,
    _of_address: Option<Share>,
    _opened: Opened,
}

async fn serve_one(stream: PatientStream, peer: Peer, serving: Serving) {
    let Some(tls) = serving.tls.clone() else { return serve_http(stream, peer, serving).await };
    let config = tls.borrow().clone();
    match timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => serve_http(stream, peer, serving).await,
        Ok(Err(error)) => tracing::debug!(error.cause = %error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

async fn serve_http<S>(stream: S, peer: Peer, serving: Serving)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Serving { router, traffic, tls, closing, .. } = serving;
    let (inner, is_encrypted) = (TowerToHyperService::new(router), tls.is_some());
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let (answering, traffic) = (inner.call(request), traffic.clone());
        async move {
            let mut response = answering.await?;
            traffic.answered(response.status());
            protective_headers::add(response.headers_mut(), is_encrypted);
            Ok::<_, Infallible>(response)
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .preserve_header_case(true)
        .title_case_headers(true);
    let connection = http.serve_connection(TokioIo::new(stream), service);
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

/// The connection is young, so its buffer takes the answer; if not, it is closed without one, as is one that expects TLS.
fn refuse(stream: &TcpStream, serving: &Serving, why: &'static str) {
    if serving.tls.is_none() {
        let _ = stream.try_write(FULL);
    }
    serving.limiter.refused_connection();
    tracing::debug!(http.reason = why, "a connection was refused");
}

/// True for a connection that was gone before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
