//! `/metrics`: what this process holds, in the text format of Prometheus. For operators only.
//!
//! Each bound of the house has its figure, so that one that fills up is seen before it is met. Counters start with the
//! process. The jobs by kind are those of the last sample, at most a minute old: nothing is counted for a scrape. Labels have
//! few values, all of them the house's own or the configuration's: no client, no job and nothing that a client has sent.

use std::fmt::{Display, Write as _};
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
    of_limits(&state, &mut page);
    of_events(&state, &mut page);
    of_work(&state, &mut page);
    of_store(&state, &mut page).await;
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], page.0).into_response()
}

fn of_http(state: &HttpState, page: &mut Page) {
    let lasting = state.traffic.lasting();
    page.head("jobql_http_open", "gauge", "Connections, and the WebSockets and streams on them.");
    for (what, open, _) in lasting {
        page.sample("jobql_http_open", &[("what", what)], open);
    }
    page.head("jobql_http_opened_total", "counter", "Connections, WebSockets and streams that were opened.");
    for (what, _, opened) in lasting {
        page.sample("jobql_http_opened_total", &[("what", what)], opened);
    }
    page.head("jobql_http_responses_total", "counter", "Responses by the class of their status.");
    for (class, count) in state.traffic.responses() {
        page.sample("jobql_http_responses_total", &[("status", class)], count);
    }
    let tasks = state.tasks.len();
    page.one(
        "jobql_http_tasks",
        "gauge",
        "Open WebSockets, mutations that run, and the upkeep of the port.",
        tasks,
    );
    let is_away = u8::from(state.availability.check().is_err());
    page.one(
        "jobql_database_away",
        "gauge",
        "1 while requests are refused as the database is away.",
        is_away,
    );
}

fn of_limits(state: &HttpState, page: &mut Page) {
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
    let queue_full = state.store.figures().queue_full;
    page.sample("jobql_limit_refusals_total", &[("limit", "queued_jobs")], queue_full);
    page.one("jobql_limit_accounts", "gauge", "Holders of limits in the table.", state.limiter.accounts());
    let turned_away = state.access.turned_away();
    page.one(
        "jobql_unauthenticated_total",
        "counter",
        "Requests and sockets without a valid token.",
        turned_away,
    );
}

fn of_events(state: &HttpState, page: &mut Page) {
    let events = state.events.figures();
    let (hub, listening) = (events.hub, u8::from(events.listening));
    page.one(
        "jobql_listener_up",
        "gauge",
        "1 while notifications are known to arrive; else changes are polled for.",
        listening,
    );
    page.one(
        "jobql_listener_connects_total",
        "counter",
        "Times that listening began; everything watched is read again each time.",
        events.connects,
    );
    page.head(
        "jobql_notifications_total",
        "counter",
        "Notifications that were heard, by what they are about.",
    );
    for (about, count) in events.notifications {
        page.sample("jobql_notifications_total", &[("about", about)], count);
    }
    page.one("jobql_hub_watched_jobs", "gauge", "Jobs that somebody watches by id.", hub.watched_jobs);
    page.one("jobql_hub_watchers", "gauge", "Who watches them.", hub.watchers);
    page.one("jobql_hub_feeds", "gauge", "Subscriptions to all jobs that match a filter.", hub.feeds);
    page.one(
        "jobql_hub_feeds_overflown_total",
        "counter",
        "Subscriptions that were ended as they did not keep up.",
        hub.overflown_feeds,
    );
    page.one("jobql_hub_marked_jobs", "gauge", "Changed jobs that are to be read.", hub.marked);
    page.one("jobql_hub_reads_total", "counter", "Times that what had changed was read.", hub.rounds);
    let lag = hub.lag.as_secs_f64();
    page.one(
        "jobql_hub_lag_seconds",
        "gauge",
        "How long the oldest change that is not handed out has waited.",
        lag,
    );
}

fn of_work(state: &HttpState, page: &mut Page) {
    let figures = state.store.figures();
    page.one("jobql_claims_total", "counter", "Claims that were answered, with nothing too.", figures.claims);
    page.one("jobql_claimed_jobs_total", "counter", "Jobs that claims brought.", figures.claimed);
    page.head("jobql_attempts_ended_total", "counter", "Attempts whose end was written here, by outcome.");
    for (outcome, count) in figures.ended {
        page.sample("jobql_attempts_ended_total", &[("outcome", outcome.as_str())], count);
    }
    page.head(
        "jobql_callback_attempts_total",
        "counter",
        "Attempts to deliver a callback, by what came of them.",
    );
    for (outcome, count) in figures.deliveries {
        page.sample("jobql_callback_attempts_total", &[("outcome", outcome)], count);
    }
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
    page.one("jobql_store_tasks", "gauge", "Writers and writes that run.", store.tasks());
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

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<String> =
            labels.iter().map(|(name, text)| format!("{name}=\"{}\"", escaped(text))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
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
