//! Reads: positions in the queue, and pages of jobs.

use std::sync::Arc;

use anyhow::{Context, ensure};
use chrono::Utc;
use rand::Rng;
use serde_json::{Value, json};

use super::Options;
use super::connection::Connection;
use super::figures::Figures;
use super::load;
use super::target::Target;

/// Requests that are made ready, and then sent in turn.
const PREPARED: usize = 512;

const POSITION: &str = "query ($id: ID!) { queuePosition(jobId: $id) { position ahead totalActive } }";
const PENDING: &str =
    "query ($kind: String!) { jobs(first: 200, kind: [$kind], status: [PENDING]) { nodes { id } } }";
const PAGE: &str = "query ($kind: String!, $before: DateTime!, $after: String) { \
    jobs(first: 50, after: $after, kind: [$kind], createdBefore: $before) { \
    nodes { id clientId kind status displayName createdAt finishedAt } pageInfo { endCursor hasNextPage } } }";
const WALK: &str = "query ($kind: String!, $before: DateTime!, $after: String) { \
    jobs(first: 200, after: $after, kind: [$kind], createdBefore: $before) { pageInfo { endCursor hasNextPage } } }";

/// `queuePosition` of jobs at random places, one request at a time.
pub(super) async fn position(target: &Target, options: &Options, load: usize) -> anyhow::Result<Figures> {
    let mut figures = Figures::of("position");
    let mut connection = Connection::open(target).await?;
    let mut ids = fill(target, &mut connection, options, load).await?;
    if ids.is_empty() {
        let pending = connection.ask(PENDING, json!({ "kind": options.kind })).await?;
        let nodes = pending.pointer("/jobs/nodes").and_then(Value::as_array).context("no jobs")?;
        ids.extend(nodes.iter().filter_map(|job| job.pointer("/id")?.as_str().map(str::to_owned)));
    }
    ensure!(!ids.is_empty(), "no job of the kind {} is pending; --load makes some", options.kind);
    let at_random: Vec<Arc<str>> = (0..PREPARED)
        .filter_map(|_| ids.get(rand::rng().random_range(0..ids.len())))
        .map(|id| json!({ "query": POSITION, "variables": { "id": id } }).to_string().into())
        .collect();
    let one = Options { connections: 1, ..options.clone() };
    load::repeat(target, &one, &mut figures, in_turn(at_random)).await?;
    Ok(figures)
}

/// `jobs` with filters and cursors: all connections, then one alone.
pub(super) async fn page(target: &Target, options: &Options, load: usize) -> anyhow::Result<Figures> {
    let mut figures = Figures::of("page");
    let mut connection = Connection::open(target).await?;
    fill(target, &mut connection, options, load).await?;
    // A filter that all of them match, and places all over the list.
    let before = Utc::now().to_rfc3339();
    let variables = |after: &Value| json!({ "kind": options.kind, "before": before, "after": after });
    let mut cursors = vec![Value::Null];
    loop {
        let last = cursors.last().unwrap_or(&Value::Null);
        let answer = connection.ask(WALK, variables(last)).await?;
        let info = answer.pointer("/jobs/pageInfo").cloned().unwrap_or_default();
        if info.pointer("/hasNextPage") != Some(&Value::Bool(true)) {
            break;
        }
        cursors.push(info.pointer("/endCursor").cloned().unwrap_or_default());
    }
    let pages: Vec<Arc<str>> = (0..PREPARED)
        .filter_map(|_| cursors.get(rand::rng().random_range(0..cursors.len())))
        .map(|after| json!({ "query": PAGE, "variables": variables(after) }).to_string().into())
        .collect();
    let body = in_turn(pages);
    load::repeat(target, options, &mut figures, body.clone()).await?;
    let mut alone = Figures::of("page");
    load::repeat(target, &Options { connections: 1, ..options.clone() }, &mut alone, body).await?;
    figures.take("alone", alone);
    Ok(figures)
}

/// Loads jobs, if any are asked for, into a queue that is paused from then on; some of their ids.
async fn fill(
    target: &Target,
    connection: &mut Connection,
    options: &Options,
    count: usize,
) -> anyhow::Result<Vec<String>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let queue = load::queue_of(connection, &options.kind).await?;
    load::set_paused(connection, &queue, true).await?;
    let written = load::backlog(target, &options.kind, count).await?;
    Ok(written.into_iter().map(|(_, id)| id).collect())
}

fn in_turn(bodies: Vec<Arc<str>>) -> impl Fn(usize, usize) -> Arc<str> + Clone + Send + 'static {
    let bodies: Arc<[Arc<str>]> = bodies.into();
    // Connections begin at different places.
    move |connection, count| {
        let index = (connection * 7 + count) % bodies.len().max(1);
        bodies.get(index).cloned().unwrap_or_else(|| "".into())
    }
}
