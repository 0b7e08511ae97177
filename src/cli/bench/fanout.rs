//! Fan-out: how soon sockets that watch a job each are told of changes, and what a socket costs in memory.
//!
//! The jobs wait for a time that is far ahead, so that nothing changes them but the scenario. A change's time runs from
//! before the mutation is sent, so it holds the whole mutation with its commit, and the answer's time is noted beside it;
//! where commit times can be read, also from the commit, which takes as many jobs as there are changes.

use std::time::{Duration, Instant};

use anyhow::Context;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Options;
use super::commits;
use super::connection::Connection;
use super::figures::Figures;
use super::load::Probe;
use super::socket;
use super::target::Target;
use super::usage::{Usage, resident_kib};

/// Sockets that are opened at once.
const OPENING: usize = 64;
/// Between two changes of one job, so that each meets sockets at rest.
const REST: Duration = Duration::from_millis(10);
/// How long an event may take before the scenario is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// Jobs of one `submitJobs`.
const BATCH: usize = 500;
/// Priorities that there are.
const PRIORITIES: usize = 32_767;

const SUBMIT: &str = "mutation ($inputs: [SubmitJobInput!]!) { submitJobs(inputs: $inputs) { job { id } } }";
const WATCH_JOB: &str = "subscription ($id: ID!) { jobUpdated(id: $id) { id version status } }";
const UPDATE: &str =
    "mutation ($id: ID!, $priority: Int!) { updateJob(id: $id, priority: $priority) { version } }";
const CANCEL: &str = "mutation ($client: String!) { cancelJobs(filter: {clientId: $client}) { changed } }";

/// Which socket saw an event, and when.
struct Seen {
    socket: usize,
    at: Instant,
    time: DateTime<Utc>,
}

/// A socket for each job.
pub(super) async fn fanout(
    target: &Target,
    options: &Options,
    sockets: usize,
    changes: usize,
) -> anyhow::Result<Figures> {
    let changes_once = options.commits_from.is_none() || changes <= sockets;
    anyhow::ensure!(
        changes_once,
        "a job that changes twice shows its last commit only: no more changes than sockets"
    );
    let mut figures = Figures::of("fanout");
    let client = format!("bench-{}", uuid::Uuid::now_v7());
    let mut connection = Connection::open(target).await?;
    let ids = waiting_jobs(&mut connection, options, &client, sockets).await?;
    let before_kib = options.server_pid.and_then(resident_kib);
    let (sender, mut seen) = mpsc::unbounded_channel();
    let queries = ids.iter().map(|id| (WATCH_JOB, json!({ "id": id }))).collect();
    let mut listening = listen(target, queries, &sender).await?;
    for _ in 0..sockets {
        next(&mut seen).await?;
    }
    if let (Some(pid), Some(before)) = (options.server_pid, before_kib) {
        let kib = resident_kib(pid).unwrap_or_default().saturating_sub(before);
        figures.note("server_kb_per_socket", kib as f64 * 1.024 / sockets.max(1) as f64);
    }

    let probe = Probe::start(target).await?;
    let usage = Usage::begin(options);
    let (mut answers, mut told, mut seen_at) = (Vec::new(), Vec::new(), Vec::new());
    for (change, (number, id)) in ids.iter().enumerate().cycle().take(changes).enumerate() {
        tokio::time::sleep(REST).await;
        let sent_at = Instant::now();
        let variables = json!({ "id": id, "priority": 1 + change % PRIORITIES });
        let answered = async {
            connection.ask(UPDATE, variables).await?;
            anyhow::Ok(sent_at.elapsed())
        };
        let (answer, event) = tokio::try_join!(answered, next(&mut seen))?;
        anyhow::ensure!(event.socket == number, "another socket was told");
        answers.push(answer);
        told.push(event.at.saturating_duration_since(sent_at));
        seen_at.push((id, event.time));
    }
    figures.note_times("answer", answers);
    figures.note_times("told", told);
    if let Some(url) = &options.commits_from {
        let committed = commits::last_changes(url, &ids).await?;
        let after = seen_at.iter().filter_map(|(id, at)| Some(commits::since(*committed.get(*id)?, *at)));
        figures.note_times("after_commit", after.collect());
    }

    let sent_at = Instant::now();
    let answered = async {
        connection.ask(CANCEL, json!({ "client": client })).await?;
        anyhow::Ok(sent_at.elapsed())
    };
    let last = async {
        let mut last = next(&mut seen).await?;
        for _ in 1..sockets {
            last = next(&mut seen).await?;
        }
        anyhow::Ok(last)
    };
    let (answer, last) = tokio::try_join!(answered, last)?;
    figures.note("all_answer_ms", milliseconds(answer));
    figures.note("all_told_ms", milliseconds(last.at.saturating_duration_since(sent_at)));
    if let Some(url) = &options.commits_from {
        // The change of all goes in steps, each with a commit.
        let first = commits::last_changes(url, &ids).await?.into_values().min().context("no jobs")?;
        figures.note("all_after_commit_ms", milliseconds(commits::since(first, last.time)));
    }
    usage.end(&mut figures);
    probe.end(&mut figures).await?;
    listening.abort_all();
    Ok(figures)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

async fn waiting_jobs(
    connection: &mut Connection,
    options: &Options,
    client: &str,
    count: usize,
) -> anyhow::Result<Vec<String>> {
    let at = (chrono::Utc::now() + chrono::TimeDelta::days(1)).to_rfc3339();
    // Below all that the changes set: one to the priority that a job has is none, and nobody is told of it.
    let input = json!({ "kind": options.kind, "clientId": client, "runAt": at, "priority": 0 });
    let mut ids = Vec::with_capacity(count);
    while ids.len() < count {
        let inputs = vec![input.clone(); BATCH.min(count - ids.len())];
        let answer = connection.ask(SUBMIT, json!({ "inputs": inputs })).await?;
        let jobs = answer.pointer("/submitJobs").and_then(Value::as_array).context("no jobs")?;
        ids.extend(jobs.iter().filter_map(|job| job.pointer("/job/id")?.as_str().map(str::to_owned)));
    }
    Ok(ids)
}

async fn listen(
    target: &Target,
    queries: Vec<(&'static str, Value)>,
    seen: &mpsc::UnboundedSender<Seen>,
) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
    let mut listening = JoinSet::new();
    let queries: Vec<_> = queries.into_iter().enumerate().collect();
    for some in queries.chunks(OPENING) {
        let opened = some.iter().map(|(number, (query, variables))| async move {
            let socket = socket::subscribe(target, query, variables.clone()).await?;
            anyhow::Ok((*number, socket::receiver(socket)))
        });
        for (number, mut socket) in futures_util::future::try_join_all(opened).await? {
            let seen = seen.clone();
            listening.spawn(async move {
                while socket::next_job(&mut socket).await?.is_some() {
                    seen.send(Seen { socket: number, at: Instant::now(), time: Utc::now() })?;
                }
                Ok(())
            });
        }
    }
    Ok(listening)
}

async fn next(seen: &mut mpsc::UnboundedReceiver<Seen>) -> anyhow::Result<Seen> {
    tokio::time::timeout(PATIENCE, seen.recv())
        .await
        .context("a socket was not told")?
        .context("no socket is left")
}
