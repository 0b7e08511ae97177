//! Drain: how fast a backlog of jobs that do nothing is worked off.
//!
//! Timed from the request that resumes the queue to the answer that says that the last job has ended.

use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};

use super::Options;
use super::connection::Connection;
use super::figures::Figures;
use super::load::{self, Probe};
use super::target::Target;
use super::usage::Usage;

/// Longest wait that the server grants.
const WAIT: &str = "query ($id: ID!) { job(id: $id, waitSeconds: 25) { finishedAt } }";
/// The newest jobs, which are the last of the backlog: cheap, however many there are.
const NEWEST: &str = "{ jobs(first: 200, clientId: \"bench\") { nodes { status } } }";
/// Any that is left, wherever it is: reads them all.
const LEFT: &str = "{ jobs(first: 1, clientId: \"bench\", status: [PENDING, RUNNING]) { nodes { status } } }";
/// Between two looks at the last few jobs.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Loads `count` jobs, and waits for the ends of the `first` ones.
pub(super) async fn drain(
    target: &Target,
    options: &Options,
    count: usize,
    first: Option<usize>,
) -> anyhow::Result<Figures> {
    let mut figures = Figures::of("drain");
    let mut connection = Connection::open(target).await?;
    let queue = load::queue_of(&mut connection, &options.kind).await?;
    load::set_paused(&mut connection, &queue, true).await?;
    let began_at = Instant::now();
    let lasts = load::backlog(target, &options.kind, count).await?;
    figures.note("loaded_per_second", count as f64 / began_at.elapsed().as_secs_f64());
    let wanted = first.unwrap_or(count).min(count);
    let (awaited, id) =
        lasts.into_iter().find(|(written, _)| *written >= wanted).context("there is no job to wait for")?;

    let probe = Probe::start(target).await?;
    // The server has closed the first one if the loading took long.
    let mut connection = Connection::open(target).await?;
    let usage = Usage::begin(options);
    let began_at = Instant::now();
    load::set_paused(&mut connection, &queue, false).await?;
    loop {
        let job = connection.ask(WAIT, json!({ "id": id })).await?;
        if job.pointer("/job/finishedAt").is_some_and(Value::is_string) {
            break;
        }
    }
    let took = loop {
        // Those before it may end a moment later: they run side by side.
        while awaited == count && any_active(&mut connection, NEWEST).await? {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let took = began_at.elapsed();
        if awaited < count || !any_active(&mut connection, LEFT).await? {
            break took;
        }
    };
    usage.end(&mut figures);
    figures.note("jobs_per_second", awaited as f64 / took.as_secs_f64());
    figures.note("seconds", took.as_secs_f64());
    probe.end(&mut figures).await?;
    Ok(figures)
}

async fn any_active(connection: &mut Connection, query: &str) -> anyhow::Result<bool> {
    let found = connection.ask(query, json!({})).await?;
    let jobs = found.pointer("/jobs/nodes").and_then(Value::as_array).context("no jobs")?;
    let active =
        |job: &Value| matches!(job.pointer("/status").and_then(Value::as_str), Some("PENDING" | "RUNNING"));
    Ok(jobs.iter().any(active))
}
