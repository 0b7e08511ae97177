//! How long an idle server takes from a submit to the moments that a client sees: the answer, RUNNING, DONE.
//!
//! `cargo bench --bench idle_latency` starts the real server on an embedded database with durable settings, subscribes,
//! and submits one job at a time over HTTP. Server, database and this client share the machine. Nothing is asserted.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

const JOBS: usize = 300;
/// Between two jobs, so that each meets an idle server.
const REST: Duration = Duration::from_millis(30);
/// How long each job runs; RUNNING is seen apart from DONE then.
const RUN: Duration = Duration::from_millis(30);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("jobql-idle-latency-{}", std::process::id()));
    let (mut server, url) = start_server(&folder.display().to_string()).await?;
    let measured = measure(&url).await;
    stop_server(&mut server).await?;
    std::fs::remove_dir_all(&folder).context("cannot remove the data folder")?;
    let [answers, running, done] = measured?;
    println!("{JOBS} jobs, one at a time, milliseconds from the submit:");
    println!("{:<22}{:>8}{:>8}{:>8}{:>8}", "", "median", "p90", "p99", "max");
    report("answer", answers);
    report("seen RUNNING", running);
    report("seen DONE, less its run", done);
    Ok(())
}

async fn start_server(data_dir: &str) -> anyhow::Result<(Child, String)> {
    let mut server = Command::new(env!("CARGO_BIN_EXE_jobql"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir", data_dir])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(server.stdout.take().context("no standard output")?).lines();
    while let Some(line) = lines.next_line().await? {
        if let Some(url) = line.split_whitespace().find(|word| word.starts_with("http://")) {
            return Ok((server, url.to_owned()));
        }
    }
    bail!("the server ended")
}

async fn stop_server(server: &mut Child) -> anyhow::Result<()> {
    let pid = server.id().context("the server is gone")?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.try_into()?), nix::sys::signal::Signal::SIGTERM)?;
    server.wait().await?;
    Ok(())
}

async fn measure(url: &str) -> anyhow::Result<[Vec<Duration>; 3]> {
    let mut request = url.replace("http://", "ws://").into_client_request()?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("graphql-transport-ws"));
    let (mut socket, _) = connect_async(request).await?;
    let watch = "subscription { jobUpdated(kind: [\"sleep\"], status: [RUNNING, DONE]) { id status } }";
    for message in [
        json!({"type": "connection_init"}),
        json!({"type": "subscribe", "id": "1", "payload": {"query": watch}}),
        json!({"type": "subscribe", "id": "2", "payload": {"query": "{ __typename }"}}),
    ] {
        socket.send(Message::text(message.to_string())).await?;
    }
    let client = reqwest::Client::new();
    let submit = json!({
        "query": "mutation ($p: JSON!) { submitJob(input: {kind: \"sleep\", payload: $p}) { job { id } } }",
        "variables": {"p": {"seconds": RUN.as_secs_f64()}},
    });
    let mut measured = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..JOBS {
        tokio::time::sleep(REST).await;
        let submitted_at = Instant::now();
        let answer = async {
            let answer: Value = client.post(url).json(&submit).send().await?.json().await?;
            anyhow::Ok((submitted_at.elapsed(), answer))
        };
        let seen = async {
            let mut running = None;
            while let Some(message) = socket.next().await {
                let Message::Text(text) = message? else { continue };
                let message: Value = serde_json::from_str(&text)?;
                match message.pointer("/payload/data/jobUpdated/status").and_then(Value::as_str) {
                    Some("RUNNING") => running = Some(submitted_at.elapsed()),
                    Some("DONE") => return Ok((running, submitted_at.elapsed())),
                    _ => {}
                }
            }
            bail!("the socket was closed")
        };
        let ((answered, answer), (running, done)) = tokio::try_join!(answer, seen)?;
        anyhow::ensure!(answer.get("errors").is_none(), "{answer}");
        let [answers, runnings, dones] = &mut measured;
        answers.push(answered);
        runnings.extend(running);
        dones.push(done.saturating_sub(RUN));
    }
    Ok(measured)
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| {
        let index = ((times.len() as f64 - 1.0) * share).round() as usize;
        times.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1_000.0)
    };
    println!("{what:<22}{:>8.2}{:>8.2}{:>8.2}{:>8.2}", at(0.5), at(0.9), at(0.99), at(1.0));
}
