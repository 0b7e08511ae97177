//! A connection that waits for its peer to read, but not for ever.
//!
//! A peer that asks and does not read the answer would hold its connection, and what is written to it, as long as it
//! likes. Here a write that makes no progress for [`PATIENCE`] fails, which ends whatever is served on the connection:
//! a request, a stream of events, a socket. It costs nothing while the peer reads.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::connections::Place;

/// How long a write may make no progress.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// See the module.
pub(super) struct PatientStream {
    stream: TcpStream,
    /// Set while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
    /// Its place among the connections. It goes with the stream, which may leave HTTP and become a socket.
    _place: Place,
}

impl PatientStream {
    /// Small answers are not held back until there is more to send.
    pub(super) fn new(stream: TcpStream, place: Place) -> PatientStream {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(error.cause = %error, "a connection keeps its send delay");
        }
        PatientStream { stream, waiting: None, _place: place }
    }

    /// What the write came to; an error when it has waited too long.
    fn bounded<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read")))
    }
}

impl AsyncRead for PatientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for PatientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.bounded(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.bounded(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.bounded(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
