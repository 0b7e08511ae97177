//! A handler on the generator's side: what a kind with `runner = "http"` posts its jobs to. It notes when each arrives.
//!
//! The call itself is part of what is measured, so the start of a handler inside the server is sooner.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::connection::{content_length, find};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\nnull";

/// See the module.
pub(super) struct Handler {
    arrivals: mpsc::UnboundedReceiver<Instant>,
}

impl Handler {
    /// Listens, and answers each job after it has run for so long.
    pub(super) async fn listen(address: SocketAddr, run: Duration) -> anyhow::Result<Handler> {
        let listener =
            TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        let (sender, arrivals) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, sender.clone(), run));
            }
        });
        Ok(Handler { arrivals })
    }

    /// When the next job arrived.
    pub(super) async fn next(&mut self) -> anyhow::Result<Instant> {
        self.arrivals.recv().await.context("the handler has ended")
    }
}

/// One connection with keep-alive, until the server closes it.
async fn serve(
    mut stream: TcpStream,
    arrivals: mpsc::UnboundedSender<Instant>,
    run: Duration,
) -> anyhow::Result<()> {
    let mut request = Vec::new();
    loop {
        let body_from = loop {
            if stream.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
            if let Some(end) = find(&request, b"\r\n\r\n") {
                break end + 4;
            }
        };
        arrivals.send(Instant::now())?;
        let head = String::from_utf8_lossy(request.get(..body_from).unwrap_or_default()).into_owned();
        let length = body_from + content_length(&head)?;
        while request.len() < length {
            if stream.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
        }
        request.clear();
        tokio::time::sleep(run).await;
        stream.write_all(ANSWER).await?;
    }
}
