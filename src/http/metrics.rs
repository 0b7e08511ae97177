//! `/metrics`: what this process holds, in the text format of Prometheus. For operators only.
//!
//! Each bound of the house has its figure, so that one that fills up is seen before it is met. Counters start with the
//! process. The jobs by kind are those of the last sample, at most a minute old: nothing is counted for a scrape.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::answer::Answer;
use super::negotiation::MediaType;
use super::{HttpState, origin};
use crate::graphql::error::Code;
use crate::job::viewer::Viewer;

/// The version of the format.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All figures; UNAUTHENTICATED without a token where tokens are in use, FORBIDDEN for anyone but an operator.
pub(super) async fn metrics(State(state): State<HttpState>, headers: HeaderMap) -> Response {
    let viewer = match state.caller(&headers).await {
        Ok(caller) => caller.viewer,
        Err(refused) => return refused.into_response(MediaType::Json),
    };
    let named = origin::is_called_by_its_name(&state.config.access, state.access.needs_token(), &headers);
    if viewer != Viewer::Operator || !named {
        let refused = Code::Forbidden.error("metrics are for operators");
        return Answer::Refused(StatusCode::FORBIDDEN, refused).into_response(MediaType::Json);
    }
    let mut page = Page::default();
    of_http(&state, &mut page);
    of_store(&state, &mut page).await;
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], page.0).into_response()
}

fn of_http(state: &HttpState, page: &mut Page) {
    let refused = state.limiter.refused();
    page.head("jobql_limit_refusals_total", "counter", "What was refused, by the limit that was met.");
    for (limit, count) in [
        ("requests", &refused.requests),
        ("sockets", &refused.sockets),
        ("operations", &refused.operations),
        ("connections", &refused.connections),
    ] {
        page.sample("jobql_limit_refusals_total", &[("limit", limit)], count.load(Ordering::Relaxed));
    }
    page.one(
        "jobql_limit_accounts",
        "gauge",
        "Holders of limits in the table.",
        state.limiter.accounts() as u64,
    );
    page.one(
        "jobql_http_tasks",
        "gauge",
        "Open WebSockets, mutations that run, and the upkeep of the port.",
        state.tasks.len() as u64,
    );
    let is_away = u64::from(state.availability.check().is_err());
    page.one(
        "jobql_database_away",
        "gauge",
        "1 while requests are refused as the database is away.",
        is_away,
    );
}

async fn of_store(state: &HttpState, page: &mut Page) {
    let store = &state.store;
    page.head("jobql_group_waiting", "gauge", "Rows that wait for their commit, by group.");
    let groups = store.groups();
    for group in &groups {
        page.sample("jobql_group_waiting", &[("group", group.operation)], group.waiting);
    }
    page.head("jobql_group_capacity", "gauge", "Rows that may wait.");
    for group in &groups {
        page.sample("jobql_group_capacity", &[("group", group.operation)], group.capacity);
    }
    page.head("jobql_group_rows_total", "counter", "Rows that were handed over to be committed.");
    for group in &groups {
        page.sample("jobql_group_rows_total", &[("group", group.operation)], group.rows);
    }
    page.head("jobql_group_commits_total", "counter", "Statements that committed them.");
    for group in &groups {
        page.sample("jobql_group_commits_total", &[("group", group.operation)], group.commits);
    }
    page.one("jobql_store_tasks", "gauge", "Writers and writes that run.", store.tasks() as u64);
    page.head(
        "jobql_pool_connections",
        "gauge",
        "Database connections, by pool and whether they are in use.",
    );
    for (pool, size, idle) in store.pools() {
        page.sample("jobql_pool_connections", &[("pool", pool), ("state", "idle")], idle);
        page.sample(
            "jobql_pool_connections",
            &[("pool", pool), ("state", "used")],
            size.saturating_sub(idle),
        );
    }
    // Without the database the rest is still worth having.
    let Ok(loads) = store.last_load().await else { return };
    page.head("jobql_jobs", "gauge", "Active jobs by kind and status, as of the last sample.");
    for load in loads {
        let counts = [("PENDING", load.pending), ("SCHEDULED", load.scheduled), ("RUNNING", load.running)];
        for (status, count) in counts {
            let labels = [("kind", load.kind.as_str()), ("status", status)];
            page.sample("jobql_jobs", &labels, u64::try_from(count).unwrap_or_default());
        }
    }
}

/// What is written.
#[derive(Default)]
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<String> =
            labels.iter().map(|(name, text)| format!("{name}=\"{}\"", escaped(text))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.head(name, kind, help);
        self.sample(name, &[], value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_break_its_line() {
        let mut page = Page::default();
        page.sample("a", &[("kind", "x\"\n\\")], 1);
        assert_eq!(page.0, "a{kind=\"x\\\"\\n\\\\\"} 1\n");
    }
}
