//! Stream: sockets that all watch one client while its jobs are submitted and run.
//!
//! A job changes three times: it comes, it starts, it is done. The delay of an event runs from the instant that the
//! database noted for the change, which is the begin of its transaction, until the event has been read from the socket;
//! both are told by the clock of one machine. A job that changes again before a slow socket has taken an event is told
//! once, so only ends can be missing.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Options;
use super::connection::Connection;
use super::figures::Figures;
use super::load::Probe;
use super::socket;
use super::target::Target;
use super::usage::Usage;

/// Changes of a job.
const CHANGES: u32 = 3;
/// How long ends may come after the last submit.
const TAIL: Duration = Duration::from_secs(30);

const WATCH: &str = "subscription ($client: String!) { jobUpdated(clientId: $client) { id status version createdAt startedAt finishedAt } }";
const SUBMIT: &str = "mutation ($input: SubmitJobInput!) { submitJob(input: $input) { job { id } } }";

/// What a socket saw: how old the change was, and whether it was the job's end.
struct Seen {
    delay: Duration,
    is_end: bool,
}

/// Many sockets on one client's stream.
pub(super) async fn stream(
    target: &Target,
    options: &Options,
    sockets: usize,
    rate: u32,
) -> anyhow::Result<Figures> {
    let mut figures = Figures::of("stream");
    let client = format!("bench-{}", uuid::Uuid::now_v7());
    let (sender, mut seen) = mpsc::unbounded_channel();
    let mut listening = JoinSet::new();
    for _ in 0..sockets {
        let mut socket = socket::subscribe(target, WATCH, json!({ "client": client })).await?;
        socket::settle(&mut socket).await?;
        listening.spawn(receive(socket, sender.clone()));
    }
    let mut connections = Vec::new();
    for _ in 0..options.connections {
        connections.push(Connection::open(target).await?);
    }

    let probe = Probe::start(target).await?;
    let usage = Usage::begin(options);
    let began_at = Instant::now();
    let jobs = (u32::try_from(options.seconds)? * rate).div_ceil(CHANGES);
    let every = Duration::from_secs(u64::from(CHANGES)) / rate.max(1);
    let body =
        json!({ "query": SUBMIT, "variables": { "input": { "kind": options.kind, "clientId": client } } });
    let submitting = submit_all(connections, &body.to_string(), (began_at, every, jobs));
    let expected = jobs as usize * sockets;
    let deadline = tokio::time::Instant::from_std(began_at) + options.duration() + TAIL;
    let (mut told, mut ends, mut last_at) = (Vec::new(), 0, began_at);
    while ends < expected {
        let Ok(Some(event)) = tokio::time::timeout_at(deadline, seen.recv()).await else { break };
        told.push(event.delay);
        ends += usize::from(event.is_end);
        last_at = Instant::now();
    }
    let submitted = submitting.join_all().await;
    usage.end(&mut figures);
    listening.abort_all();
    let answers = submitted.into_iter().collect::<anyhow::Result<Vec<_>>>()?.concat();
    let took = last_at.saturating_duration_since(began_at).as_secs_f64();
    figures.note("events_per_second", told.len() as f64 / took);
    figures.note("missing", expected.saturating_sub(ends) as f64);
    figures.note_times("answer", answers);
    figures.note_times("told", told);
    probe.end(&mut figures).await?;
    Ok(figures)
}

async fn receive(socket: socket::Socket, seen: mpsc::UnboundedSender<Seen>) -> anyhow::Result<()> {
    let mut socket = socket::receiver(socket);
    while let Some(job) = socket::next_job(&mut socket).await? {
        let at = |field: &str| job.pointer(field).and_then(Value::as_str)?.parse::<DateTime<Utc>>().ok();
        let changed_at = at("/finishedAt").or_else(|| at("/startedAt")).or_else(|| at("/createdAt"));
        let delay = changed_at.and_then(|at| (Utc::now() - at).to_std().ok()).unwrap_or_default();
        seen.send(Seen { delay, is_end: at("/finishedAt").is_some() })?;
    }
    Ok(())
}

/// Each connection takes the jobs in turn, when they are due.
fn submit_all(
    connections: Vec<Connection>,
    body: &str,
    (began_at, every, jobs): (Instant, Duration, u32),
) -> JoinSet<anyhow::Result<Vec<Duration>>> {
    let (mut tasks, stride) = (JoinSet::new(), connections.len().max(1));
    for (first, mut connection) in (0..jobs).zip(connections) {
        let body = body.to_owned();
        tasks.spawn(async move {
            let mut times = Vec::new();
            for number in (first..jobs).step_by(stride) {
                let due = began_at + every * number;
                tokio::time::sleep_until(due.into()).await;
                connection.post(&body).await?;
                times.push(due.elapsed());
            }
            anyhow::Ok(times)
        });
    }
    tasks
}
