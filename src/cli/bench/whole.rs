//! The whole path: submitted over HTTP, run, and the result received over a WebSocket that watches the submitter's jobs.
//!
//! Jobs are submitted at a fixed rate whatever the answers do, and a job's time runs from the moment at which it was due
//! to be sent until its result has been read from the socket: a server that falls behind cannot slow the clock down.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
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

/// How long results may come after the last submit.
const TAIL: Duration = Duration::from_secs(30);
/// Sockets that are opened at once.
const OPENING: usize = 64;

const WATCH: &str = "subscription ($client: String!) { jobUpdated(clientId: $client, status: [DONE, ERROR, CANCELLED]) { id status result } }";

/// Loads at `rate` for the time, over `sockets`.
pub(super) async fn whole(
    target: &Target,
    options: &Options,
    rate: u32,
    sockets: usize,
) -> anyhow::Result<Figures> {
    let mut figures = Figures::of("whole");
    let count = rate as usize * usize::try_from(options.seconds)?;
    let (sender, mut results) = mpsc::unbounded_channel();
    // Held to the end: the sockets live in it.
    let mut listening = listen(target, sockets, &sender).await?;
    drop(sender);

    let probe = Probe::start(target).await?;
    let usage = Usage::begin(options);
    let began_at = Instant::now();
    let pace = Pace { began_at, every: Duration::from_secs(1) / rate.max(1), count, sockets };
    let submitting = tokio::spawn(submit_all(target.clone(), options.clone(), pace));
    let deadline = tokio::time::Instant::from_std(began_at) + options.duration() + TAIL;
    let mut times = Vec::with_capacity(count);
    while times.len() < count {
        match tokio::time::timeout_at(deadline, results.recv()).await {
            Ok(Some((number, seen_at))) => times.push(pace.since_due(number, seen_at)),
            Ok(None) | Err(_) => break,
        }
    }
    let took = began_at.elapsed();
    let answers = submitting.await??;
    usage.end(&mut figures);
    listening.abort_all();
    figures.note("missing", count.saturating_sub(times.len()) as f64);
    figures.note("jobs_per_second", times.len() as f64 / took.as_secs_f64());
    figures.note_times("submit_to_result", times);
    figures.note_times("answer", answers);
    probe.end(&mut figures).await?;
    Ok(figures)
}

/// The number of a job whose result was read, and when.
type Outcome = (usize, Instant);

async fn listen(
    target: &Target,
    sockets: usize,
    results: &mpsc::UnboundedSender<Outcome>,
) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
    let mut listening = JoinSet::new();
    let numbers: Vec<usize> = (0..sockets).collect();
    for some in numbers.chunks(OPENING) {
        let opened = some.iter().map(|number| async move {
            let client = json!({ "client": client_of(*number) });
            let mut socket = socket::subscribe(target, WATCH, client).await?;
            socket::settle(&mut socket).await?;
            anyhow::Ok(socket)
        });
        for socket in futures_util::future::try_join_all(opened).await? {
            let results = results.clone();
            listening.spawn(async move {
                let mut socket = socket::receiver(socket);
                while let Some(job) = socket::next_job(&mut socket).await? {
                    let number = job.pointer("/result/n").and_then(Value::as_u64).context("no result")?;
                    results.send((usize::try_from(number)?, Instant::now()))?;
                }
                Ok(())
            });
        }
    }
    Ok(listening)
}

fn client_of(number: usize) -> String {
    format!("bench-{number}")
}

/// When each job is due, and whose it is.
#[derive(Clone, Copy)]
struct Pace {
    began_at: Instant,
    every: Duration,
    count: usize,
    sockets: usize,
}

impl Pace {
    fn due(&self, number: usize) -> Instant {
        self.began_at + self.every.mul_f64(number as f64)
    }

    fn since_due(&self, number: usize, at: Instant) -> Duration {
        at.saturating_duration_since(self.due(number))
    }
}

async fn submit_all(target: Target, options: Options, pace: Pace) -> anyhow::Result<Vec<Duration>> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..options.connections {
        let mut connection = Connection::open(&target).await?;
        let (next, kind) = (next.clone(), options.kind.clone());
        tasks.spawn(async move {
            let mut times = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= pace.count {
                    return anyhow::Ok(times);
                }
                tokio::time::sleep_until(pace.due(number).into()).await;
                let client = client_of(number % pace.sockets.max(1));
                let body = format!(
                    "{{\"query\":\"mutation Submit($input: SubmitJobInput!) {{ submitJob(input: $input) {{ created job {{ id \
                     status }} }} }}\",\"variables\":{{\"input\":{{\"kind\":\"{kind}\",\"clientId\":\"{client}\",\
                     \"payload\":{{\"n\":{number}}}}}}}}}"
                );
                connection.post(&body).await?;
                times.push(pace.since_due(number, Instant::now()));
            }
        });
    }
    let mut times = Vec::new();
    while let Some(done) = tasks.join_next().await {
        times.append(&mut done??);
    }
    Ok(times)
}
