//! A handler on the generator's side, which notes when each job starts: of a native worker, as programs that use the crate
//! have it, or what a kind with `runner = "http"` posts its jobs to. Then the call itself is part of what is measured.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use jobql::config::{Config, Overrides};
use jobql::native::Worker;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::connection::{content_length, find};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\nnull";

/// See the module.
pub(super) struct Handler {
    arrivals: mpsc::UnboundedReceiver<Instant>,
}

/// The native worker that runs beside the generator, on its thread.
pub(super) struct NativeWorker {
    running: JoinHandle<anyhow::Result<()>>,
    stop: CancellationToken,
}

impl NativeWorker {
    /// Waits for its end, which is an error before it was stopped.
    pub(super) async fn ended(&mut self) -> anyhow::Error {
        match (&mut self.running).await {
            Ok(Ok(())) => anyhow::anyhow!("the worker ended"),
            Ok(Err(error)) => error.context("the worker ended"),
            Err(panic) => panic.into(),
        }
    }

    /// Lets it end what it runs, and leave.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.running.await?
    }
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

    /// Starts a native worker by this configuration, whose handler of `kind` takes so long.
    pub(super) fn native(
        config_file: &Path,
        kind: &str,
        run: Duration,
    ) -> anyhow::Result<(Handler, NativeWorker)> {
        let overrides = Overrides { config_file: Some(config_file.to_owned()), ..Overrides::default() };
        let config = Config::load(&overrides)?;
        let (sender, arrivals) = mpsc::unbounded_channel();
        let worker = Worker::new().handle(kind, move |_job, _payload: Value| {
            // The generator has all it wanted, if it does not listen any more.
            let _ = sender.send(Instant::now());
            async move {
                tokio::time::sleep(run).await;
                Ok(Value::Null)
            }
        });
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        let running = tokio::spawn(async move {
            worker.run_until(config, stopping).await.map_err(|error| anyhow::anyhow!(error))
        });
        Ok((Handler { arrivals }, NativeWorker { running, stop }))
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
