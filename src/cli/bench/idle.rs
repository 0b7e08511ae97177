//! Idle: what one job costs in time on a server that has nothing else to do.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::json;
use tokio::time::timeout;

use super::Options;
use super::connection::Connection;
use super::figures::Figures;
use super::handler::Handler;
use super::load::CLIENT;
use super::socket;
use super::target::Target;

/// Between two jobs, so that each meets a server at rest.
const REST: Duration = Duration::from_millis(30);
/// How long each job runs; RUNNING is seen apart from DONE then.
const RUN: Duration = Duration::from_millis(30);

/// Nobody runs the jobs, when one has not ended in so long.
const PATIENCE: Duration = Duration::from_secs(30);

const WATCH: &str = "subscription ($kind: [String!]) {
    jobUpdated(clientId: \"bench\", kind: $kind, status: [RUNNING, DONE]) { status } }";
const SUBMIT: &str = "mutation ($input: SubmitJobInput!) { submitJob(input: $input) { job { id } } }";

/// Who runs the jobs.
pub(super) enum HandledBy {
    /// The server: they sleep.
    Server,
    /// The generator; the server posts them to this address.
    Posts(SocketAddr),
    /// A native worker in the generator, by this configuration.
    NativeWorker(PathBuf),
}

/// Submits jobs one at a time.
pub(super) async fn idle(
    target: &Target,
    options: &Options,
    count: usize,
    handled_by: HandledBy,
) -> anyhow::Result<Figures> {
    match handled_by {
        HandledBy::Server => one_at_a_time(target, "sleep", count, None).await,
        HandledBy::Posts(address) => {
            let handler = Handler::listen(address, RUN).await?;
            one_at_a_time(target, &options.kind, count, Some(handler)).await
        }
        HandledBy::NativeWorker(config_file) => {
            let (handler, mut worker) = Handler::native(&config_file, &options.kind, RUN)?;
            let figures = tokio::select! {
                figures = one_at_a_time(target, &options.kind, count, Some(handler)) => figures?,
                error = worker.ended() => return Err(error),
            };
            worker.stop().await?;
            Ok(figures)
        }
    }
}

async fn one_at_a_time(
    target: &Target,
    kind: &str,
    count: usize,
    mut handler: Option<Handler>,
) -> anyhow::Result<Figures> {
    let mut watcher = socket::subscribe(target, WATCH, json!({ "kind": [kind] })).await?;
    socket::settle(&mut watcher).await?;
    let mut connection = Connection::open(target).await?;
    let input = json!({ "kind": kind, "payload": { "seconds": RUN.as_secs_f64() }, "clientId": CLIENT });
    let body = json!({ "query": SUBMIT, "variables": { "input": input } }).to_string();
    let (mut answers, mut starts, mut runnings, mut dones) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..count {
        tokio::time::sleep(REST).await;
        let sent_at = Instant::now();
        let answered = async {
            connection.post(&body).await?;
            anyhow::Ok(sent_at.elapsed())
        };
        let seen = async {
            let mut running = None;
            while let Some(job) = socket::next_job(&mut watcher).await? {
                match job.pointer("/status").and_then(serde_json::Value::as_str) {
                    Some("RUNNING") => running = Some(sent_at.elapsed()),
                    Some("DONE") => return Ok((running, sent_at.elapsed())),
                    _ => {}
                }
            }
            bail!("the subscription ended")
        };
        let both = async { tokio::try_join!(answered, seen) };
        let (answer, (running, done)) = timeout(PATIENCE, both).await.context(
            "no end of a job was seen for 30 seconds; does anybody run this kind, for this database?",
        )??;
        answers.push(answer);
        if let Some(handler) = &mut handler {
            starts.push(handler.next().await?.saturating_duration_since(sent_at));
        }
        runnings.extend(running);
        dones.push(done.saturating_sub(RUN));
    }
    let mut figures = Figures::of("idle");
    figures.note_times("answer", answers);
    if handler.is_some() {
        figures.note_times("started", starts);
    }
    figures.note_times("seen_running", runnings);
    figures.note_times("seen_done_less_its_run", dones);
    Ok(figures)
}
