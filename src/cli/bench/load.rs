//! Loads: the same request from many connections for a while, and a backlog of jobs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::Options;
use super::connection::Connection;
use super::figures::Figures;
use super::target::Target;
use super::usage::Usage;

/// The client id of jobs that nobody watches.
pub(super) const CLIENT: &str = "bench";
/// Jobs of one `submitJobs` at most.
const BATCH: usize = 1_000;
/// Between two reads of the probe.
const PROBE_EVERY: Duration = Duration::from_millis(50);

const SUBMIT_JOBS: &str = "mutation Submit($inputs: [SubmitJobInput!]!) { submitJobs(inputs: $inputs) { created job { id status } } }";

/// Posts what `body` gives for a connection and a count, from all connections, until the time is over; notes the rate and
/// how long each answer took, and returns the rate.
pub(super) async fn repeat(
    target: &Target,
    options: &Options,
    figures: &mut Figures,
    body: impl Fn(usize, usize) -> Arc<str> + Clone + Send + 'static,
) -> anyhow::Result<f64> {
    let mut connections = Vec::new();
    for _ in 0..options.connections {
        connections.push(Connection::open(target).await?);
    }
    let usage = Usage::begin(options);
    let began_at = Instant::now();
    let until = began_at + options.duration();
    let mut tasks = JoinSet::new();
    for (number, mut connection) in connections.into_iter().enumerate() {
        let body = body.clone();
        tasks.spawn(async move {
            let mut times = Vec::new();
            while Instant::now() < until {
                let body = body(number, times.len());
                let sent_at = Instant::now();
                connection.post(&body).await?;
                times.push(sent_at.elapsed());
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(done) = tasks.join_next().await {
        times.append(&mut done??);
    }
    let rate = times.len() as f64 / began_at.elapsed().as_secs_f64();
    figures.note("requests_per_second", rate);
    figures.note_times("answer", times);
    usage.end(figures);
    Ok(rate)
}

/// The variables of a `submitJobs`.
pub(super) fn submit_jobs_body(kind: &str, count: usize) -> String {
    let input = json!({ "kind": kind, "payload": {}, "clientId": CLIENT });
    json!({ "query": SUBMIT_JOBS, "variables": { "inputs": vec![input; count] } }).to_string()
}

/// Writes so many jobs, in order; the ids of the last in each batch with its count so far.
pub(super) async fn backlog(
    target: &Target,
    kind: &str,
    count: usize,
) -> anyhow::Result<Vec<(usize, String)>> {
    let mut connection = Connection::open(target).await?;
    let full = submit_jobs_body(kind, BATCH);
    let (mut written, mut lasts) = (0, Vec::new());
    while written < count {
        let now = BATCH.min(count - written);
        let body = if now == BATCH { full.clone() } else { submit_jobs_body(kind, now) };
        let answer: Value = serde_json::from_str(connection.post(&body).await?)?;
        let jobs = answer.pointer("/data/submitJobs").and_then(Value::as_array).context("no jobs")?;
        written += now;
        let last = jobs.last().and_then(|payload| payload.pointer("/job/id")).and_then(Value::as_str);
        lasts.push((written, last.context("no id")?.to_owned()));
    }
    Ok(lasts)
}

/// The queue of a kind.
pub(super) async fn queue_of(connection: &mut Connection, kind: &str) -> anyhow::Result<String> {
    let kinds = connection.ask("{ jobKinds { name queue } }", json!({})).await?;
    let kinds = kinds.pointer("/jobKinds").and_then(Value::as_array).context("no kinds")?;
    let found = kinds.iter().find(|each| each.pointer("/name").and_then(Value::as_str) == Some(kind));
    let queue = found.and_then(|kind| kind.pointer("/queue")).and_then(Value::as_str);
    queue.map(str::to_owned).with_context(|| format!("the server has no kind {kind}"))
}

/// Stops the queue from being claimed from, or lets it be.
pub(super) async fn set_paused(connection: &mut Connection, queue: &str, paused: bool) -> anyhow::Result<()> {
    let mutation = if paused { "pauseQueue" } else { "resumeQueue" };
    let document = format!("mutation ($name: String!) {{ {mutation}(name: $name) {{ paused }} }}");
    connection.ask(&document, json!({ "name": queue })).await.map(drop)
}

/// Reads one job again and again beside a load, as some client does who has nothing to do with it.
pub(super) struct Probe(
    tokio::task::JoinHandle<anyhow::Result<Vec<Duration>>>,
    tokio::sync::watch::Sender<bool>,
);

impl Probe {
    /// Submits the job that is read, and starts to read it.
    pub(super) async fn start(target: &Target) -> anyhow::Result<Probe> {
        let mut connection = Connection::open(target).await?;
        // Far ahead: it stays as it is whatever the load does.
        let at = (chrono::Utc::now() + chrono::TimeDelta::days(1)).to_rfc3339();
        let input = json!({ "kind": "echo", "clientId": CLIENT, "runAt": at });
        let submitted = connection
            .ask(
                "mutation ($input: SubmitJobInput!) { submitJob(input: $input) { job { id } } }",
                json!({ "input": input }),
            )
            .await?;
        let id = submitted.pointer("/submitJob/job/id").cloned().context("no id")?;
        let body = json!({
            "query": "query ($id: ID!) { job(id: $id) { id status version } }", "variables": { "id": id }
        })
        .to_string();
        let (stop, mut stopped) = tokio::sync::watch::channel(false);
        let reading = tokio::spawn(async move {
            let mut times = Vec::new();
            loop {
                let sent_at = Instant::now();
                connection.post(&body).await?;
                times.push(sent_at.elapsed());
                if tokio::time::timeout(PROBE_EVERY, stopped.changed()).await.is_ok() {
                    return Ok(times);
                }
            }
        });
        Ok(Probe(reading, stop))
    }

    /// Stops, and notes how long the reads took.
    pub(super) async fn end(self, figures: &mut Figures) -> anyhow::Result<()> {
        drop(self.1);
        figures.note_times("job_by_id", self.0.await??);
        Ok(())
    }
}
